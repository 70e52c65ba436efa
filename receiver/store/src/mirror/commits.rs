//! Finds the commits that the bucket lacks, and copies them with everything that they reach.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use artifact_formats::{Checksum, ObjectId, RefName};
use bytes::Bytes;

use crate::bucket::records::closures::{ClosureList, Heading, PARENTS_MAX};
use crate::bucket::records::layout;
use crate::bucket::requests::seam::Class;
use crate::bucket::requests::window::Window;
use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::repository::listing;
use crate::mirror::complete::Complete;
use crate::mirror::last;
use crate::mirror::record::Record;
use crate::mirror::send::{Sender, Sent};
use crate::mirror::session::Session;
use crate::mirror::source::{Closure, Lacks, Refs};
use crate::mirror::turn::{MirrorEvent, Mirrored, Turn};
use crate::tree::id_set::IdSet;

/// Copies commits to a bucket.
pub(crate) struct Commits<'a, F: Fs> {
    turn: &'a Turn<'a, F>,
    complete: &'a mut Complete,
    /// Objects that are in the bucket, or about to be put.
    there: IdSet,
    /// Objects from a list of the whole bucket, with their lengths, sorted.
    seen: Vec<(ObjectId, u64)>,
    /// Objects that are missing or damaged in the repository.
    bad: HashMap<ObjectId, String>,
    /// Commits of the bucket whose objects `there` contains.
    bases: HashSet<Checksum>,
    window: Window,
}

/// A commit to put once its objects are in the bucket.
struct Planned {
    commit: Checksum,
    closure: Closure,
    list: Bytes,
    detached: Option<Vec<u8>>,
}

impl<'a, F: Fs> Commits<'a, F> {
    /// A copier that has copied nothing yet.
    pub(crate) fn new(turn: &'a Turn<'a, F>, complete: &'a mut Complete) -> Self {
        Self {
            turn,
            complete,
            there: IdSet::default(),
            seen: Vec::new(),
            bad: HashMap::new(),
            bases: HashSet::new(),
            window: Window::new(turn.client.clone()),
        }
    }

    /// Copies the commits of refs, those that the summary names, and their history to the bucket.
    pub(crate) fn copy(
        &mut self,
        refs: &Refs,
        named: &BTreeSet<Checksum>,
        record: &mut Record,
        done: &mut Mirrored,
    ) -> Result<(), Error> {
        let tips = refs.heads.values().chain(&refs.others).chain(named);
        self.complete.confirm(tips.copied())?;
        let order = self.order(refs, named, done)?;
        let has_others = self.turn.session.is_some_and(Session::has_others);
        if !order.is_empty() && (self.complete.had_no_lists() || has_others) {
            self.list_objects()?;
        }
        let mut batch = Vec::new();
        let mut missing = Vec::new();
        for (commit, name) in order {
            self.use_bases(commit, name, refs)?;
            match self.plan(commit)? {
                Ok(planned) => {
                    let new = planned.closure.iter().map(|(id, _)| *id);
                    missing.extend(new.filter(|id| self.there.insert(*id)));
                    batch.push(planned);
                }
                Err(lacks) => self.lacking(commit, lacks, refs, done)?,
            }
            if missing.len() >= BATCH_OBJECTS || batch.len() >= BATCH_COMMITS {
                self.flush(&mut batch, &mut missing, refs, done)?;
            }
        }
        self.flush(&mut batch, &mut missing, refs, done)?;
        self.renew_detached(refs, record)
    }

