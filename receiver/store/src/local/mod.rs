//! The store on a local OSTree repository of mode archive.

pub(crate) mod disk;
pub(crate) mod push;
pub(crate) mod repository;
pub(crate) mod summary;
pub(crate) mod upkeep;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use artifact_formats::{Checksum, ObjectId, RefName, check_detached};
use artifact_protocol::Text;
use artifact_protocol::frame::{PushOptions, RefOutcome, SummaryDone};
use artifact_protocol::limits::Limits;
use artifact_protocol::session::{Announcement, Opened, Published, RefQuery};
use parking_lot::Mutex;

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::disk::real::RealFs;
use crate::local::disk::space::{HeadRoom, Meter};
use crate::local::push::session_limit::{self, Places};
use crate::local::push::{Session, publish};
use crate::local::repository::account::{Account, Allowance};
use crate::local::repository::rereads::Rereads;
use crate::local::repository::{Repo, heads, objects};
use crate::local::summary::MadeSummary;
use crate::local::summary::config::SummaryConfig;
use crate::policy::Policy;
use crate::seam::{ObjectStream, Store};
use crate::verify::{Scratch, Verifier, verify};

/// For whom a store is opened, and within which bounds.
#[derive(Clone, Debug, Default)]
pub struct StoreConfig {
    /// Who pushes, as the server knows them.
    pub identity: String,
    /// What that identity may do.
    pub policy: Policy,
    /// Sizes that are kept to.
    pub limits: Limits,
    /// How the summary is made.
    pub summary: SummaryConfig,
    /// What must be free for a push to be accepted.
    pub head_room: HeadRoom,
    /// Most sessions at once that have something accepted.
    pub places: Places,
    /// How many refs the identity may have.
    pub allowance: Allowance,
    /// Bytes of objects that are here and beneath nothing the client relies on that a push may have
    /// verified again, beside as many as it sends; 1 GiB if nothing is said.
    pub reread_max: Option<u64>,
    /// Threads that publish many objects; 0 is one.
    pub threads: usize,
}

/// What a push has brought so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Verified objects.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

/// A push into a repository on this machine.
#[derive(Debug)]
pub struct LocalStore<F: Fs = RealFs> {
    repo: Arc<Repo<F>>,
    policy: Policy,
    identity: String,
    allowance: Allowance,
    received: Arc<Counters>,
    session: Mutex<Option<Session>>,
    places: Places,
    // Taken when something is accepted, and held as long as this lives.
    place: Mutex<Vec<F::Lock>>,
    // One for each thread that verifies at the moment, at most.
    scratches: Mutex<Vec<Scratch>>,
}

impl LocalStore {
    /// Opens the repository at `path`, and makes a staging directory there.
    pub fn open(path: &Path, config: StoreConfig) -> Result<Self, Error> {
        let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
        Self::with_fs(fs, config)
    }
}

impl<F: Fs> LocalStore<F> {
    /// Opens the repository that is the root of a file system.
    pub fn with_fs(fs: F, config: StoreConfig) -> Result<Self, Error> {
        let StoreConfig {
            identity,
            policy,
            limits,
            summary,
            head_room,
            places,
            allowance,
            reread_max,
            threads,
        } = config;
        // Nothing is made in what is no repository.
        repository::read_config(&fs)?;
        let mut repo = Repo::open(fs, &identity, limits, summary, threads)?;
        repo.meter = Meter::new(head_room);
        repo.rereads = Rereads::new(reread_max);
        Ok(Self {
            repo: Arc::new(repo),
            policy,
            identity,
            allowance,
            received: Arc::default(),
            session: Mutex::new(None),
            places,
            place: Mutex::default(),
            scratches: Mutex::new(Vec::new()),
        })
    }

    /// Makes the summary from what lies in the repository and from nothing that is remembered, and
    /// calls `sign` while no other session may replace it. One that says the same already is left
    /// as it is.
    pub fn rebuild_summary<T>(&self, sign: impl FnOnce(&MadeSummary) -> T) -> Result<T, Error> {
        summary::rebuild(&self.repo, sign)
    }

