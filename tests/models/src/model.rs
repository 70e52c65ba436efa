//! A repository, a source and a store in memory, simple enough to be trusted.
//!
//! An object's stored bytes are the ids of its children, 33 bytes each, and a remainder that makes
//! it unique; a file has no children. Its checksum is that of its stored bytes, so the store
//! verifies what it stages as the real one does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName};
use artifact_protocol::frame::{
    CloseCode, Expect, RefOutcome, RefState, RefUpdate, Refusal, RefusalCode, SummaryDone, Verdict,
};
use artifact_protocol::limits::{MAX_BASES, MAX_MISSING_IDS};
use artifact_protocol::session::{
    Announcement, Fault, Fetched, Opened, PlanRequest, Published, RefQuery, SourceOp,
    SourceOutcome, StoreOp, StoreOutcome,
};
use bytes::{Bytes, BytesMut};

/// Objects, refs and detached metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// Stored bytes of each object.
    pub objects: BTreeMap<ObjectId, Bytes>,
    /// Values of refs.
    pub refs: BTreeMap<RefName, Checksum>,
    /// Detached metadata, by commit.
    pub detached: BTreeMap<Checksum, Bytes>,
}

impl Repository {
    /// Adds an object; `rest` distinguishes it from others with the same children.
    pub fn add(&mut self, kind: ObjectKind, children: &[ObjectId], rest: &[u8]) -> ObjectId {
        let mut stored = BytesMut::new();
        for child in children {
            stored.extend_from_slice(&child.to_wire());
        }
        stored.extend_from_slice(rest);
        let id = ObjectId::new(kind, Checksum::of(&stored));
        self.objects.insert(id, stored.freeze());
        id
    }

    /// Adds a file.
    pub fn add_file(&mut self, content: &[u8]) -> ObjectId {
        self.add(ObjectKind::File, &[], content)
    }

    /// Adds a commit of one directory, and a ref to it.
    pub fn add_commit(&mut self, name: &str, children: &[ObjectId]) -> Checksum {
        let tree = self.add(ObjectKind::Dirtree, children, b"t");
        let meta = self.add(ObjectKind::Dirmeta, &[], b"directory");
        let commit = self.add(ObjectKind::Commit, &[tree, meta], b"c").checksum;
        self.refs
            .insert(name.parse().expect("a test's ref name"), commit);
        commit
    }

    /// Returns the objects that `root` reaches: those that are here, and those that are missing.
    pub fn closure(&self, root: ObjectId) -> (BTreeSet<ObjectId>, BTreeSet<ObjectId>) {
        walk(root, |id| self.objects.get(&id))
    }

    /// Returns whether the closure of every ref's commit is here.
    pub fn is_whole(&self) -> bool {
        self.refs.values().all(|commit| self.is_complete(*commit))
    }

    /// No commit of this model has a parent.
    const fn descends(&self, _: Checksum, _: Checksum) -> bool {
        false
    }

    fn is_complete(&self, commit: Checksum) -> bool {
        self.closure(commit_id(commit)).1.is_empty()
    }
}

/// Returns the id of a commit.
pub const fn commit_id(commit: Checksum) -> ObjectId {
    ObjectId::new(ObjectKind::Commit, commit)
}

/// Returns the children in an object's stored bytes.
pub fn children(id: ObjectId, stored: &[u8]) -> Vec<ObjectId> {
    if id.kind == ObjectKind::File || id.kind == ObjectKind::Dirmeta {
        return Vec::new();
    }
    stored
        .chunks_exact(ObjectId::WIRE_LEN)
        .filter_map(|wire| ObjectId::from_wire(wire.first_chunk()?))
        .collect()
}

fn walk<'a>(
    root: ObjectId,
    get: impl Fn(ObjectId) -> Option<&'a Bytes>,
) -> (BTreeSet<ObjectId>, BTreeSet<ObjectId>) {
    let (mut here, mut gone) = (BTreeSet::new(), BTreeSet::new());
    let mut todo = vec![root];
    while let Some(id) = todo.pop() {
        match get(id) {
            Some(stored) if here.insert(id) => todo.extend(children(id, stored)),
            Some(_) => {}
            None => drop(gone.insert(id)),
        }
    }
    (here, gone)
}