    /// Returns the commits that the bucket lacks, parents first, each with a ref that leads to it.
    fn order<'r>(
        &mut self,
        refs: &'r Refs,
        named: &BTreeSet<Checksum>,
        done: &mut Mirrored,
    ) -> Result<Vec<(Checksum, Option<&'r RefName>)>, Error> {
        let heads = refs
            .heads
            .iter()
            .map(|(name, commit)| (*commit, Some(name)));
        let others = refs.others.iter().chain(named);
        let tips = heads.chain(others.map(|commit| (*commit, None)));
        let (mut seen, mut order) = (HashSet::new(), Vec::new());
        for (tip, name) in tips {
            let mut history = Vec::new();
            let mut next = Some(tip);
            while let Some(commit) = next {
                if self.complete.has(commit) || !seen.insert(commit) {
                    break;
                }
                let Some(parsed) = self.turn.source.commit(commit)? else {
                    if commit == tip {
                        let why = "is missing, damaged or marked partial";
                        let id = ObjectId::commit(commit);
                        self.lacking(commit, Lacks { id, why }, refs, done)?;
                    }
                    break;
                };
                history.push((commit, name));
                next = parsed.parent;
                self.complete.confirm(next.into_iter())?;
            }
            order.extend(history.into_iter().rev());
        }
        Ok(order)
    }

    /// Lists the objects of the bucket. Only this finds objects in a bucket without closure lists,
    /// or objects that an interrupted mirror has put and no list names.
    fn list_objects(&mut self) -> Result<(), Error> {
        for entry in self.turn.client.list_each(layout::OBJECTS) {
            let entry = entry.map_err(Error::bucket("listing", &"objects"))?;
            let id = layout::object_of(&entry.key);
            self.seen.extend(id.map(|id| (id, entry.len)));
        }
        self.seen.sort_unstable();
        Ok(())
    }

    /// Notes the objects beneath commits of the bucket that resemble this one: the newest commits
    /// of the same element, and its parent.
    fn use_bases(
        &mut self,
        commit: Checksum,
        name: Option<&RefName>,
        refs: &Refs,
    ) -> Result<(), Error> {
        let mut like = Vec::new();
        if let Some(parent) = name.and_then(RefName::parent) {
            let fs = self.turn.source.fs();
            let names = listing::newest_in(fs, &RepoPath::heads(), parent, BASES_MAX)?;
            like.extend(names.iter().filter_map(|name| refs.heads.get(name)));
        }
        let parsed = self.turn.source.commit(commit)?;
        like.extend(parsed.as_ref().and_then(|commit| commit.parent.as_ref()));
        let like: Vec<_> = like.into_iter().copied().collect();
        self.complete.confirm(like.iter().copied())?;
        for base in like {
            if !self.complete.has(base) || !self.bases.insert(base) {
                continue;
            }
            let ids: Vec<_> = match self.turn.source.closure(base)? {
                Ok(closure) => closure.into_iter().map(|(id, _)| id).collect(),
                Err(_) => {
                    let list = self.list_of(base)?;
                    list.iter()
                        .flat_map(ClosureList::objects)
                        .map(|(id, _)| id)
                        .collect()
                }
            };
            for id in ids {
                self.there.insert(id);
            }
        }
        Ok(())
    }

    fn list_of(&self, commit: Checksum) -> Result<Option<ClosureList>, Error> {
        let found = self.turn.client.get(&layout::closure(commit));
        let found = found.map_err(Error::bucket("reading the closure list of", &commit))?;
        Ok(found.and_then(|found| ClosureList::decode(commit, &found.content)))
    }

    /// Finds the objects that a commit reaches, and prepares its closure list.
    fn plan(&self, commit: Checksum) -> Result<Result<Planned, Lacks>, Error> {
        let closure = match self.turn.source.closure(commit)? {
            Ok(closure) => closure,
            Err(lacks) => return Ok(Err(lacks)),
        };
        if let Some((id, _)) = closure.iter().find(|(id, _)| self.bad.contains_key(id)) {
            return Ok(Err(Lacks {
                id: *id,
                why: DAMAGED,
            }));
        }
        let heading = Heading::exact(self.ancestors(commit)?);
        let list = ClosureList::encode(commit, &heading, closure.iter().copied());
        Ok(Ok(Planned {
            commit,
            closure,
            list,
            detached: self.turn.source.detached(commit)?,
        }))
    }

    /// Returns the nearest ancestors of a commit, up to the first one that this repository lacks.
    fn ancestors(&self, commit: Checksum) -> Result<Vec<Checksum>, Error> {
        let mut ancestors = Vec::new();
        let mut at = commit;
        while ancestors.len() < PARENTS_MAX {
            let parsed = self.turn.source.commit(at)?;
            let Some(parent) = parsed.and_then(|commit| commit.parent) else {
                break;
            };
            ancestors.push(parent);
            at = parent;
        }
        Ok(ancestors)
    }

    /// Puts the missing objects, and then the commits of a batch.
    fn flush(
        &mut self,
        batch: &mut Vec<Planned>,
        missing: &mut Vec<ObjectId>,
        refs: &Refs,
        done: &mut Mirrored,
    ) -> Result<(), Error> {
        self.turn.keep()?;
        let (batch, missing) = (std::mem::take(batch), std::mem::take(missing));
        if batch.is_empty() {
            return Ok(());
        }
        for planned in &batch {
            if let Some(content) = &planned.detached {
                self.put_detached(planned.commit, content)?;
            }
        }
        let sent = self.send(&missing)?;
        done.objects += sent.objects;
        done.bytes += sent.bytes;
        self.bad.extend(sent.bad);
        let mut good = Vec::new();
        for planned in batch {
            let mut ids = planned.closure.iter().map(|(id, _)| *id);
            match ids.find(|id| self.bad.contains_key(id)) {
                Some(id) => {
                    let why = DAMAGED;
                    self.lacking(planned.commit, Lacks { id, why }, refs, done)?;
                }
                None => good.push(planned),
            }
        }
        done.commits += good.len() as u64;
        if self.turn.options.dry_run {
            let commits = good.iter().map(|planned| planned.commit);
            self.complete.note_put(commits);
            return Ok(());
        }
        // The list comes before the commit, because a commit without its list counts as absent.
        for Planned { commit, list, .. } in &good {
            let put = (self.window).put(layout::closure(*commit), list.clone(), Class::Private);
            put.map_err(Error::bucket("storing the closure list of", commit))?;
        }
        let settled = self.window.settle();
        settled.map_err(Error::bucket("storing", &"closure lists"))?;
        let commits: Vec<_> = good.iter().map(|planned| planned.commit).collect();
        self.put_commits(&commits)?;
        let (objects, bytes) = (done.objects, done.bytes);
        (self.turn.report)(MirrorEvent::Copied { objects, bytes });
        Ok(())
    }

    fn send(&self, missing: &[ObjectId]) -> Result<Sent, Error> {
        let sender = Sender {
            source: self.turn.source,
            client: self.turn.client,
            window: &self.window,
            object_len_max: self.turn.options.object_len_max,
            keep: &|| self.turn.keep(),
            listed: &self.seen,
            dry_run: self.turn.options.dry_run,
        };
        sender.send(missing)
    }

    /// Puts commits whose objects are all in the bucket, except those that a prune has removed from
    /// the repository in the meantime.
    fn put_commits(&mut self, commits: &[Checksum]) -> Result<(), Error> {
        self.complete.note_put(last::put(self.turn, commits)?);
        Ok(())
    }

    fn put_detached(&self, commit: Checksum, content: &[u8]) -> Result<(), Error> {
        if self.turn.options.dry_run {
            return Ok(());
        }
        let key = layout::detached(commit);
        let put = (self.window).put(key, content.to_vec().into(), Class::Current);
        put.map_err(Error::bucket("storing the detached metadata of", &commit))
    }

    /// Reports a commit that cannot be mirrored, unless its ref has moved: a prune may have removed
    /// the commit then.
    fn lacking(
        &self,
        commit: Checksum,
        lacks: Lacks,
        refs: &Refs,
        done: &mut Mirrored,
    ) -> Result<(), Error> {
        let Lacks { id, why } = lacks;
        let why = self.bad.get(&id).map_or(why, String::as_str);
        let held = refs.heads.iter().filter(|(_, held)| **held == commit);
        let mut is_history = true;
        for (name, _) in held {
            is_history = false;
            if self.turn.source.head(name)? == Some(commit) {
                self.turn
                    .fault(done, &format!("ref {name}"), &format!("{id} {why}"));
            }
        }
        if is_history {
            tracing::debug!(%commit, %id, why, "not mirrored");
        }
        Ok(())
    }

    /// Puts detached metadata that has changed since its commit was put.
    fn renew_detached(&self, refs: &Refs, record: &mut Record) -> Result<(), Error> {
        let mut current = BTreeMap::new();
        let commits: BTreeSet<_> = refs.heads.values().copied().collect();
        for commit in commits
            .into_iter()
            .filter(|commit| self.complete.has(*commit))
        {
            let Some(content) = self.turn.source.detached(commit)? else {
                continue;
            };
            let digest = Checksum::of(&content);
            let known = record.detached.get(&commit) == Some(&digest);
            if !known && !self.complete.was_put(&commit) {
                self.put_detached(commit, &content)?;
            }
            current.insert(commit, digest);
        }
        record.detached = current;
        let settled = self.window.settle();
        settled.map_err(Error::bucket("storing", &"detached metadata"))
    }
}

const DAMAGED: &str = "is missing or damaged";
/// The number of missing objects that ends a batch of commits.
const BATCH_OBJECTS: usize = 16 * 1024;
/// The most commits in a batch.
const BATCH_COMMITS: usize = 4096;
/// The most refs of the same element whose commits serve as bases.
const BASES_MAX: usize = 4;
