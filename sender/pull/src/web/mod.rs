//! Files of a repository behind a web server.
//!
//! One request, one answer: bounds on size and silence, redirects, proxies, certificates, and the
//! judgement whether a failure may pass. Knows nothing of objects. Nothing that a server sends is
//! trusted; whoever asks for a file checks it.

mod failure;
mod options;
mod tls;
mod url;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Method, Response, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};

pub use self::failure::{Cause, WebError};
pub use self::options::{WebIdentity, WebOptions};
pub use self::tls::CertificateError;
pub use self::url::WebUrl;

/// A repository behind a web server, and the connections to it.
///
/// Uses the proxies that the environment names (`https_proxy`, `http_proxy`, `no_proxy`).
#[derive(Debug)]
pub(crate) struct Web {
    url: WebUrl,
    // Finds out for each connection what the server speaks.
    any: Client,
    // For a server known to speak HTTP/2: each has one connection. Without that knowledge, each of
    // many requests at once would open a connection of its own.
    http2: [Client; HTTP2_CONNECTIONS],
    spoken: AtomicU8,
    answers_pulls: AtomicBool,
    next: AtomicUsize,
    pause: Duration,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Unknown,
    Http1,
    Http2,
}

impl Web {
    /// Prepares the connections; the first request opens one.
    pub(crate) fn new(url: WebUrl, options: &WebOptions) -> Result<Self, WebError> {
        let tls = tls::configuration(options).map_err(|source| WebError {
            url: url.to_string(),
            cause: Cause::Certificates(source),
        })?;
        let build = |only_http2: bool| {
            let builder = Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .user_agent(options.agent.as_str())
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(options.read_timeout)
                .redirect(Policy::custom(redirected))
                .referer(false)
                .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
                .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
                .http2_max_header_list_size(HEADERS_LEN_MAX);
            let builder = match only_http2 {
                true => builder.http2_prior_knowledge(),
                false => builder,
            };
            builder.build().map_err(|error| WebError::of(&url, error))
        };
        let any = build(false)?;
        let http2 = [build(true)?, build(true)?];
        Ok(Self {
            any,
            http2,
            url,
            spoken: AtomicU8::new(0),
            answers_pulls: AtomicBool::new(false),
            next: AtomicUsize::new(0),
            pause: options.pause,
        })
    }

    /// Returns the repository's address.
    pub(crate) const fn url(&self) -> &WebUrl {
        &self.url
    }

    /// Reads a file of at most `len_max` bytes; `None` if the server has none of that name.
    pub(crate) async fn read(&self, file: &str, len_max: u64) -> Result<Option<Bytes>, WebError> {
        let Some(mut body) = self.get(file, len_max, false).await? else {
            return Ok(None);
        };
        let mut whole = BytesMut::new();
        while let Some(chunk) = body.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(Some(whole.freeze()))
    }

    /// Returns the length of a file in bytes, as the server says it; `None` if there is no such
    /// file.
    pub(crate) async fn len_of(&self, file: &str) -> Result<Option<u64>, WebError> {
        let response = self.ask(Method::HEAD, file, false).await?;
        let len = response.as_ref().map(|response| {
            let header = response.headers().get(reqwest::header::CONTENT_LENGTH);
            header.and_then(|value| value.to_str().ok()?.parse().ok())
        });
        Ok(len.map(Option::unwrap_or_default))
    }

    /// Begins to read a file; `again` says that an earlier answer was wrong, so that no cache on
    /// the way may answer.
    pub(crate) async fn get(
        &self,
        file: &str,
        len_max: u64,
        again: bool,
    ) -> Result<Option<Body>, WebError> {
        let Some(response) = self.ask(Method::GET, file, again).await? else {
            return Ok(None);
        };
        let url = self.shown(file);
        let len = response.content_length();
        if len.is_some_and(|len| len > len_max) {
            return Err(too_large(url, len_max));
        }
        Ok(Some(Body {
            response,
            url,
            len,
            read: 0,
            len_max,
            began: Instant::now(),
        }))
    }

    /// Waits before a request is made again that has failed so many times.
    pub(crate) async fn pause(&self, failed: u32, error: Option<&WebError>) {
        let doubled = self.pause * 2u32.saturating_pow(failed.saturating_sub(1).min(8));
        let pause = doubled.mul_f64(0.5 + fastrand::f64());
        let asked = error.map(WebError::wait).unwrap_or_default();
        tokio::time::sleep(pause.max(asked)).await;
    }

    /// Returns what the server speaks, as far as it is known.
    pub(crate) fn spoken(&self) -> Spoken {
        match self.spoken.load(Ordering::Relaxed) {
            1 => Spoken::Http1,
            2 => Spoken::Http2,
            _ => Spoken::Unknown,
        }
    }

    /// Returns whether the server has said that it answers pulls.
    pub(crate) fn answers_pulls(&self) -> bool {
        self.answers_pulls.load(Ordering::Relaxed)
    }

