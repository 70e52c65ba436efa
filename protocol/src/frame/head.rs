//! The fixed eight bytes before every payload (SPEC "Frames").

use std::fmt;

/// The kind of a frame. Unknown kinds are kept, so that an error can name them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameKind(pub u16);

impl FrameKind {
    /// Client to server: versions and features.
    pub const HELLO: Self = Self(0x0001);
    /// Server to client: version, features, limits.
    pub const WELCOME: Self = Self(0x0002);
    /// Client to server: refs to set.
    pub const ANNOUNCE: Self = Self(0x0003);
    /// Server to client: its answer to them.
    pub const REF_STATUS: Self = Self(0x0004);
    /// Client to server: commits that the offers are a difference to.
    pub const BASIS: Self = Self(0x0010);
    /// Client to server: object ids.
    pub const OFFER: Self = Self(0x0011);
    /// Server to client: which of them to send.
    pub const WANT: Self = Self(0x0012);
    /// Client to server: detached metadata.
    pub const DETACHED: Self = Self(0x0013);
    /// Client to server: whole objects.
    pub const PACK: Self = Self(0x0020);
    /// Client to server: start of a stream.
    pub const OBJECT_BEGIN: Self = Self(0x0021);
    /// Client to server: piece of a stream.
    pub const OBJECT_CHUNK: Self = Self(0x0022);
    /// Client to server: end of a stream.
    pub const OBJECT_END: Self = Self(0x0023);
    /// Server to client: progress.
    pub const STAGED: Self = Self(0x0024);
    /// Client to server: publish.
    pub const FINALIZE: Self = Self(0x0030);
    /// Server to client: not yet, these are missing.
    pub const MISSING: Self = Self(0x0031);
    /// Server to client: outcomes.
    pub const FINALIZED: Self = Self(0x0032);
    /// Server to client: state of the summary.
    pub const SUMMARY_DONE: Self = Self(0x0033);
    /// Either way: sign of life.
    pub const PING: Self = Self(0x0040);
    /// Either way: the end.
    pub const CLOSE: Self = Self(0x0041);
    /// Client to server: refs to pull.
    pub const REQUEST: Self = Self(0x0050);
    /// Client to server: objects that need not be sent.
    pub const HELD: Self = Self(0x0051);
    /// Server to client: what becomes of each ref.
    pub const ANSWER: Self = Self(0x0052);
    /// Server to client: how much the answer contains.
    pub const EXTENT: Self = Self(0x0053);
    /// Server to client: the end of the answer.
    pub const SENT: Self = Self(0x0054);
}

impl fmt::Display for FrameKind {
    /// Writes the message's name in SPEC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::HELLO => "Hello",
            Self::WELCOME => "Welcome",
            Self::ANNOUNCE => "Announce",
            Self::REF_STATUS => "RefStatus",
            Self::BASIS => "Basis",
            Self::OFFER => "Offer",
            Self::WANT => "Want",
            Self::DETACHED => "Detached",
            Self::PACK => "Pack",
            Self::OBJECT_BEGIN => "ObjectBegin",
            Self::OBJECT_CHUNK => "ObjectChunk",
            Self::OBJECT_END => "ObjectEnd",
            Self::STAGED => "Staged",
            Self::FINALIZE => "Finalize",
            Self::MISSING => "Missing",
            Self::FINALIZED => "Finalized",
            Self::SUMMARY_DONE => "SummaryDone",
            Self::PING => "Ping",
            Self::CLOSE => "Close",
            Self::REQUEST => "Request",
            Self::HELD => "Held",
            Self::ANSWER => "Answer",
            Self::EXTENT => "Extent",
            Self::SENT => "Sent",
            Self(kind) => return write!(f, "a frame of unknown kind {kind:#06x}"),
        })
    }
}

impl fmt::Debug for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameKind({self})")
    }
}

/// The fixed head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: FrameKind,
    pub(crate) flags: u16,
    /// Payload length in bytes.
    pub(crate) len: u32,
}

impl Head {
    /// Length in bytes.
    pub(crate) const LEN: usize = 8;
    /// Flag: an end that does not know the kind skips the frame.
    pub(crate) const IGNORABLE: u16 = 1;

    pub(crate) fn to_wire(self) -> [u8; Self::LEN] {
        let [k0, k1] = self.kind.0.to_le_bytes();
        let [f0, f1] = self.flags.to_le_bytes();
        let [l0, l1, l2, l3] = self.len.to_le_bytes();
        [k0, k1, f0, f1, l0, l1, l2, l3]
    }

    pub(crate) fn from_wire(wire: [u8; Self::LEN]) -> Self {
        let [k0, k1, f0, f1, l0, l1, l2, l3] = wire;
        Self {
            kind: FrameKind(u16::from_le_bytes([k0, k1])),
            flags: u16::from_le_bytes([f0, f1]),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
        }
    }
}
