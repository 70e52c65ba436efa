use std::future::pending;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{Frame, PREAMBLE, Ping, RefStatus, Welcome};
use artifact_protocol::limits::Limits;
use artifact_protocol::session::SmallCommit;
use artifact_protocol::{Features, Version};
use tokio::io::ReadBuf;

use super::*;

/// A server that has sent everything, and is gone when the client answers.
struct Gone {
    said: Vec<u8>,
}

impl AsyncRead for Gone {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buffer.put_slice(&std::mem::take(&mut self.said));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gone {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.said.is_empty() {
            true => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            false => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn welcome() -> Frame {
    Frame::Welcome(Welcome {
        version: Version::NEWEST,
        features: Features::SUPPORTED,
        limits: Limits::default(),
        agent: Default::default(),
        pull_url: None,
        identity: None,
        extensions: Default::default(),
    })
}

/// A server that accepts every byte, and records when it came.
struct Clocked {
    taken: Vec<(Instant, usize)>,
}

impl AsyncWrite for Clocked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.taken.push((Instant::now(), bytes.len()));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_go_out_at_the_rate_that_was_set_and_no_faster() {
    let config = SenderConfig {
        small: vec![SmallCommit {
            commit: Checksum::new([1; 32]),
            closure: (0..200)
                .map(|n| ObjectId::new(ObjectKind::File, Checksum::new([n; 32])))
                .collect(),
        }],
        ..SenderConfig::default()
    };
    let (started, rate) = (Instant::now(), 1_000);
    let mut server = Clocked { taken: Vec::new() };
    let (silence, _open) = tokio::io::duplex(1);
    // The server never answers, so only the greeting and an offer are written before the end.
    let never = run(
        config,
        None,
        Pool::none(),
        NonZeroU64::new(rate),
        tokio::io::join(silence, &mut server),
        pending(),
        |_| (),
    );
    assert!(never.await.is_err());
    let mut total = 0;
    for (when, len) in server.taken {
        total += u64::try_from(len).unwrap();
        let lets = (when - started).as_secs_f64() * 1_000.0;
        assert!(
            total as f64 <= lets + 1.0,
            "{total} bytes, but the rate allows {lets}"
        );
        assert!(
            total > 6_600 || total as f64 >= lets - 100.0,
            "{total} of {lets}"
        );
    }
    assert!(total > 6_600, "{total}");
}

/// A server that answers the greeting, and then only sends a `Ping` every 15 seconds.
struct Pinging {
    said: Vec<u8>,
    next: Pin<Box<tokio::time::Sleep>>,
}

impl AsyncRead for Pinging {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.said.is_empty() {
            std::task::ready!(self.next.as_mut().poll(context));
            self.next = Box::pin(tokio::time::sleep(PING));
            buffer.put_slice(&Frame::Ping(Ping {}).encode());
        }
        buffer.put_slice(&std::mem::take(&mut self.said));
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_only_says_that_it_lives_does_not_keep_the_client_for_ever() {
    assert_eq!(Frame::Ping(Ping {}).encode().len(), PING_LEN);
    let server = Pinging {
        said: [PREAMBLE.to_vec(), welcome().encode().to_vec()].concat(),
        next: Box::pin(tokio::time::sleep(PING)),
    };
    let started = Instant::now();
    let kept = run(
        SenderConfig::default(),
        None,
        Pool::none(),
        None,
        tokio::io::join(server, tokio::io::sink()),
        pending(),
        |_| (),
    );
    let kept = tokio::time::timeout(10 * IDLENESS, kept).await.unwrap();
    let error = kept.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Session(SessionError::Fault(fault))
                if fault.code == CloseCode::TIMEOUT
        ),
        "{error:?}"
    );
    assert!(started.elapsed() >= IDLENESS);
}

#[tokio::test]
async fn a_server_that_leaves_before_the_goodbye_does_not_keep_the_client() {
    let status = Frame::RefStatus(RefStatus {
        refs: Vec::new(),
        complete: Vec::new(),
    });
    let mut said = PREAMBLE.to_vec();
    said.extend(welcome().encode());
    said.extend(status.encode());
    let config = SenderConfig::default();
    let server = Gone { said };
    run(config, None, Pool::none(), None, server, pending(), |_| ())
        .await
        .unwrap();
}
