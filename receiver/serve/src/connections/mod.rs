//! From a listening socket to the requests of a connection: sockets, admission, TLS, HTTP.

mod connection;
mod gate;
mod listen;
mod tls;

pub(crate) use self::gate::Gate;
pub(crate) use self::listen::Listener;
pub use self::listen::{Place, Socket};
pub use self::tls::CertificateFiles;
pub(crate) use self::tls::Certificates;
