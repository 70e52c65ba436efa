//! The request for a pull, which is read whole before the answer begins.

use std::net::IpAddr;
use std::time::Duration;

use artifact_protocol::Text;
use artifact_protocol::session::ReceiverConfig;
use artifact_protocol::session::pull::PullServer;
use bytes::{Bytes, BytesMut};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use tokio::time::Instant;

use crate::limits::Activity;
use crate::pull::puller::{Place, Puller};
use crate::pull::refusal::Refusal;

/// Takes a place, and reads the whole request.
pub(crate) async fn read<B>(
    puller: &Puller,
    activity: &Activity,
    head: &Parts,
    body: B,
    client: Option<IpAddr>,
) -> Result<(PullServer, Place), Refusal>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    if head.headers.get(header::CONTENT_TYPE) != Some(&HeaderValue::from_static(CONTENT_TYPE)) {
        let why = "a pull is of the type application/vnd.artifact-cache.pull\n";
        return Err(Refusal::Bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    if body.size_hint().lower() > REQUEST_LEN_MAX as u64 {
        return Err(TOO_LONG);
    }
    let place = puller.place(client)?;
    let mut server = PullServer::new(ReceiverConfig {
        agent: Text::new(AGENT),
        ..ReceiverConfig::default()
    });
    take(&mut server, body, activity).await?;
    Ok((server, place))
}

/// Gives the session the request. Its own errors are in its outputs.
async fn take<B>(server: &mut PullServer, body: B, activity: &Activity) -> Result<(), Refusal>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut unread = BytesMut::new();
    let mut len = 0;
    let begun = Instant::now();
    loop {
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx));
        let due = begun + REQUEST + Duration::from_millis((len / REQUEST_RATE) as u64);
        let Ok(frame) = tokio::time::timeout_at(due, frame).await else {
            let status = StatusCode::REQUEST_TIMEOUT;
            return Err(Refusal::Bad(status, "the request took too long\n"));
        };
        let bytes = match frame {
            None => {
                // What it lacks, the session says.
                let _ = server.handle_eof();
                return Ok(());
            }
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => {
                tracing::debug!(%error, "the request for a pull cannot be read");
                let why = "the request is cut off\n";
                return Err(Refusal::Bad(StatusCode::BAD_REQUEST, why));
            }
        };
        activity.progress();
        len += bytes.len();
        if len > REQUEST_LEN_MAX {
            return Err(TOO_LONG);
        }
        unread.extend_from_slice(&bytes);
        if server.handle_bytes(&mut unread).is_err() {
            return Ok(());
        }
    }
}

/// The type of a request and of its answer.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.artifact-cache.pull";
const TOO_LONG: Refusal = Refusal::Bad(
    StatusCode::PAYLOAD_TOO_LARGE,
    "a request to pull has at most 16 MiB\n",
);
const AGENT: &str = concat!("artifact-cache-serve ", env!("CARGO_PKG_VERSION"));
/// The longest request: as many held objects and refs as the protocol allows, and some more.
const REQUEST_LEN_MAX: usize = 16 * 1024 * 1024;
/// How long a request may take to arrive, in addition to the time that its bytes take at the
/// least rate: it holds a place meanwhile.
const REQUEST: Duration = Duration::from_secs(10);
/// The least rate of a request, in bytes a millisecond.
const REQUEST_RATE: usize = 64;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use artifact_protocol::frame::{self as protocol, Hello, PREAMBLE};
    use artifact_protocol::{Features, Version};
    use http_body::Frame;
    use tokio::time::{Sleep, sleep};

    use super::*;

    /// A request of which so many bytes come each second.
    struct Trickle {
        request: Bytes,
        each: usize,
        next: Pin<Box<Sleep>>,
    }

    impl http_body::Body for Trickle {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::ready!(self.next.as_mut().poll(cx));
            self.next = Box::pin(sleep(Duration::from_secs(1)));
            let len = self.each.min(self.request.len());
            let bytes = self.request.split_to(len);
            Poll::Ready((len > 0).then(|| Ok(Frame::data(bytes))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_trickles_in_loses_its_place_and_a_slow_one_does_not() {
        let arrives = |each, seconds| async move {
            let hello = Hello {
                version_min: Version::OLDEST,
                version_max: Version::NEWEST,
                features: Features::PULL,
                agent: Text::new("slow"),
                extensions: Default::default(),
            };
            let mut request = PREAMBLE.to_vec();
            request.extend(protocol::Frame::Hello(hello).encode());
            while request.len() < each * seconds {
                request.extend(protocol::Frame::Ping(Default::default()).encode());
            }
            request.truncate(each * seconds);
            let body = Trickle {
                request: request.into(),
                each,
                next: Box::pin(sleep(Duration::ZERO)),
            };
            let mut server = PullServer::new(ReceiverConfig::default());
            let begun = Instant::now();
            let taken = take(&mut server, body, &Activity::default()).await;
            (taken.is_ok(), begun.elapsed().as_secs())
        };
        assert_eq!(arrives(1, 5).await, (true, 5));
        assert_eq!(arrives(1, 300).await, (false, 10));
        assert_eq!(arrives(65_000, 30).await, (true, 30));
    }
}
