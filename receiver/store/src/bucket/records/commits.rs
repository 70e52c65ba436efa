//! The commits of a bucket: whether they are there, and the outcomes of their puts.

use std::sync::atomic::{AtomicBool, Ordering};

use artifact_formats::{Checksum, ObjectId};

use crate::bucket::records::layout;
use crate::bucket::requests::ask::{ask_all, found_at};
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::{Answer, Request};
use crate::error::Error;
use crate::error::bucket::BucketError;

/// Returns for each commit whether the bucket has it.
pub(crate) fn are_there(client: &Client, commits: &[Checksum]) -> Result<Vec<bool>, Error> {
    let key = |commit: &Checksum| layout::object(&ObjectId::commit(*commit));
    let first = |commit: &Checksum| Request::GetRange {
        key: key(commit),
        from: 0,
        most: 1,
    };
    let answers = ask_all(client, commits.iter().map(first).collect());
    let found = answers.into_iter().zip(commits);
    let there = found.map(|(answer, commit)| Ok(found_at(&key(commit), answer)?.is_some()));
    there.collect()
}

/// Sorts commits by the outcomes of their puts: those that are stored, and those that may not be.
pub(crate) fn sort_stored(
    commits: Vec<Checksum>,
    answers: Vec<Result<Answer, BucketError>>,
) -> Result<(Vec<Checksum>, Vec<Checksum>), Error> {
    let (mut stored, mut doubtful) = (Vec::new(), Vec::new());
    for (commit, answer) in commits.into_iter().zip(answers) {
        let error = match answer {
            Ok(Answer::Stored(_)) => {
                stored.push(commit);
                continue;
            }
            Err(BucketError::Busy(_) | BucketError::Unclear(_)) => {
                doubtful.push(commit);
                continue;
            }
            Ok(other) => BucketError::misfit("a put", &other),
            Err(error) => error,
        };
        return Err(Error::bucket("storing commit", &commit)(error));
    }
    Ok((stored, doubtful))
}

/// Whether the answer to a put of a commit or ref was lost: the put may still take effect, whatever
/// a later one has done since (R9).
#[derive(Debug, Default)]
pub(crate) struct Doubt(AtomicBool);

impl Doubt {
    /// Takes note of the answers to puts of commits or refs.
    pub(crate) fn hear(&self, answers: &[Result<Answer, BucketError>]) {
        let is_lost = |answer: &Result<_, _>| matches!(answer, Err(BucketError::Unclear(_)));
        if answers.iter().any(is_lost) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
