//! Mirrors a repository on this machine to a bucket, from which stock `ostree pull` reads.
//!
//! The order keeps every ref of the bucket whole at any moment: detached metadata, objects, closure
//! lists, commits, refs, and then the summary with its signatures, byte for byte as in the
//! repository. Closure lists tell which objects the bucket has. A mirror lists the objects only of
//! a bucket without closure lists, or where another mirror runs or was interrupted. It verifies
//! every object that it sends.
//!
//! Meanwhile pushes and prunes may run in the repository, and other mirrors in the bucket. A mirror
//! therefore looks at the refs and the summary of the bucket before those of the repository
//! (`heads.rs`).

mod commits;
mod complete;
mod files;
mod heads;
mod last;
mod record;
mod send;
mod session;
mod source;
mod tidy;
mod turn;

use std::collections::BTreeMap;
use std::path::Path;

use parking_lot::Mutex;

use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::real::RealFs;
use crate::local::upkeep::remove;
use crate::mirror::commits::Commits;
use crate::mirror::complete::Complete;
use crate::mirror::files::Files;
use crate::mirror::heads::{Heads, Moved};
use crate::mirror::record::Record;
use crate::mirror::session::Session;
use crate::mirror::source::{Refs, Signed, Source};
use crate::mirror::turn::Turn;

pub use crate::mirror::turn::{MirrorEvent, MirrorOptions, Mirrored};

/// Mirrors the repository at `path` to a bucket, and reports progress from several threads.
///
/// Makes up to three passes if the repository changes or a collection begins in the meantime.
pub fn mirror(
    path: &Path,
    client: &Client,
    options: &MirrorOptions,
    report: &(dyn Fn(MirrorEvent) + Sync),
) -> Result<Mirrored, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    mirror_from(fs, client, options, report)
}

/// Does the same for the repository at the root of any file system.
pub(crate) fn mirror_from<F: Fs>(
    fs: F,
    client: &Client,
    options: &MirrorOptions,
    report: &(dyn Fn(MirrorEvent) + Sync),
) -> Result<Mirrored, Error> {
    let source = Source::open(fs)?;
    let mut done = Mirrored::default();
    for turn in 1.. {
        done.faults = 0;
        done.refs_unchanged = 0;
        let session = match options.dry_run {
            true => None,
            false => Some(Session::begin(client)?),
        };
        let result = Turn {
            source: &source,
            client,
            options,
            report,
            session: session.as_ref(),
        }
        .run(&mut done);
        let is_disturbed = session.as_ref().is_some_and(Session::is_disturbed);
        match result {
            Err(_) if is_disturbed && turn < TURNS_MAX => {
                session.map_or(Ok(()), Session::end)?;
            }
            // Its lease stays until it expires: requests may still take effect (R9).
            Err(error) => return Err(error),
            Ok(is_current) => {
                session.map_or(Ok(()), Session::complete)?;
                if is_current || options.dry_run || turn == TURNS_MAX {
                    break;
                }
            }
        }
    }
    Ok(done)
}

