//! The listening sockets: addresses of this machine, paths, and sockets from a service manager.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::str::FromStr;

use listenfd::ListenFd;

use crate::error::ListenError;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a socket, as `unix:/PATH`.
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(ListenError::Address { place: text.into() }),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| ListenError::Address { place: text.into() }),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Socket {
    pub(crate) listener: Listener,
    pub(crate) place: Place,
}

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    /// Listens at an address. Replaces the Unix socket of a process that has ended.
    pub fn bind(place: &Place) -> Result<Self, ListenError> {
        let failed = |source: io::Error| {
            let place = place.to_string();
            match source.kind() {
                io::ErrorKind::AddrInUse => ListenError::InUse { place },
                io::ErrorKind::PermissionDenied => ListenError::Denied { place },
                _ => ListenError::Bind { place, source },
            }
        };
        match place {
            Place::Tcp(address) => TcpListener::bind(address)
                .and_then(Self::of_tcp)
                .map_err(failed),
            Place::Unix(path) => {
                if is_dead(path) {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                UnixListener::bind(path)
                    .and_then(Self::of_unix)
                    .map_err(failed)
            }
        }
    }

    /// Returns the sockets that systemd, or another service manager, has opened for this process.
    pub fn inherited() -> Result<Vec<Self>, ListenError> {
        let mut sockets = ListenFd::from_env();
        (0..sockets.len())
            .map(|index| Self::take(&mut sockets, index))
            .map(|socket| {
                socket.map_err(|(index, source)| ListenError::Inherited { index, source })
            })
            .collect()
    }

    fn take(sockets: &mut ListenFd, index: usize) -> Result<Self, (usize, io::Error)> {
        let failed = |source| (index, source);
        if let Ok(Some(listener)) = sockets.take_tcp_listener(index) {
            return Self::of_tcp(listener).map_err(failed);
        }
        let listener = sockets.take_unix_listener(index).map_err(failed)?;
        let gone = || failed(io::Error::other("it is not a listening socket"));
        Self::of_unix(listener.ok_or_else(gone)?).map_err(failed)
    }

    fn of_tcp(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // The standard library lets 128 wait.
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(Self {
            place: Place::Tcp(listener.local_addr()?),
            listener: Listener::Tcp(listener),
        })
    }

    fn of_unix(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let path = address.as_pathname().unwrap_or("".as_ref()).to_owned();
        Ok(Self {
            place: Place::Unix(path),
            listener: Listener::Unix(listener),
        })
    }

    /// Returns its address, with the actual port for port 0.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Returns whether only programs on this machine can reach it.
    pub fn is_local(&self) -> bool {
        match &self.place {
            Place::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Place::Unix(_) => true,
        }
    }
}

/// Returns whether the path is a socket on which no process listens any more.
fn is_dead(path: &PathBuf) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = || {
        let connected = std::os::unix::net::UnixStream::connect(path);
        connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    is_socket && refused()
}

/// Connections waiting to be accepted.
const BACKLOG: i32 = 1024;
