//! A push, from the refs to be set to what became of them.

use std::collections::HashSet;
use std::future::pending;
use std::num::NonZeroU64;
use std::sync::Arc;

use artifact_formats::{Checksum, RefName};
use artifact_protocol::Text;
use artifact_protocol::dialect::{Dialect, fits_one_session};
use artifact_protocol::frame::{
    CloseCode, Expect, PushOptions, RefOutcome, RefUpdate, Refusal, SummaryDone, Welcome,
};
use artifact_protocol::limits::{MAX_BASES, MAX_EARLY_IDS};
use artifact_protocol::session::{
    Announcement, Error as SessionError, SenderConfig, SenderEvent, SmallCommit,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Error;
use crate::plan;
use crate::run::{self, Pool};
use crate::source::Repository;

/// A push that is being put together: which refs are to be set to which commits, and how.
#[derive(Clone, Debug)]
pub struct Push {
    repository: Arc<Repository>,
    agent: Text,
    announcement: Announcement,
    // What the announcement names, and the directories that were searched for bases: a push of
    // thousands of refs of one directory looks into it once.
    named: HashSet<RefName>,
    searched: HashSet<String>,
    rate: Option<NonZeroU64>,
    dialect: Option<Dialect>,
}

impl Push {
    /// Begins a push of commits of `repository`.
    pub fn new(repository: impl Into<Arc<Repository>>) -> Self {
        Self {
            repository: repository.into(),
            agent: Text::new(concat!("artifact-sender ", env!("CARGO_PKG_VERSION"))),
            announcement: Announcement::default(),
            named: HashSet::new(),
            searched: HashSet::new(),
            rate: None,
            dialect: None,
        }
    }

    /// Sets the ref of the same name on the server to what `name` holds in the local repository.
    ///
    /// # Errors
    ///
    /// The local repository has no such ref, or cannot be read.
    pub fn reference(self, name: &RefName) -> Result<Self, Error> {
        let commit = self.repository.resolve(name.as_str())?;
        self.update(name.clone(), commit, Expect::Any)
    }

    /// Sets the ref `name` on the server to `commit`, if it holds what is expected then.
    ///
    /// # Errors
    ///
    /// The commit's detached metadata cannot be read.
    pub fn update(
        mut self,
        name: RefName,
        commit: Checksum,
        expect: Expect,
    ) -> Result<Self, Error> {
        let detached = self
            .repository
            .detached(commit)?
            .map(|bytes| Checksum::of(&bytes));
        let dir = name.parent().unwrap_or_default();
        if self.announcement.bases.len() < MAX_BASES && self.searched.insert(dir.to_owned()) {
            for base in self.repository.bases_beside(&name)? {
                let bases = &mut self.announcement.bases;
                if bases.len() < MAX_BASES && !bases.contains(&base) {
                    bases.push(base);
                }
            }
        }
        if !self.named.insert(name.clone()) {
            self.announcement.refs.retain(|update| update.name != name);
        }
        self.announcement.refs.push(RefUpdate {
            name,
            commit,
            detached,
            expect,
        });
        Ok(self)
    }

    /// Moves refs also to commits that do not descend from their current ones, where the server
    /// lets.
    #[must_use]
    pub fn force(self, force: bool) -> Self {
        self.option(PushOptions::FORCE, force)
    }

    /// Changes nothing on the server, and tells what would be done.
    #[must_use]
    pub fn dry_run(self, dry_run: bool) -> Self {
        self.option(PushOptions::DRY_RUN, dry_run)
    }

    /// Sends so many ancestors of each commit along, as far as the local repository has them.
    #[must_use]
    pub fn depth(mut self, depth: u32) -> Self {
        self.announcement.history = depth;
        self
    }

    /// Sends at most so many bytes a second, evenly; everything counts, not only objects.
    #[must_use]
    pub fn limit_rate(mut self, bytes_per_second: NonZeroU64) -> Self {
        self.rate = Some(bytes_per_second);
        self
    }

    /// Speaks an old version, with a server that knows no other.
    ///
    /// Of [`Dialect::V0`] what the server made of a push is in the exit code of its program alone:
    /// one that reports `Updated` was done if that is 0.
    #[must_use]
    pub fn dialect(mut self, dialect: Option<Dialect>) -> Self {
        self.dialect = dialect;
        self
    }

    /// Splits off what does not fit one session: in an old version few refs do.
    #[must_use]
    pub fn split(mut self) -> (Self, Option<Self>) {
        let count = match self.dialect {
            None => self.announcement.refs.len(),
            Some(_) => fits_one_session(&self.announcement.refs),
        };
        let rest = self
            .announcement
            .refs
            .split_off(count.max(1).min(self.announcement.refs.len()));
        if rest.is_empty() {
            return (self, None);
        }
        let mut later = self.clone();
        later.announcement.refs = rest;
        (self, Some(later))
    }

    /// Says who pushes, for the server's log: a program and its version.
    #[must_use]
    pub fn agent(mut self, agent: &str) -> Self {
        self.agent = Text::new(agent);
        self
    }

    /// Does the push over a stream at whose other end a receiver is, or will be.
    ///
    /// `progress` is told what happens as it happens; it should return soon.
    ///
    /// Dropping the future ends the push: the server's repository is as before, unless everything
    /// had been sent and finalized. [`Self::over_until`] says goodbye.
    ///
    /// # Errors
    ///
    /// Why the push was not done, or [`Error::Unsettled`] when that is not known. Refs that were
    /// refused one by one are no error, but in the report; nor is what happens once the server has
    /// said what became of the refs.
    pub async fn over<S: AsyncRead + AsyncWrite>(
        self,
        stream: S,
        progress: impl FnMut(&SenderEvent),
    ) -> Result<Report, Error> {
        self.over_until(stream, progress, pending()).await
    }

    /// Does the same, and ends the push when `stop` is there: the server is told that the client was
    /// told to stop.
    ///
    /// # Errors
    ///
    /// As [`Self::over`]; a push that was stopped is a fault of the code INTERRUPTED.
    pub async fn over_until<S: AsyncRead + AsyncWrite>(
        self,
        stream: S,
        mut progress: impl FnMut(&SenderEvent),
        stop: impl Future<Output = ()>,
    ) -> Result<Report, Error> {
        let names: Vec<_> = self
            .announcement
            .refs
            .iter()
            .map(|r| r.name.clone())
            .collect();
        let commits = self.announcement.refs.iter().map(|update| update.commit);
        let commits: Vec<_> = commits.collect();
        let depth = self.announcement.history;
        let config = SenderConfig {
            agent: self.agent,
            small: small_commits(&self.repository, commits.clone()).await,
            announcement: self.announcement,
        };
        let mut tally = Tally::default();
        let pool = Pool::start(&self.repository, depth);
        let ended = run::run(
            config,
            self.dialect,
            pool,
            self.rate,
            stream,
            stop,
            |event| {
                progress(&event);
                tally.count(event);
            },
        )
        .await;
        match ended {
            // REQ-29.
            // What came after the outcomes does not change them.
            Err(Error::Session(error)) if tally.is_settled => tally.lost = Some(error),
            ended => ended.map_err(|error| self.repository.explain(error, &commits))?,
        }
        tally.into_report(names)
    }

    fn option(mut self, option: PushOptions, on: bool) -> Self {
        let options = &mut self.announcement.options;
        options.0 = if on {
            options.0 | option.0
        } else {
            options.0 & !option.0
        };
        self
    }
}

/// Reads the closures of the commits of a small push, away from the caller's runtime. What cannot be
/// read is of no matter yet: the server may have it.
async fn small_commits(repository: &Arc<Repository>, commits: Vec<Checksum>) -> Vec<SmallCommit> {
    let repository = Arc::clone(repository);
    let read = move || plan::small_closures(&repository, commits.into_iter(), MAX_EARLY_IDS);
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(Some(small))) => small,
        Ok(Ok(None)) | Err(_) => Vec::new(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "nothing is offered along with the announcement");
            Vec::new()
        }
    }
}

