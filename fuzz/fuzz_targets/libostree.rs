//! Our parsers against libostree's own.
#![no_main]

use artifact_tests::libostree::libostree_takes_what_we_take;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| libostree_takes_what_we_take(input));
