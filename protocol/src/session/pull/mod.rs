//! Both ends of a pull as state machines without I/O (SPEC "Pulling").
//!
//! A pull is a push turned round, without negotiation: one request, and one streamed answer. The
//! server lists the objects and sends them, parents before children; the client stages them, and
//! publishes them into a repository of its own. The same bytes travel over a two-way stream and as
//! the body and the answer of one HTTP request.
//!
//! ```text
//! client                                              server
//!   Hello, Request, Held ------------------------------->
//!                        <---------------- Welcome, Answer     what becomes of each ref
//!                        <-------------------------- Extent    how much is to come
//!                        <-- Detached, Pack, ObjectBegin, ...  verified, and staged
//!                        <---------------------------- Sent    publish
//!   Close ---------------------------------------------->
//! ```
//!
//! **A server's driver** makes a [`PullServer`], or gets one from
//! [`AnyReceiver::take_pull`](crate::dialect::AnyReceiver::take_pull) where clients may push as
//! well. It hands in the client's bytes, and completes each [`AnswerRequest`]. `Judge` comes first;
//! then `List`, `Fetch` and `Next` until everything is sent, several reads at a time. Whoever
//! drains outputs only while the client takes bytes has all the back-pressure there is.
//!
//! **A client's driver** makes a [`PullClient`] with all that it wants and holds, transmits, hands
//! in the server's bytes, and completes two kinds of requests: those to the store, which are a
//! push's (`Open`, `Rely`, `Detached`, `Stage`, `Begin`, `Append`, `End`, `Publish`), and
//! [`ReadRequest`]s for objects that it said it holds. What must be true before a ref moves, such
//! as a signature, the driver checks before it completes `Publish`: by then every promised commit
//! and its detached metadata has been staged. [`Error::NotServed`](super::Error::NotServed) tells
//! that the server serves no pulls, and the client must find another way.
//!
//! Over HTTP, what a client transmits before it gets a byte is the whole body of its request. It
//! drops what it transmits later, which is no more than a `Close`.
//!
//! In this example both ends talk to each other without a network. A real driver reads the
//! repository, and lists what a commit reaches breadth first.
//!
//! ```
//! use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind};
//! use artifact_protocol::frame::{
//!     Expect, Extent, PullState, RefAnswer, RefOutcome, RefState, Verdict,
//! };
//! use artifact_protocol::session::pull::{
//!     AnswerOp, AnswerOutcome, PullAnswer, PullClient, PullClientConfig, PullClientEvent,
//!     PullClientOutput, PullServer, PullServerOutput, WantedRef,
//! };
//! use artifact_protocol::session::{
//!     Fetched, Opened, Published, ReceiverConfig, StoreOp, StoreOutcome,
//! };
//! use bytes::{Bytes, BytesMut};
//!
//! let named = |kind, stored: Vec<u8>| {
//!     let stored = Bytes::from(stored);
//!     (ObjectId::new(kind, Checksum::of(&stored)), stored)
//! };
//! let tree = named(ObjectKind::Dirtree, Dirtree::serialize([], []));
//! let meta = named(ObjectKind::Dirmeta, b"an owner and a mode".to_vec());
//! let commit = Commit {
//!     subject: "a subject".to_owned(),
//!     ..Commit::new(tree.0.checksum, meta.0.checksum)
//! };
//! let commit = named(ObjectKind::Commit, commit.serialize());
//! let objects = [commit, tree, meta];
//!
//! let (current, detached) = (None, None);
//! let name: artifact_formats::RefName = "project/element/key".parse()?;
//! let wanted = WantedRef { name: name.clone(), current, detached, expect: Expect::Absent };
//! let config = PullClientConfig { refs: vec![wanted], ..PullClientConfig::default() };
//!
//! let mut client = PullClient::new(config);
//! let mut server = PullServer::new(ReceiverConfig::default());
//! let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
//! let (mut staged, mut outcomes) = (Vec::new(), Vec::new());
//!
//! while !client.is_finished() {
//!     while let Some(output) = client.poll_output() {
//!         match output {
//!             PullClientOutput::Transmit(bytes) => to_server.extend_from_slice(&bytes),
//!             PullClientOutput::Event(PullClientEvent::Published(refs)) => outcomes = refs,
//!             PullClientOutput::Event(_) => {}
//!             PullClientOutput::Read(_) => unreachable!("it holds nothing"),
//!             PullClientOutput::Store(request) => {
//!                 let accepted = RefState { current: None, verdict: Verdict::Accepted };
//!                 let outcome = match request.op() {
//!                     StoreOp::Open(_) => StoreOutcome::Opened(Opened {
//!                         refs: vec![accepted],
//!                         complete: Vec::new(),
//!                     }),
//!                     StoreOp::Rely(_) => StoreOutcome::Relied,
//!                     StoreOp::Stage(objects) => {
//!                         staged.extend(objects.clone());
//!                         StoreOutcome::Staged
//!                     }
//!                     StoreOp::Publish => {
//!                         StoreOutcome::Published(Published::Done(vec![RefOutcome::Updated]))
//!                     }
//!                     op => unreachable!("nothing is large, and nothing signed: {op:?}"),
//!                 };
//!                 client.handle_stored(request.complete(Ok(outcome)))?;
//!             }
//!         }
//!     }
//!     if !server.is_finished() {
//!         server.handle_bytes(&mut to_server)?;
//!     }
//!     while let Some(output) = server.poll_output() {
//!         match output {
//!             PullServerOutput::Transmit(bytes) => to_client.extend_from_slice(&bytes),
//!             PullServerOutput::Event(_) => {}
//!             PullServerOutput::Answer(request) => {
//!                 let ids = objects.iter().map(|(id, _)| *id);
//!                 let outcome = match request.op() {
//!                     AnswerOp::Judge(_) => {
//!                         let commit = objects[0].0.checksum;
//!                         let state = PullState::Promised { commit, detached: None };
//!                         let refs = vec![RefAnswer { name: name.clone(), state }];
//!                         AnswerOutcome::Judged(PullAnswer { refs, basis: Vec::new() })
//!                     }
//!                     AnswerOp::Measure => {
//!                         let bytes = objects.iter().map(|(_, stored)| stored.len() as u64);
//!                         AnswerOutcome::Measured(Extent { objects: 3, bytes: bytes.sum() })
//!                     }
//!                     AnswerOp::List { .. } => {
//!                         AnswerOutcome::Listed { ids: ids.collect(), exhausted: true }
//!                     }
//!                     AnswerOp::Fetch(_) => AnswerOutcome::Fetched(
//!                         objects.iter().map(|(_, o)| Fetched::Whole(o.clone())).collect(),
//!                     ),
//!                     op => unreachable!("nothing is large, and nothing signed: {op:?}"),
//!                 };
//!                 server.handle_answer(request.complete(Ok(outcome)))?;
//!             }
//!         }
//!     }
//!     client.handle_bytes(&mut to_client)?;
//! }
//!
//! assert_eq!(staged, objects);
//! assert_eq!(outcomes, [(name, RefOutcome::Updated)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod client;
mod server;

pub use self::answer::{
    AnswerDone, AnswerOp, AnswerOutcome, AnswerRequest, PullAnswer, PullRequest,
};
pub use self::client::{
    PullClient, PullClientConfig, PullClientEvent, PullClientOutput, ReadDone, ReadRequest,
    WantedRef,
};
pub use self::server::{PullServer, PullServerEvent, PullServerOutput};
