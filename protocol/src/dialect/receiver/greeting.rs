//! The states before objects travel: greeting, and the refs to set.

use std::collections::BTreeSet;

use artifact_formats::{Checksum, RefName};

use super::super::message::{Change, Info, Message};
use super::super::version::Dialect;
use super::finish::Refused;
use super::objects::{ExpectObjects, Objects};
use super::push::Push;
use super::{Core, State};
use crate::frame::{Expect, PushOptions, RefUpdate, RefusalCode, Verdict};
use crate::limits::MAX_MESSAGE_LEN;
use crate::session::{
    Announcement, ApiMisuse, Error, Opened, ReceiverEvent, RefQuery, StoreOp, StoreOutcome,
};
use crate::text::{Text, escape};

/// Bytes for refs in an `info`; the rest is for its other entries.
pub(super) const REFS_LEN_MAX: usize = MAX_MESSAGE_LEN - 2_048;

/// Answers the greeting of a client of version 1. The client asks about the refs that it names:
/// none, if it only wants to know whether the server answers.
pub(super) fn handle_info(info: Info, core: &mut Core) -> Result<State, Error> {
    core.greet();
    let names = info.refs.iter().filter_map(|(name, _)| name.parse().ok());
    let names: Vec<RefName> = names.collect();
    if names.is_empty() {
        return Ok(tell_nothing(core));
    }
    Ok(core.look(RefQuery::Named(names)))
}

/// Introduces the server, without any refs.
pub(super) fn tell_nothing(core: &mut Core) -> State {
    send_info(core, Vec::new());
    State::ExpectUpdate(ExpectUpdate { all: false })
}

/// Introduces the server, with the values of refs.
pub(super) fn tell_refs(outcome: StoreOutcome, core: &mut Core) -> Result<State, Error> {
    let StoreOutcome::Refs { refs, all } = outcome else {
        return Err(ApiMisuse::Outcome.into());
    };
    let count = refs.len();
    let mut room = REFS_LEN_MAX;
    let fits = |(name, _): &(RefName, Checksum)| {
        let len = entry_len(name.as_str());
        let fits = len <= room;
        room = room.saturating_sub(len);
        fits
    };
    let refs: Vec<_> = refs
        .into_iter()
        .take_while(fits)
        .map(|(name, commit)| (name.to_string(), commit.to_hex()))
        .collect();
    let all = all && refs.len() == count && core.dialect == Dialect::V0;
    send_info(core, refs);
    Ok(State::ExpectUpdate(ExpectUpdate { all }))
}

/// Bytes of an entry in an `a{ss}` of refs, with its framing offset and the array's.
const fn entry_len(name: &str) -> usize {
    name.len() + 1 + 2 * Checksum::LEN + 1 + 2 + 2
}

fn send_info(core: &mut Core, refs: Vec<(String, String)>) {
    let url = core.config.pull_url.as_ref().map(Text::as_raw);
    core.send(&Message::Info(Info {
        mode: Info::ARCHIVE,
        refs,
        // Users of version 0 configure by hand where to pull from.
        pull_url: url
            .filter(|url| core.dialect == Dialect::V1 && !url.contains('\0'))
            .map(str::to_owned),
    }));
}

/// Waits for the refs to set.
#[derive(Debug)]
pub(super) struct ExpectUpdate {
    /// Whether the client was told of every existing ref.
    all: bool,
}

impl ExpectUpdate {
    pub(super) fn handle_update(
        self,
        changes: Vec<Change>,
        core: &mut Core,
    ) -> Result<State, Error> {
        if let Some(fault) = core.refusal.take() {
            return Ok(Refused::tell(&fault.text.clone(), Some(fault), core));
        }
        match self.announcement(&changes, core.dialect) {
            Ok(announcement) => {
                core.request(StoreOp::Open(announcement));
                Ok(State::Opening(Opening))
            }
            Err(text) => Ok(Refused::tell(&text, None, core)),
        }
    }

    fn announcement(&self, changes: &[Change], dialect: Dialect) -> Result<Announcement, String> {
        let refs: Vec<_> = changes
            .iter()
            .map(|change| self.update(change))
            .collect::<Result<_, _>>()?;
        // Clients of BuildStream 1.0 to 1.1.3 never know what a ref holds, and the original servers
        // set it to whatever they were told. Here the server's rules decide what a client may do.
        let knows_nothing = refs.iter().all(|update| update.expect == Expect::Any);
        let options = match dialect {
            Dialect::V0 => PushOptions::default(),
            Dialect::V1 if knows_nothing => PushOptions::ALIASES.with(PushOptions::FORCE),
            Dialect::V1 => PushOptions::ALIASES,
        };
        Ok(Announcement {
            options,
            refs,
            bases: Vec::new(),
            history: 0,
        })
    }

    fn update(&self, change: &Change) -> Result<RefUpdate, String> {
        let Change { name, old, new } = change;
        let said = |what: &str| escape(&what.chars().take(200).collect::<String>());
        let parsed = name
            .parse()
            .map_err(|error| format!("{}: {error}", said(name)))?;
        let commit = new
            .parse()
            .map_err(|error| format!("{}: {}: {error}", said(name), said(new)))?;
        let expect = if old.bytes().all(|byte| byte == b'0') {
            match self.all {
                true => Expect::Absent,
                false => Expect::Any,
            }
        } else {
            let old = old.parse();
            Expect::Is(old.map_err(|error| format!("{}: {error}", said(name)))?)
        };
        Ok(RefUpdate {
            name: parsed,
            commit,
            detached: None,
            expect,
        })
    }
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
        core.outputs
            .push(ReceiverEvent::Opened(announcement.clone(), opened.clone()));
        // One answer covers all refs, and a client takes a ref that it hears nothing about as set.
        // So one refusal refuses the push.
        if let Some(text) = refusals(&announcement, &opened) {
            return Ok(Refused::tell(&text, None, core));
        }
        core.send_status(true, "");
        let push = Push::new(announcement, &opened, core.config.limits);
        Ok(match core.dialect {
            Dialect::V0 => State::Objects(Box::new(Objects::one_by_one(push))),
            Dialect::V1 => State::ExpectObjects(Box::new(ExpectObjects::new(push))),
        })
    }
}

/// Lists the refused refs and the reasons, if any ref is refused.
fn refusals(announcement: &Announcement, opened: &Opened) -> Option<String> {
    let mut said = BTreeSet::new();
    for (update, state) in announcement.refs.iter().zip(&opened.refs) {
        let Verdict::Refused(refusal) = &state.verdict else {
            continue;
        };
        let name = &update.name;
        said.insert(match (update.expect, state.current) {
            (Expect::Is(old), Some(current)) if refusal.code == RefusalCode::LOST_RACE => {
                format!("Branch {name} is at {current}, not {old}")
            }
            (Expect::Absent, Some(current)) if refusal.code == RefusalCode::LOST_RACE => {
                format!("Branch {name} is at {current}, not {}", "0".repeat(64))
            }
            (Expect::Is(old), None) if refusal.code == RefusalCode::LOST_RACE => {
                format!("Invalid from commit {old} for new branch {name}")
            }
            _ if refusal.text.as_raw().contains(name.as_str()) => refusal.text.escaped(),
            _ => format!("{name}: {}", refusal.text.escaped()),
        });
    }
    (!said.is_empty()).then(|| said.into_iter().collect::<Vec<_>>().join("; "))
}
