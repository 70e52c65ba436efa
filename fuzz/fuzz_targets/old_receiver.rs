//! A receiving session of an old protocol, fed with any bytes.
#![no_main]

use artifact_models::props::dialects::an_old_receiver_session_withstands_any_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| an_old_receiver_session_withstands_any_bytes(input));
