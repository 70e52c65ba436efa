//! Admits connections to one socket, and limits their number.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::answer::{Context, Peer, Role, Shared};
use crate::connections::connection::Connection;
use crate::connections::tls::Certificates;
use crate::limits::{Shares, Source};
use crate::report::Ended;

/// Admits connections to one socket.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) shared: Arc<Shared>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) each: Arc<Shares>,
    pub(crate) role: Role,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopped: watch::Receiver<bool>,
}

impl Gate {
    /// Admits connections until the server stops.
    pub(crate) async fn open<L: Listens>(self, listener: L) {
        let mut stopped = self.stopped.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                accepted = self.next(&listener) => accepted,
            };
            match accepted {
                Ok((stream, address, place)) => self.let_in(stream, address, place),
                Err(error) => {
                    // The client has already disconnected; or no descriptor is free until others
                    // are closed.
                    tracing::debug!(%error, "no connection was accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits for a free place first: without one, clients wait before they are accepted, and are
    /// served when others are done.
    async fn next<L: Listens>(
        &self,
        listener: &L,
    ) -> io::Result<(L::Stream, Option<IpAddr>, OwnedSemaphorePermit)> {
        let places = Arc::clone(&self.places);
        let place = places.acquire_owned().await.map_err(io::Error::other)?;
        let (stream, address) = listener.next().await?;
        Ok((stream, address, place))
    }

    fn let_in<S>(&self, stream: S, address: Option<IpAddr>, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let metrics = Arc::clone(&self.shared.metrics);
        let proxy = self.certificates.is_none() && self.role == Role::Pullers;
        let share = match address.filter(|_| !proxy) {
            None => None,
            Some(address) => match self.each.take(Source::of(address)) {
                Some(share) => Some(share),
                None => return metrics.ended(Ended::Address),
            },
        };
        let tls = self.certificates.as_ref();
        let tls = tls.map(|certificates| TlsAcceptor::from(certificates.current()));
        let peer = Peer { address, proxy };
        let context = Context::new(Arc::clone(&self.shared), self.role, peer);
        let stopped = self.stopped.clone();
        self.tasks.spawn(async move {
            metrics.connections.inc();
            Connection(context).serve(stream, tls, stopped).await;
            metrics.connections.dec();
            drop((place, share));
        });
    }
}

/// A listening socket of either kind.
pub(crate) trait Listens: Send + Sync + 'static {
    /// The type of its connections.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Returns the next connection, with the peer's address if it has one.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
}

impl Listens for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, address) = self.accept().await?;
        // Without this, the end of an answer waits for an acknowledgement.
        stream.set_nodelay(true)?;
        Ok((stream, Some(address.ip())))
    }
}

impl Listens for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Option<IpAddr>)> {
        Ok((self.accept().await?.0, None))
    }
}

const PAUSE: Duration = Duration::from_millis(100);
