//! The states before objects travel: `Hello`, the request, and the driver's judgement.

use std::collections::{HashMap, HashSet};

use artifact_formats::Checksum;

use super::super::super::error::{ApiMisuse, Error, Violation, unexpected};
use super::super::super::greeting::greet;
use super::super::answer::{AnswerOp, AnswerOutcome, PullAnswer, PullRequest};
use super::answering::Answering;
use super::{Core, PullServerEvent, State};
use crate::frame::{Answer, Frame, Held, PullState, RefAnswer, Request, Sent};
use crate::limits::{ANSWERS_PER_FRAME, MAX_BASES, MAX_HELD, MAX_PATTERNS, MAX_REFS};
use crate::version::Features;

/// Waits for the client's `Hello`.
#[derive(Debug)]
pub(super) struct ExpectHello;

impl ExpectHello {
    pub(super) fn handle(self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        let Frame::Hello(hello) = frame else {
            return unexpected("Hello", &frame);
        };
        let welcome = greet(&hello, &core.config, Features::PULL)?;
        core.outputs.send(&Frame::Welcome(welcome));
        core.outputs.push(PullServerEvent::Greeted(hello));
        core.config.admit()?;
        Ok(State::ExpectRequest(ExpectRequest::new()))
    }
}

/// Waits for the rest of the request.
#[derive(Debug)]
pub(super) struct ExpectRequest {
    so_far: Option<PullRequest>,
    /// Whether a `Held` has come: no `Request` follows it.
    holds: bool,
}

impl ExpectRequest {
    pub(super) const fn new() -> Self {
        Self {
            so_far: None,
            holds: false,
        }
    }

    pub(super) fn handle(self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        match frame {
            Frame::Request(request) => self.handle_request(request, core),
            Frame::Held(held) => self.handle_held(held, core),
            Frame::Announce(_) => {
                let text = "this server takes no pushes here: push over ssh";
                Err(Violation::Unsupported(text.to_owned()).into())
            }
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::RefStatus(_)
            | Frame::Basis(_)
            | Frame::Offer(_)
            | Frame::Want(_)
            | Frame::Detached(_)
            | Frame::Pack(_)
            | Frame::ObjectBegin(_)
            | Frame::ObjectChunk(_)
            | Frame::ObjectEnd(_)
            | Frame::Staged(_)
            | Frame::Finalize(_)
            | Frame::Missing(_)
            | Frame::Finalized(_)
            | Frame::SummaryDone(_)
            | Frame::Ping(_)
            | Frame::Close(_)
            | Frame::Answer(_)
            | Frame::Extent(_)
            | Frame::Sent(_) => unexpected("Request", &frame),
        }
    }

    fn handle_request(self, request: Request, core: &mut Core) -> Result<State, Error> {
        let Request {
            options,
            history,
            refs,
            patterns,
            held,
            more,
            extensions: _,
        } = request;
        if !options.is_known() {
            return Err(Violation::Unsupported(format!("pull options {:#x}", options.0)).into());
        }
        let mut whole = match self.so_far {
            Some(_) if self.holds => {
                return Err(Violation::Rule("a Request came after a Held").into());
            }
            // REQ-48.
            Some(so_far) if so_far.options == options && so_far.history == history => so_far,
            Some(_) => {
                let rule = "the options of a pull changed between its Request frames";
                return Err(Violation::Rule(rule).into());
            }
            None => PullRequest {
                options,
                history,
                ..PullRequest::default()
            },
        };
        if more && refs.is_empty() && patterns.is_empty() && held.is_empty() {
            return Err(Violation::Rule("a Request that another follows is empty").into());
        }
        // LIM-4, LIM-26, LIM-5.
        Violation::limit("refs in a pull", MAX_REFS, whole.refs.len() + refs.len())?;
        let count = whole.patterns.len() + patterns.len();
        Violation::limit("patterns in a pull", MAX_PATTERNS, count)?;
        Violation::limit("commits held", MAX_BASES, whole.held.len() + held.len())?;
        whole.refs.extend(refs);
        whole.patterns.extend(patterns);
        whole.held.extend(held);
        Self::go_on(whole, false, more, core)
    }

    fn handle_held(self, held: Held, core: &mut Core) -> Result<State, Error> {
        let Some(mut whole) = self.so_far else {
            return Err(Violation::Rule("Held came before a Request").into());
        };
        // LIM-27.
        let count = whole.objects.len() + held.objects.len();
        Violation::limit("objects held", MAX_HELD, count)?;
        whole.objects.extend(held.objects);
        Self::go_on(whole, true, held.more, core)
    }

