//! The states of one ref of a push into a bucket, which are the same as for a repository on a disk.
//!
//! ```text
//! announced -> UpToDate   the ref holds the commit
//!           -> Refused    by the rules, or because another ref has its name
//!           -> Accepted -> Set        published, durably
//!                       -> UpToDate   the ref holds the commit by now
//!                       -> Refused    because of the commit, or because another push was faster
//! ```

use artifact_formats::{Checksum, RefName};
use artifact_protocol::frame::{RefOutcome, RefState, RefUpdate, Refusal, RefusalCode, Verdict};
use bytes::Bytes;

use crate::bucket::random::Random;
use crate::bucket::seam::{Condition, Found, Key, Tag};
use crate::policy;

/// One ref of a push.
#[derive(Debug)]
pub(crate) struct Update {
    /// The client's request, with the checksum of its detached metadata.
    pub(crate) wanted: RefUpdate,
    /// The ref's key; `None` if its name is too long for one.
    pub(crate) key: Option<Key>,
    /// The value the client was told, which the compare-and-swap compares with.
    pub(crate) held: Held,
    /// Whether the client may replace detached metadata; known once the commit was judged.
    pub(crate) signer: Result<(), Refusal>,
    state: State,
    // The ref's commit was not complete.
    incomplete: bool,
}

/// The value of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Nothing,
    Commit(Checksum, Tag),
    /// An object with no valid content. A push may replace it.
    Malformed(Tag),
}

impl Held {
    /// Takes the object that was read.
    pub(crate) fn of(found: Option<&Found>) -> Self {
        let Some(found) = found else {
            return Self::Nothing;
        };
        let tag = found.tag.clone();
        match parse(&found.content) {
            Some(commit) => Self::Commit(commit, tag),
            None => Self::Malformed(tag),
        }
    }

    /// Returns the commit, if it holds one.
    pub(crate) const fn commit(&self) -> Option<Checksum> {
        match self {
            Self::Commit(commit, _) => Some(*commit),
            Self::Nothing | Self::Malformed(_) => None,
        }
    }

    /// Returns the condition of a put that replaces this value and no other.
    pub(crate) fn condition(&self) -> Condition {
        match self {
            Self::Nothing => Condition::New,
            Self::Commit(_, tag) | Self::Malformed(tag) => Condition::Is(tag.clone()),
        }
    }
}

/// Returns the content of a ref: the commit, and blanks that differ each time. Servers compare
/// hashes of contents. Without the blanks, a late put conditional on a value that the ref has again
/// would undo later pushes. Readers, including OSTree's, ignore blanks at the end.
pub(crate) fn content(commit: Checksum, random: &mut Random) -> Bytes {
    let bits = random.next();
    let blanks = (0..BLANKS).map(|bit| if bits >> bit & 1 == 0 { ' ' } else { '\t' });
    let mut text = commit.to_hex();
    text.extend(blanks);
    text.push('\n');
    text.into()
}

fn parse(content: &[u8]) -> Option<Checksum> {
    let text = std::str::from_utf8(content).ok()?;
    text.trim_ascii_end().parse().ok()
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    UpToDate,
    Accepted,
    Set,
    Refused(Refusal),
}