/// Learns who the receiver at the other end of a stream is; in an old version, if it knows no other.
///
/// # Errors
///
/// Why there was no answer.
pub async fn greet<S: AsyncRead + AsyncWrite>(
    stream: S,
    agent: &str,
    dialect: Option<Dialect>,
) -> Result<Welcome, Error> {
    let config = SenderConfig {
        agent: Text::new(agent),
        ..SenderConfig::default()
    };
    let mut server = None;
    let listen = |event| {
        if let SenderEvent::Welcomed(welcome) = event {
            server = Some(welcome);
        }
    };
    let met = run::run(
        config,
        dialect,
        Pool::none(),
        None,
        stream,
        pending(),
        listen,
    )
    .await;
    match (met, server) {
        // It lets this client do nothing, and has said who it is before it said so.
        (Err(Error::Session(SessionError::PeerClosed(close))), Some(server))
            if close.code == CloseCode::NOT_PERMITTED =>
        {
            Ok(server)
        }
        (Err(error), _) => Err(error),
        (Ok(()), server) => server.ok_or(Error::Internal("a session without a Welcome")),
    }
}

/// Learns what a ref holds on the server, where it is believed to hold `believed`. Changes nothing:
/// this is a dry run of setting it to what it holds.
///
/// # Errors
///
/// Why there was no answer.
pub async fn inquire<S: AsyncRead + AsyncWrite>(
    stream: S,
    agent: &str,
    name: &RefName,
    believed: Checksum,
) -> Result<Option<Checksum>, Error> {
    let update = RefUpdate {
        name: name.clone(),
        commit: believed,
        detached: None,
        // Whatever else it holds, nothing is to be sent.
        expect: Expect::Is(believed),
    };
    let config = SenderConfig {
        agent: Text::new(agent),
        announcement: Announcement {
            options: PushOptions::DRY_RUN,
            refs: vec![update],
            ..Announcement::default()
        },
        ..SenderConfig::default()
    };
    let mut current = None;
    let listen = |event| {
        if let SenderEvent::RefStatus(states) = event {
            current = states.into_iter().next().map(|state| state.current);
        }
    };
    run::run(config, None, Pool::none(), None, stream, pending(), listen).await?;
    current.ok_or(Error::Internal("a session without a RefStatus"))
}

