//! A whole push in an old protocol, under any conditions.
#![no_main]

use artifact_models::props::push::an_old_push_in_any_weather_leaves_every_ref_old_or_new;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| an_old_push_in_any_weather_leaves_every_ref_old_or_new(input));