impl From<Verdict> for State {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::UpToDate => Self::UpToDate,
            Verdict::Accepted => Self::Accepted,
            Verdict::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl Update {
    /// Begins an update that is accepted unless it is [judged](Self::judge) otherwise.
    pub(crate) fn announced(
        wanted: &RefUpdate,
        key: Option<Key>,
        held: Held,
        incomplete: bool,
    ) -> Self {
        Self {
            wanted: wanted.clone(),
            key,
            held,
            signer: Ok(()),
            state: State::Accepted,
            incomplete,
        }
    }

    /// Takes the judgement of the announcement.
    pub(crate) fn judge(&mut self, verdict: Verdict) {
        self.state = verdict.into();
    }

    /// Returns the answer to the announcement.
    pub(crate) fn ref_state(&self) -> RefState {
        RefState {
            current: self.held.commit(),
            verdict: match &self.state {
                State::UpToDate => Verdict::UpToDate,
                State::Accepted | State::Set => Verdict::Accepted,
                State::Refused(refusal) => Verdict::Refused(refusal.clone()),
            },
        }
    }

    /// Returns the outcome once the accepted updates are set.
    pub(crate) fn outcome(&self) -> RefOutcome {
        match &self.state {
            State::UpToDate => RefOutcome::Unchanged,
            State::Accepted => RefOutcome::WouldUpdate,
            State::Set => RefOutcome::Updated,
            State::Refused(refusal) => RefOutcome::Refused(refusal.clone()),
        }
    }

    /// Returns whether it is accepted and not yet set.
    pub(crate) fn is_accepted(&self) -> bool {
        self.state == State::Accepted
    }

    pub(crate) fn is_up_to_date(&self) -> bool {
        self.state == State::UpToDate
    }

    pub(crate) fn is_set(&self) -> bool {
        self.state == State::Set
    }

    /// Returns whether the ref already holds the commit, but the commit is incomplete.
    pub(crate) fn heals(&self) -> bool {
        self.is_accepted() && self.is_held() && self.incomplete
    }

    /// Returns whether the ref already holds the commit.
    pub(crate) fn is_held(&self) -> bool {
        self.held.commit() == Some(self.wanted.commit)
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.state = State::Refused(refusal);
    }

    /// Takes the judgement of detached metadata that came unannounced, if there is one.
    pub(crate) fn learn_detached(&mut self, judged: Option<Result<(), Refusal>>) {
        match judged {
            Some(Ok(())) => self.state = State::Accepted,
            Some(Err(refusal)) => self.refuse(refusal),
            None => {}
        }
    }

    /// Marks it as up to date.
    pub(crate) fn settle(&mut self) {
        self.state = State::UpToDate;
    }

    /// Marks the ref as set, durably (INV-3).
    pub(crate) fn set(&mut self) {
        self.state = State::Set;
    }

    /// Compares the ref with the value that the client was told; returns whether it is the same. A
    /// changed ref makes the update up to date if it now holds the new commit with the announced
    /// detached metadata: a client whose connection was lost may push again what its earlier
    /// session is about to publish. Otherwise the update is refused.
    pub(crate) fn confirm(&mut self, now: Held, detached: Option<Checksum>) -> bool {
        if now == self.held {
            return true;
        }
        let announced = self.wanted.detached;
        let is_same =
            now.commit() == Some(self.commit()) && (announced.is_none() || announced == detached);
        self.held = now;
        if is_same {
            self.settle();
        } else {
            self.refuse(lost_race());
        }
        false
    }

    /// Refuses an update that was up to date if its ref has changed since.
    pub(crate) fn confirm_unchanged(&mut self, now: &Held) {
        if self.is_up_to_date() && now.commit() != Some(self.commit()) {
            self.refuse(lost_race());
        }
    }

    /// Judges the detached metadata against that in the bucket; returns whether the update may go
    /// on.
    pub(crate) fn confirm_detached(&mut self, there: Option<Checksum>) -> bool {
        let Err(refusal) = &self.signer else {
            return true;
        };
        if !policy::replaces(&self.wanted, there) {
            return true;
        }
        self.refuse(refusal.clone());
        false
    }

    /// Returns the name of a ref that does not exist yet.
    pub(crate) fn new_name(&self) -> Option<&RefName> {
        (self.held == Held::Nothing).then_some(&self.wanted.name)
    }

    pub(crate) const fn commit(&self) -> Checksum {
        self.wanted.commit
    }
}

/// The number of blanks after a commit: enough to differ each time, and as many as readers of refs
/// accept.
const BLANKS: u32 = 48;

/// Another ref has the name.
pub(crate) fn conflict(why: &str) -> Refusal {
    Refusal::new(RefusalCode::NAME_CONFLICT, why)
}

/// Another push was faster.
pub(crate) fn lost_race() -> Refusal {
    Refusal::new(
        RefusalCode::LOST_RACE,
        "another push moved the ref meanwhile",
    )
}
