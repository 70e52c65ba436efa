//! The server: it is opened outside the sandbox, and runs within.

mod open;
mod run;

pub use self::open::{Config, Server};
pub use self::run::Order;
