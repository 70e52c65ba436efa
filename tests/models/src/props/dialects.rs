//! The two old protocols: their messages, and a receiving session.

use artifact_protocol::dialect::{AnyReceiver, ByteOrder, Dialect, Message, Openness};
use artifact_protocol::session::{Error, ReceiverConfig, ReceiverOutput, StoreOp};
use bytes::BytesMut;

use crate::model::{Repository, Store};

/// The claim: a decoded message means the same after it is encoded again, in either byte order.
pub fn an_old_message_is_read_alike_in_either_order(input: &[u8]) {
    for dialect in [Dialect::V0, Dialect::V1] {
        let mut rest = BytesMut::from(input);
        while let Ok(Some(message)) = Message::decode(dialect, &mut rest) {
            for order in [ByteOrder::Little, ByteOrder::Big] {
                let written = message.encode_in(dialect, order);
                let mut written = BytesMut::from(&*written.expect("it was as long before"));
                let read = Message::decode(dialect, &mut written);
                assert_eq!(read, Ok(Some(message.clone())));
                assert!(written.is_empty());
            }
        }
    }
}

/// The claim about any bytes of an old client, after two bytes that choose its version and how many
/// bytes come at once: the session publishes only complete commits that were asked for, publishes
/// once, and does nothing after an error. Cutting the bytes elsewhere changes nothing.
pub fn an_old_receiver_session_withstands_any_bytes(input: &[u8]) {
    let [which, step, bytes @ ..] = input else {
        return;
    };
    let dialect = [Dialect::V0, Dialect::V1][usize::from(*which) % 2];
    let whole = converse(dialect, bytes, usize::MAX);
    let pieces = converse(dialect, bytes, usize::from(*step).max(1));
    // If the bytes are not an old client's, the server quotes as many of them as have come.
    let quotes = |said: &[u8]| said.windows(10).any(|part| part == b"began with");
    if !(quotes(&whole.0) && quotes(&pieces.0)) {
        assert_eq!(
            whole.0, pieces.0,
            "what is said depends on where bytes are cut"
        );
    }
    assert_eq!(
        whole.1, pieces.1,
        "what is done depends on where bytes are cut"
    );
}

/// Returns everything that a server says, and its repository afterwards.
fn converse(dialect: Dialect, bytes: &[u8], step: usize) -> (Vec<u8>, Repository) {
    let openness = Openness {
        server_first: dialect == Dialect::V0,
        ..Openness::default()
    };
    let mut session = AnyReceiver::new(ReceiverConfig::default(), openness);
    let mut store = Store::new(Repository::default());
    let (mut said, mut input, mut failed) = (Vec::new(), BytesMut::new(), false);
    let mut published = false;
    let mut drain = |session: &mut AnyReceiver, failed: &mut bool| {
        while let Some(output) = session.poll_output() {
            match output {
                ReceiverOutput::Transmit(bytes) => said.extend_from_slice(&bytes),
                ReceiverOutput::Event(_) => {}
                ReceiverOutput::Store(request) => {
                    assert!(!*failed, "something is asked for after an error");
                    if matches!(request.op(), StoreOp::Publish) {
                        assert!(!std::mem::replace(&mut published, true), "published twice");
                    }
                    let outcome = store.act(request.op());
                    *failed |= session.handle_stored(request.complete(outcome)).is_err();
                }
            }
        }
    };
    drain(&mut session, &mut failed);
    for piece in bytes.chunks(step.min(bytes.len().max(1))) {
        input.extend_from_slice(piece);
        // A completion may let the session take bytes that it left.
        loop {
            let before = input.len();
            if failed || session.is_finished() || !session.wants_input() {
                break;
            }
            failed |= session.handle_bytes(&mut input).is_err();
            drain(&mut session, &mut failed);
            if input.len() == before {
                break;
            }
        }
    }
    if !failed && !session.is_finished() {
        failed |= session.handle_eof().is_err();
        drain(&mut session, &mut failed);
    }
    if failed {
        let again = session.handle_bytes(&mut BytesMut::from(&b"l\x01\x04\0\0"[..]));
        assert!(matches!(again, Err(Error::Misuse(_))), "{again:?}");
    }
    assert!(store.repository.is_whole());
    assert!(published || store.repository.refs.is_empty());
    (said, store.repository)
}
