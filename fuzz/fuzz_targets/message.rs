//! Messages: encoding what was decoded gives the same payload.
#![no_main]

use artifact_models::props::frames::a_message_has_one_spelling;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| a_message_has_one_spelling(input));