    /// Waits for the next frame, or has the whole request judged.
    fn go_on(whole: PullRequest, holds: bool, more: bool, core: &mut Core) -> Result<State, Error> {
        if more {
            let so_far = Some(whole);
            return Ok(State::ExpectRequest(Self { so_far, holds }));
        }
        // REQ-49.
        let mut names = HashSet::new();
        if !whole.refs.iter().all(|wanted| names.insert(&wanted.name)) {
            return Err(Violation::Rule("a ref was requested twice").into());
        }
        core.request(AnswerOp::Judge(whole));
        Ok(State::Judging(Judging))
    }
}

/// Waits for the driver to judge the request.
#[derive(Debug)]
pub(super) struct Judging;

impl Judging {
    pub(super) fn handle_judged(
        self,
        request: &PullRequest,
        outcome: AnswerOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        let AnswerOutcome::Judged(answer) = outcome else {
            return Err(ApiMisuse::Outcome.into());
        };
        let detached = check(&answer, request)?;
        send(&answer, core);
        let promises = |answer: &RefAnswer| matches!(answer.state, PullState::Promised { .. });
        let any = answer.refs.iter().any(promises);
        core.outputs.push(PullServerEvent::Answered(answer));
        if any || request.is_dry_run() {
            core.request(AnswerOp::Measure);
        }
        if request.is_dry_run() {
            return Ok(State::Measuring(Measuring));
        }
        if !any {
            return Ok(core.say_sent(Sent::default()));
        }
        Ok(Answering::begin(detached, core))
    }
}

/// Checks that an answer answers the request; returns the detached metadata to send. Who may read
/// which ref (REQ-54) is the driver's to judge.
fn check(
    answer: &PullAnswer,
    request: &PullRequest,
) -> Result<Vec<(Checksum, Checksum)>, ApiMisuse> {
    let mut unanswered: HashMap<_, _> = request.refs.iter().map(|r| (&r.name, r)).collect();
    let mut names = HashSet::new();
    let mut metadata = HashMap::new();
    let mut detached = Vec::new();
    for RefAnswer { name, state } in &answer.refs {
        let wanted = unanswered.remove(name);
        let is_matched = || request.patterns.iter().any(|p| p.matches(name.as_str()));
        if !names.insert(name) || (wanted.is_none() && !is_matched()) {
            return Err(ApiMisuse::Outcome);
        }
        match state {
            PullState::Promised {
                commit,
                detached: promised,
            } => match metadata.insert(*commit, *promised) {
                Some(before) if before != *promised => return Err(ApiMisuse::Outcome),
                Some(_) => {}
                None => detached.extend(promised.map(|checksum| (*commit, checksum))),
            },
            PullState::UpToDate if wanted.is_none_or(|wanted| wanted.current.is_none()) => {
                return Err(ApiMisuse::Outcome);
            }
            PullState::UpToDate | PullState::Refused(_) => {}
        }
    }
    let holds = |commit| request.held.contains(commit);
    if unanswered.is_empty() && names.len() <= MAX_REFS && answer.basis.iter().all(holds) {
        Ok(detached)
    } else {
        Err(ApiMisuse::Outcome)
    }
}

/// Sends the answer in as many frames as it takes, at least one.
fn send(answer: &PullAnswer, core: &mut Core) {
    let mut chunks = answer.refs.chunks(ANSWERS_PER_FRAME).peekable();
    let mut basis = answer.basis.clone();
    loop {
        let refs = chunks.next().unwrap_or_default().to_vec();
        let more = chunks.peek().is_some();
        core.outputs.send(&Frame::Answer(Answer {
            refs,
            basis: std::mem::take(&mut basis),
            more,
        }));
        if !more {
            return;
        }
    }
}

/// Waits for the driver to count what a dry run would send.
#[derive(Debug)]
pub(super) struct Measuring;

impl Measuring {
    pub(super) fn handle_measured(
        self,
        outcome: AnswerOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        let AnswerOutcome::Measured(extent) = outcome else {
            return Err(ApiMisuse::Outcome.into());
        };
        core.outputs.send(&Frame::Extent(extent));
        Ok(core.say_sent(Sent::default()))
    }
}
