//! What the server tells its operator: the access log, metrics, and its state to the service
//! manager.

mod log;
mod metrics;
mod notify;

pub use self::log::{AccessLog, Format};
pub(crate) use self::log::{Entry, Request};
pub(crate) use self::metrics::{Ended, Metrics, Pull};
pub use self::notify::Notifier;
