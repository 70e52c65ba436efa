//! A pull's client against whatever a server does.

use std::collections::BTreeSet;

use artifact_formats::{Checksum, Commit, ObjectId, ObjectKind};
use artifact_protocol::frame::{
    Close, CloseCode, Extent, Frame, Pack, Ping, Prefix, PullState, Sent,
};
use artifact_protocol::session::pull::{
    PullClient, PullClientConfig, PullClientOutput, ReadRequest,
};
use artifact_protocol::session::{Error, StoreOp, StoreRequest};
use artifact_protocol::{Text, frame::PREAMBLE};
use bytes::{Bytes, BytesMut};

use crate::props::draw::Draw;
use crate::props::pull::{ask, draw_local};
use crate::pull::{Cache, Pair, Server, Store, Weather};

/// The claim: whatever a server answers, the client stages only objects that a promise or a staged
/// or held object names, each once; it publishes only after `Sent`, with all the metadata that was
/// promised; its refs are old or promised and whole; and it does nothing after an error.
pub fn a_pull_client_withstands_any_server(input: &[u8]) {
    drive(input);
}

/// How often the client published, and whether it refused something.
fn drive(input: &[u8]) -> (usize, bool) {
    let mut draw = Draw::new(input);
    let cache = Cache::draw(&mut draw);
    let mut store = Store::new(draw_local(&mut draw, &cache));
    for (id, stored) in &cache.objects {
        if !store.cache.objects.contains_key(id) && draw.once_in(6) {
            store.staged.insert(*id, stored.clone());
        }
    }
    let config = PullClientConfig {
        history: *draw.pick(&[0, 0, 1]),
        ..ask(&cache, &store)
    };
    let mut frames = right_answer(&config, &store, &cache, &mut draw);
    for _ in 0..draw.below(4) {
        distort(&mut frames, &cache, &mut draw);
    }
    let mut rig = Rig::new(config, store);
    let split = *draw.pick(&[100_000, 20, 300]);
    let mut flying = BytesMut::from(&PREAMBLE[..]);
    for frame in &frames {
        flying.extend_from_slice(&frame.encode());
    }
    let cut = match draw.once_in(4) {
        true => draw.below(flying.len() + 1),
        false => flying.len(),
    };
    flying.truncate(cut);
    rig.run(flying, split, &mut draw);
    rig.check(&frames);
    (rig.store.publications, rig.error.is_some())
}

/// Returns the frames with which an honest server answers.
fn right_answer(
    config: &PullClientConfig,
    store: &Store,
    cache: &Cache,
    draw: &mut Draw<'_>,
) -> Vec<Frame> {
    let source = Server::new(cache.clone(), *draw.pick(&[256, 20, 1_000]));
    let weather = Weather {
        seed: draw.below(1 << 8) as u64,
        split: 100_000,
        cut: None,
        one_way: true,
        takes_pushes: false,
    };
    let pair = Pair::new(config.clone(), store.clone(), source, weather);
    pair.drive().0.frames
}

/// Changes one thing about an answer.
fn distort(frames: &mut Vec<Frame>, cache: &Cache, draw: &mut Draw<'_>) {
    if frames.is_empty() {
        return;
    }
    let at = draw.below(frames.len());
    match draw.below(9) {
        0 => drop(frames.remove(at)),
        1 => frames.insert(at, frames[at].clone()),
        2 => {
            let other = draw.below(frames.len());
            frames.swap(at, other);
        }
        3 => frames.truncate(at),
        4 => frames.insert(at, draw_frame(cache, draw)),
        _ => change(&mut frames[at], cache, draw),
    }
}

fn draw_frame(cache: &Cache, draw: &mut Draw<'_>) -> Frame {
    match draw.below(5) {
        0 => Frame::Ping(Ping {}),
        1 => Frame::Sent(Sent {
            objects: draw.below(3) as u64,
            bytes: 0,
        }),
        2 => Frame::Extent(Extent::default()),
        3 => Frame::Close(Close {
            code: CloseCode::DONE,
            text: Text::default(),
        }),
        _ => {
            let objects = vec![draw_object(cache, draw)];
            Frame::Pack(Pack { objects })
        }
    }
}

