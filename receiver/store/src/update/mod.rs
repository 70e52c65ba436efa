//! The states of one ref of a push, in whatever store.
//!
//! ```text
//! announced -> UpToDate   the ref holds the commit
//!           -> Refused    by the rules, or because something else has its name
//!           -> Accepted -> Set        published, durably
//!                       -> UpToDate   the ref holds the commit by now
//!                       -> Refused    by the commit, or because another push was faster
//! ```
//!
//! Unannounced detached metadata takes an up-to-date update back to Accepted, or to Refused. The
//! state determines the messages for the client.
//!
//! A store adds the place of its refs and the form in which it reads their values.

mod existing;
mod lineage;
mod machine;
mod set;
mod taken;

pub(crate) use self::existing::{Reads, existing};
pub(crate) use self::lineage::{Commits, Footing, Lineage};
pub(crate) use self::machine::{Update, Value, conflict, lost_race};
pub(crate) use self::set::Updates;
pub(crate) use self::taken::Taken;
