//! A whole pull: cut anywhere, with any fault.
#![no_main]

use artifact_models::props::pull::a_pull_in_any_weather_leaves_every_ref_old_or_the_servers;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| a_pull_in_any_weather_leaves_every_ref_old_or_the_servers(input));
