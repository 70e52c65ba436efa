//! A sender session, against any server and a source that may fail.
#![no_main]

use artifact_models::props::sender::a_sender_session_withstands_any_server;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| a_sender_session_withstands_any_server(input));
