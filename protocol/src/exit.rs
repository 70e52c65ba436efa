//! Exit codes of the programs at both ends. Each tells what the user can do.

use crate::frame::CloseCode;

/// Done, or nothing to do.
pub const DONE: u8 = 0;
/// No other code applies: most likely a bug.
pub const OTHER: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// The server's rules refuse some of the refs; the others are set.
pub const REFUSED_REF: u8 = 3;
/// No cache has the ref.
pub const NOT_FOUND: u8 = 4;
/// The connection was lost, or the other side gave up or was silent: try again.
pub const CONNECTION: u8 = 5;
/// The other side does not speak this protocol, or not this version of it.
pub const NOT_THE_PROTOCOL: u8 = 6;
/// The source of the push is broken: its repository is damaged, or lacks a named ref or object.
pub const SOURCE: u8 = 7;
/// The data sent is wrong or incomplete.
pub const REFUSED_OBJECT: u8 = 8;
/// The server's repository cannot be used: full, locked, damaged, missing.
pub const STORAGE: u8 = 9;
/// A check of the server has found warnings: what works, and should be mended.
pub const WARNINGS: u8 = 10;
/// A check of the server has found faults.
pub const FAULTS: u8 = 11;

/// Returns the exit code for the code that closed a session.
pub const fn of_close(code: CloseCode) -> u8 {
    match code {
        CloseCode::DONE => DONE,
        CloseCode::NOT_THE_PROTOCOL
        | CloseCode::UNSUPPORTED
        | CloseCode::BAD_FRAME
        | CloseCode::VIOLATION => NOT_THE_PROTOCOL,
        CloseCode::LIMIT | CloseCode::OBJECT_REFUSED | CloseCode::INCOMPLETE => REFUSED_OBJECT,
        CloseCode::STORAGE_FULL | CloseCode::STORAGE_FAILED | CloseCode::BUSY => STORAGE,
        CloseCode::TIMEOUT | CloseCode::INTERRUPTED => CONNECTION,
        CloseCode::SOURCE_FAILED => SOURCE,
        CloseCode::NOT_PERMITTED => REFUSED_REF,
        CloseCode(_) => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_to_close_has_the_exit_code_of_what_can_be_done_about_it() {
        let codes: Vec<_> = (0..=16).map(|code| of_close(CloseCode(code))).collect();
        // In the order of SPEC "Close"; the last code is unknown.
        assert_eq!(codes, [0, 6, 6, 6, 6, 8, 8, 8, 9, 9, 9, 5, 5, 7, 1, 3, 1]);
    }
}
