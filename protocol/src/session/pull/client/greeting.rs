//! The states before objects travel: the request, `Welcome`, the answer, and the opened store.

use std::collections::{HashMap, HashSet};

use artifact_formats::{Checksum, RefName};

use super::super::super::error::{Error, Violation};
use super::super::super::greeting::check_welcome;
use super::super::super::outputs::Outputs;
use super::super::super::store::{Announcement, StoreOp, StoreOutcome};
use super::super::answer::PullAnswer;
use super::finish::{self, ExpectSent};
use super::receiving::Receiving;
use super::{
    Core, PullClientConfig, PullClientEvent, PullClientOutput, State, WantedRef, unexpected,
};
use crate::frame::{
    Answer, Expect, Extensions, Frame, Held, Hello, PullState, RefAnswer, RefRequest, RefUpdate,
    Request, Verdict,
};
use crate::limits::{HELD_PER_FRAME, MAX_BASES, MAX_EARLY_FRAME_LEN, MAX_REFS};
use crate::version::{Features, Version};

/// Sends the whole request, which waits for nothing.
pub(super) fn send(config: &PullClientConfig, outputs: &mut Outputs<PullClientOutput>) {
    outputs.send(&Frame::Hello(Hello {
        version_min: Version::OLDEST,
        version_max: Version::NEWEST,
        features: Features::PULL,
        agent: config.agent.clone(),
        extensions: Extensions::default(),
    }));
    let holds_objects = !config.objects.is_empty();
    let mut requests = requests(config);
    if let Some(last) = requests.last_mut() {
        last.more = holds_objects;
    }
    for request in requests {
        outputs.send(&Frame::Request(request));
    }
    let mut chunks = config.objects.chunks(HELD_PER_FRAME).peekable();
    while let Some(objects) = chunks.next() {
        outputs.send(&Frame::Held(Held {
            more: chunks.peek().is_some(),
            objects: objects.to_vec(),
        }));
    }
}

/// Splits the request into frames, at least one.
fn requests(config: &PullClientConfig) -> Vec<Request> {
    let empty = || Request {
        options: config.options,
        history: config.history,
        refs: Vec::new(),
        patterns: Vec::new(),
        held: Vec::new(),
        more: true,
        extensions: Extensions::default(),
    };
    let mut requests = vec![Request {
        held: config.held.iter().map(|base| base.commit).collect(),
        ..empty()
    }];
    let mut len = config.held.len() * Checksum::LEN;
    let mut room = |requests: &mut Vec<Request>, entry_len| {
        if len + entry_len > EARLY_LEN {
            requests.push(empty());
            len = 0;
        }
        len += entry_len;
    };
    for pattern in &config.patterns {
        room(&mut requests, pattern.as_str().len() + 8);
        let last = requests.last_mut();
        last.into_iter()
            .for_each(|request| request.patterns.push(pattern.clone()));
    }
    for wanted in &config.refs {
        room(&mut requests, wanted.name.as_str().len() + ENTRY_LEN);
        let last = requests.last_mut();
        last.into_iter().for_each(|request| {
            request.refs.push(RefRequest {
                name: wanted.name.clone(),
                current: wanted.current,
                detached: wanted.detached,
            });
        });
    }
    requests
}

/// Bytes for entries in an early frame (LIM-1); the rest is for its other fields.
const EARLY_LEN: usize = MAX_EARLY_FRAME_LEN as usize - 1_024;
/// Upper bound of a `RefRequest` without its name: length, two checksums with their tags.
const ENTRY_LEN: usize = 8 + 33 + 33;

/// Waits for the server's `Welcome`.
#[derive(Debug)]
pub(super) struct ExpectWelcome;

impl ExpectWelcome {
    pub(super) fn handle(self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        let Frame::Welcome(welcome) = frame else {
            return unexpected("Welcome", &frame);
        };
        check_welcome(&welcome)?;
        core.frame_len_max = welcome.limits.frame_len_max;
        let serves = welcome.features.contains(Features::PULL);
        core.outputs.push(PullClientEvent::Welcomed(welcome));
        // REQ-47.
        if !serves {
            return Err(Error::NotServed);
        }
        Ok(State::ExpectAnswer(ExpectAnswer { so_far: None }))
    }
}

/// Waits for what becomes of the wanted refs.
#[derive(Debug)]
pub(super) struct ExpectAnswer {
    so_far: Option<PullAnswer>,
}