/// The sending end's repository. It plans breadth first and leaves out what the server has.
#[derive(Debug, Default)]
pub struct Source {
    /// The client's repository.
    pub repository: Repository,
    /// Whether to descend only below answered objects, instead of running ahead of the answers.
    pub waits: bool,
    /// Objects above this many bytes are sent in pieces of this length.
    pub whole_len_max: usize,
    /// Whether to hide the lengths of large objects.
    pub hides_lengths: bool,
    /// Every id offered, in order.
    pub offered: Vec<ObjectId>,
    planned: Vec<Checksum>,
    seen: BTreeSet<ObjectId>,
    had: BTreeSet<ObjectId>,
    next: VecDeque<ObjectId>,
    unanswered: usize,
    read: BTreeMap<ObjectId, usize>,
}

impl Source {
    /// Makes a source of a repository.
    pub fn new(repository: Repository) -> Self {
        Self {
            repository,
            whole_len_max: 256,
            ..Self::default()
        }
    }

    /// Executes a request of the session.
    pub fn act(&mut self, op: &SourceOp) -> Result<SourceOutcome, Fault> {
        Ok(match op {
            SourceOp::Plan(plan) => self.plan(plan),
            SourceOp::Offer {
                answers,
                missing,
                max,
            } => self.offer(answers, missing, *max),
            SourceOp::Vouch(ids) => {
                let planned = self.planned.iter().map(|commit| commit_id(*commit));
                let reached = planned.flat_map(|id| self.repository.closure(id).0);
                let reached: BTreeSet<_> = reached.collect();
                SourceOutcome::Vouched(ids.iter().all(|id| reached.contains(id)))
            }
            SourceOp::Fetch(ids) => SourceOutcome::Fetched(
                ids.iter()
                    .map(|id| self.fetch(*id))
                    .collect::<Result<_, _>>()?,
            ),
            SourceOp::Next(id) => self.read_on(*id)?,
            SourceOp::Descends(pairs) => {
                let pairs = pairs.iter();
                let answers = pairs.map(|(new, old)| self.repository.descends(*new, *old));
                SourceOutcome::Descends(answers.collect())
            }
        })
    }

    fn plan(&mut self, plan: &PlanRequest) -> SourceOutcome {
        let is_here = |commit: &&Checksum| self.repository.is_complete(**commit);
        let basis: Vec<_> = plan.complete.iter().filter(is_here).copied().collect();
        for commit in &basis {
            self.had
                .extend(self.repository.closure(commit_id(*commit)).0);
        }
        self.seen.extend(&plan.offered);
        self.unanswered += plan.offered.len();
        for (commit, _) in &plan.targets {
            self.planned.push(*commit);
            self.enqueue(commit_id(*commit));
        }
        let detached = plan.detached.iter().filter_map(|commit| {
            let metadata = self.repository.detached.get(commit)?;
            Some((*commit, metadata.clone()))
        });
        SourceOutcome::Planned {
            basis,
            detached: detached.collect(),
        }
    }

    fn offer(
        &mut self,
        answers: &[(ObjectId, bool)],
        missing: &[ObjectId],
        max: usize,
    ) -> SourceOutcome {
        self.unanswered -= answers.len();
        for (id, has) in answers {
            if *has {
                self.had.extend(self.repository.closure(*id).0);
            } else if self.waits {
                self.descend(*id);
            }
        }
        if !missing.is_empty() {
            self.had.clear();
            self.seen = missing.iter().copied().collect();
            missing.iter().for_each(|id| self.descend(*id));
        }
        let mut ids = Vec::new();
        while ids.len() < max
            && let Some(id) = self.next.pop_front()
        {
            if self.had.contains(&id) {
                continue;
            }
            ids.push(id);
            if !self.waits {
                self.descend(id);
            }
        }
        self.unanswered += ids.len();
        self.offered.extend(&ids);
        let exhausted = self.next.is_empty() && (!self.waits || self.unanswered == 0);
        SourceOutcome::Offered { ids, exhausted }
    }

    fn descend(&mut self, id: ObjectId) {
        // A hostile server may ask for objects that were never here.
        let stored = self.repository.objects.get(&id).cloned();
        for child in children(id, &stored.unwrap_or_default()) {
            self.enqueue(child);
        }
    }

    fn enqueue(&mut self, id: ObjectId) {
        if self.seen.insert(id) {
            self.next.push_back(id);
        }
    }

    fn fetch(&self, id: ObjectId) -> Result<Fetched, Fault> {
        let stored = self.repository.objects.get(&id).ok_or_else(|| Fault {
            code: CloseCode::SOURCE_FAILED,
            text: format!("{id} cannot be read"),
        })?;
        Ok(if stored.len() > self.whole_len_max {
            Fetched::Large((!self.hides_lengths).then_some(stored.len() as u64))
        } else {
            Fetched::Whole(stored.clone())
        })
    }

