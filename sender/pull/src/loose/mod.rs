//! The pull of loose objects: single files, as any web server or path offers them.
//!
//! [`commits`] come first, with their signatures. Then a walk goes down from them: the store says
//! what it has, [`fetch`] brings in the rest and says what that names, until nothing is left; then
//! the store publishes. Decides nothing about refs, and trusts nothing: the store verifies every
//! object, and that nothing is missing.

pub(crate) mod commits;
mod fetch;
mod frontier;

use std::collections::BTreeSet;
use std::sync::Arc;

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName, RepoMode};
use artifact_protocol::frame::{Expect, PushOptions, RefOutcome, RefUpdate, Verdict};
use artifact_protocol::session::{Announcement, Opened, Published};
use artifact_store::{LocalStore, Push, Stager, Store};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use self::commits::{CommitSource, Signed};
use self::fetch::{Fetcher, Got, LARGE_AT_ONCE, Source};
use self::frontier::Frontier;
use crate::cpus::cpus;
use crate::error::{Error, Fault};
use crate::origin::Kind;
use crate::report::Event;
use crate::web::Spoken;
use crate::window::Window;

/// A ref to set, and its commit.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) name: RefName,
    pub(crate) signed: Signed,
    /// The local ref's value, which it must keep until it is set.
    pub(crate) held: Option<Checksum>,
}

/// How to pull.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) from: CommitSource,
    pub(crate) source: Arc<SourceOf>,
    pub(crate) depth: u32,
    pub(crate) dry_run: bool,
}

/// Where objects come from, prepared for many pulls.
#[derive(Debug)]
pub(crate) struct SourceOf(Source);

/// The numbers so far, over all sessions of a pull.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

impl SourceOf {
    /// Opens the place that objects come from.
    pub(crate) fn open(from: &CommitSource) -> Result<Self, Error> {
        Ok(Self(match &from.origin.kind {
            Kind::Web(web) => Source::Web(Arc::clone(web)),
            Kind::Path(path) => {
                let repository = crate::origin::Origin::repository(path)?;
                // What is unpacked at once need not be compressed.
                let repository = match from.local.mode() {
                    RepoMode::Archive => repository,
                    RepoMode::Bare | RepoMode::BareUser | RepoMode::BareUserOnly => {
                        repository.with_compression(0)
                    }
                };
                Source::Path(Arc::new(repository))
            }
        }))
    }
}

impl Job {
    /// Pulls everything that the commits of some refs reach, and sets the refs: all of them, or in
    /// case of an error none.
    pub(crate) async fn run(
        &self,
        wants: &[Want],
        tally: &mut Tally,
        progress: &mut impl FnMut(Event),
    ) -> Result<Vec<RefOutcome>, Error> {
        let (opened, push) = self.begin(wants).await?;
        let mut settled = Vec::new();
        let mut accepted = Vec::new();
        for (want, state) in wants.iter().zip(opened.refs) {
            match state.verdict {
                Verdict::UpToDate => settled.push(RefOutcome::Unchanged),
                Verdict::Refused(refusal) => settled.push(RefOutcome::Refused(refusal)),
                Verdict::Accepted => accepted.push(want.signed.clone()),
            }
        }
        if accepted.is_empty() {
            return Ok(settled);
        }
        let complete = opened.complete;
        let push = Arc::new(Mutex::new(push));
        in_store(&push, move |push| push.rely(&complete)).await?;
        let stager = push.lock().stager();
        let mut session = Session {
            job: self,
            push,
            fetcher: Arc::new(Fetcher {
                source: self.source.0.clone(),
                origin: self.from.origin.clone(),
                stager,
                dry_run: self.dry_run,
                cpus: Semaphore::new(cpus()),
                large: Semaphore::new(LARGE_AT_ONCE),
            }),
            frontier: Frontier::default(),
            tally,
        };
        session.roots(&accepted).await?;
        session.history(&accepted).await?;
        session.fetch(progress).await?;
        session.publish(progress).await
    }

    async fn begin(&self, wants: &[Want]) -> Result<(Opened, <LocalStore as Store>::Push), Error> {
        let names: Vec<_> = wants.iter().map(|want| want.name.clone()).collect();
        let mut options = PushOptions::FORCE; // moves were judged already
        if self.dry_run {
            options = options.with(PushOptions::DRY_RUN);
        }
        let refs = wants.iter().map(|want| RefUpdate {
            name: want.name.clone(),
            commit: want.signed.commit,
            detached: want.signed.detached_sum,
            expect: want.held.map_or(Expect::Absent, Expect::Is),
        });
        let announcement = Announcement {
            options,
            refs: refs.collect(),
            bases: self.from.local.bases(&names)?,
            history: self.depth,
        };
        let store = Arc::clone(self.from.local.store());
        let begun = spawn_blocking(move || store.begin(&announcement)).await;
        begun.map_err(|_| ended())?.map_err(Error::Store)
    }
}

/// One push into the local store.
struct Session<'a, P: Push> {
    job: &'a Job,
    push: Arc<Mutex<P>>,
    fetcher: Arc<Fetcher<P::Stager>>,
    frontier: Frontier,
    tally: &'a mut Tally,
}

