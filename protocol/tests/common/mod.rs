//! What the tests of sessions share: frames by name, and which of them a state takes.

use artifact_protocol::Text;
use artifact_protocol::frame::{Close, CloseCode, Frame, PREAMBLE};
use artifact_protocol::limits::MAX_FRAME_LEN_MAX;
use artifact_protocol::session::Error;
use bytes::BytesMut;

pub(crate) fn close(code: CloseCode) -> Frame {
    let text = Text::default();
    Frame::Close(Close { code, text })
}

pub(crate) fn name(frame: &Frame) -> String {
    let text = format!("{frame:?}");
    text.split('(').next().unwrap().to_owned()
}

/// Tells, for every frame, whether a session accepts it, ends as told, or refuses it.
pub(crate) fn table<S>(
    every_frame: Vec<Frame>,
    make: impl Fn() -> S,
    handle: impl Fn(&mut S, Frame) -> Result<(), Error>,
) -> String {
    let (mut taken, mut ends) = (Vec::new(), Vec::new());
    for frame in every_frame {
        let name = name(&frame);
        match handle(&mut make(), frame) {
            Ok(()) => taken.push(name),
            Err(Error::PeerClosed(_)) => ends.push(name),
            Err(Error::Violation(_)) => {}
            Err(error) => unreachable!("{name}: {error:?}"),
        }
    }
    format!("{} / {}", taken.join(" "), ends.join(" "))
}

pub(crate) fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut input = BytesMut::from(bytes.strip_prefix(&PREAMBLE).unwrap_or(bytes));
    std::iter::from_fn(|| Frame::decode(&mut input, MAX_FRAME_LEN_MAX).unwrap()).collect()
}
