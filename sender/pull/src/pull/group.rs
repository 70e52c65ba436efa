//! Refs that are pulled together: which of them may be set to their commits, and the outcomes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use artifact_formats::{Checksum, ObjectId, RefName};
use artifact_protocol::frame::RefOutcome;

use super::Pull;
use crate::error::Error;
use crate::loose::commits::Signed;
use crate::loose::{Job, Tally, Want};
use crate::moves;
use crate::report::{Event, Outcome, PulledRef, Refusal};

impl Pull {
    /// Pulls some refs together. If that fails, pulls them one by one, so that one that cannot be
    /// stored, or that the cache has only in part, does not stop the others.
    pub(super) async fn pull_group(
        &self,
        job: &Job,
        found: &[(RefName, Checksum)],
        tally: &mut Tally,
        progress: &mut impl FnMut(Event),
    ) -> Result<Vec<PulledRef>, Error> {
        let mut pulled = Vec::new();
        let wants = self.judge(job, found, &mut pulled).await?;
        if wants.is_empty() {
            return Ok(pulled);
        }
        match job.run(&wants, tally, progress).await {
            Ok(outcomes) => self.settle(&wants, outcomes, &mut pulled),
            Err(error) if error.may_pass() => return Err(error),
            Err(error) => {
                let mut error = Some(error).filter(|_| wants.len() == 1);
                for want in &wants {
                    let one = std::slice::from_ref(want);
                    let again = match error.take() {
                        Some(error) => Err(error),
                        None => job.run(one, tally, progress).await,
                    };
                    match again {
                        Ok(outcomes) => self.settle(one, outcomes, &mut pulled),
                        Err(error) if error.may_pass() => return Err(error),
                        Err(error) => pulled.push(PulledRef {
                            name: want.name.clone(),
                            commit: want.signed.commit,
                            outcome: Outcome::Failed(Arc::new(error)),
                        }),
                    }
                }
            }
        }
        Ok(pulled)
    }

    /// Loads the commits of refs, and judges which refs may be set to them.
    async fn judge(
        &self,
        job: &Job,
        found: &[(RefName, Checksum)],
        pulled: &mut Vec<PulledRef>,
    ) -> Result<Vec<Want>, Error> {
        let commits: BTreeSet<_> = found.iter().map(|(_, commit)| *commit).collect();
        let mut loaded = BTreeMap::new();
        for (commit, result) in job.from.load_all(commits).await? {
            match result {
                Err(error) if error.may_pass() => return Err(error),
                result => drop(loaded.insert(commit, result.map_err(Arc::new))),
            }
        }
        let mut wants = Vec::new();
        for (name, commit) in found {
            let outcome = match loaded.get(commit) {
                Some(Ok(Some(signed))) => match self.judge_one(job, name, signed).await {
                    Ok(Ok(want)) => {
                        wants.push(want);
                        continue;
                    }
                    Ok(Err(refusal)) => Outcome::Refused(refusal),
                    Err(error) if error.may_pass() => return Err(error),
                    Err(error) => Outcome::Failed(Arc::new(error)),
                },
                Some(Err(error)) => Outcome::Failed(Arc::clone(error)),
                Some(Ok(None)) | None => Outcome::Failed(Arc::new(Error::Lacking {
                    origin: job.from.origin.to_string(),
                    id: ObjectId::commit(*commit),
                })),
            };
            pulled.push(PulledRef {
                name: name.clone(),
                commit: *commit,
                outcome,
            });
        }
        Ok(wants)
    }

    /// Judges whether a ref may be set to a commit.
    async fn judge_one(
        &self,
        job: &Job,
        name: &RefName,
        signed: &Signed,
    ) -> Result<Result<Want, Refusal>, Error> {
        signed.bindings.check(name, signed.commit)?;
        for demands in &*job.from.demands {
            demands.check_bindings(name, signed.commit, &signed.bindings)?;
        }
        let held = self.local.commit_of(name)?;
        if let (Some(held), false) = (held, self.force) {
            let (origin, local) = (&job.from.origin, &self.local);
            let refusal = moves::refusal(name, held, signed.commit, origin, local).await?;
            if let Some(refusal) = refusal {
                return Ok(Err(refusal));
            }
        }
        Ok(Ok(Want {
            name: name.clone(),
            signed: signed.clone(),
            held,
        }))
    }

    /// Notes what became of refs that were pulled together.
    fn settle(&self, wants: &[Want], outcomes: Vec<RefOutcome>, pulled: &mut Vec<PulledRef>) {
        for (want, outcome) in wants.iter().zip(outcomes) {
            let commit = want.signed.commit;
            let outcome = match outcome {
                RefOutcome::Updated if want.held == Some(commit) => Outcome::Unchanged,
                RefOutcome::Updated => Outcome::Pulled,
                RefOutcome::Unchanged => Outcome::Unchanged,
                RefOutcome::WouldUpdate => Outcome::WouldPull,
                RefOutcome::Refused(refusal) => {
                    Outcome::Refused(Refusal::Store(refusal.text.escaped()))
                }
            };
            pulled.push(PulledRef {
                name: want.name.clone(),
                commit,
                outcome,
            });
        }
    }
}
