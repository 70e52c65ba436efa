//! A whole push: cut anywhere, with any fault.
#![no_main]

use artifact_models::props::push::a_push_in_any_weather_leaves_every_ref_old_or_new;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| a_push_in_any_weather_leaves_every_ref_old_or_new(input));
