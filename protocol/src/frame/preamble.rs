//! The eight bytes either end sends before its first frame (SPEC "Preamble").

/// What both ends send first: a byte no text begins with, the name, and line ends that a transport
/// which rewrites text would spoil.
pub const PREAMBLE: [u8; 8] = *b"\x8aACP\r\n\x1a\n";
