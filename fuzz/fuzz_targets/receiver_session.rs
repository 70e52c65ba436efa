//! A receiver session, against any client and a store that may fail.
#![no_main]

use artifact_models::props::receiver::a_receiver_session_withstands_any_client;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| a_receiver_session_withstands_any_client(input));
