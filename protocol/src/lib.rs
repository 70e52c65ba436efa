//! The wire protocol of the artifact cache, as a pure function of bytes and completions.
//!
//! A *push* sets refs of an OSTree repository on a server to commits that a client holds, and
//! carries the objects that the server lacks. This crate is what both ends agree on: frames,
//! limits, names of objects and refs, OSTree's formats, and a state machine for either end. It has
//! no I/O, clock, thread or file system: a *driver* moves the bytes, and executes the session's
//! storage requests. `protocol/SPEC.md` defines the bytes.
//!
//! ```text
//!          client                                   server
//!   Hello, Announce ------------------------------------>
//!                   <------------------ Welcome, RefStatus     the ref's value, and a verdict
//!   Basis, Offer, Offer, ... --------------------------->      ids, parents before children
//!                   <-------------------------- Want, Want     objects that the server lacks
//!   Pack, ObjectBegin, ObjectChunk, ObjectEnd, ... ----->      verified, and staged
//!                   <------------------------------ Staged
//!   Finalize ------------------------------------------->      closure, sync, publish, refs
//!                   <--------------- Finalized (or Missing)    durable
//!                   <------------------------- SummaryDone
//!   Close ---------------------------------------------->
//! ```
//!
//! A *pull* brings commits the other way: one request, and one streamed answer.
//! [`session::pull`] has both ends of it.
//!
//! Storage work is an output of a session, and its completion is an input, so that a session
//! acknowledges nothing before it is done: the server says `Finalized` only when its driver returns
//! the completed `Publish`.
//!
//! **The drain rule: after every input, call `poll_output` until it returns `None`**, also after an
//! error, because the `Close` that tells the other end is among the outputs.
//!
//! In this example both ends talk to each other without a network. The source holds one commit,
//! made of arbitrary bytes; a real source reads a repository, and a real store verifies what it
//! receives.
//!
//! ```
//! use artifact_protocol::frame::{Expect, RefOutcome, RefState, RefUpdate, SummaryDone, Verdict};
//! use artifact_protocol::session::{
//!     Announcement, Fetched, Opened, Published, ReceiverConfig, ReceiverOutput, ReceiverSession,
//!     SenderConfig, SenderEvent, SenderOutput, SenderSession, SourceOp, SourceOutcome, StoreOp,
//!     StoreOutcome,
//! };
//! use artifact_formats::{Checksum, ObjectId, ObjectKind};
//! use bytes::{Bytes, BytesMut};
//!
//! let stored = Bytes::from_static(b"a commit");
//! let commit = ObjectId::new(ObjectKind::Commit, Checksum::of(&stored));
//! let (name, expect) = ("project/element/key".parse()?, Expect::Absent);
//! let update = RefUpdate { name, commit: commit.checksum, detached: None, expect };
//! let announcement = Announcement { refs: vec![update], ..Announcement::default() };
//! let config = SenderConfig { announcement, ..SenderConfig::default() };
//!
//! let mut sender = SenderSession::new(config);
//! let mut receiver = ReceiverSession::new(ReceiverConfig::default());
//! let (mut to_receiver, mut to_sender) = (BytesMut::new(), BytesMut::new());
//! let (mut unoffered, mut staged) = (vec![commit], Vec::new());
//! let mut outcomes = Vec::new();
//!
//! loop {
//!     while let Some(output) = sender.poll_output() {
//!         match output {
//!             SenderOutput::Transmit(bytes) => to_receiver.extend_from_slice(&bytes),
//!             SenderOutput::Event(SenderEvent::Finalized(refs)) => outcomes = refs,
//!             SenderOutput::Event(_) => {}
//!             SenderOutput::Source(request) => {
//!                 let (basis, detached) = (Vec::new(), Vec::new());
//!                 let outcome = match request.op() {
//!                     SourceOp::Plan(_) => SourceOutcome::Planned { basis, detached },
//!                     SourceOp::Offer { .. } => {
//!                         let ids = std::mem::take(&mut unoffered);
//!                         SourceOutcome::Offered { ids, exhausted: true }
//!                     }
//!                     SourceOp::Fetch(ids) => SourceOutcome::Fetched(
//!                         ids.iter().map(|_| Fetched::Whole(stored.clone())).collect(),
//!                     ),
//!                     SourceOp::Next(_) => unreachable!("nothing is large here"),
//!                     SourceOp::Descends(_) => unreachable!("the server compares"),
//!                     SourceOp::Vouch(_) => unreachable!("nothing is missing"),
//!                 };
//!                 sender.handle_source(request.complete(Ok(outcome)))?;
//!             }
//!         }
//!     }
//!     if sender.is_finished() && receiver.is_finished() {
//!         break;
//!     }
//!     receiver.handle_bytes(&mut to_receiver)?;
//!     while let Some(output) = receiver.poll_output() {
//!         match output {
//!             ReceiverOutput::Transmit(bytes) => to_sender.extend_from_slice(&bytes),
//!             ReceiverOutput::Event(_) => {}
//!             ReceiverOutput::Store(request) => {
//!                 let accepted = RefState { current: None, verdict: Verdict::Accepted };
//!                 let outcome = match request.op() {
//!                     StoreOp::Open(_) => StoreOutcome::Opened(Opened {
//!                         refs: vec![accepted],
//!                         complete: Vec::new(),
//!                     }),
//!                     StoreOp::Have(ids) => StoreOutcome::Have(vec![false; ids.len()]),
//!                     StoreOp::Stage(objects) => {
//!                         staged.extend(objects.clone());
//!                         StoreOutcome::Staged
//!                     }
//!                     StoreOp::Publish => {
//!                         StoreOutcome::Published(Published::Done(vec![RefOutcome::Updated]))
//!                     }
//!                     StoreOp::Summarize => StoreOutcome::Summarized(SummaryDone::Current),
//!                     op => unreachable!("this client does not cause {op:?}"),
//!                 };
//!                 receiver.handle_stored(request.complete(Ok(outcome)))?;
//!             }
//!         }
//!     }
//!     sender.handle_bytes(&mut to_sender)?;
//! }
//!
//! assert_eq!(staged, [(commit, stored)]);
//! assert_eq!(outcomes, [RefOutcome::Updated]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

#[cfg(feature = "codec")]
mod codec;
pub mod dialect;
pub mod exit;
pub mod frame;
pub mod limits;
pub mod session;
mod shared;
mod text;
mod version;
mod wire;

// The public interface is:
#[cfg(feature = "codec")]
pub use codec::{CodecError, FrameCodec};
pub use text::{Text, escape, escape_json, escape_line};
pub use version::{Features, Version};
pub use wire::PayloadError;