    fn read_on(&mut self, id: ObjectId) -> Result<SourceOutcome, Fault> {
        let stored = &self.repository.objects[&id];
        let from = self.read.remove(&id).unwrap_or_default();
        let to = stored.len().min(from + self.whole_len_max);
        let last = to == stored.len();
        if !last {
            self.read.insert(id, to);
        }
        let bytes = stored.slice(from..to);
        Ok(SourceOutcome::Piece { bytes, last })
    }
}

/// The receiving end's repository, and the objects staged beside it.
#[derive(Debug, Default)]
pub struct Store {
    /// The published state.
    pub repository: Repository,
    /// Verified objects that are not published; a later session takes them over.
    pub staged: BTreeMap<ObjectId, Bytes>,
    /// Objects that vanish before each publication, as in a prune.
    pub vanish: VecDeque<Vec<ObjectId>>,
    /// The first request, counted from 0, that fails, and how; later ones fail as well.
    pub fails_at: Option<(usize, Fault)>,
    /// How often the summary was updated.
    pub summaries: u32,
    requests: usize,
    detached: BTreeMap<Checksum, Bytes>,
    announcement: Announcement,
    opened: Opened,
    complete: BTreeSet<ObjectId>,
    streams: BTreeMap<u8, (ObjectId, BytesMut)>,
}

impl Store {
    /// Makes a store on a repository.
    pub fn new(repository: Repository) -> Self {
        Self {
            repository,
            ..Self::default()
        }
    }

    /// Starts another session: staged objects stay.
    pub fn reopen(&mut self) {
        *self = Self {
            repository: std::mem::take(&mut self.repository),
            staged: std::mem::take(&mut self.staged),
            ..Self::default()
        };
    }

    /// Executes a request of the session.
    pub fn act(&mut self, op: &StoreOp) -> Result<StoreOutcome, Fault> {
        self.requests += 1;
        if let Some((at, fault)) = &self.fails_at
            && self.requests > *at
        {
            return Err(fault.clone());
        }
        Ok(match op {
            StoreOp::Refs(query) => self.refs(query),
            StoreOp::Open(announcement) => StoreOutcome::Opened(self.open(announcement)),
            StoreOp::Rely(commits) => {
                if !commits.iter().all(|c| self.opened.complete.contains(c)) {
                    return Err(refuse(CloseCode::VIOLATION, "a basis that is not complete"));
                }
                StoreOutcome::Relied
            }
            StoreOp::Have(ids) => StoreOutcome::Have(ids.iter().map(|id| self.has(*id)).collect()),
            StoreOp::Stage(objects) => {
                for (id, stored) in objects {
                    self.stage(*id, stored.clone())?;
                }
                StoreOutcome::Staged
            }
            StoreOp::Begin(stream, id) => {
                assert!(!self.streams.contains_key(stream), "begun twice");
                self.streams.insert(*stream, (*id, BytesMut::new()));
                StoreOutcome::Appended
            }
            StoreOp::Append(stream, bytes) => {
                let open = self.streams.get_mut(stream).expect("begun before");
                open.1.extend_from_slice(bytes);
                StoreOutcome::Appended
            }
            StoreOp::End(stream) => {
                let (id, bytes) = self.streams.remove(stream).expect("begun before");
                self.stage(id, bytes.freeze())?;
                StoreOutcome::Staged
            }
            StoreOp::Detached(commit, metadata) => {
                self.detached.insert(*commit, metadata.clone());
                StoreOutcome::Staged
            }
            // This store trusts nothing without checking it.
            StoreOp::Unsent(_) => StoreOutcome::Relied,
            StoreOp::Publish => StoreOutcome::Published(self.publish()),
            StoreOp::Summarize => {
                self.summaries += 1;
                StoreOutcome::Summarized(SummaryDone::Current)
            }
        })
    }

    fn refs(&self, query: &RefQuery) -> StoreOutcome {
        let refs = self.repository.refs.iter();
        let refs = refs.map(|(name, commit)| (name.clone(), *commit));
        let refs = match query {
            RefQuery::Named(names) => refs.filter(|(name, _)| names.contains(name)).collect(),
            RefQuery::All { .. } => refs.collect(),
        };
        StoreOutcome::Refs { refs, all: true }
    }

