//! The eight bytes that each end sends before its first frame (SPEC "Preamble").

/// The first bytes of both ends: a byte that no text begins with, the name, and line ends that a
/// transport which rewrites text would spoil.
pub const PREAMBLE: [u8; 8] = *b"\x8aACP\r\n\x1a\n";