    /// Returns what this push has brought so far.
    pub fn received(&self) -> Received {
        Received {
            objects: self.received.objects.load(Ordering::Relaxed),
            bytes: self.received.bytes.load(Ordering::Relaxed),
        }
    }

    /// Brings a summary up to date that lacks what a ref holds: whoever set the ref died before
    /// that. A failure is no failure of the push.
    fn mend_summary(&self, session: &Session) {
        let mended = summary::is_named(&self.repo, session.current_refs()).and_then(|named| {
            if named {
                Ok(())
            } else {
                summary::update(&self.repo, session.current_refs())
            }
        });
        if let Err(error) = mended {
            tracing::warn!(%error, "the summary could not be brought up to date");
        }
    }

    /// Calls `act` with the open session.
    fn with_session<T>(
        &self,
        what: &'static str,
        act: impl FnOnce(&mut Session) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut session = self.session.lock();
        act(session.as_mut().ok_or(Error::Misuse { what })?)
    }
}

impl<F: Fs> Store for LocalStore<F> {
    type Stream = LocalStream<F>;

    fn refs(&self, query: &RefQuery) -> Result<(Vec<(RefName, Checksum)>, bool), Error> {
        heads::heads(&*self.repo.fs, query)
    }

    fn open(&self, announcement: &Announcement) -> Result<Opened, Error> {
        let mut slot = self.session.lock();
        if slot.is_some() {
            return Err(Error::Misuse {
                what: "open a push twice",
            });
        }
        let account = (self.allowance.refs_max)
            .map(|max| Account::load(&*self.repo.fs, &self.identity, max))
            .transpose()?;
        let session = Session::open(&self.repo, &self.policy, account, announcement)?;
        let opened = session.opened();
        if session.accepted().next().is_some() {
            // A client that may set nothing leaves now, and takes nobody's place.
            *self.place.lock() = session_limit::take(&*self.repo.fs, &self.identity, self.places)?;
        }
        if !session.options.contains(PushOptions::DRY_RUN) {
            if session.accepted().next().is_some() {
                self.repo.check_room()?;
            } else {
                // The client will leave now.
                self.mend_summary(&session);
            }
        }
        *slot = Some(session);
        Ok(opened)
    }

    fn rely(&self, commits: &[Checksum]) -> Result<(), Error> {
        self.with_session("rely on commits before a push is open", |session| {
            session.rely(&*self.repo.fs, commits)
        })
    }

    fn have(&self, ids: &[ObjectId]) -> Result<Vec<bool>, Error> {
        self.with_session("look up objects before a push is open", |session| {
            session.bases.offered(ids.len());
            ids.iter().map(|&id| session.have(&self.repo, id)).collect()
        })
    }

    fn stage(&self, id: ObjectId, stored: &[u8]) -> Result<(), Error> {
        let mut scratch = self.scratches.lock().pop().unwrap_or_default();
        let verified = verify(id, stored, self.repo.limits.object_len_max, &mut scratch);
        self.scratches.lock().push(scratch);
        let verified = verified.map_err(|source| Error::Refused { id, source })?;
        self.repo.take_room(stored.len(), 1)?;
        self.repo.staging.put(&verified, stored)?;
        self.received.count(stored.len() as u64);
        Ok(())
    }

    fn begin(&self, id: ObjectId) -> Result<LocalStream<F>, Error> {
        self.repo.take_room(0, 1)?;
        let (path, file) = self.repo.staging.temporary()?;
        Ok(LocalStream {
            repo: Arc::clone(&self.repo),
            received: Arc::clone(&self.received),
            len: 0,
            id,
            verifier: Some(Verifier::new(id, self.repo.limits.object_len_max)),
            path,
            file,
        })
    }

