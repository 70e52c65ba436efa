//! A pull's server against any client.
#![no_main]

use artifact_models::props::pull_server::a_pull_server_withstands_any_client;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| a_pull_server_withstands_any_client(input));
