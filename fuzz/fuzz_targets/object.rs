//! Objects: serializing what was accepted gives the same bytes.
#![no_main]

use artifact_models::props::objects::an_object_has_one_spelling;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| an_object_has_one_spelling(input));
