//! Frames: one spelling each, wherever the bytes are cut.
#![no_main]

use artifact_models::props::frames::a_frame_has_one_spelling;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| a_frame_has_one_spelling(input));
