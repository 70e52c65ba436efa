//! Frames: one spelling each, wherever the bytes are cut.
#![no_main]

use artifact_tests::props;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| props::a_frame_has_one_spelling(input));
