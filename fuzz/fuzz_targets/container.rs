//! Stored objects: one verdict, in whatever pieces they come.
#![no_main]

use artifact_models::props::container::an_object_is_judged_alike_in_any_pieces;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| an_object_is_judged_alike_in_any_pieces(input));
