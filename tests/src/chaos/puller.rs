//! The smallest client that pulls: reads an archive on this machine, and writes into an own
//! repository through the store. It decides as a real client does, one object after the other, so
//! that every run makes the same calls.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind, RefName, with_causes};
use artifact_protocol::frame::{Base, Expect, PushOptions, RefOutcome, RefUpdate};
use artifact_protocol::session::{Announcement, Published};
use artifact_store::{LocalStore, ObjectStream, Own, Push, RefPlace, Stager, Store};
use bytes::Bytes;

use crate::exec::Failure;

/// Pulls refs of the archive at `source` into `repo`; calls `accepted` once the refs were judged.
/// Returns the refs that were set.
pub fn pull(
    source: &Path,
    repo: &Path,
    refs: &[RefName],
    accepted: impl FnOnce(),
) -> Result<Vec<RefName>, Failure> {
    let source = Source { path: source };
    let own = Own {
        refs: RefPlace::heads(),
        ..Own::default()
    };
    let store = LocalStore::open_own(repo, own).map_err(failed("open the repository"))?;
    let bases = store.bases(refs, 16).map_err(failed("look for bases"))?;
    let bases: Vec<Base> = bases
        .into_iter()
        .filter(|base| source.read(ObjectId::commit(base.commit)).is_ok())
        .collect();
    let left = store
        .leftovers(LEFTOVERS_MAX)
        .map_err(failed("look for leftovers"))?;
    let announcement = Announcement {
        options: PushOptions::default(),
        refs: refs
            .iter()
            .map(|name| source.update(name))
            .collect::<Result<_, _>>()?,
        bases: bases.clone(),
        history: 0,
    };
    let (opened, mut push) = store.begin(&announcement).map_err(failed("begin"))?;
    accepted();
    let relied: Vec<_> = bases
        .iter()
        .map(|base| base.commit)
        .filter(|commit| opened.complete.contains(commit))
        .collect();
    push.rely(&relied).map_err(failed("rely on bases"))?;
    let held: BTreeSet<_> = relied
        .iter()
        .map(|commit| source.closure(*commit, &BTreeSet::new()))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect();
    let left: BTreeSet<_> = left.into_iter().collect();
    for update in &announcement.refs {
        for id in source.closure(update.commit, &held)? {
            if !left.contains(&id) {
                source.stage(&push, id)?;
            }
        }
        if update.detached.is_some() {
            let metadata = source.detached(update.commit).unwrap_or_default();
            push.stage_detached(update.commit, &metadata)
                .map_err(failed("stage detached metadata"))?;
        }
    }
    for _ in 0..ROUNDS_MAX {
        match push.publish().map_err(failed("publish"))? {
            Published::Done(outcomes) => {
                let set = refs.iter().zip(outcomes);
                let set = set.filter(|(_, outcome)| *outcome == RefOutcome::Updated);
                return Ok(set.map(|(name, _)| name.clone()).collect());
            }
            Published::Missing(ids) => {
                ids.into_iter().try_for_each(|id| source.stage(&push, id))?;
            }
        }
    }
    Err(Failure::new("objects keep vanishing"))
}

/// The archive that is pulled from.
struct Source<'a> {
    path: &'a Path,
}

impl Source<'_> {
    fn update(&self, name: &RefName) -> Result<RefUpdate, Failure> {
        let path = self.path.join("refs/heads").join(name.as_str());
        let text = fs::read_to_string(&path).map_err(Failure::doing(format!("read {path:?}")))?;
        let commit = text.trim().parse();
        let commit = commit.map_err(|_| Failure::new(format!("{path:?} is no ref")))?;
        Ok(RefUpdate {
            name: name.clone(),
            commit,
            detached: self
                .detached(commit)
                .map(|metadata| Checksum::of(&metadata)),
            expect: Expect::Any,
        })
    }

    fn read(&self, id: ObjectId) -> Result<Vec<u8>, Failure> {
        let path = self.path.join("objects").join(id.archive_path());
        fs::read(&path).map_err(Failure::doing(format!("read {path:?}")))
    }

    fn detached(&self, commit: Checksum) -> Option<Vec<u8>> {
        let path = ObjectId::commit(commit).loose_path("commitmeta");
        fs::read(self.path.join("objects").join(path)).ok()
    }

    /// Lists what a commit reaches, parents before children, without what is held.
    fn closure(
        &self,
        commit: Checksum,
        held: &BTreeSet<ObjectId>,
    ) -> Result<Vec<ObjectId>, Failure> {
        let mut all = vec![ObjectId::commit(commit)];
        let mut seen: BTreeSet<_> = all.iter().copied().collect();
        let mut next = 0;
        while let Some(&id) = all.get(next) {
            next += 1;
            let broken = |error| Failure::new(format!("{id}: {error}"));
            let below = match id.kind {
                ObjectKind::Commit => {
                    let commit = Commit::parse(&self.read(id)?).map_err(broken)?;
                    vec![
                        ObjectId::new(ObjectKind::Dirtree, commit.tree),
                        ObjectId::new(ObjectKind::Dirmeta, commit.meta),
                    ]
                }
                ObjectKind::Dirtree => {
                    let content = self.read(id)?;
                    let tree = Dirtree::parse(&content).map_err(broken)?;
                    tree.children().collect()
                }
                ObjectKind::File | ObjectKind::Dirmeta => Vec::new(),
            };
            let new = below
                .into_iter()
                .filter(|id| !held.contains(id) && seen.insert(*id));
            all.extend(new.collect::<Vec<_>>());
        }
        Ok(all)
    }

    fn stage(&self, push: &impl Push, id: ObjectId) -> Result<(), Failure> {
        let stager = push.stager();
        let stored = self.read(id)?;
        if stored.len() <= SMALL_LEN_MAX {
            return stager.stage(id, stored.into()).map_err(failed("stage"));
        }
        let mut stream = stager.begin(id).map_err(failed("begin an object"))?;
        for piece in stored.chunks(PIECE_LEN) {
            let piece = Bytes::copy_from_slice(piece);
            stream.append(piece).map_err(failed("go on"))?;
        }
        stream.finish().map_err(failed("end an object"))
    }
}

fn failed(doing: &'static str) -> impl FnOnce(artifact_store::Error) -> Failure {
    move |error| Failure::new(format!("cannot {doing}: {}", with_causes(&error)))
}

/// Longer objects are sent in pieces, in bytes.
const SMALL_LEN_MAX: usize = 32 * 1024;
const PIECE_LEN: usize = 64 * 1024;
const LEFTOVERS_MAX: usize = 1 << 20;
const ROUNDS_MAX: usize = 4;
