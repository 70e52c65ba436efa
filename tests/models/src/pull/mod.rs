//! Models of both ends of a pull. Unlike those of a push they hold real commits and dirtrees: the
//! client's session reads them.

mod cache;
mod client;
mod pair;
mod server;

pub use self::cache::Cache;
pub use self::client::Store;
pub use self::pair::{Ending, Pair, Weather};
pub use self::server::Server;