    fn stage_detached(&self, commit: Checksum, metadata: &[u8]) -> Result<(), Error> {
        check_detached(metadata).map_err(|source| Error::DetachedMalformed { commit, source })?;
        let checksum = objects::checksum(metadata);
        self.with_session("stage detached metadata before a push is open", |session| {
            let differs = |announced: &push::Announced| {
                announced.update.commit == commit
                    && announced
                        .update
                        .detached
                        .is_some_and(|detached| detached != checksum)
            };
            if session.updates.iter().any(differs) {
                return Err(Error::DetachedDiffers { commit });
            }
            self.repo.take_room(metadata.len(), 1)?;
            let staging = &self.repo.staging;
            let file = staging.put_temporary(metadata)?;
            staging.name(&file, &staging.dir().staged_detached(commit))?;
            session.detached.insert(commit, checksum);
            session.learn_detached(&self.repo, &self.policy, commit, checksum)
        })
    }

    fn lack(&self, ids: &[ObjectId]) -> Result<(), Error> {
        self.with_session("do without objects before a push is open", |session| {
            session.bases.lack(ids.iter().copied());
            Ok(())
        })
    }

    fn publish(&self) -> Result<Published, Error> {
        self.with_session("publish before a push is open", |session| {
            let published = publish::publish(&self.repo, &self.policy, session)?;
            if let Published::Done(outcomes) = &published
                && !outcomes.contains(&RefOutcome::Updated)
                && !session.options.contains(PushOptions::DRY_RUN)
            {
                // Others did it all, and the client will leave now.
                self.mend_summary(session);
            }
            Ok(published)
        })
    }

    fn summarize(&self) -> SummaryDone {
        let session = self.session.lock();
        if let Some(session) = &*session {
            summary::count(&self.repo, session.objects, session.set_commits());
        }
        let wanted = session.iter().flat_map(Session::current_refs);
        match summary::update(&self.repo, wanted) {
            Ok(()) => SummaryDone::Current,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "the summary could not be brought up to date");
                SummaryDone::Failed(Text::new(&error.to_fault().text))
            }
        }
    }
}

/// What was received, counted by the threads that verify.
#[derive(Debug, Default)]
struct Counters {
    objects: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    fn count(&self, len: u64) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len, Ordering::Relaxed);
    }
}

/// An object that is received in pieces, into a file in staging.
#[derive(Debug)]
pub struct LocalStream<F: Fs> {
    repo: Arc<Repo<F>>,
    received: Arc<Counters>,
    // Bytes taken so far.
    len: u64,
    id: ObjectId,
    // Taken when the object is ended, or has failed.
    verifier: Option<Verifier>,
    path: RepoPath,
    file: F::File,
}

impl<F: Fs> ObjectStream for LocalStream<F> {
    fn append(&mut self, stored: &[u8]) -> Result<(), Error> {
        let id = self.id;
        let mut verifier = self.verifier.take().ok_or(Error::Misuse {
            what: "go on with an object that is over",
        })?;
        let taken = verifier
            .append(stored)
            .map_err(|source| Error::Refused { id, source })
            .and_then(|()| self.repo.take_room(stored.len(), 0))
            .and_then(|()| (self.repo.staging).write(&mut self.file, &self.path, stored));
        if taken.is_ok() {
            self.len += stored.len() as u64;
            self.verifier = Some(verifier);
        } else {
            // Its end may be asked for already, and all its bytes have passed the verifier: what was
            // not all written must not get a name for that.
            self.repo.staging.forget(&self.path);
        }
        taken
    }

    fn finish(mut self) -> Result<(), Error> {
        let id = self.id;
        let verifier = self.verifier.take().ok_or(Error::Misuse {
            what: "end an object that is over",
        })?;
        let verified = verifier
            .finish()
            .map_err(|source| Error::Refused { id, source });
        match verified {
            Ok(verified) => {
                self.repo.staging.accept(&self.path, &verified)?;
                self.received.count(self.len);
                Ok(())
            }
            Err(error) => {
                self.repo.staging.forget(&self.path);
                Err(error)
            }
        }
    }
}

impl<F: Fs> Drop for LocalStream<F> {
    fn drop(&mut self) {
        if self.verifier.is_some() {
            self.repo.staging.forget(&self.path);
        }
    }
}