/// What a push did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// Who the server is, and what it said of itself.
    pub server: Welcome,
    /// What became of each ref, in the order they were named. `Updated` is durable.
    pub refs: Vec<(RefName, RefOutcome)>,
    /// Objects sent.
    pub objects_sent: u64,
    /// Stored bytes sent, without what the protocol adds.
    pub bytes_sent: u64,
    /// Objects that the server wanted; in a dry run, those that would have been sent.
    pub objects_wanted: u64,
    /// Whether the server's summary names the refs. `None`, where no ref was accepted, or where the
    /// server did not come to say.
    pub summary: Option<SummaryDone>,
    /// Why the session ended before all was said, if it did. What became of the refs was said.
    pub lost: Option<SessionError>,
}

impl Report {
    /// Adds what a later session of the same push did.
    pub fn join(&mut self, later: Self) {
        self.refs.extend(later.refs);
        self.objects_sent += later.objects_sent;
        self.bytes_sent += later.bytes_sent;
        self.objects_wanted += later.objects_wanted;
        self.summary = later.summary.or(self.summary.take());
    }

    /// Returns the refs that the server refused, and why.
    pub fn refused(&self) -> impl Iterator<Item = (&RefName, &Refusal)> {
        self.refs
            .iter()
            .filter_map(|(name, outcome)| match outcome {
                RefOutcome::Refused(refusal) => Some((name, refusal)),
                RefOutcome::Updated | RefOutcome::Unchanged | RefOutcome::WouldUpdate => None,
            })
    }
}

/// What was heard so far.
#[derive(Debug, Default)]
struct Tally {
    server: Option<Welcome>,
    outcomes: Vec<RefOutcome>,
    is_settled: bool,
    lost: Option<SessionError>,
    objects_sent: u64,
    bytes_sent: u64,
    objects_wanted: u64,
    summary: Option<SummaryDone>,
}

impl Tally {
    fn count(&mut self, event: SenderEvent) {
        match event {
            SenderEvent::Welcomed(welcome) => self.server = Some(welcome),
            SenderEvent::Answered { wanted, .. } | SenderEvent::Missing(wanted) => {
                self.objects_wanted += wanted;
            }
            SenderEvent::Sent { objects, bytes } => {
                self.objects_sent += objects;
                self.bytes_sent += bytes;
            }
            SenderEvent::Finalized(outcomes) => {
                self.outcomes = outcomes;
                self.is_settled = true;
            }
            SenderEvent::Summary(done) => self.summary = Some(done),
            SenderEvent::RefStatus(_) | SenderEvent::Staged(_) => {}
        }
    }

    fn into_report(self, names: Vec<RefName>) -> Result<Report, Error> {
        Ok(Report {
            server: self
                .server
                .ok_or(Error::Internal("a session without a Welcome"))?,
            refs: names.into_iter().zip(self.outcomes).collect(),
            objects_sent: self.objects_sent,
            bytes_sent: self.bytes_sent,
            objects_wanted: self.objects_wanted,
            summary: self.summary,
            lost: self.lost,
        })
    }
}
