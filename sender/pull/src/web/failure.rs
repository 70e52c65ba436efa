//! The reasons why a file cannot be read from a web server.

use std::error::Error as StdError;
use std::time::Duration;

use artifact_sender::escape;
use reqwest::Response;

use super::tls::CertificateError;
use super::url::WebUrl;

/// A file that a web server does not send.
#[derive(Debug)]
pub struct WebError {
    /// Its URL, without name and password.
    pub url: String,
    /// The reason.
    pub cause: Cause,
}

/// The reason why a web server does not send a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The host's name is unknown.
    UnknownHost(String),
    /// No server listens at the host's port.
    NotListening(String),
    /// The server's certificate is not trusted.
    Untrusted(String),
    /// Certificates of this side cannot be used.
    Certificates(CertificateError),
    /// The connection failed, or was silent for too long.
    Connection(String),
    /// The server announced more bytes than it sent.
    CutOff,
    /// The server sends almost nothing.
    TooSlow,
    /// The server sends something larger than the file can be.
    TooLarge {
        /// The limit, in bytes.
        len_max: u64,
    },
    /// The server redirects to a place that must not be followed.
    Redirect(String),
    /// The server answers with another status than success or absence.
    Status {
        /// The code.
        code: u16,
        /// Its meaning, as HTTP defines it.
        meaning: &'static str,
        /// How long the server asks to wait.
        wait: Option<Duration>,
    },
}

impl WebError {
    /// Judges the failure of preparing a client.
    pub(super) fn of(url: &WebUrl, error: reqwest::Error) -> Self {
        Self::of_file(url.to_string(), error)
    }

    /// Judges a failed request.
    pub(super) fn of_file(url: String, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let text = causes(&error);
        let says = |part: &str| text.contains(part);
        let cause = if error.is_redirect() {
            Cause::Redirect(text)
        } else if says("failed to lookup") || says("dns error") {
            Cause::UnknownHost(text)
        } else if says("onnection refused") {
            Cause::NotListening(text)
        } else if says("certificate") || says("UnknownIssuer") {
            Cause::Untrusted(text)
        } else {
            Cause::Connection(text)
        };
        Self { url, cause }
    }

    pub(super) fn refused(url: String, response: &Response) -> Self {
        let status = response.status();
        let wait = response.headers().get(reqwest::header::RETRY_AFTER);
        let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
        Self {
            url,
            cause: Cause::Status {
                code: status.as_u16(),
                meaning: status.canonical_reason().unwrap_or("of unknown meaning"),
                wait: wait.map(Duration::from_secs),
            },
        }
    }

    /// Returns whether the same request may succeed in a moment.
    pub fn may_pass(&self) -> bool {
        match &self.cause {
            Cause::Connection(_) | Cause::CutOff | Cause::TooSlow => true,
            Cause::Status { code, .. } => is_passing(*code),
            Cause::UnknownHost(_)
            | Cause::NotListening(_)
            | Cause::Untrusted(_)
            | Cause::Certificates(_)
            | Cause::TooLarge { .. }
            | Cause::Redirect(_) => false,
        }
    }

    /// Returns whether the connection is at fault, or the server, rather than the cache behind it.
    pub fn is_of_connection(&self) -> bool {
        match &self.cause {
            Cause::TooLarge { .. } => false,
            Cause::Status { code, .. } => is_passing(*code),
            _ => true,
        }
    }

    /// Returns whether fewer requests at once would help.
    pub(crate) fn is_overload(&self) -> bool {
        matches!(&self.cause, Cause::Connection(_) | Cause::Status { .. }) && self.may_pass()
    }

    /// Returns how long the server asks to wait, within reason.
    pub(crate) fn wait(&self) -> Duration {
        match &self.cause {
            Cause::Status { wait, .. } => wait.unwrap_or_default().min(LONGEST_WAIT),
            _ => Duration::ZERO,
        }
    }
}

impl std::fmt::Display for WebError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = &self.url;
        match &self.cause {
            Cause::Status { code, meaning, .. } => {
                write!(f, "the web server answers {code} {meaning} for {url}")
            }
            Cause::CutOff => write!(f, "cannot read {url}: it was cut off"),
            Cause::TooSlow => write!(f, "cannot read {url}: it comes too slowly"),
            Cause::TooLarge { len_max } => {
                write!(f, "cannot read {url}: it has more than {len_max} bytes")
            }
            Cause::Certificates(_) => write!(f, "cannot read {url}"),
            Cause::UnknownHost(text)
            | Cause::NotListening(text)
            | Cause::Untrusted(text)
            | Cause::Connection(text)
            | Cause::Redirect(text) => write!(f, "cannot read {url}: {}", escape(text)),
        }
    }
}

impl StdError for WebError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            Cause::Certificates(source) => Some(source),
            _ => None,
        }
    }
}

/// Returns whether an answer with this status may be another one in a moment.
const fn is_passing(code: u16) -> bool {
    matches!(code, 408 | 421 | 425 | 429 | 500..=599)
}

/// Joins an error with its causes, each once: the outer ones say little.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn StdError> = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        next = cause.source();
    }
    if text.is_empty() {
        error.to_string()
    } else {
        text
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(60);
