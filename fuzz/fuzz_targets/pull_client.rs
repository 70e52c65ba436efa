//! A pull's client against any server.
#![no_main]

use artifact_models::props::pull_client::a_pull_client_withstands_any_server;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| a_pull_client_withstands_any_server(input));
