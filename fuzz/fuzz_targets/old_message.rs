//! Messages of the old protocols.
#![no_main]

use artifact_models::props::dialects::an_old_message_is_read_alike_in_either_order;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| an_old_message_is_read_alike_in_either_order(input));