impl ExpectAnswer {
    pub(super) fn handle(self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        let Frame::Answer(answer) = frame else {
            return unexpected("Answer", &frame);
        };
        let Answer { refs, basis, more } = answer;
        if more && refs.is_empty() {
            return Err(Violation::Rule("an Answer that another follows has no ref").into());
        }
        let mut whole = match self.so_far {
            Some(_) if !basis.is_empty() => {
                return Err(Violation::Rule("a further Answer has a basis").into());
            }
            Some(so_far) => so_far,
            None => {
                check_basis(&basis, &core.config)?;
                PullAnswer {
                    refs: Vec::new(),
                    basis,
                }
            }
        };
        // LIM-4.
        Violation::limit("refs in an answer", MAX_REFS, whole.refs.len() + refs.len())?;
        whole.refs.extend(refs);
        if more {
            let so_far = Some(whole);
            return Ok(State::ExpectAnswer(Self { so_far }));
        }
        check(&whole, &core.config)?;
        core.outputs.push(PullClientEvent::Answered(whole.clone()));
        let announcement = announce(&whole, &core.config);
        if announcement.refs.is_empty() || core.is_dry_run() {
            return Ok(State::ExpectSent(ExpectSent::new(whole)));
        }
        core.request(StoreOp::Open(announcement));
        Ok(State::Opening(Opening { answer: whole }))
    }
}

fn check_basis(basis: &[Checksum], config: &PullClientConfig) -> Result<(), Violation> {
    // LIM-5.
    Violation::limit("commits of a basis", MAX_BASES, basis.len())?;
    let holds = |commit: &Checksum| config.held.iter().any(|base| base.commit == *commit);
    match basis.iter().all(holds) {
        true => Ok(()),
        // REQ-50.
        false => Err(Violation::Rule("the basis has a commit that is not held")),
    }
}

/// Checks that the answer says one thing of each wanted ref, and nothing of others (REQ-50).
fn check(answer: &PullAnswer, config: &PullClientConfig) -> Result<(), Violation> {
    let mut unanswered: HashMap<_, _> = config.refs.iter().map(|r| (&r.name, r)).collect();
    let (mut names, mut metadata) = (HashSet::new(), HashMap::new());
    for RefAnswer { name, state } in &answer.refs {
        if !names.insert(name) {
            return Err(Violation::Rule("a ref is answered twice"));
        }
        let wanted = unanswered.remove(name);
        let is_matched = || config.patterns.iter().any(|p| p.matches(name.as_str()));
        if wanted.is_none() && !is_matched() {
            return Err(Violation::Rule("a ref is answered that was not requested"));
        }
        match state {
            PullState::UpToDate if wanted.is_none_or(|wanted| wanted.current.is_none()) => {
                let rule = "a ref is called up to date that the client does not hold";
                return Err(Violation::Rule(rule));
            }
            PullState::Promised { commit, detached }
                if metadata.insert(commit, detached).unwrap_or(detached) != detached =>
            {
                let rule = "a commit is promised with different detached metadata";
                return Err(Violation::Rule(rule));
            }
            PullState::Promised { .. } | PullState::UpToDate | PullState::Refused(_) => {}
        }
    }
    match unanswered.is_empty() {
        true => Ok(()),
        false => Err(Violation::Rule("a requested ref is not answered")),
    }
}

/// Makes the announcement of the promised refs for the local store.
fn announce(answer: &PullAnswer, config: &PullClientConfig) -> Announcement {
    let wanted: HashMap<&RefName, &WantedRef> = config.refs.iter().map(|r| (&r.name, r)).collect();
    let mut announcement = Announcement {
        options: config.moves,
        refs: Vec::new(),
        bases: Vec::new(),
        history: config.history,
    };
    for RefAnswer { name, state } in &answer.refs {
        if let PullState::Promised { commit, detached } = state {
            announcement.refs.push(RefUpdate {
                name: name.clone(),
                commit: *commit,
                detached: *detached,
                expect: wanted.get(name).map_or(Expect::Any, |wanted| wanted.expect),
            });
        }
    }
    let bases = config.held.iter();
    let bases = bases.filter(|base| answer.basis.contains(&base.commit));
    announcement.bases = bases.cloned().collect();
    announcement
}

/// Waits for the local store to look up its refs.
#[derive(Debug)]
pub(super) struct Opening {
    answer: PullAnswer,
}

impl Opening {
    pub(super) fn handle_opened(
        self,
        announcement: Announcement,
        outcome: StoreOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        let opened = outcome.opened(announcement.refs.len())?;
        let verdicts: Vec<_> = opened.refs.into_iter().map(|state| state.verdict).collect();
        if !verdicts.contains(&Verdict::Accepted) {
            return Ok(finish::nothing_accepted(&self.answer, verdicts, core));
        }
        core.request(StoreOp::Rely(self.answer.basis.clone()));
        Receiving::begin(self.answer, &announcement, &verdicts, core)
    }
}
