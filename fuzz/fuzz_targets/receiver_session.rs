//! A receiver session, against any client.
#![no_main]

use artifact_protocol::frame::PREAMBLE;
use artifact_tests::props;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    props::a_receiver_session_withstands(&[&PREAMBLE, input].concat());
});