fn draw_object(cache: &Cache, draw: &mut Draw<'_>) -> (ObjectId, Bytes) {
    let which = draw.below(cache.objects.len());
    let (id, stored) = cache.objects.iter().nth(which).expect("below their number");
    (*id, stored.clone())
}

/// Changes a frame into another one of its kind.
fn change(frame: &mut Frame, cache: &Cache, draw: &mut Draw<'_>) {
    match frame {
        Frame::Pack(pack) => {
            let at = draw.below(pack.objects.len());
            match draw.below(4) {
                0 if pack.objects.len() > 1 => drop(pack.objects.remove(at)),
                1 => pack.objects.push(pack.objects[at].clone()),
                2 => pack.objects[at].0.kind = *draw.pick(&ObjectKind::ALL),
                _ => pack.objects[at] = draw_object(cache, draw),
            }
        }
        Frame::Answer(answer) => match draw.below(4) {
            0 => answer.more = !answer.more,
            1 => answer.refs.truncate(1),
            2 => answer.basis.extend(cache.refs.values().next()),
            _ => {
                let values: Vec<_> = cache.refs.values().copied().collect();
                let commit = *draw.pick(&values);
                let detached = draw.once_in(2).then(|| Checksum::new([9; 32]));
                for answer in &mut answer.refs {
                    answer.state = PullState::Promised { commit, detached };
                }
            }
        },
        Frame::Sent(sent) => sent.bytes += 1,
        Frame::ObjectBegin(begin) => match draw.once_in(2) {
            true => begin.stream = u8::try_from(draw.below(9)).expect("below 9"),
            false => begin.id = draw_object(cache, draw).0,
        },
        Frame::ObjectChunk(chunk) => chunk.bytes = Bytes::from_static(b"other"),
        Frame::ObjectEnd(end) => end.stream ^= 1,
        Frame::Detached(detached) => detached.metadata = Bytes::from_static(b"other"),
        Frame::Welcome(welcome) => welcome.features.0 ^= 1,
        _ => {}
    }
}

/// A session, its store, and what a plain reading of the rules says.
struct Rig {
    session: PullClient,
    store: Store,
    before: Cache,
    history: u32,
    stores: Vec<StoreRequest>,
    reads: Vec<ReadRequest>,
    error: Option<Error>,
    /// Promised commits, once the store was asked.
    promised: BTreeSet<Checksum>,
    basis: BTreeSet<Checksum>,
    held: BTreeSet<Prefix>,
    named: BTreeSet<ObjectId>,
    staged: BTreeSet<ObjectId>,
    promised_detached: BTreeSet<Checksum>,
    /// Values that the refs may take.
    values: BTreeSet<Checksum>,
}

impl Rig {
    fn new(config: PullClientConfig, store: Store) -> Self {
        Self {
            before: store.cache.clone(),
            history: config.history,
            held: config.objects.iter().copied().collect(),
            session: PullClient::new(config),
            store,
            stores: Vec::new(),
            reads: Vec::new(),
            error: None,
            promised: BTreeSet::new(),
            basis: BTreeSet::new(),
            named: BTreeSet::new(),
            staged: BTreeSet::new(),
            promised_detached: BTreeSet::new(),
            values: BTreeSet::new(),
        }
    }

    fn run(&mut self, mut flying: BytesMut, split: usize, draw: &mut Draw<'_>) {
        let mut arrived = BytesMut::new();
        let mut told_end = false;
        while !self.session.is_finished() {
            self.drain();
            let work = self.stores.len() + self.reads.len();
            let reads = self.session.wants_input() && !told_end;
            if work > 0 && (!reads || draw.once_in(2)) {
                self.complete();
            } else if reads {
                let count = flying.len().min(1 + draw.below(split));
                arrived.extend_from_slice(&flying.split_to(count));
                let mut result = self.session.handle_bytes(&mut arrived);
                if result.is_ok() && flying.is_empty() && self.session.wants_input() {
                    told_end = true;
                    result = self.session.handle_eof();
                }
                self.settle(result);
            } else {
                unreachable!("nothing can happen");
            }
            if self.error.is_none() && self.session.wants_input() && !told_end {
                let result = self.session.handle_bytes(&mut arrived);
                self.settle(result);
            }
        }
        self.drain();
    }

