//! The two kinds of records behind collection: `gc`, and the lease of each session. They change
//! only by compare-and-swap.
//!
//! Servers tell versions apart by a hash of the content. Each record therefore contains a number
//! that grows with each change, so that no two versions are the same bytes.

use std::fmt::Write as _;
use std::str::FromStr;

use crate::bucket::requests::seam::Key;
use crate::error::Error;
use crate::error::bucket::BucketError;

/// The state of collection, which the key `gc` holds. The key does not exist before the first
/// collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gc {
    /// The version, which grows by one with each change.
    pub turn: u64,
    /// The number of the last list of condemned objects; 0 before the first.
    pub epoch: u64,
    /// The phase of that list.
    pub phase: Phase,
    /// The collector that condemned; with the epoch, the name of the list.
    pub judge: Nonce,
    /// The program that changed the record last; in the phase *sweeping*, the one that sweeps.
    pub by: Nonce,
}

/// The fate of the objects on the last list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The sweep is over: it has deleted them or will leave them alone.
    Idle,
    /// The next sweep will delete them unless they are reached or spared.
    Condemned,
    /// A sweep is deleting them. It is too late to spare any.
    Sweeping,
}

/// A random number that tells programs apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub u64);

/// The name of a list of condemned objects. No two lists have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListName {
    /// The number of the collection.
    pub epoch: u64,
    /// The collector that condemned.
    pub judge: Nonce,
}

/// The lease of a session: a promise to read `gc` again before the lease expires, or to stop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The version, which grows by one with each change.
    pub beat: u64,
    /// The last list of condemned objects that the session keeps to; 0 for none.
    pub acknowledged: u64,
    /// Whether a collector has given the session up. A fenced session publishes nothing.
    pub is_fenced: bool,
    /// The identity that pushes.
    pub identity: String,
}

impl Gc {
    /// The first record.
    pub const fn first(by: Nonce) -> Self {
        Self {
            turn: 1,
            epoch: 0,
            phase: Phase::Idle,
            judge: by,
            by,
        }
    }

    /// Returns the name of the last list.
    pub const fn list(&self) -> ListName {
        ListName {
            epoch: self.epoch,
            judge: self.judge,
        }
    }

    /// Returns the record that names a new list.
    #[must_use]
    pub const fn condemned(&self, by: Nonce) -> Self {
        Self {
            turn: self.turn + 1,
            epoch: self.epoch + 1,
            phase: Phase::Condemned,
            judge: by,
            by,
        }
    }

    /// Returns the record with another phase of the same list.
    #[must_use]
    pub const fn moved(&self, phase: Phase, by: Nonce) -> Self {
        Self {
            turn: self.turn + 1,
            epoch: self.epoch,
            phase,
            judge: self.judge,
            by,
        }
    }

    /// Writes the record.
    pub fn encode(&self) -> String {
        let phase = match self.phase {
            Phase::Idle => "idle",
            Phase::Condemned => "condemned",
            Phase::Sweeping => "sweeping",
        };
        let Self {
            turn,
            epoch,
            judge: Nonce(judge),
            by: Nonce(by),
            ..
        } = self;
        format!(
            "{GC}\nturn {turn}\nepoch {epoch}\nphase {phase}\njudge {judge:016x}\nby {by:016x}\n"
        )
    }

    /// Reads the record; `None` if the content is not such a record.
    pub fn decode(content: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(content, GC)?;
        let gc = Self {
            turn: fields.number("turn")?,
            epoch: fields.number("epoch")?,
            phase: match fields.text("phase")? {
                "idle" => Phase::Idle,
                "condemned" => Phase::Condemned,
                "sweeping" => Phase::Sweeping,
                _ => return None,
            },
            judge: fields.nonce("judge")?,
            by: fields.nonce("by")?,
        };
        fields.are_over().then_some(gc)
    }
}

impl Lease {
    /// The first lease of a session.
    pub const fn first(identity: String) -> Self {
        Self {
            beat: 1,
            acknowledged: 0,
            is_fenced: false,
            identity,
        }
    }

