//! The HTTP service below the library: it keeps the status and code of refusals, which the library
//! would hide.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use futures_util::StreamExt;
use http::StatusCode;
use http::header::DATE;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};

/// Information from the headers of the server's answers.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The date of its last answer in seconds since 1970; 0 before the first.
    date: AtomicU64,
}

/// Connects like the library does, and watches the answers.
#[derive(Debug)]
pub(super) struct Connector {
    heard: Arc<Heard>,
}

#[derive(Debug)]
struct Watched {
    client: HttpClient,
    heard: Arc<Heard>,
}

/// The server's refusal of a request.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// As in `SlowDown`; empty if the server sent none.
    pub(super) code: String,
    message: String,
}

impl Heard {
    pub(super) fn date(&self) -> Option<u64> {
        let date = self.date.load(Ordering::Relaxed);
        (date > 0).then_some(date)
    }
}

impl Connector {
    pub(super) const fn new(heard: Arc<Heard>) -> Self {
        Self { heard }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Watched {
            client,
            heard: Arc::clone(&self.heard),
        }))
    }
}

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.client.execute(request).await?;
        let date = response
            .headers()
            .get(DATE)
            .and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let date = date.and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
        if let Some(date) = date {
            self.heard.date.store(date.as_secs(), Ordering::Relaxed);
        }
        let status = response.status();
        if status.is_success() || status.is_redirection() || is_understood(status) {
            return Ok(response);
        }
        let (mut parts, body) = response.into_parts();
        let text = beginning(body).await;
        let refusal = Refusal::new(status, &text);
        // A missing key is an answer; a missing bucket is an error.
        if status == StatusCode::NOT_FOUND && refusal.code != NO_BUCKET {
            parts.headers.remove(http::header::CONTENT_LENGTH);
            return Ok(HttpResponse::from_parts(parts, text.into()));
        }
        Err(HttpError::new(HttpErrorKind::Unknown, refusal))
    }
}

/// Returns the beginning of a refusal's text.
async fn beginning(body: HttpResponseBody) -> String {
    let mut text = Vec::new();
    let mut stream = body.bytes_stream();
    while let Some(Ok(piece)) = stream.next().await {
        text.extend_from_slice(&piece);
        if text.len() > REFUSAL_MAX {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Returns whether the library has an error of its own for this status.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT
    )
}

impl Refusal {
    fn new(status: StatusCode, text: &str) -> Self {
        Self {
            status: status.as_u16(),
            code: element(text, "Code").unwrap_or_default().to_owned(),
            message: element(text, "Message").unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        for text in [&self.code, &self.message] {
            if !text.is_empty() {
                write!(f, ", {}", text.escape_debug())?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// Returns the text of the first element with this name. Elements of an error document do not nest.
fn element<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let end = text
        .char_indices()
        .nth(TEXT_MAX)
        .map_or(text.len(), |(at, _)| at);
    text.get(..end)
}

pub(super) const NO_BUCKET: &str = "NoSuchBucket";
const TEXT_MAX: usize = 300;
const REFUSAL_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_status_and_what_the_server_said() {
        let document = "<?xml?><Error><Code>SlowDown</Code><Message>Wait\n</Message></Error>";
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, document);
        assert_eq!(refusal.code, "SlowDown");
        assert_eq!(
            refusal.to_string(),
            "the server answered 503, SlowDown, Wait\\n"
        );
        let empty = Refusal::new(StatusCode::FORBIDDEN, "<html>");
        assert_eq!(empty.to_string(), "the server answered 403");
    }
}