    fn open(&mut self, announcement: &Announcement) -> Opened {
        let refs = announcement.refs.iter().map(|update| self.judge(update));
        let refs: Vec<_> = refs.collect();
        let parents: BTreeSet<_> = announcement.refs.iter().map(|r| r.name.parent()).collect();
        let suggested = self.repository.refs.iter();
        let suggested = suggested.filter(|(name, _)| parents.contains(&name.parent()));
        let proposed = announcement.bases.iter();
        let proposed = proposed.filter(|b| self.repository.refs.get(&b.name) == Some(&b.commit));
        let complete: BTreeSet<_> = proposed
            .map(|base| base.commit)
            .chain(suggested.map(|(_, commit)| *commit).take(MAX_BASES))
            .collect();
        self.complete = BTreeSet::new();
        for commit in self.repository.refs.values() {
            self.complete
                .extend(self.repository.closure(commit_id(*commit)).0);
        }
        self.announcement = announcement.clone();
        self.opened = Opened {
            refs,
            complete: complete.into_iter().collect(),
        };
        self.opened.clone()
    }

    fn judge(&self, update: &RefUpdate) -> RefState {
        let current = self.repository.refs.get(&update.name).copied();
        let detached = self
            .repository
            .detached
            .get(&update.commit)
            .map(|m| Checksum::of(m));
        let same_detached = update.detached.is_none() || update.detached == detached;
        let expected = match update.expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Is(commit) => current == Some(commit),
        };
        let verdict = if update.name.as_str().starts_with("forbidden/") {
            Verdict::Refused(Refusal::new(RefusalCode::NOT_PERMITTED, "not yours"))
        } else if current == Some(update.commit) && same_detached {
            Verdict::UpToDate
        } else if expected {
            Verdict::Accepted
        } else {
            Verdict::Refused(Refusal::new(RefusalCode::LOST_RACE, "it moved"))
        };
        RefState { current, verdict }
    }

    /// An object counts as here if it lies beneath a complete commit, or is staged with everything
    /// below it.
    fn has(&self, id: ObjectId) -> bool {
        let get = |id| self.staged.get(&id).or_else(|| self.known(id));
        self.complete.contains(&id) || self.staged.contains_key(&id) && walk(id, get).1.is_empty()
    }

    fn known(&self, id: ObjectId) -> Option<&Bytes> {
        let known = self.complete.contains(&id);
        known.then(|| self.repository.objects.get(&id)).flatten()
    }

    fn stage(&mut self, id: ObjectId, stored: Bytes) -> Result<(), Fault> {
        if Checksum::of(&stored) != id.checksum {
            let text = format!("{id} has another checksum");
            return Err(refuse(CloseCode::OBJECT_REFUSED, &text));
        }
        self.staged.insert(id, stored);
        Ok(())
    }

    fn publish(&mut self) -> Published {
        for id in self.vanish.pop_front().unwrap_or_default() {
            self.repository.objects.remove(&id);
            self.staged.remove(&id);
        }
        let updates = self.announcement.refs.iter().zip(&self.opened.refs);
        let accepted = updates
            .clone()
            .filter(|(_, s)| s.verdict == Verdict::Accepted);
        let (mut here, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for (update, _) in accepted {
            let (found, missing) = walk(commit_id(update.commit), |id| {
                self.staged.get(&id).or_else(|| self.known(id))
            });
            here.extend(found);
            gone.extend(missing);
        }
        if !gone.is_empty() {
            return Published::Missing(gone.into_iter().take(MAX_MISSING_IDS).collect());
        }
        for id in here {
            if let Some(stored) = self.staged.remove(&id) {
                self.repository.objects.insert(id, stored);
            }
        }
        self.repository.detached.append(&mut self.detached);
        let refs = &mut self.repository.refs;
        let outcomes = updates.map(|(update, state)| match &state.verdict {
            Verdict::UpToDate => RefOutcome::Unchanged,
            Verdict::Refused(refusal) => RefOutcome::Refused(refusal.clone()),
            Verdict::Accepted if refs.get(&update.name).copied() == state.current => {
                refs.insert(update.name.clone(), update.commit);
                RefOutcome::Updated
            }
            Verdict::Accepted => {
                RefOutcome::Refused(Refusal::new(RefusalCode::LOST_RACE, "it moved"))
            }
        });
        Published::Done(outcomes.collect())
    }
}

fn refuse(code: CloseCode, text: &str) -> Fault {
    Fault {
        code,
        text: text.to_owned(),
    }
}