    /// Sends a request for a pull; returns the answer as a stream. What is written to that stream
    /// goes nowhere: the request is over.
    pub(crate) async fn pull(
        &self,
        request: Vec<u8>,
    ) -> Result<impl AsyncRead + AsyncWrite + use<>, WebError> {
        // The connection over which `config` came is still open.
        let posted = self.any.post(self.url.file("pull"));
        let posted = posted.header(reqwest::header::CONTENT_TYPE, PULL_TYPE);
        let response = posted.body(request).send().await;
        let response = response.map_err(|error| WebError::of_file(self.shown("pull"), error))?;
        if response.status().as_u16() != 200 {
            return Err(WebError::refused(self.shown("pull"), &response));
        }
        let (answer, inlet) = tokio::io::duplex(ANSWER_BUFFER_LEN);
        // It ends when the answer does, or when nobody reads it any more.
        tokio::spawn(pour(response, inlet));
        Ok(tokio::io::join(answer, tokio::io::sink()))
    }

    async fn ask(
        &self,
        method: Method,
        file: &str,
        again: bool,
    ) -> Result<Option<Response>, WebError> {
        let mut request = self.client(again).request(method, self.url.file(file));
        if again {
            request = request.header(reqwest::header::CACHE_CONTROL, "no-cache");
        }
        let response = request.send().await;
        let response = response.map_err(|error| WebError::of_file(self.shown(file), error))?;
        self.learn(&response);
        if file == "config" && response.headers().contains_key(PULL_HEADER) {
            self.answers_pulls.store(true, Ordering::Relaxed);
        }
        match response.status().as_u16() {
            200 => Ok(Some(response)),
            404 | 410 => Ok(None),
            _ => Err(WebError::refused(self.shown(file), &response)),
        }
    }

    /// Chooses a client; a request that failed is tried again without assumptions.
    fn client(&self, again: bool) -> &Client {
        if again || self.spoken() != Spoken::Http2 {
            return &self.any;
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.http2
            .get(next % HTTP2_CONNECTIONS)
            .unwrap_or(&self.any)
    }

    /// Notes what the server speaks. If it redirects to another, nothing is certain.
    fn learn(&self, response: &Response) {
        if self.spoken() != Spoken::Unknown {
            return;
        }
        let asked = reqwest::Url::parse(self.url.as_raw()).ok();
        let is_same = asked.is_some_and(|asked| asked.origin() == response.url().origin());
        let spoken = match response.version() {
            Version::HTTP_2 if is_same && self.url.is_https() => 2,
            _ => 1,
        };
        self.spoken.store(spoken, Ordering::Relaxed);
    }

    fn shown(&self, file: &str) -> String {
        format!("{}/{file}", self.url)
    }
}

/// Passes an answer on as it comes.
async fn pour(mut response: Response, mut inlet: DuplexStream) {
    while let Ok(Some(chunk)) = response.chunk().await {
        if inlet.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = inlet.shutdown().await;
}

/// Follows redirects, but not for ever, and not from https to a place that anybody on the way can
/// change.
fn redirected(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_https = |attempt: &Attempt<'_>| {
        let mut before = attempt.previous().iter();
        before.any(|url| url.scheme() == "https")
    };
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("it redirects too often");
    }
    if attempt.url().scheme() != "https" && was_https(&attempt) {
        return attempt.error("it redirects from https to http");
    }
    attempt.follow()
}

/// An answer being read.
#[derive(Debug)]
pub(crate) struct Body {
    response: Response,
    url: String,
    len: Option<u64>,
    read: u64,
    len_max: u64,
    began: Instant,
}

impl Body {
    /// Returns the length that the server has announced, in bytes.
    pub(crate) const fn len(&self) -> Option<u64> {
        self.len
    }

    /// Returns the next bytes; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, WebError> {
        let chunk = self.response.chunk().await;
        let chunk = chunk.map_err(|error| WebError::of_file(self.url.clone(), error))?;
        let Some(chunk) = chunk else {
            return match self.len {
                Some(len) if len != self.read => Err(self.failed(Cause::CutOff)),
                _ => Ok(None),
            };
        };
        self.read += chunk.len() as u64;
        if self.read > self.len_max {
            return Err(too_large(self.url.clone(), self.len_max));
        }
        // A byte now and then keeps no timer from running out.
        let seconds = self.began.elapsed().as_secs();
        if seconds > SLOW_AFTER_SECS && self.read < seconds * SLOWEST_RATE {
            return Err(self.failed(Cause::TooSlow));
        }
        Ok(Some(chunk))
    }

    fn failed(&self, cause: Cause) -> WebError {
        WebError {
            url: self.url.clone(),
            cause,
        }
    }
}

fn too_large(url: String, len_max: u64) -> WebError {
    WebError {
        url,
        cause: Cause::TooLarge { len_max },
    }
}

/// The type of a request for a pull and of its answer (SPEC "Pulling").
const PULL_TYPE: &str = "application/vnd.artifact-cache.pull";
/// The header on `config` that says that pulls are answered.
const PULL_HEADER: &str = "artifact-cache-pull";
const ANSWER_BUFFER_LEN: usize = 256 * 1024;
const HTTP2_CONNECTIONS: usize = 2;
/// Unread bytes of one answer; at 350 ms, 6 MB/s for each.
const HTTP2_STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// Unread bytes of all answers of a connection.
const HTTP2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const HEADERS_LEN_MAX: u32 = 64 * 1024;
const REDIRECTS_MAX: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// From then on an answer must have come at this rate, in bytes a second.
const SLOW_AFTER_SECS: u64 = 120;
const SLOWEST_RATE: u64 = 64;
