//! Pulls by hand: the bytes of a request, and what an answer contains.

use std::collections::{BTreeMap, BTreeSet};

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::frame::{
    CloseCode, Frame, Held, PREAMBLE, Prefix, PullOptions, PullState, RefAnswer, RefRequest,
    Request, Sent,
};
use artifact_protocol::limits::MAX_FRAME_LEN_MAX;
use artifact_protocol::{Features, Version};
use bytes::{Bytes, BytesMut};

use crate::exec::Failure;
use crate::hand;

/// What a client gets.
#[derive(Debug, Default)]
pub struct Pulled {
    /// What becomes of each ref.
    pub refs: Vec<RefAnswer>,
    /// The commits that the objects are a difference to.
    pub basis: Vec<Checksum>,
    /// The objects, in order.
    pub objects: Vec<(ObjectId, Bytes)>,
    /// The end, if it came.
    pub sent: Option<Sent>,
    /// Why the server gave up.
    pub close: Option<(CloseCode, String)>,
}

/// Returns a request for refs by a client that holds commits.
pub fn request(refs: &[&str], held: &[Checksum]) -> Request {
    let wanted = refs.iter().filter_map(|name| {
        Some(RefRequest {
            name: name.parse().ok()?,
            current: None,
            detached: None,
        })
    });
    Request {
        options: PullOptions::default(),
        history: 0,
        refs: wanted.collect(),
        patterns: Vec::new(),
        held: held.to_vec(),
        more: false,
        extensions: Default::default(),
    }
}

/// Returns everything that a client says to pull.
pub fn said(mut request: Request, held: &[Prefix]) -> Vec<u8> {
    request.more = !held.is_empty();
    let mut said = PREAMBLE.to_vec();
    said.extend(hello().encode());
    said.extend(Frame::Request(request).encode());
    let mut chunks = held.chunks(1000).peekable();
    while let Some(objects) = chunks.next() {
        let (objects, more) = (objects.to_vec(), chunks.peek().is_some());
        said.extend(Frame::Held(Held { more, objects }).encode());
    }
    said
}

/// The greeting of a client that may pull.
pub fn hello() -> Frame {
    match hand::hello(Version::OLDEST, Version::NEWEST) {
        Frame::Hello(mut hello) => {
            hello.features = Features::SUPPORTED;
            Frame::Hello(hello)
        }
        other => other,
    }
}

/// Takes apart what a server has said, with its preamble.
pub fn heard(bytes: &[u8]) -> Result<Pulled, Failure> {
    let mut bytes = BytesMut::from(bytes);
    if !bytes.starts_with(&PREAMBLE) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        return Err(Failure::new(format!("no answer in frames: {text:.200}")));
    }
    let _ = bytes.split_to(PREAMBLE.len());
    let mut frames = Vec::new();
    loop {
        let frame = Frame::decode(&mut bytes, MAX_FRAME_LEN_MAX);
        match frame.map_err(|error| Failure::new(format!("bad: {error:?}")))? {
            Some(frame) => frames.push(frame),
            None => return Pulled::of(frames),
        }
    }
}

impl Pulled {
    /// Takes an answer apart.
    pub fn of(frames: Vec<Frame>) -> Result<Self, Failure> {
        let mut pulled = Self::default();
        let mut streams: BTreeMap<u8, (ObjectId, Vec<u8>)> = BTreeMap::new();
        for frame in frames {
            match frame {
                Frame::Answer(answer) => {
                    pulled.refs.extend(answer.refs);
                    pulled.basis.extend(answer.basis);
                }
                Frame::Pack(pack) => pulled.objects.extend(pack.objects),
                Frame::ObjectBegin(begin) => {
                    streams.insert(begin.stream, (begin.id, Vec::new()));
                }
                Frame::ObjectChunk(chunk) => {
                    let open = streams.get_mut(&chunk.stream);
                    let (_, stored) = open.ok_or_else(|| Failure::new("no such stream"))?;
                    stored.extend_from_slice(&chunk.bytes);
                }
                Frame::ObjectEnd(end) => {
                    let open = streams.remove(&end.stream);
                    let (id, stored) = open.ok_or_else(|| Failure::new("no such stream"))?;
                    pulled.objects.push((id, stored.into()));
                }
                Frame::Sent(sent) => pulled.sent = Some(sent),
                Frame::Close(close) => {
                    pulled.close = Some((close.code, close.text.as_raw().to_owned()));
                }
                Frame::Welcome(_) | Frame::Ping(_) | Frame::Extent(_) | Frame::Detached(_) => {}
                other => return Err(Failure::new(format!("out of place: {other:?}"))),
            }
        }
        Ok(pulled)
    }

    /// Returns the objects, each of which came once.
    pub fn ids(&self) -> Result<BTreeSet<ObjectId>, Failure> {
        let ids: BTreeSet<_> = self.objects.iter().map(|(id, _)| *id).collect();
        match (ids.len() == self.objects.len(), self.sent) {
            (true, Some(sent)) if sent.objects == ids.len() as u64 => Ok(ids),
            _ => Err(Failure::new(format!(
                "{} of {} objects, {:?}, {:?}",
                ids.len(),
                self.objects.len(),
                self.sent,
                self.close
            ))),
        }
    }

    /// Returns the names of the promised refs.
    pub fn promised(&self) -> Vec<&str> {
        let promised = |answer: &&RefAnswer| matches!(answer.state, PullState::Promised { .. });
        let promised = self.refs.iter().filter(promised);
        promised.map(|answer| answer.name.as_str()).collect()
    }
}
