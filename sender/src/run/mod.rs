//! One running session: everything between a connection and the local repository.
//!
//! ```text
//! stream <-> driver <-> session
//!               |
//!              pool --> planner: the ids to offer
//!               `-----> reading: the objects; large ones in pieces
//! ```
//!
//! The driver has the only connection and the only timers, the planner and the readers the only
//! threads. Bytes leave through the [`throttle`], if the user has set a rate.

mod driver;
mod planner;
mod pool;
mod throttle;

pub(crate) use self::driver::run;
pub(crate) use self::pool::Pool;
