//! A push, from the refs to set to their outcomes.

use std::collections::HashSet;
use std::future::pending;
use std::num::NonZeroU64;
use std::sync::Arc;

use artifact_formats::{Checksum, RefName};
use artifact_protocol::Text;
use artifact_protocol::dialect::{Dialect, fits_one_session};
use artifact_protocol::frame::{CloseCode, Expect, PushOptions, RefUpdate, Welcome};
use artifact_protocol::limits::{MAX_BASES, MAX_EARLY_IDS};
use artifact_protocol::session::{
    Announcement, Error as SessionError, SenderConfig, SenderEvent, SmallCommit,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Error;
use crate::plan;
use crate::report::{Report, Tally};
use crate::run::{self, Pool};
use crate::source::Repository;

/// A push under construction: which refs to set to which commits, and how.
#[derive(Clone, Debug)]
pub struct Push {
    repository: Arc<Repository>,
    agent: Text,
    announcement: Announcement,
    // The announced names, and the directories already searched for bases: a push of thousands of
    // refs of one directory searches it once.
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

    /// Sets the ref of the same name on the server to the commit that `name` holds here.
    ///
    /// # Errors
    ///
    /// The local repository has no such ref, or cannot be read.
    pub fn reference(self, name: &RefName) -> Result<Self, Error> {
        let commit = self.repository.resolve(name.as_str())?;
        self.update(name.clone(), commit, Expect::Any)
    }

    /// Sets the ref `name` on the server to `commit`, if the ref holds the expected value then.
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

    /// Also moves refs to commits that do not descend from their current ones, if the server allows
    /// it.
    #[must_use]
    pub fn force(self, force: bool) -> Self {
        self.option(PushOptions::FORCE, force)
    }

    /// Changes nothing on the server, and reports what would be done.
    #[must_use]
    pub fn dry_run(self, dry_run: bool) -> Self {
        self.option(PushOptions::DRY_RUN, dry_run)
    }

    /// Also sends this many ancestors of each commit, as far as the local repository has them.
    #[must_use]
    pub fn depth(mut self, depth: u32) -> Self {
        self.announcement.history = depth;
        self
    }

    /// Sends at most this many bytes a second, evenly; all bytes count, not only objects.
    #[must_use]
    pub fn limit_rate(mut self, bytes_per_second: NonZeroU64) -> Self {
        self.rate = Some(bytes_per_second);
        self
    }

    /// Speaks an old version, for a server that knows no other.
    ///
    /// In [`Dialect::V0`], only the exit code of the server's program tells the outcome: a push
    /// that reports `Updated` has succeeded if that is 0.
    #[must_use]
    pub fn dialect(mut self, dialect: Option<Dialect>) -> Self {
        self.dialect = dialect;
        self
    }

    /// Splits off the refs that do not fit one session: in an old version only few do.
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

    /// Sets the agent for the server's log: a program and its version.
    #[must_use]
    pub fn agent(mut self, agent: &str) -> Self {
        self.agent = Text::new(agent);
        self
    }

    /// Executes the push over a stream with a receiver at the other end.
    ///
    /// `progress` is called for each event, and should return quickly.
    ///
    /// Dropping the future ends the push: the server's repository stays as it was, unless
    /// everything was sent and finalized. [`Self::over_until`] says goodbye.
    ///
    /// # Errors
    ///
    /// The reason why the push failed, or [`Error::Unsettled`] if the outcome is unknown. Refusals
    /// of single refs are not errors: the report lists them. Nor is a failure after the server has
    /// told the outcomes of the refs.
    pub async fn over<S: AsyncRead + AsyncWrite>(
        self,
        stream: S,
        progress: impl FnMut(&SenderEvent),
    ) -> Result<Report, Error> {
        self.over_until(stream, progress, pending()).await
    }

    /// Like [`Self::over`], but ends the push when `stop` completes, and tells the server that the
    /// client was told to stop.
    ///
    /// # Errors
    ///
    /// As [`Self::over`]; stopping is a fault with the code INTERRUPTED.
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
            // REQ-29: whatever comes after the outcomes does not change them.
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

/// Reads the closures of the commits of a small push, off the caller's runtime. Unreadable objects
/// do not matter yet: the server may have them.
async fn small_commits(repository: &Arc<Repository>, commits: Vec<Checksum>) -> Vec<SmallCommit> {
    let repository = Arc::clone(repository);
    let read = move || plan::small_closures(&repository, commits.into_iter(), MAX_EARLY_IDS);
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(Some(small))) => small,
        Ok(Ok(None)) | Err(_) => Vec::new(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "offering nothing along with the announcement");
            Vec::new()
        }
    }
}

/// Learns which receiver is at the other end of a stream; in an old version, if it knows no other.
///
/// # Errors
///
/// The reason why no answer came.
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
        // The server allows this client nothing, but has introduced itself before it said so.
        (Err(Error::Session(SessionError::PeerClosed(close))), Some(server))
            if close.code == CloseCode::NOT_PERMITTED =>
        {
            Ok(server)
        }
        (Err(error), _) => Err(error),
        (Ok(()), server) => server.ok_or(Error::Internal("a session without a Welcome")),
    }
}

/// Learns the value of a ref on the server that is believed to hold `believed`. Changes nothing: it
/// is a dry run of setting the ref to that value.
///
/// # Errors
///
/// The reason why no answer came.
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
        // Nothing is to be sent, whatever the ref holds.
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