    /// Returns the next version, which acknowledges a list.
    #[must_use]
    pub fn renewed(&self, acknowledged: u64) -> Self {
        Self {
            beat: self.beat + 1,
            acknowledged,
            ..self.clone()
        }
    }

    /// Returns the last version, by which a collector gives the session up.
    #[must_use]
    pub fn fenced(&self) -> Self {
        Self {
            beat: self.beat + 1,
            is_fenced: true,
            ..self.clone()
        }
    }

    /// Writes the lease.
    pub fn encode(&self) -> String {
        let fenced = if self.is_fenced { "yes" } else { "no" };
        let mut text = format!(
            "{LEASE}\nbeat {}\nacknowledged {}\nfenced {fenced}\nidentity ",
            self.beat, self.acknowledged
        );
        for byte in self.identity.bytes() {
            // Writing to a string never fails.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        text
    }

    /// Reads a lease; `None` if the content is not a lease.
    pub fn decode(content: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(content, LEASE)?;
        let lease = Self {
            beat: fields.number("beat")?,
            acknowledged: fields.number("acknowledged")?,
            is_fenced: match fields.text("fenced")? {
                "yes" => true,
                "no" => false,
                _ => return None,
            },
            identity: String::from_utf8(hex::decode(fields.text("identity")?).ok()?).ok()?,
        };
        fields.are_over().then_some(lease)
    }
}

/// The lines of a record, each a name and a value.
struct Fields<'a>(std::str::Lines<'a>);

impl<'a> Fields<'a> {
    fn of(content: &'a [u8], head: &str) -> Option<Self> {
        let mut lines = std::str::from_utf8(content).ok()?.lines();
        (lines.next()? == head).then_some(Self(lines))
    }

    fn text(&mut self, name: &str) -> Option<&'a str> {
        self.0.next()?.strip_prefix(name)?.strip_prefix(' ')
    }

    fn number(&mut self, name: &str) -> Option<u64> {
        u64::from_str(self.text(name)?).ok()
    }

    fn nonce(&mut self, name: &str) -> Option<Nonce> {
        u64::from_str_radix(self.text(name)?, 16).ok().map(Nonce)
    }

    fn are_over(mut self) -> bool {
        self.0.next().is_none()
    }
}

const GC: &str = "artifact-cache collection 1";
const LEASE: &str = "artifact-cache session 1";

/// The error of a record that cannot be decoded.
pub(super) fn damaged(key: &Key) -> Error {
    let why = format!("{key} is damaged: if no push and no other collection is running, delete it");
    Error::bucket("reading", key)(BucketError::Broken(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_as_they_were_written_and_nothing_else_does() {
        let first = Gc::first(Nonce(7));
        for gc in [
            first,
            first.condemned(Nonce(8)),
            first.condemned(Nonce(8)).moved(Phase::Sweeping, Nonce(9)),
        ] {
            assert_eq!(Gc::decode(gc.encode().as_bytes()), Some(gc));
        }
        let lease = Lease::first("mia\nbeat 9".to_owned());
        for lease in [lease.renewed(3), lease.fenced(), lease] {
            let text = lease.encode();
            assert_eq!(Lease::decode(text.as_bytes()), Some(lease));
            assert_eq!(Gc::decode(text.as_bytes()), None);
            assert_eq!(Lease::decode(format!("{text}more 1\n").as_bytes()), None);
            assert_eq!(Lease::decode(&text.as_bytes()[..text.len() / 2]), None);
        }
    }

    #[test]
    fn no_two_versions_of_a_record_are_the_same_bytes() {
        let gc = Gc::first(Nonce(7));
        let back = gc.condemned(Nonce(7)).moved(Phase::Idle, Nonce(7));
        assert_ne!(gc.encode(), Gc { epoch: 0, ..back }.encode());
        let lease = Lease::first(String::new());
        assert_ne!(lease.renewed(0).encode(), lease.encode());
    }
}
