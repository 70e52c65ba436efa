//! The requests of a session to the local store, and what must be true before the last of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{CloseCode, PullState};
use artifact_protocol::session::pull::{PullAnswer, ReadDone, ReadRequest};
use artifact_protocol::session::{Fault, StoreDone, StoreOp, StoreOutcome, StoreRequest};
use artifact_store::{
    LocalPush, LocalStager, LocalStream, ObjectStream, Push, RealFs, Stager, Store,
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::local::Local;
use crate::verify::{Demands, Reason};

/// Runs requests, several at once.
#[derive(Debug)]
pub(super) struct Executor {
    local: Arc<Local>,
    demands: Arc<Vec<Demands>>,
    push: Option<Arc<Mutex<LocalPush>>>,
    stager: Option<LocalStager<RealFs>>,
    streams: Arc<Mutex<HashMap<u8, LocalStream<RealFs>>>>,
    commits: Arc<Mutex<Commits>>,
    pub(super) is_dry_run: bool,
}

/// The commits of an answer, whose signatures are to be checked.
#[derive(Debug, Default)]
struct Commits {
    content: BTreeMap<Checksum, Bytes>,
    detached: BTreeMap<Checksum, Bytes>,
    promised: Vec<Checksum>,
    kept: usize,
}

/// A request that has run.
pub(super) enum Ran {
    Done(StoreDone),
    /// The push has begun.
    Begun(StoreDone, Box<LocalPush>),
    Failed(StoreDone, Error),
}

impl Executor {
    pub(super) fn new(local: &Arc<Local>, demands: &Arc<Vec<Demands>>) -> Self {
        Self {
            local: Arc::clone(local),
            demands: Arc::clone(demands),
            push: None,
            stager: None,
            streams: Arc::default(),
            commits: Arc::default(),
            is_dry_run: false,
        }
    }

    /// Notes which commits the server promises.
    pub(super) fn answered(&self, answer: &PullAnswer) {
        let promised = answer
            .refs
            .iter()
            .filter_map(|answered| match answered.state {
                PullState::Promised { commit, .. } => Some(commit),
                PullState::UpToDate | PullState::Refused(_) => None,
            });
        self.commits.lock().promised.extend(promised);
    }

    /// Takes the push that the first request has begun.
    pub(super) fn begun(&mut self, push: Box<LocalPush>) {
        self.stager = Some(push.stager());
        self.push = Some(Arc::new(Mutex::new(*push)));
    }

    /// Begins to run a request.
    pub(super) fn run(&self, request: StoreRequest) -> impl Future<Output = Ran> + use<> {
        let this = self.share();
        async move {
            if matches!(request.op(), StoreOp::Publish)
                && let Err(error) = this.check_signatures().await
            {
                let fault = Fault {
                    code: CloseCode::OBJECT_REFUSED,
                    text: "a commit lacks a signature that this side demands".to_owned(),
                };
                return Ran::Failed(request.complete(Err(fault)), error);
            }
            let ran = spawn_blocking(move || this.run_here(request)).await;
            ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        }
    }

    /// Begins to read objects that this side said it holds: what an interrupted pull has left, and
    /// complete commits.
    pub(super) fn read(&self, request: ReadRequest) -> impl Future<Output = ReadDone> + use<> {
        let push = self.push.clone();
        async move {
            let ran = spawn_blocking(move || {
                let read = |id: &ObjectId| match &push {
                    Some(push) => Ok(push.lock().leftover(*id)?.map(Bytes::from)),
                    None => Ok(None),
                };
                let read: Result<_, artifact_store::Error> =
                    request.ids().iter().map(read).collect();
                request.complete(read.map_err(|error| error.to_fault()))
            });
            let ran = ran.await;
            ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        }
    }

    fn share(&self) -> Self {
        Self {
            local: Arc::clone(&self.local),
            demands: Arc::clone(&self.demands),
            push: self.push.clone(),
            stager: self.stager.clone(),
            streams: Arc::clone(&self.streams),
            commits: Arc::clone(&self.commits),
            is_dry_run: self.is_dry_run,
        }
    }

    fn run_here(&self, request: StoreRequest) -> Ran {
        let outcome = match request.op() {
            StoreOp::Open(announcement) => match self.local.store().begin(announcement) {
                Ok((opened, push)) => {
                    let done = request.complete(Ok(StoreOutcome::Opened(opened)));
                    return Ran::Begun(done, Box::new(push));
                }
                Err(error) => Err(error),
            },
            op => self.outcome(op),
        };
        match outcome {
            Ok(outcome) => Ran::Done(request.complete(Ok(outcome))),
            Err(error) => {
                let fault = error.to_fault();
                Ran::Failed(request.complete(Err(fault)), named(error))
            }
        }
    }

    fn outcome(&self, op: &StoreOp) -> Result<StoreOutcome, artifact_store::Error> {
        let misuse = artifact_store::Error::Misuse {
            what: "do something before it was opened",
        };
        let (Some(push), Some(stager)) = (&self.push, &self.stager) else {
            return Err(misuse);
        };
        Ok(match op {
            StoreOp::Rely(commits) => {
                push.lock().rely(commits)?;
                StoreOutcome::Relied
            }
            StoreOp::Unsent(ids) => {
                push.lock().lack(ids)?;
                StoreOutcome::Relied
            }
            StoreOp::Have(ids) => StoreOutcome::Have(push.lock().have(ids)?),
            StoreOp::Stage(objects) => {
                for (id, stored) in objects {
                    self.keep(*id, stored);
                    stager.stage(*id, stored.clone())?;
                }
                StoreOutcome::Staged
            }
            StoreOp::Begin(stream, id) => {
                let begun = stager.begin(*id)?;
                self.streams.lock().insert(*stream, begun);
                StoreOutcome::Appended
            }
            StoreOp::Append(stream, stored) => {
                // Out of the map, so that other streams need not wait.
                let mut begun = self.streams.lock().remove(stream).ok_or(misuse)?;
                begun.append(stored.clone())?;
                self.streams.lock().insert(*stream, begun);
                StoreOutcome::Appended
            }
            StoreOp::End(stream) => {
                let begun = self.streams.lock().remove(stream).ok_or(misuse)?;
                begun.finish()?;
                StoreOutcome::Staged
            }
            StoreOp::Detached(commit, metadata) => {
                push.lock().stage_detached(*commit, metadata)?;
                if !self.demands.is_empty() {
                    let mut commits = self.commits.lock();
                    commits.kept += metadata.len();
                    commits.detached.insert(*commit, metadata.clone());
                }
                StoreOutcome::Staged
            }
            StoreOp::Publish => StoreOutcome::Published(push.lock().publish()?),
            StoreOp::Summarize => StoreOutcome::Summarized(push.lock().summarize()),
            StoreOp::Open(_) | StoreOp::Refs(_) => return Err(misuse),
        })
    }

    /// Keeps a commit until its signatures are checked.
    fn keep(&self, id: ObjectId, stored: &Bytes) {
        let mut commits = self.commits.lock();
        let is_needed = id.kind == ObjectKind::Commit && !self.demands.is_empty();
        if is_needed && commits.kept + stored.len() <= KEPT_LEN_MAX {
            commits.kept += stored.len();
            // Not the whole frame that it came in.
            let content = Bytes::copy_from_slice(stored);
            commits.content.insert(id.checksum, content);
        }
    }

    /// Returns the bytes of a commit that need not come: an earlier pull has left it, or it is
    /// complete.
    fn here(&self, commit: Checksum) -> Option<Bytes> {
        let left = self.push.as_ref().map(|push| {
            let push = push.lock();
            push.leftover(ObjectId::commit(commit))
        });
        left?.ok()?.map(Bytes::from)
    }

    /// Checks the signatures of every promised commit: those that came with it, or else those that
    /// are here.
    async fn check_signatures(&self) -> Result<(), Error> {
        if self.demands.is_empty() {
            return Ok(());
        }
        let promised = self.commits.lock().promised.clone();
        for commit in promised {
            let (content, detached) = {
                let commits = self.commits.lock();
                let content = commits.content.get(&commit).cloned();
                (content, commits.detached.get(&commit).cloned())
            };
            let content = content.or_else(|| self.here(commit));
            let detached = detached.or_else(|| self.local.detached_bytes(commit));
            for demands in &*self.demands {
                let Some(content) = &content else {
                    let what = format!("commit {commit}");
                    return Err(demands.unverified(what, Reason::NotKept).into());
                };
                let checked = demands.check_commit(commit, content, detached.as_deref());
                checked.await?;
            }
        }
        Ok(())
    }
}

/// Says whose fault an error of the store is.
fn named(error: artifact_store::Error) -> Error {
    match error {
        artifact_store::Error::Refused { id, .. } => Error::Damaged {
            id,
            source: Box::new(error),
        },
        artifact_store::Error::DetachedMalformed { commit, .. }
        | artifact_store::Error::DetachedDiffers { commit }
        | artifact_store::Error::DetachedMissing { commit } => Error::Damaged {
            id: ObjectId::commit(commit),
            source: Box::new(error),
        },
        error => Error::Store(error),
    }
}

/// All commits that are kept, in bytes: six of the longest.
const KEPT_LEN_MAX: usize = 6 * MAX_METADATA_LEN;
