//! The planning thread: judges the request, and lists the objects ahead of the wire.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use artifact_formats::ObjectId;
use artifact_protocol::session::Fault;
use artifact_protocol::session::pull::{
    AnswerDone, AnswerOp, AnswerOutcome, AnswerRequest, PullRequest,
};

use super::Terms;
use super::judge::{Judgement, judge};
use super::patience::Patience;
use super::sizer::Sizer;
use super::walk::Walk;
use crate::error::Error;
use crate::reading::Failure;
use crate::source::Repository;

/// Starts the thread. It reports each completion, and ends when nobody can ask any more.
pub(super) fn start(
    repository: &Arc<Repository>,
    terms: Terms,
    patience: Patience,
    failure: &Failure,
    report: impl Fn(AnswerDone) + Clone + Send + 'static,
) -> Sender<AnswerRequest> {
    let (sender, requests) = channel();
    let mut planner = Planner {
        repository: Arc::clone(repository),
        terms,
        failure: failure.clone(),
        report,
        patience,
        answering: None,
        fault: None,
    };
    thread::spawn(move || planner.run(&requests));
    sender
}

struct Planner<F> {
    repository: Arc<Repository>,
    terms: Terms,
    failure: Failure,
    report: F,
    patience: Patience,
    /// `None` before the request was judged.
    answering: Option<Answering>,
    /// Why listing failed.
    fault: Option<Fault>,
}

/// A request that was judged.
struct Answering {
    walk: Walk,
    /// Objects found and not listed.
    ready: VecDeque<ObjectId>,
    /// Whether the client wants to know only how much there is.
    is_dry_run: bool,
    sizer: Sizer,
}

impl<F: Fn(AnswerDone) + Clone + Send + 'static> Planner<F> {
    fn run(&mut self, requests: &Receiver<AnswerRequest>) {
        loop {
            let request = if self.may_go_ahead() {
                match requests.try_recv() {
                    Ok(request) => request,
                    Err(TryRecvError::Empty) => {
                        self.go_ahead();
                        continue;
                    }
                    Err(TryRecvError::Disconnected) => return,
                }
            } else {
                match requests.recv() {
                    Ok(request) => request,
                    Err(_) => return,
                }
            };
            self.handle(request);
        }
    }

    fn handle(&mut self, request: AnswerRequest) {
        let outcome = match request.op() {
            AnswerOp::Judge(wanted) => self.judge(wanted),
            AnswerOp::Measure => return self.measure(request),
            AnswerOp::List { max } => {
                let max = *max;
                self.list(max)
            }
            AnswerOp::Detached(commit) => match self.repository.detached(*commit) {
                Ok(Some(metadata)) => Ok(AnswerOutcome::Detached(metadata)),
                // The session finds that this is not what it has promised.
                Ok(None) => Ok(AnswerOutcome::Detached(bytes::Bytes::new())),
                Err(error) => Err(self.failure.keep(error)),
            },
            AnswerOp::Fetch(_) | AnswerOp::Next(_) => {
                Err(self.failure.keep(Error::Internal("not the planner's")))
            }
        };
        (self.report)(request.complete(outcome));
    }

    fn judge(&mut self, wanted: &PullRequest) -> Result<AnswerOutcome, Fault> {
        self.patience.resume();
        let judged = judge(&self.repository, &self.terms, wanted, &self.patience);
        self.patience.pause();
        let Judgement {
            answer,
            commits,
            left_out,
        } = judged.map_err(|error| self.failure.keep(error))?;
        let walk = Walk::new(
            Arc::clone(&self.repository),
            commits,
            &left_out,
            wanted.objects.clone(),
            self.terms.objects_max,
        );
        let is_dry_run = wanted.is_dry_run();
        // There may be nothing to measure, and then there is no request for it.
        let sizer = match walk.is_done() {
            true => Sizer::none(),
            false => Sizer::start(&self.repository, is_dry_run, self.report.clone()),
        };
        self.answering = Some(Answering {
            walk,
            ready: VecDeque::new(),
            is_dry_run,
            sizer,
        });
        Ok(AnswerOutcome::Judged(answer))
    }

    fn measure(&mut self, request: AnswerRequest) {
        if let Some(fault) = &self.fault {
            return (self.report)(request.complete(Err(fault.clone())));
        }
        let Some(answering) = &mut self.answering else {
            let fault = self.failure.keep(Error::Internal("measured too early"));
            return (self.report)(request.complete(Err(fault)));
        };
        answering.sizer.ask(request);
        if answering.walk.is_done() {
            answering.sizer.finish(&self.report);
        }
    }

    fn list(&mut self, max: usize) -> Result<AnswerOutcome, Fault> {
        while let Some(answering) = &self.answering
            && answering.ready.is_empty()
            && !answering.walk.is_done()
            && self.fault.is_none()
        {
            self.go_ahead();
        }
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let Some(answering) = &mut self.answering else {
            return Err(self.failure.keep(Error::Internal("listed too early")));
        };
        let count = max.min(answering.ready.len());
        let ids = answering.ready.drain(..count).collect();
        let exhausted = answering.ready.is_empty() && answering.walk.is_done();
        Ok(AnswerOutcome::Listed { ids, exhausted })
    }

    /// Returns whether there is something to find that nobody has asked for yet.
    fn may_go_ahead(&self) -> bool {
        self.fault.is_none()
            && self.answering.as_ref().is_some_and(|answering| {
                !answering.walk.is_done() && answering.ready.len() < AHEAD_MAX
            })
    }

    /// Looks into the next directory.
    fn go_ahead(&mut self) {
        let Some(answering) = &mut self.answering else {
            return;
        };
        self.patience.resume();
        let mut found = Vec::new();
        let stepped = answering.walk.step(&mut found);
        let stepped = stepped.and_then(|()| self.patience.check());
        self.patience.pause();
        if let Err(error) = stepped {
            let fault = self.failure.keep(error);
            answering.sizer.fail(&fault, &self.report);
            self.fault = Some(fault);
            return;
        }
        if !answering.is_dry_run {
            answering.ready.extend(found.iter().copied());
        }
        answering.sizer.add(found);
        if answering.walk.is_done() {
            answering.sizer.finish(&self.report);
        }
    }
}

/// Ids found ahead of what was listed: 8 MiB.
const AHEAD_MAX: usize = 256 * 1024;
