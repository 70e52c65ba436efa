//! Text of strangers: ref names are safe to use as a path, the rest is safe to print.
#![no_main]

use artifact_tests::props;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    props::ref_name_is_a_safe_path(text);
    props::escaped_text_is_harmless(text);
});
