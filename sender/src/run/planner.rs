//! The planning thread: decides which objects to offer, and which ones the server may ask for.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use artifact_formats::ObjectId;
use artifact_protocol::session::{PlanRequest, SourceDone, SourceOp, SourceOutcome, SourceRequest};

use crate::error::Error;
use crate::plan::{self, Plan, Target};
use crate::reading::Failure;
use crate::source::Repository;

/// Starts the thread. It reports each completion, and ends when the pool is gone.
pub(super) fn start(
    repository: Arc<Repository>,
    depth: u32,
    failure: Failure,
    report: impl Fn(SourceDone) + Send + 'static,
) -> Sender<SourceRequest> {
    let (sender, requests) = channel();
    thread::spawn(move || run(&repository, depth, &requests, &failure, report));
    sender
}

fn run(
    repository: &Arc<Repository>,
    depth: u32,
    requests: &Receiver<SourceRequest>,
    failure: &Failure,
    report: impl Fn(SourceDone),
) {
    let mut plan = None;
    for request in requests {
        let outcome = match request.op() {
            SourceOp::Descends(pairs) => {
                plan::descends(repository, pairs).map(SourceOutcome::Descends)
            }
            SourceOp::Plan(wanted) => begin(repository, depth, wanted, &mut plan),
            SourceOp::Offer {
                answers,
                missing,
                max,
            } => offer(plan.as_mut(), answers, missing, *max),
            SourceOp::Vouch(ids) => vouch(plan.as_ref(), ids),
            SourceOp::Fetch(_) | SourceOp::Next(_) => Err(Error::Internal("not the planner's")),
        };
        report(request.complete(outcome.map_err(|error| failure.keep(error))));
    }
}

fn begin(
    repository: &Arc<Repository>,
    depth: u32,
    wanted: &PlanRequest,
    slot: &mut Option<Plan>,
) -> Result<SourceOutcome, Error> {
    let targets: Vec<_> = wanted
        .targets
        .iter()
        .map(|(commit, current)| Target {
            commit: *commit,
            current: *current,
        })
        .collect();
    let plan = slot.insert(Plan::after_offer(
        Arc::clone(repository),
        &targets,
        &wanted.complete,
        depth,
        &wanted.offered,
    )?);
    let mut detached = Vec::new();
    for commit in &wanted.detached {
        let metadata = repository.detached(*commit)?;
        detached.push((
            *commit,
            metadata.ok_or(Error::Internal("detached metadata vanished"))?,
        ));
    }
    Ok(SourceOutcome::Planned {
        basis: plan.basis().to_vec(),
        detached,
    })
}

fn offer(
    plan: Option<&mut Plan>,
    answers: &[(ObjectId, bool)],
    missing: &[ObjectId],
    max: usize,
) -> Result<SourceOutcome, Error> {
    let plan = plan.ok_or(Error::Internal("an offer before the plan"))?;
    for (id, have) in answers {
        plan.answer(*id, *have);
    }
    if !missing.is_empty() {
        plan.offer_again(missing);
    }
    let ids = plan.next(max)?;
    Ok(SourceOutcome::Offered {
        ids,
        exhausted: plan.is_exhausted(),
    })
}

fn vouch(plan: Option<&Plan>, ids: &[ObjectId]) -> Result<SourceOutcome, Error> {
    let plan = plan.ok_or(Error::Internal("objects missing before the plan"))?;
    plan.reaches(ids).map(SourceOutcome::Vouched)
}