impl<P> Session<'_, P>
where
    P: Push + 'static,
    P::Stager: Stager + Sync,
{
    /// Stages the commits that are not here, and begins the walk below them.
    async fn roots(&mut self, signed: &[Signed]) -> Result<(), Error> {
        let ids: Vec<_> = signed.iter().map(|s| ObjectId::commit(s.commit)).collect();
        let had = self.have(ids).await?;
        for (signed, had) in signed.iter().zip(had) {
            let (content, detached) = self.job.from.bytes(signed).await?;
            let (commit, stager) = (signed.commit, self.fetcher.stager.clone());
            in_store(&self.push, move |push| {
                if let Some(detached) = detached {
                    push.stage_detached(commit, &detached)?;
                }
                match had {
                    true => Ok(()),
                    false => stager.stage(ObjectId::commit(commit), content),
                }
            })
            .await?;
            if !had {
                self.frontier.meet([signed.tree, signed.meta]);
            }
        }
        Ok(())
    }

    /// Does the same for ancestors, as far as the cache has them.
    async fn history(&mut self, signed: &[Signed]) -> Result<(), Error> {
        let mut seen: BTreeSet<_> = signed.iter().map(|signed| signed.commit).collect();
        let mut generation: Vec<_> = signed.iter().filter_map(|signed| signed.parent).collect();
        for _ in 0..self.job.depth {
            generation.retain(|parent| seen.insert(*parent));
            if generation.is_empty() {
                break;
            }
            let loaded = self.job.from.load_all(generation).await?;
            let mut next = Vec::new();
            for result in loaded.into_values() {
                next.extend(result?);
            }
            self.roots(&next).await?;
            generation = next.iter().filter_map(|signed| signed.parent).collect();
        }
        Ok(())
    }

    /// Fetches everything that the frontier leads to.
    async fn fetch(&mut self, progress: &mut impl FnMut(Event)) -> Result<(), Error> {
        let mut window = Window::new(self.most_at_once());
        let mut under_way = JoinSet::new();
        let mut failed = None;
        loop {
            let unasked = match failed {
                None => self.frontier.unasked(),
                Some(_) => Vec::new(),
            };
            if !unasked.is_empty() {
                let had = self.have(unasked.clone()).await?;
                self.frontier.answered(unasked, &had);
                progress(Event::Wanted {
                    objects: self.tally.objects + self.frontier.waiting() as u64,
                });
                continue;
            }
            while under_way.len() < window.size() {
                let room = self.fetcher.large.available_permits() > 0;
                // While many large objects come, the line is busy.
                let next = match failed.is_none() && (room || under_way.is_empty()) {
                    true => self.frontier.next(room),
                    false => None,
                };
                let Some(id) = next else { break };
                let fetcher = Arc::clone(&self.fetcher);
                under_way.spawn(async move { (id, fetcher.fetch(id).await) });
            }
            let Some(fetched) = under_way.join_next().await else {
                return failed.map_or(Ok(()), Err);
            };
            let (id, got) = fetched.map_err(|_| ended())?;
            match got {
                // What is under way is let in: the next pull need not fetch it.
                Err(error) if error.fault() == Fault::Cache => drop(failed.get_or_insert(error)),
                Err(error) => return Err(error),
                Ok(Got::Later) => self.frontier.later(id),
                Ok(Got::Staged(staged)) => {
                    match self.job.dry_run && id.kind == ObjectKind::File {
                        true => self.frontier.counted(),
                        false => self.frontier.staged(&id),
                    }
                    self.tally.objects += 1;
                    self.tally.bytes += staged.bytes;
                    progress(Event::Fetched {
                        objects: self.tally.objects,
                        bytes: self.tally.bytes,
                    });
                    window.allow(self.most_at_once());
                    if staged.was_overload {
                        window.overloaded();
                    } else if let Some(latency) = staged.latency {
                        window.answered(latency);
                    }
                    self.frontier.meet(staged.children);
                }
            }
        }
    }

    /// Publishes; fetches what turns out to be missing, for example because another program has
    /// removed it.
    async fn publish(
        &mut self,
        progress: &mut impl FnMut(Event),
    ) -> Result<Vec<RefOutcome>, Error> {
        let mut rounds = 0;
        loop {
            progress(Event::Publishing);
            let missing = match in_store(&self.push, Push::publish).await? {
                Published::Done(outcomes) => return Ok(outcomes),
                Published::Missing(missing) => missing,
            };
            rounds += 1;
            match missing.first() {
                Some(&id) if rounds > ROUNDS_MAX => return Err(Error::StillMissing { id }),
                Some(_) | None => {}
            }
            self.frontier.need(missing);
            self.fetch(progress).await?;
        }
    }

    async fn have(&self, ids: Vec<ObjectId>) -> Result<Vec<bool>, Error> {
        in_store(&self.push, move |push| push.have(&ids)).await
    }

    fn most_at_once(&self) -> usize {
        match &self.fetcher.source {
            Source::Web(web) => match web.spoken() {
                Spoken::Http2 => MOST_HTTP2,
                Spoken::Http1 | Spoken::Unknown => MOST_HTTP1,
            },
            Source::Path(_) => cpus(),
        }
    }
}

/// Runs a request to the store on a thread that may block.
async fn in_store<P: Push + 'static, T: Send + 'static>(
    push: &Arc<Mutex<P>>,
    request: impl FnOnce(&mut P) -> Result<T, artifact_store::Error> + Send + 'static,
) -> Result<T, Error> {
    let push = Arc::clone(push);
    let done = spawn_blocking(move || request(&mut push.lock())).await;
    done.map_err(|_| ended())?.map_err(Error::Store)
}

const fn ended() -> Error {
    Error::Internal("a thread or task has ended")
}

/// Each takes a connection.
const MOST_HTTP1: usize = 24;
/// Of two connections; nginx allows 128 requests at once on each.
const MOST_HTTP2: usize = 200;
const ROUNDS_MAX: u32 = 3;
