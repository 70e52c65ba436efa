//! The states before objects travel: `Hello`, `Announce`, and the store's look-up of the refs.

use std::collections::{HashMap, HashSet};

use super::super::error::{ApiMisuse, Error, Violation, unexpected};
use super::super::greeting::greet;
use super::super::store::{Announcement, Opened, StoreOp, StoreOutcome};
use super::transfer::Transfer;
use super::{Core, ReceiverEvent, State};
use crate::frame::{Announce, Frame, RefStatus, RefUpdate, Verdict};
use crate::limits::{MAX_BASES, MAX_COMPLETE, MAX_REFS, REFS_PER_FRAME};
use crate::version::Features;

/// Waits for the client's `Hello`.
#[derive(Debug)]
pub(super) struct ExpectHello;

impl ExpectHello {
    pub(super) fn handle(self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        let Frame::Hello(hello) = frame else {
            return unexpected("Hello", &frame);
        };
        let served = match core.config.serves_pulls {
            true => Features::PULL,
            false => Features::default(),
        };
        let welcome = greet(&hello, &core.config, served)?;
        let pulls = welcome.features.contains(Features::PULL);
        core.outputs.send(&Frame::Welcome(welcome));
        core.outputs.push(ReceiverEvent::Greeted(hello));
        core.config.admit()?;
        Ok(State::ExpectAnnounce(ExpectAnnounce {
            so_far: None,
            pulls,
        }))
    }
}

/// Waits for the rest of the announcement.
#[derive(Debug)]
pub(super) struct ExpectAnnounce {
    so_far: Option<Announcement>,
    /// Whether the client may pull instead.
    pulls: bool,
}

impl ExpectAnnounce {
    /// Returns whether this frame turns the session into a pull.
    pub(super) const fn is_pull(&self, frame: &Frame) -> bool {
        self.pulls && self.so_far.is_none() && matches!(frame, Frame::Request(_))
    }

    pub(super) fn handle(self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        if matches!(frame, Frame::Request(_)) && !self.pulls {
            // REQ-47.
            let text = "this server does not serve pulls here";
            return Err(Violation::Unsupported(text.to_owned()).into());
        }
        let Frame::Announce(announce) = frame else {
            return unexpected("Announce", &frame);
        };
        let history = announce.history();
        let Announce {
            options,
            refs,
            bases,
            more,
            ..
        } = announce;
        if !options.is_known() {
            return Err(Violation::Unsupported(format!("push options {:#x}", options.0)).into());
        }
        let mut whole = match self.so_far {
            // REQ-11.
            Some(so_far) if so_far.options == options => so_far,
            Some(_) => {
                return Err(Violation::Rule(
                    "the options of a push changed between its Announce frames",
                )
                .into());
            }
            None => Announcement {
                options,
                history,
                ..Announcement::default()
            },
        };
        // LIM-4, LIM-5.
        Violation::limit("refs in a push", MAX_REFS, whole.refs.len() + refs.len())?;
        Violation::limit("bases proposed", MAX_BASES, whole.bases.len() + bases.len())?;
        // REQ-13.
        if refs.is_empty() && more {
            return Err(Violation::Rule("an Announce that another follows has no ref").into());
        }
        whole.refs.extend(refs);
        whole.bases.extend(bases);
        if more {
            let so_far = Some(whole);
            return Ok(State::ExpectAnnounce(Self { so_far, ..self }));
        }
        check_unambiguous(&whole)?;
        core.request(StoreOp::Open(whole));
        Ok(State::Opening(Opening))
    }
}

/// Checks that each ref is announced once, and each commit with only one detached metadata.
fn check_unambiguous(announcement: &Announcement) -> Result<(), Violation> {
    let mut names = HashSet::new();
    let mut metadata = HashMap::new();
    for RefUpdate {
        name,
        commit,
        detached,
        ..
    } in &announcement.refs
    {
        // REQ-12.
        if !names.insert(name) {
            return Err(Violation::Rule("a ref was announced twice"));
        }
        if metadata.entry(commit).or_insert(detached) != &detached {
            return Err(Violation::Rule(
                "a commit was announced with different detached metadata",
            ));
        }
    }
    Ok(())
}

/// Waits for the store to look up the refs.
#[derive(Debug)]
pub(super) struct Opening;

impl Opening {
    pub(super) fn handle_opened(
        self,
        announcement: Announcement,
        outcome: StoreOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        let opened = outcome.opened(announcement.refs.len())?;
        if opened.complete.len() > MAX_COMPLETE {
            return Err(ApiMisuse::Outcome.into());
        }
        send_status(&opened, core);
        core.outputs
            .push(ReceiverEvent::Opened(announcement.clone(), opened.clone()));
        let mut verdicts = opened.refs.iter().map(|state| &state.verdict);
        // REQ-15.
        if !verdicts.any(|verdict| *verdict == Verdict::Accepted) {
            return Ok(State::Finished);
        }
        let transfer = Transfer::new(announcement, opened, core.config.limits);
        Ok(State::Transfer(Box::new(transfer)))
    }
}

/// Sends a state for each ref, in as many frames as it takes, at least one.
fn send_status(opened: &Opened, core: &mut Core) {
    let mut chunks = opened.refs.chunks(REFS_PER_FRAME);
    let first = chunks.next().unwrap_or_default().to_vec();
    let complete = opened.complete.clone();
    core.outputs.send(&Frame::RefStatus(RefStatus {
        refs: first,
        complete,
    }));
    for chunk in chunks {
        let (refs, complete) = (chunk.to_vec(), Vec::new());
        core.outputs
            .send(&Frame::RefStatus(RefStatus { refs, complete }));
    }
}
