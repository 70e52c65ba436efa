//! A store and the push that it has begun, for tests that drive several at once. An unopened one
//! announces nothing.

use std::path::Path;

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::frame::SummaryDone;
use artifact_protocol::session::{Announcement, Opened, Published};
use artifact_store::{
    Error, Fs, LocalPush, LocalStore, LocalStream, MadeSummary, ObjectStream, Own, Push, RealFs,
    Stager, Store, StoreConfig,
};
use bytes::Bytes;
use std::sync::Mutex;

#[derive(Debug)]
pub(crate) struct Session<F: Fs = RealFs> {
    store: LocalStore<F>,
    push: Mutex<Option<LocalPush<F>>>,
}

#[allow(dead_code, reason = "each test binary uses a part")]
impl Session {
    pub(crate) fn at(path: &Path, config: StoreConfig) -> Result<Self, Error> {
        LocalStore::open(path, config).map(Self::new)
    }

    pub(crate) fn own_at(path: &Path, own: Own) -> Result<Self, Error> {
        LocalStore::open_own(path, own).map(Self::new)
    }

    pub(crate) const fn store(&self) -> &LocalStore {
        &self.store
    }
}

#[allow(dead_code, reason = "each test binary uses a part")]
impl<F: Fs> Session<F> {
    fn new(store: LocalStore<F>) -> Self {
        Self {
            store,
            push: Mutex::new(None),
        }
    }

    pub(crate) fn with_fs(fs: F, config: StoreConfig) -> Result<Self, Error> {
        LocalStore::with_fs(fs, config).map(Self::new)
    }

    pub(crate) fn open(&self, announcement: &Announcement) -> Result<Opened, Error> {
        let (opened, push) = self.store.begin(announcement)?;
        *self.push.lock().unwrap() = Some(push);
        Ok(opened)
    }

    /// Begins a push that announces nothing.
    pub(crate) fn begun(self) -> Result<Self, Error> {
        self.open(&Announcement::default())?;
        Ok(self)
    }

    fn with_push<T>(&self, act: impl FnOnce(&mut LocalPush<F>) -> T) -> T {
        let mut push = self.push.lock().unwrap();
        act(push.get_or_insert_with(|| self.store.begin(&Announcement::default()).unwrap().1))
    }

    pub(crate) fn rely(&self, commits: &[Checksum]) -> Result<(), Error> {
        self.with_push(|push| push.rely(commits))
    }

    pub(crate) fn have(&self, ids: &[ObjectId]) -> Result<Vec<bool>, Error> {
        self.with_push(|push| push.have(ids))
    }

    pub(crate) fn stage(&self, id: ObjectId, stored: &[u8]) -> Result<(), Error> {
        let stager = self.with_push(|push| push.stager());
        stager.stage(id, Bytes::copy_from_slice(stored))
    }

    pub(crate) fn begin(&self, id: ObjectId) -> Result<Stream<F>, Error> {
        let stager = self.with_push(|push| push.stager());
        stager.begin(id).map(Stream)
    }

    pub(crate) fn stage_detached(&self, commit: Checksum, metadata: &[u8]) -> Result<(), Error> {
        self.with_push(|push| push.stage_detached(commit, metadata))
    }

    pub(crate) fn lack(&self, ids: &[ObjectId]) -> Result<(), Error> {
        self.with_push(|push| push.lack(ids))
    }

    pub(crate) fn publish(&self) -> Result<Published, Error> {
        self.with_push(Push::publish)
    }

    pub(crate) fn summarize(&self) -> SummaryDone {
        self.with_push(Push::summarize)
    }

    pub(crate) fn rebuild_summary<T>(
        &self,
        sign: impl FnOnce(&MadeSummary) -> T,
    ) -> Result<T, Error> {
        self.store.rebuild_summary(sign)
    }
}

/// An object that is sent in pieces.
#[derive(Debug)]
pub(crate) struct Stream<F: Fs>(LocalStream<F>);

#[allow(dead_code, reason = "each test binary uses a part")]
impl<F: Fs> Stream<F> {
    pub(crate) fn append(&mut self, stored: &[u8]) -> Result<(), Error> {
        self.0.append(Bytes::copy_from_slice(stored))
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        self.0.finish()
    }
}
