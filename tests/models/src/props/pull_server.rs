//! A pull's server against whatever a client does.

use std::collections::BTreeSet;

use artifact_formats::ObjectId;
use artifact_protocol::frame::{
    Close, CloseCode, Extensions, Frame, Held, Hello, PREAMBLE, Ping, Prefix, PullOptions,
    RefRequest, Request, Sent,
};
use artifact_protocol::limits::MAX_FRAME_LEN_MAX;
use artifact_protocol::session::pull::{AnswerOp, AnswerRequest, PullServer, PullServerOutput};
use artifact_protocol::session::{Error, ReceiverConfig};
use artifact_protocol::{Features, Text, Version};
use bytes::{Bytes, BytesMut};

use crate::props::draw::Draw;
use crate::pull::{Cache, Server};

/// The claim: whatever a client sends, and in whatever order reads complete, the server answers at
/// most once; it sends each object of the list once, in its order if it has children, and nothing
/// else; it counts what it sent; and it says nothing after `Sent` or `Close`.
pub fn a_pull_server_withstands_any_client(input: &[u8]) {
    drive(input);
}

/// Returns whether the answer came to its end.
fn drive(input: &[u8]) -> bool {
    let mut draw = Draw::new(input);
    let mut cache = Cache::draw(&mut draw);
    let values: Vec<_> = cache.refs.values().copied().collect();
    cache
        .refs
        .insert("forbidden/x".parse().expect("a name"), values[0]);
    let source = Server::new(cache, *draw.pick(&[256, 20, 1_000]));
    let mut rig = Rig::new(source);
    let mut flying = BytesMut::from(&PREAMBLE[..]);
    let mut frames = right_request(&mut draw, &rig.source.cache);
    for _ in 0..draw.below(3) {
        let at = draw.below(frames.len());
        match draw.below(4) {
            0 if frames.len() > 1 => drop(frames.remove(at)),
            1 => frames.insert(at, frames[at].clone()),
            2 => frames.push(draw_frame(&mut draw)),
            _ => frames.insert(at, draw_frame(&mut draw)),
        }
    }
    for frame in &frames {
        flying.extend_from_slice(&frame.encode());
    }
    rig.run(flying, &mut draw);
    rig.sent.is_some()
}

/// Draws what an honest client says.
fn right_request(draw: &mut Draw<'_>, cache: &Cache) -> Vec<Frame> {
    let hello = Frame::Hello(Hello {
        version_min: Version::OLDEST,
        version_max: Version::NEWEST,
        features: Features::PULL,
        agent: Text::new("a client"),
        extensions: Extensions::default(),
    });
    let mut refs = Vec::new();
    for (name, commit) in &cache.refs {
        if draw.once_in(3) {
            continue;
        }
        refs.push(RefRequest {
            name: name.clone(),
            current: draw.once_in(4).then_some(*commit),
            detached: None,
        });
    }
    let values: Vec<_> = cache.refs.values().copied().collect();
    let holds = draw.once_in(3);
    let request = Frame::Request(Request {
        options: PullOptions(u32::from(draw.once_in(6))),
        history: *draw.pick(&[0, 1, u32::MAX]),
        refs,
        patterns: match draw.once_in(3) {
            true => vec!["**".parse().expect("a pattern")],
            false => Vec::new(),
        },
        held: draw
            .once_in(3)
            .then(|| *draw.pick(&values))
            .into_iter()
            .collect(),
        more: holds,
        extensions: Extensions::default(),
    });
    let mut frames = vec![hello, request];
    if holds {
        let held = cache.objects.keys().filter(|_| draw.once_in(4));
        let mut objects: Vec<_> = held.map(|id| Prefix::of(&id.checksum)).collect();
        objects.push(Prefix::new([0; 8]));
        let more = false;
        frames.push(Frame::Held(Held { more, objects }));
    }
    frames
}

fn draw_frame(draw: &mut Draw<'_>) -> Frame {
    match draw.below(4) {
        0 | 1 => Frame::Ping(Ping {}),
        2 => Frame::Close(Close {
            code: *draw.pick(&[CloseCode::DONE, CloseCode::TIMEOUT]),
            text: Text::default(),
        }),
        _ => Frame::Sent(Sent::default()),
    }
}

struct Rig {
    session: PullServer,
    source: Server,
    requests: Vec<AnswerRequest>,
    error: Option<Error>,
    heard: BytesMut,
    is_greeted: bool,
    is_judged: bool,
    is_closed: bool,
    came: Vec<ObjectId>,
    bytes: u64,
    streams: [Option<ObjectId>; 4],
    sent: Option<Sent>,
}

impl Rig {
    fn new(source: Server) -> Self {
        Self {
            session: PullServer::new(ReceiverConfig::default()),
            source,
            requests: Vec::new(),
            error: None,
            heard: BytesMut::new(),
            is_greeted: false,
            is_judged: false,
            is_closed: false,
            came: Vec::new(),
            bytes: 0,
            streams: [None; 4],
            sent: None,
        }
    }

