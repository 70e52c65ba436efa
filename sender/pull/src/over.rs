//! A pull over a stream with a server that answers pulls: what it asks for, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use artifact_formats::RefName;
use artifact_protocol::Text;
use artifact_protocol::frame::{
    Expect, PullOptions, PullState, PushOptions, RefOutcome, RefusalCode,
};
use artifact_protocol::limits::{MAX_BASES, MAX_REFS};
use artifact_protocol::session::pull::{PullAnswer, PullClientConfig, WantedRef};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{Error, Fault};
use crate::loose::Tally;
use crate::pull::Pull;
use crate::report::{Event, Outcome, PulledRef, Refusal, Report};
use crate::streamed::{self, Streamed};
use crate::verify::Demands;
use crate::web::Web;

impl Pull {
    /// Returns whether a streamed answer can satisfy this pull: signatures of a summary, and those
    /// of ancestors, come only with the files of a web server.
    ///
    /// # Errors
    ///
    /// The local repository's configuration cannot be used.
    pub fn can_be_streamed(&self) -> Result<bool, Error> {
        Ok(self.suits_a_stream(&self.demands_at(&[])?))
    }

    pub(crate) fn suits_a_stream(&self, demands: &[Demands]) -> bool {
        let is_simple =
            |demands: &Demands| !demands.are_of_summary() && demands.collection.is_none();
        let is_plain = self.depth == 0 || demands.is_empty();
        let no_exceptions = self.pattern.is_none() || self.except.is_empty();
        is_plain && no_exceptions && demands.iter().all(is_simple)
    }

    /// Executes the pull over a stream with a server at the other end, such as a receiver that ssh
    /// has started. Returns `None` if objects that this side held have vanished: pull again over
    /// another stream, with [`Holds::Nothing`].
    ///
    /// # Errors
    ///
    /// As [`Pull::from`]. [`Error::NotServed`] says that the server answers no pulls, and where its
    /// files are.
    pub async fn over<S: AsyncRead + AsyncWrite>(
        &self,
        stream: S,
        holds: Holds,
        progress: impl FnMut(Event),
    ) -> Result<Option<Report>, Error> {
        let demands = self.demands_at(&[])?;
        let config = self.request(holds)?;
        self.exchange(config, demands, stream, progress).await
    }

