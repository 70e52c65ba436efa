//! Every size limit of the protocol, and what each one bounds.
//!
//! Code compares a size with its limit before it reserves anything. The numbers carry the `LIM-n`
//! of SPEC "Limits"; no other file repeats them.

use artifact_formats::limits::{MAX_DETACHED_LEN, MAX_REF_LEN};
use serde::{Deserialize, Serialize};

/// LIM-1: payload of a frame sent before the client has read `Welcome`, in bytes. Never changes.
pub const MAX_EARLY_FRAME_LEN: u32 = 64 * 1024;

/// LIM-2: the smallest `frame_len_max` that a server may announce, in bytes: a `Detached` fits.
pub const MIN_FRAME_LEN_MAX: u32 = 1024 * 1024 + 1024;

/// LIM-3: the largest `frame_len_max` that a client must accept, in bytes. It bounds the read
/// buffer at either end.
pub const MAX_FRAME_LEN_MAX: u32 = 4 * 1024 * 1024;

/// LIM-4: refs in one push or pull. Either end keeps at most this many names and checksums.
pub const MAX_REFS: usize = 10_000;

/// LIM-5: bases that a client may propose, bases that a server may suggest, and complete commits
/// that a client of a pull may say it holds.
pub const MAX_BASES: usize = 16;

/// LIM-23: commits that a server may call complete in one push, and that a client may rely on:
/// proposed bases, the server's suggestions, and current values of refs.
pub const MAX_COMPLETE: usize = 4 * MAX_BASES;

/// LIM-6: ids in one `Offer` frame; its payload stays below 64 KiB.
pub const MAX_OFFER_IDS: usize = 1_024;

/// LIM-7: ids offered and not yet settled, that is, neither answered *have* nor received. It bounds
/// what a server remembers of a client's offers (33 bytes an id).
pub const MAX_UNSETTLED_IDS: usize = 65_536;

/// LIM-8: object streams open at once in one session; each holds an inflater and its buffers.
pub const MAX_OPEN_STREAMS: usize = 4;

/// LIM-17: text for people, in bytes: agents, identities, reasons.
pub const MAX_TEXT_LEN: usize = 1_024;

/// LIM-18: the extension list of a `Hello`, `Welcome` or `Announce`, in bytes: all values together,
/// and 10 for each.
pub const MAX_EXTENSIONS_LEN: usize = 8 * 1024;

/// LIM-19: how often a server may answer `Finalize` with `Missing`.
pub const MAX_FINALIZE_ROUNDS: u32 = 3;

/// LIM-20: ids in one `Missing` frame.
pub const MAX_MISSING_IDS: usize = 16_384;

/// LIM-26: patterns in one request. A server tries each of its refs against all of them.
pub const MAX_PATTERNS: usize = 64;

/// LIM-27: objects that a client says it holds, in all `Held` frames of a pull. A server remembers
/// eight bytes of each.
pub const MAX_HELD: usize = 1_048_576;
/// Seconds from one renewal of a push's lease in object storage to the next (LIM-28). It bounds how
/// long others wait for a push that has died.
pub const MAX_LEASE_SECS: u64 = 30 * 60;
/// Seconds that a push into object storage lasts (LIM-29). It bounds how old the objects are on
/// which a push relies, so that collection need not keep what nothing reaches for longer.
pub const MAX_BUCKET_PUSH_SECS: u64 = 12 * 60 * 60;
/// Bytes of the commits and detached metadata of a push into object storage, all of which wait in
/// memory until they are published (LIM-30).
pub const MAX_HELD_BACK_LEN: usize = 16 * 1024 * 1024;
/// Length of a ref name in object storage, in bytes (LIM-31): keys have 1,024 bytes.
pub const MAX_BUCKET_REF_LEN: usize = 867;

/// Arguments of one message of the old protocols, in bytes: the largest 16-bit length
/// (DIALECTS.md).
pub const MAX_MESSAGE_LEN: usize = u16::MAX as usize;

/// An extended header, or a long name, in a tar stream of version 1, in bytes.
pub const MAX_TAR_HEADER_LEN: usize = 16 * 1024;

/// Headers for all files in a tar stream of version 1. None is useful, but some writers begin with
/// one.
pub const MAX_TAR_GLOBAL_HEADERS: u32 = 16;

/// Ids that a client offers along with its announcement. Not a rule of the wire: with this many,
/// the announcement still fits into what TCP sends before it hears from the other end.
pub const MAX_EARLY_IDS: usize = 256;

/// Stored bytes that a source may return at once, as a whole object or as a piece. Not a rule of
/// the wire: any frame made of them fits the smallest [`frame_len_max`](MIN_FRAME_LEN_MAX).
pub const MAX_PIECE_LEN: usize = 512 * 1024;

/// States or outcomes of refs in one frame; each takes less than 1.1 KiB.
pub(crate) const REFS_PER_FRAME: usize = 512;

/// Answers about refs in one frame; each takes less than 2.2 KiB.
pub(crate) const ANSWERS_PER_FRAME: usize = 256;

/// Held objects in one frame.
pub(crate) const HELD_PER_FRAME: usize = 8_000;

/// Stored bytes at which a `Pack` is worth sending.
pub(crate) const PACK_LEN: usize = 128 * 1024;

/// The limits that a server enforces in this session; `Welcome` announces them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Payload of one frame, in bytes, either way.
    pub frame_len_max: u32,
    /// One object, in bytes: both as stored and as unpacked.
    pub object_len_max: u64,
    /// Objects received in one push.
    pub push_objects_max: u64,
    /// Bytes of stored objects, and of detached metadata, received in one push.
    pub push_len_max: u64,
}

impl Limits {
    /// Returns whether a client can work with these limits.
    pub const fn is_acceptable(&self) -> bool {
        self.frame_len_max >= MIN_FRAME_LEN_MAX && self.frame_len_max <= MAX_FRAME_LEN_MAX
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_len_max: 2 * 1024 * 1024,
            object_len_max: 64 * 1024 * 1024 * 1024,
            push_objects_max: 10_000_000,
            push_len_max: 1024 * 1024 * 1024 * 1024,
        }
    }
}

const _: () = {
    assert!(MIN_FRAME_LEN_MAX as usize >= MAX_DETACHED_LEN + 32);
    assert!(MIN_FRAME_LEN_MAX as usize >= MAX_MISSING_IDS * 33 + 64);
    assert!(MIN_FRAME_LEN_MAX as usize >= PACK_LEN + MAX_PIECE_LEN + 64);
    assert!(
        MIN_FRAME_LEN_MAX as usize >= REFS_PER_FRAME * (MAX_TEXT_LEN + 64) + MAX_COMPLETE * 32 + 64
    );
    assert!(
        MIN_FRAME_LEN_MAX as usize
            >= ANSWERS_PER_FRAME * (MAX_REF_LEN + MAX_TEXT_LEN + 64) + MAX_BASES * 32 + 64
    );
    assert!(HELD_PER_FRAME * 8 < MAX_EARLY_FRAME_LEN as usize);
    assert!(MAX_OFFER_IDS * 33 + 64 <= MAX_EARLY_FRAME_LEN as usize);
    assert!(MAX_OFFER_IDS <= MAX_UNSETTLED_IDS);
    assert!(MAX_EARLY_IDS <= MAX_OFFER_IDS);
    assert!(MAX_REF_LEN + 1_024 <= MAX_EARLY_FRAME_LEN as usize);
    assert!(MAX_EXTENSIONS_LEN + 2 * MAX_TEXT_LEN + 1_024 <= MAX_EARLY_FRAME_LEN as usize);
};
