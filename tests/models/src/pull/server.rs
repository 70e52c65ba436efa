//! The server's repository: judges, walks breadth first, and reads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{
    CloseCode, Extent, Prefix, PullState, RefAnswer, RefRequest, Refusal, RefusalCode,
};
use artifact_protocol::session::pull::{AnswerOp, AnswerOutcome, PullAnswer, PullRequest};
use artifact_protocol::session::{Fault, Fetched};

use super::cache::Cache;

/// The server's end of a pull.
#[derive(Debug, Default)]
pub struct Server {
    /// Its repository. Nobody may read `forbidden/**`.
    pub cache: Cache,
    /// Objects above this many bytes are sent in pieces of this length.
    pub whole_len_max: usize,
    /// The first request, counted from 0, that fails.
    pub fails_at: Option<usize>,
    /// Every object that was listed.
    pub listed: Vec<ObjectId>,
    requests: usize,
    list: VecDeque<ObjectId>,
    read: BTreeMap<ObjectId, usize>,
}

impl Server {
    /// Makes a server of a repository.
    pub fn new(cache: Cache, whole_len_max: usize) -> Self {
        Self {
            cache,
            whole_len_max,
            ..Self::default()
        }
    }

    /// Executes a request of the session.
    pub fn act(&mut self, op: &AnswerOp) -> Result<AnswerOutcome, Fault> {
        self.requests += 1;
        if self.fails_at.is_some_and(|at| self.requests > at) {
            return Err(Fault {
                code: CloseCode::STORAGE_FAILED,
                text: "the disk is gone".to_owned(),
            });
        }
        Ok(match op {
            AnswerOp::Judge(request) => AnswerOutcome::Judged(self.judge(request)),
            AnswerOp::Measure => {
                let all = self.listed.iter().chain(&self.list);
                let lens = all.map(|id| self.cache.objects[id].len() as u64);
                AnswerOutcome::Measured(Extent {
                    objects: lens.clone().count() as u64,
                    bytes: lens.sum(),
                })
            }
            AnswerOp::List { max } => {
                let count = self.list.len().min(*max).min(3);
                let ids: Vec<_> = self.list.drain(..count).collect();
                self.listed.extend(&ids);
                AnswerOutcome::Listed {
                    ids,
                    exhausted: self.list.is_empty(),
                }
            }
            AnswerOp::Detached(commit) => {
                AnswerOutcome::Detached(self.cache.detached[commit].clone())
            }
            AnswerOp::Fetch(ids) => {
                AnswerOutcome::Fetched(ids.iter().map(|id| self.fetch(*id)).collect())
            }
            AnswerOp::Next(id) => self.read_on(*id),
        })
    }

    fn judge(&mut self, request: &PullRequest) -> PullAnswer {
        let requested: BTreeSet<_> = request.refs.iter().map(|wanted| &wanted.name).collect();
        let mut refs: Vec<_> = request.refs.iter().map(|r| self.judge_ref(r)).collect();
        for name in self.cache.refs.keys() {
            let is_matched = request.patterns.iter().any(|p| p.matches(name.as_str()));
            if is_matched && !requested.contains(name) {
                let answer = self.judge_ref(&RefRequest {
                    name: name.clone(),
                    current: None,
                    detached: None,
                });
                refs.extend((!is_forbidden(name.as_str())).then_some(answer));
            }
        }
        let readable = self.cache.refs.iter();
        let readable = readable.filter(|(name, _)| !is_forbidden(name.as_str()));
        let known: BTreeSet<_> = readable
            .flat_map(|(_, commit)| [vec![*commit], self.cache.ancestors(*commit, 9)].concat())
            .collect();
        let basis = request.held.iter().copied();
        let basis: Vec<_> = basis.filter(|commit| known.contains(commit)).collect();
        self.plan(request, &refs, &basis);
        PullAnswer { refs, basis }
    }

    fn judge_ref(&self, wanted: &RefRequest) -> RefAnswer {
        let name = wanted.name.clone();
        let found = self.cache.refs.get(&name).copied();
        let Some(commit) = found.filter(|_| !is_forbidden(name.as_str())) else {
            let refusal = Refusal::new(RefusalCode::ABSENT, "there is no such ref");
            let state = PullState::Refused(refusal);
            return RefAnswer { name, state };
        };
        let detached = self.cache.detached.get(&commit);
        let detached = detached.map(|metadata| Checksum::of(metadata));
        let has_detached = detached.is_none() || detached == wanted.detached;
        let state = match wanted.current == Some(commit) && has_detached {
            true => PullState::UpToDate,
            // All promises of a commit say the same, whatever a client has.
            false => PullState::Promised { commit, detached },
        };
        RefAnswer { name, state }
    }

    fn plan(&mut self, request: &PullRequest, refs: &[RefAnswer], basis: &[Checksum]) {
        let beneath: BTreeSet<_> = basis
            .iter()
            .flat_map(|commit| self.cache.closure(*commit).0)
            .collect();
        let held: BTreeSet<_> = request.objects.iter().copied().collect();
        let mut todo = VecDeque::new();
        for answer in refs {
            if let PullState::Promised { commit, .. } = answer.state {
                todo.push_back((ObjectId::commit(commit), request.history));
            }
        }
        let mut generations = BTreeMap::new();
        let mut seen = BTreeSet::new();
        while let Some((id, left)) = todo.pop_front() {
            let is_first = seen.insert(id);
            if id.kind == ObjectKind::Commit {
                let before = generations.insert(id, left);
                if left > 0 && before.is_none_or(|before| before < left) {
                    let parent = self.cache.ancestors(id.checksum, 1);
                    let parent = parent.into_iter().map(ObjectId::commit);
                    todo.extend(parent.map(|parent| (parent, left - 1)));
                }
            }
            if !is_first || beneath.contains(&id) {
                continue;
            }
            if !held.contains(&Prefix::of(&id.checksum)) {
                self.list.push_back(id);
            }
            let children = Cache::children(id, &self.cache.objects[&id]);
            todo.extend(children.into_iter().map(|child| (child, 0)));
        }
    }

    fn fetch(&self, id: ObjectId) -> Fetched {
        let stored = &self.cache.objects[&id];
        match stored.len() > self.whole_len_max {
            true => Fetched::Large(None),
            false => Fetched::Whole(stored.clone()),
        }
    }

    fn read_on(&mut self, id: ObjectId) -> AnswerOutcome {
        let stored = &self.cache.objects[&id];
        let from = self.read.remove(&id).unwrap_or_default();
        let to = stored.len().min(from + self.whole_len_max);
        let last = to == stored.len();
        if !last {
            self.read.insert(id, to);
        }
        let bytes = stored.slice(from..to);
        AnswerOutcome::Piece { bytes, last }
    }
}

fn is_forbidden(name: &str) -> bool {
    name.starts_with("forbidden/")
}
