//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::answer::{self, Context};
use crate::connections::tls::H2;
use crate::limits::{Counted, Timeouts, Verdict, Watch};
use crate::reply::Body;
use crate::report::Ended;

/// A connection being served.
#[derive(Debug)]
pub(crate) struct Connection(pub(crate) Context);

impl Connection {
    /// Serves a connection until it ends, or makes no progress, or until `stop` and the end of
    /// running answers.
    pub(crate) async fn serve<S>(
        self,
        stream: S,
        tls: Option<TlsAcceptor>,
        stop: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let metrics = Arc::clone(&self.0.shared.metrics);
        let activity = Arc::clone(&self.0.activity);
        let stream = Counted { stream, activity };
        let Some(acceptor) = tls else {
            metrics.accepted("http/1.1");
            return self.http1(TokioIo::new(stream), stop).await;
        };
        let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "no TLS with {:?}", self.0.peer.address);
                return metrics.ended(Ended::Handshake);
            }
            Err(_) => return metrics.ended(Ended::Handshake),
        };
        if stream.get_ref().1.alpn_protocol() == Some(H2) {
            metrics.accepted("h2");
            self.http2(TokioIo::new(stream), stop).await;
        } else {
            metrics.accepted("http/1.1");
            self.http1(TokioIo::new(stream), stop).await;
        }
    }

    async fn http1<I>(self, io: I, stop: watch::Receiver<bool>)
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let this = Arc::new(self);
        let service = this.service();
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            // A client may say that it has no more to ask for, and still wait for the answer.
            .half_close(true)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_LEN)
            .serve_connection(io, service);
        this.drive(connection, stop).await;
    }

    async fn http2<I>(self, io: I, stop: watch::Receiver<bool>)
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let this = Arc::new(self);
        let service = this.service();
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEAD_LEN).unwrap_or(u32::MAX))
            .max_send_buf_size(MAX_SEND_LEN)
            .serve_connection(io, service);
        this.drive(connection, stop).await;
    }

    /// Answers each request of this connection, in either version of HTTP.
    fn service(
        self: &Arc<Self>,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + use<> {
        let this = Arc::clone(self);
        service_fn(move |request| {
            let this = Arc::clone(&this);
            async move { Ok::<_, Infallible>(answer::answer(&this.0, request).await) }
        })
    }

    /// Drives a connection, and checks its progress.
    async fn drive(&self, connection: impl Served, mut stop: watch::Receiver<bool>) {
        let mut connection = pin!(connection);
        let mut watch = Watch::new(Arc::clone(&self.0.activity), TIMEOUTS, Instant::now());
        let mut looks = tokio::time::interval(LOOK);
        let mut ending: Option<Instant> = None;
        let metrics = &self.0.shared.metrics;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection of {:?} ended", self.0.peer.address);
                        if error.is_parse() {
                            metrics.ended(Ended::Protocol);
                        }
                    }
                    return;
                }
                changed = stop.wait_for(|stop| *stop), if ending.is_none() => {
                    drop(changed);
                    connection.as_mut().wind_down();
                    ending = Some(Instant::now());
                }
                _ = looks.tick() => match (watch.look(Instant::now()), ending) {
                    (Verdict::Fine, _) => {}
                    (Verdict::Silent, _) => return metrics.ended(Ended::Silent),
                    (Verdict::Stalled, _) => return metrics.ended(Ended::Stalled),
                    (Verdict::Idle, None) => {
                        connection.as_mut().wind_down();
                        ending = Some(Instant::now());
                    }
                    // The client does not close in return.
                    (Verdict::Idle, Some(since)) if since.elapsed() > HANDSHAKE => return,
                    (Verdict::Idle, Some(_)) => {}
                },
            }
        }
    }
}

/// A connection of either HTTP version.
trait Served: Future<Output = hyper::Result<()>> {
    /// Ends it once running answers are finished.
    fn wind_down(self: Pin<&mut Self>);
}

impl<I, S> Served for http1::Connection<I, S>
where
    Self: Future<Output = hyper::Result<()>>,
    I: Read + Write + Unpin + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Served for http2::Connection<I, S, TokioExecutor>
where
    Self: Future<Output = hyper::Result<()>>,
    I: Read + Write + Unpin + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    TokioExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, Body>,
{
    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// How long a handshake, or an orderly close, may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the head of a request may take after the end of the previous one.
const HEAD: Duration = Duration::from_secs(30);
const TIMEOUTS: Timeouts = Timeouts {
    first: Duration::from_secs(10),
    idle: Duration::from_secs(60),
    stall: Duration::from_secs(60),
};
/// How often a connection is checked.
const LOOK: Duration = Duration::from_secs(5);
/// Bytes of a request's head, and of HTTP/1.1's write buffer.
const MAX_HEAD_LEN: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Concurrent requests of one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;
/// Bytes of one HTTP/2 answer waiting to be written.
const MAX_SEND_LEN: usize = 128 * 1024;
