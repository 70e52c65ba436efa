//! Summaries and configs: parsed or refused.
#![no_main]

use artifact_models::props::objects::a_repositorys_files_are_read_or_refused;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| a_repositorys_files_are_read_or_refused(input));
