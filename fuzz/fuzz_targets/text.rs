//! Names and other text of strangers: safe to use as a path, safe to print.
#![no_main]

use artifact_models::props::text::text_of_a_stranger_is_harmless;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| text_of_a_stranger_is_harmless(input));
