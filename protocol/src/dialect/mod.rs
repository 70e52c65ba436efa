//! The two protocols before this one, as codecs and as session machines without I/O.
//!
//! Version 0 is ostree-push's before 0.1, version 1 BuildStream's from 1.0 to 1.1.3. They have no
//! negotiation, offers, or acknowledgements; both send everything that a commit reaches.
//! `DIALECTS.md` defines the bytes. On the server, a session makes the same requests to a store as
//! one of version 2, so the result of a push does not depend on its version (INV-1 to INV-8).
//!
//! Not here: tunnels, which ostree-push has used since 0.1. The receiving machine is
//! [`DialectReceiver`], the sending one [`DialectSender`]; [`AnyReceiver`] and [`AnySender`] stand
//! for these and for version 2's.

mod any;
mod content;
pub(crate) mod error;
mod member;
mod message;
mod receiver;
mod sender;
mod tar;
mod version;

pub use self::any::{AnyReceiver, AnySender, Openness};
pub use self::error::{DialectError, MessageTooLong};
pub use self::member::Member;
pub use self::message::{ByteOrder, Change, Info, Message};
pub use self::receiver::DialectReceiver;
pub use self::sender::{DialectSender, fits_one_session};
pub use self::version::Dialect;