    fn run(&mut self, mut flying: BytesMut, draw: &mut Draw<'_>) {
        let split = *draw.pick(&[100_000, 3, 70]);
        let mut arrived = BytesMut::new();
        let mut told_end = false;
        while !self.session.is_finished() {
            self.drain();
            if !told_end && (self.requests.is_empty() || draw.once_in(2)) {
                let count = flying.len().min(1 + draw.below(split));
                arrived.extend_from_slice(&flying.split_to(count));
                let mut result = self.session.handle_bytes(&mut arrived);
                if result.is_ok() && flying.is_empty() && !self.session.is_finished() {
                    told_end = true;
                    result = self.session.handle_eof();
                }
                self.settle(result);
            } else {
                assert!(!self.requests.is_empty(), "nothing can happen");
                let request = self.requests.swap_remove(draw.below(self.requests.len()));
                self.is_judged |= matches!(request.op(), AnswerOp::Judge(_));
                let outcome = self.source.act(request.op());
                let result = self.session.handle_answer(request.complete(outcome));
                self.settle(result);
            }
        }
        self.drain();
        // Whatever is still being read is nobody's affair.
        for request in std::mem::take(&mut self.requests) {
            let outcome = self.source.act(request.op());
            let result = self.session.handle_answer(request.complete(outcome));
            assert_eq!(result.is_ok(), self.error.is_none());
        }
        self.drain();
    }

    fn settle(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            assert!(!matches!(error, Error::Misuse(_)), "{error:?}");
            assert!(self.session.is_finished());
            self.requests.clear();
            self.error = Some(error);
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                PullServerOutput::Transmit(bytes) => self.hear(&bytes),
                PullServerOutput::Answer(request) => self.requests.push(request),
                PullServerOutput::Event(_) => {}
            }
        }
    }

    fn hear(&mut self, bytes: &Bytes) {
        self.heard.extend_from_slice(bytes);
        if !self.is_greeted {
            assert_eq!(&self.heard.split_to(PREAMBLE.len())[..], PREAMBLE);
            self.is_greeted = true;
        }
        while let Some(frame) = Frame::decode(&mut self.heard, MAX_FRAME_LEN_MAX).expect("a frame")
        {
            assert!(
                self.sent.is_none() && !self.is_closed,
                "{frame:?} comes too late"
            );
            let is_greeting = matches!(frame, Frame::Welcome(_) | Frame::Close(_));
            assert!(self.is_judged || is_greeting, "{frame:?} comes too soon");
            self.read(frame);
        }
    }

    fn read(&mut self, frame: Frame) {
        match frame {
            Frame::Welcome(_) | Frame::Answer(_) | Frame::Extent(_) | Frame::Detached(_) => {}
            Frame::Pack(pack) => {
                for (id, stored) in pack.objects {
                    self.bytes += stored.len() as u64;
                    self.count(id);
                }
            }
            Frame::ObjectBegin(begin) => {
                let slot = &mut self.streams[usize::from(begin.stream)];
                assert!(slot.replace(begin.id).is_none(), "a stream is begun twice");
            }
            Frame::ObjectChunk(chunk) => {
                assert!(self.streams[usize::from(chunk.stream)].is_some());
                self.bytes += chunk.bytes.len() as u64;
            }
            Frame::ObjectEnd(end) => {
                let id = self.streams[usize::from(end.stream)].take();
                self.count(id.expect("an open stream"));
            }
            Frame::Sent(sent) => {
                let objects = self.came.len() as u64;
                let empty = sent == Sent::default() && self.came.is_empty();
                let bytes = self.bytes;
                assert!(empty || sent == Sent { objects, bytes }, "{sent:?}");
                let came: BTreeSet<_> = self.came.iter().collect();
                assert_eq!(came.len(), self.came.len(), "an object comes twice");
                let listed: BTreeSet<_> = self.source.listed.iter().collect();
                assert_eq!(came, listed);
                self.sent = Some(sent);
            }
            Frame::Close(_) => self.is_closed = true,
            _ => unreachable!("a server of pulls does not say {frame:?}"),
        }
    }

    /// Counts an object: those that have children keep the order of the list.
    fn count(&mut self, id: ObjectId) {
        if id.kind.has_children() {
            let names = |ids: &[ObjectId]| -> Vec<ObjectId> {
                let ids = ids.iter().copied();
                ids.filter(|id| id.kind.has_children()).collect()
            };
            let before = names(&self.came);
            assert_eq!(names(&self.source.listed)[before.len()], id);
        }
        self.came.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::props::noise;

    #[test]
    fn drawn_clients_often_get_an_answer_and_often_none() {
        let done = noise().take(200).filter(|input| drive(input)).count();
        assert!((40..190).contains(&done), "{done}");
    }
}
