//! Puts commits, which come last: a bucket that has a commit has everything that it reaches.

use std::time::Duration;

use artifact_formats::{Checksum, ObjectId};

use crate::bucket::records::commits::sort_stored;
use crate::bucket::records::layout;
use crate::bucket::requests::seam::{Class, Condition, Request};
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::local::disk::Fs;
use crate::local::repository::objects;
use crate::mirror::turn::Turn;

/// Puts commits whose objects are all in the bucket, except those that a prune has removed from the
/// repository in the meantime. Returns the commits that it has put.
pub(crate) fn put<F: Fs>(turn: &Turn<'_, F>, commits: &[Checksum]) -> Result<Vec<Checksum>, Error> {
    let mut stored = Vec::new();
    for some in commits.chunks(COMMITS_AT_ONCE) {
        let mut left = some.to_vec();
        for attempt in 0..TURNS_MAX {
            turn.client.clock().sleep(PAUSE * ((1 << attempt) - 1));
            left = put_once(turn, &left, &mut stored)?;
            if left.is_empty() {
                break;
            }
        }
        if let Some(commit) = left.first() {
            let lost = BucketError::Unclear("each answer was lost".to_owned());
            return Err(Error::bucket("storing commit", commit)(lost));
        }
    }
    Ok(stored)
}

/// Puts each commit once; returns those whose puts may have failed.
fn put_once<F: Fs>(
    turn: &Turn<'_, F>,
    commits: &[Checksum],
    stored: &mut Vec<Checksum>,
) -> Result<Vec<Checksum>, Error> {
    let (mut found, mut requests) = (Vec::new(), Vec::new());
    for &commit in commits {
        let id = ObjectId::commit(commit);
        if let Some(content) = objects::read_metadata(turn.source.fs(), id)? {
            found.push(commit);
            requests.push(Request::Put {
                key: layout::object(&id),
                content: content.into(),
                condition: Condition::Always,
                class: Class::Object,
            });
        }
    }
    turn.check()?;
    let (now, again) = sort_stored(found, turn.ask(&requests))?;
    stored.extend(now);
    Ok(again)
}

/// Commits in memory at once.
const COMMITS_AT_ONCE: usize = 256;
/// The most attempts to put a commit whose answers are lost. The pauses between them double.
const TURNS_MAX: u32 = 8;
const PAUSE: Duration = Duration::from_millis(100);
