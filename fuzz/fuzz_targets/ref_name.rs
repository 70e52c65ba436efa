//! Names of refs: what is accepted is safe to use as a path.
#![no_main]

use artifact_tests::props;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| props::ref_name_is_a_safe_path(text));
