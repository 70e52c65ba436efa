//! The settings of a store.

use artifact_formats::Share;
use artifact_protocol::limits::Limits;

use crate::policy::Policy;
use crate::summary::config::SummaryConfig;

/// The identity for which a store is opened, and its limits.
#[derive(Clone, Debug, Default)]
pub struct StoreConfig {
    /// The pushing identity, as the server knows it.
    pub identity: String,
    /// The identity's rights.
    pub policy: Policy,
    /// The limits of the session (LIM-1 to LIM-8).
    pub limits: Limits,
    /// How the summary is written.
    pub summary: SummaryConfig,
    /// The free space that a push needs to be accepted.
    pub head_room: HeadRoom,
    /// The limits on concurrent sessions with accepted updates.
    pub places: Places,
    /// The quotas of the identity.
    pub allowance: Allowance,
    /// Bytes of existing objects, below no commit that the client relies on, that a push may have
    /// verified again, in addition to the bytes it sends; 1 GiB by default.
    pub reread_max: Option<u64>,
    /// Threads that publish many objects; 0 means one.
    pub threads: usize,
}

/// The space that must be free for a push to be accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadRoom {
    /// Bytes.
    pub space: Option<Share>,
    /// Inodes, that is, files of any length.
    pub inodes: Option<u64>,
}

/// The limits on concurrent sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Shared by all identities, beyond the first session of each; unlimited by default.
    pub of_all: Option<u32>,
    /// For each identity; by default half of `of_all`, or 64 without it.
    pub of_each: Option<u32>,
}

impl Places {
    /// Returns the number of sessions an identity may have.
    pub(crate) fn of_one(self) -> u32 {
        let share = self.of_all.map_or(OF_EACH, |all| all.div_ceil(2));
        self.of_each.unwrap_or(share)
    }
}

/// The quotas of one identity; `None` means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// The weight of its refs. A ref weighs 1, plus 1 for each 128 bytes of its name, plus 4 for
    /// each directory that no other ref of the identity needs.
    pub refs_max: Option<u64>,
    /// The objects that its pushes have brought and its refs hold.
    pub objects_max: Option<u64>,
    /// The stored bytes of these objects; a percentage is a share of the whole disk.
    pub bytes_max: Option<Share>,
}

/// The default number of sessions of one identity: enough for builds side by side on many machines,
/// and still bounded.
const OF_EACH: u32 = 64;
