//! One running session: everything between a connection and the local repository.
//!
//! ```text
//! stream <-> driver <-> session
//!               |
//!              pool --> planner: the ids to offer
//!               `-----> readers: the objects; large ones in pieces (piece_order)
//! ```
//!
//! The driver has the only connection and the only timers, the planner and the readers the only
//! threads. Bytes leave through the [`throttle`], if the user has set a rate.

mod driver;
mod failure;
mod piece_order;
mod planner;
mod pool;
mod readers;
mod throttle;

pub(crate) use self::driver::run;
pub(crate) use self::pool::Pool;
