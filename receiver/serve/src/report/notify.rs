//! Tells a service manager that the server is ready, stopping, alive.
//!
//! The socket is opened at the start, because the sandbox denies new ones; and the environment is
//! read only there.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The connection to the service manager; without one, messages are dropped.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Opens the socket that the service manager has named, if any.
    pub fn from_env() -> io::Result<Self> {
        let Some(path) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return Ok(Self::default());
        };
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Some(socket),
            watchdog: watchdog(),
        })
    }

    /// Returns how often the service manager expects a sign of life.
    pub(crate) const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Sends a message, as `sd_notify(3)` describes. It is no error if the service manager does not
    /// listen.
    pub(crate) fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.as_bytes())
        {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}

fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    // The watchdog may be meant for another process.
    let own = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let micros = number("WATCHDOG_USEC").filter(|micros| own && *micros > 0)?;
    Some(Duration::from_micros(micros) / 2)
}