    fn complete(&mut self) {
        if let Some(request) = self.reads.pop() {
            for id in request.ids() {
                let is_known = self.held.contains(&Prefix::of(&id.checksum))
                    || self.basis.contains(&id.checksum);
                assert!(is_known, "{id} is not held");
                let stored = self.store.read(id);
                stored.iter().for_each(|stored| self.name(*id, stored));
            }
            let read = request.ids().iter().map(|id| self.store.read(id)).collect();
            let result = self.session.handle_read(request.complete(Ok(read)));
            return self.settle(result);
        }
        let request = self.stores.remove(0);
        let outcome = self.store.act(request.op());
        let result = self.session.handle_stored(request.complete(outcome));
        self.settle(result);
    }

    fn settle(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            assert!(!matches!(error, Error::Misuse(_)), "{error:?}");
            assert!(self.session.is_finished() && !self.session.wants_input());
            self.error = Some(error);
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                PullClientOutput::Transmit(_) | PullClientOutput::Event(_) => {}
                PullClientOutput::Read(request) => self.reads.push(request),
                PullClientOutput::Store(request) => {
                    self.take(request.op());
                    self.stores.push(request);
                }
            }
        }
        if self.error.is_some() {
            self.stores.clear();
            self.reads.clear();
        }
    }

    /// Checks a request of the session to the store.
    fn take(&mut self, op: &StoreOp) {
        assert!(self.error.is_none(), "{op:?} after an error");
        match op {
            StoreOp::Open(announcement) => {
                for update in &announcement.refs {
                    self.promised.insert(update.commit);
                    self.values.insert(update.commit);
                    self.named.insert(ObjectId::commit(update.commit));
                    if update.detached.is_some() {
                        self.promised_detached.insert(update.commit);
                    }
                }
            }
            StoreOp::Rely(commits) => self.basis.extend(commits),
            StoreOp::Stage(objects) => {
                for (id, stored) in objects {
                    self.stage(*id);
                    self.name(*id, stored);
                }
            }
            StoreOp::Begin(_, id) => self.stage(*id),
            StoreOp::Detached(commit, _) => {
                assert!(self.promised_detached.remove(commit), "{commit} has none");
            }
            StoreOp::Publish => assert!(self.promised_detached.is_empty()),
            StoreOp::Append(..) | StoreOp::End(_) => {}
            StoreOp::Refs(_) | StoreOp::Have(_) | StoreOp::Unsent(_) | StoreOp::Summarize => {
                unreachable!("a pull does not ask {op:?}")
            }
        }
    }

    fn stage(&mut self, id: ObjectId) {
        assert!(self.named.contains(&id), "nothing names {id}");
        assert!(self.staged.insert(id), "{id} is staged twice");
    }

    fn name(&mut self, id: ObjectId, stored: &[u8]) {
        self.named.extend(Cache::children(id, stored));
        if id.kind == ObjectKind::Commit && self.history > 0 {
            let parent = Commit::parse(stored).expect("it was verified").parent;
            self.named.extend(parent.map(ObjectId::commit));
        }
    }

    fn check(&self, frames: &[Frame]) {
        assert!(self.store.cache.is_whole());
        for (name, commit) in &self.store.cache.refs {
            let is_old = self.before.refs.get(name) == Some(commit);
            assert!(is_old || self.values.contains(commit), "{name} is {commit}");
        }
        let ends = frames.iter().any(|frame| matches!(frame, Frame::Sent(_)));
        assert!(ends || self.store.publications == 0);
        if self.store.publications == 0 {
            assert_eq!(self.store.cache.refs, self.before.refs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::props::noise;

    #[test]
    fn drawn_servers_often_answer_well_and_often_badly() {
        let (mut published, mut refused) = (0, 0);
        for input in noise().take(200) {
            let (publications, fails) = drive(&input);
            published += publications;
            refused += usize::from(fails);
        }
        assert!(published > 20 && refused > 50, "{published}, {refused}");
    }
}