    /// Asks a web server that answers pulls; `None` if it does not answer this one, so that its
    /// files must do.
    pub(crate) async fn ask(
        &self,
        web: &Web,
        demands: &[Demands],
        progress: &mut impl FnMut(Event),
    ) -> Result<Option<Report>, Error> {
        for holds in [Holds::Something, Holds::Nothing] {
            let config = self.request(holds)?;
            let request = streamed::request(config.clone());
            let stream = match web.pull(request).await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "the server does not answer this pull");
                    return Ok(None);
                }
            };
            let demands = demands.to_vec();
            match self.exchange(config, demands, stream, &mut *progress).await {
                Ok(Some(report)) => return Ok(Some(report)),
                Ok(None) => {}
                Err(error) if error.fault() == Fault::Local => return Err(error),
                // The files may be better, and tell which ref is at fault.
                Err(error) => {
                    tracing::debug!(%error, "the server's answer is of no use");
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    async fn exchange<S: AsyncRead + AsyncWrite>(
        &self,
        config: PullClientConfig,
        demands: Vec<Demands>,
        stream: S,
        mut progress: impl FnMut(Event),
    ) -> Result<Option<Report>, Error> {
        let demands = Arc::new(demands);
        let known: BTreeMap<_, _> = config
            .refs
            .iter()
            .map(|wanted| (wanted.name.clone(), wanted.clone()))
            .collect();
        let mut tally = Tally::default();
        let local = &self.local;
        let streamed =
            streamed::run(local, &demands, config, stream, &mut tally, &mut progress).await?;
        let (answer, outcomes) = match streamed {
            Streamed::Done(answer, outcomes) => (answer, outcomes),
            Streamed::Missing => return Ok(None),
        };
        let mut report = Report {
            objects: tally.objects,
            bytes: tally.bytes,
            ..Report::default()
        };
        let outcomes: BTreeMap<_, _> = outcomes.into_iter().collect();
        self.tell(&answer, &known, outcomes, &mut report);
        Ok(Some(report))
    }

    /// Puts together what is wanted and what is held.
    fn request(&self, holds: Holds) -> Result<PullClientConfig, Error> {
        let mut names = self.names.clone();
        if let Some(pattern) = &self.pattern {
            let here = self.local.names()?.into_iter();
            names.extend(here.filter(|name| pattern.matches(name.as_str())));
        }
        let names: Vec<_> = names
            .difference(&self.except)
            .take(MAX_REFS)
            .cloned()
            .collect();
        let held = self.local.held(&names)?;
        let refs = names.iter().zip(held).map(|(name, held)| {
            let complete = held.filter(|held| held.is_complete && holds == Holds::Something);
            WantedRef {
                name: name.clone(),
                current: complete.map(|held| held.commit),
                detached: complete.and_then(|held| held.detached),
                expect: held.map_or(Expect::Absent, |held| Expect::Is(held.commit)),
            }
        });
        let (mut bases, objects) = match holds {
            Holds::Something => (self.local.bases(&names)?, self.local.leftovers()?),
            Holds::Nothing => (Vec::new(), Vec::new()),
        };
        bases.truncate(MAX_BASES);
        Ok(PullClientConfig {
            agent: Text::new(concat!("artifact-puller ", env!("CARGO_PKG_VERSION"))),
            options: match self.dry_run {
                true => PullOptions::DRY_RUN,
                false => PullOptions::default(),
            },
            history: self.depth,
            refs: refs.collect(),
            patterns: self.pattern.iter().cloned().collect(),
            held: bases,
            objects,
            moves: match self.force {
                true => PushOptions::FORCE,
                false => PushOptions::default(),
            },
            ..PullClientConfig::default()
        })
    }

    /// Puts together what became of each ref. What the server does not have is left out.
    fn tell(
        &self,
        answer: &PullAnswer,
        known: &BTreeMap<RefName, WantedRef>,
        mut outcomes: BTreeMap<RefName, RefOutcome>,
        report: &mut Report,
    ) {
        for answered in &answer.refs {
            let name = &answered.name;
            let current = known.get(name).and_then(|wanted| wanted.current);
            let (commit, outcome) = match &answered.state {
                PullState::UpToDate => (current, Outcome::Unchanged),
                PullState::Refused(refusal) if refusal.code == RefusalCode::ABSENT => continue,
                PullState::Refused(refusal) => {
                    let text = refusal.text.escaped();
                    (current, Outcome::Refused(Refusal::Store(text)))
                }
                PullState::Promised { commit, .. } => {
                    let outcome = outcomes.remove(name);
                    let held = known.get(name).map(|wanted| wanted.expect);
                    (Some(*commit), outcome_of(outcome, held, self.dry_run))
                }
            };
            // Without a commit the server has refused what it does not name.
            let Some(commit) = commit else { continue };
            report.refs.push(PulledRef {
                name: name.clone(),
                commit,
                outcome,
            });
        }
    }
}

/// What a pull tells a server about what this side holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Complete commits, to which the answer is a difference.
    Something,
    /// Nothing, because some of that has vanished meanwhile.
    Nothing,
}

fn outcome_of(outcome: Option<RefOutcome>, held: Option<Expect>, dry_run: bool) -> Outcome {
    match (outcome, held) {
        (Some(RefOutcome::Updated), _) => Outcome::Pulled,
        (Some(RefOutcome::Unchanged), _) => Outcome::Unchanged,
        (Some(RefOutcome::WouldUpdate), _) => Outcome::WouldPull,
        (None, _) if dry_run => Outcome::WouldPull,
        (Some(RefOutcome::Refused(refusal)), Some(Expect::Is(held)))
            if refusal.code == RefusalCode::NOT_FAST_FORWARD =>
        {
            Outcome::Refused(Refusal::HoldsWork { held })
        }
        (Some(RefOutcome::Refused(refusal)), _) => {
            Outcome::Refused(Refusal::Store(refusal.text.escaped()))
        }
        (None, _) => Outcome::Failed(Arc::new(Error::Internal("a ref without an outcome"))),
    }
}