/// One pass over everything.
impl<F: Fs> Turn<'_, F> {
    /// Returns whether the bucket now matches the repository.
    fn run(&self, done: &mut Mirrored) -> Result<bool, Error> {
        let Self {
            source,
            client,
            options,
            ..
        } = *self;
        let mut record = Record::load(source.fs(), &options.address);
        // The bucket's refs and summary are read before those of the repository.
        let mut heads = Heads::list(client, &record)?;
        let files = Files::look(client, &record)?;
        let summary = source.summary()?;
        let refs = source.refs()?;
        for name in &refs.unusable {
            self.fault(
                done,
                &format!("ref {name}"),
                "has a name that is no name of a ref",
            );
        }
        if !options.dry_run {
            files.put_config(client, source, &mut record)?;
        }
        let named = summary.as_ref().and_then(|summary| summary.commits());
        let mut complete = Complete::look(client, &heads)?;
        let commits = named.clone().unwrap_or_default();
        Commits::new(self, &mut complete).copy(&refs, &commits, &mut record, done)?;
        let good = self.set_refs(&refs, &mut heads, &complete, &mut record, done)?;
        let whole = match (&summary, named) {
            (None, _) => files.remove_summary(self, &mut record, done)?,
            (Some(summary), Some(named)) if complete.has_all(&named) => {
                files.put_summary(self, summary, &mut record, done)?
            }
            (Some(_), Some(_)) => {
                let why = "names commits that are not in the bucket, so it was not mirrored";
                self.fault(done, "the summary", why);
                true
            }
            (Some(_), None) => {
                self.fault(
                    done,
                    "the summary",
                    "is damaged: `artifact-cache-admin summary` helps",
                );
                true
            }
        };
        if options.delete {
            tidy::refs(self, &refs, &heads, &mut record, done)?;
        }
        if !options.dry_run {
            self.save(&record)?;
        }
        Ok(good && whole && self.is_still(&refs, summary.as_ref())?)
    }

    /// Sets the refs whose commits are in the bucket; returns `false` if another mirror interfered.
    fn set_refs(
        &self,
        refs: &Refs,
        heads: &mut Heads,
        complete: &Complete,
        record: &mut Record,
        done: &mut Mirrored,
    ) -> Result<bool, Error> {
        let mut usable = BTreeMap::new();
        for (name, commit) in &refs.heads {
            if layout::head(name).is_none() {
                self.fault(
                    done,
                    &format!("ref {name}"),
                    "has a name too long for a bucket",
                );
            } else if complete.has(*commit) {
                usable.insert(name, *commit);
            }
        }
        heads.learn(self.client, usable.keys().copied())?;
        let (there, wanted): (Vec<_>, Vec<_>) = usable
            .into_iter()
            .partition(|(name, commit)| heads.commit(name) == Some(*commit));
        done.refs_unchanged = there.len() as u64;
        let known = there
            .into_iter()
            .filter_map(|(name, commit)| Some((name.clone(), (commit, heads.tag(name)?.clone()))));
        let mut values: BTreeMap<_, _> = known.collect();
        if self.options.dry_run {
            done.refs_set = wanted.len() as u64;
            for &(name, commit) in &wanted {
                let name = name.clone();
                (self.report)(MirrorEvent::Set { name, commit });
            }
            return Ok(true);
        }
        if !wanted.is_empty() {
            self.confirm()?;
        }
        let names: Vec<_> = wanted.iter().map(|(name, _)| *name).collect();
        let taken: BTreeMap<_, _> = heads.guard(self.client, &names)?.into_iter().collect();
        for (name, why) in &taken {
            let why = format!("has a name that the bucket cannot hold: {why}");
            self.fault(done, &format!("ref {name}"), &why);
        }
        let wanted: Vec<_> = wanted
            .into_iter()
            .filter(|(name, _)| !taken.contains_key(name))
            .collect();
        let set = Mutex::new((0, true));
        let tags = Mutex::new(&mut values);
        heads.set(self, &wanted, &|name, commit, moved| match moved {
            Moved::Set(tag) => {
                tags.lock().insert(name.clone(), (commit, tag));
                set.lock().0 += 1;
                let name = name.clone();
                (self.report)(MirrorEvent::Set { name, commit });
            }
            Moved::Overtaken => set.lock().1 = false,
        })?;
        let (count, good) = set.into_inner();
        done.refs_set += count;
        record.heads = values;
        Ok(good)
    }

    /// Returns whether the repository still has these refs and this summary.
    fn is_still(&self, refs: &Refs, summary: Option<&Signed>) -> Result<bool, Error> {
        let still = self.source.refs()?.heads == refs.heads;
        Ok(still && self.source.summary()?.as_ref() == summary)
    }

    fn save(&self, record: &Record) -> Result<(), Error> {
        let scratch = remove::scratch(&self.source.repo)?;
        record.save(self.source.fs(), &scratch, &self.options.address)?;
        // Nothing staged is left for another session to take over.
        scratch.publish();
        Ok(())
    }
}

/// The most passes, while the repository changes or collections begin.
const TURNS_MAX: u32 = 3;
