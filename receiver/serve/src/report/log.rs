//! The record of each request: a line of the access log, and metrics.
//!
//! Clients' text is escaped, so that an entry is one line, and its fields are unambiguous.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use artifact_lines::Lines;
use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, StatusCode, Version};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::limits::{Running, Share};
use crate::report::metrics::Metrics;

/// The format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache's combined format, which most programs read.
    Combined,
    /// One JSON object per line.
    Json,
}

/// The access log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// The format of a line.
    pub format: Format,
    /// The target.
    pub lines: Arc<Lines>,
}

/// A request with an unfinished answer. Logged when it is dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) asked: Request,
    pub(crate) kind: &'static str,
    pub(crate) status: StatusCode,
    /// Length of the answer's body in bytes.
    pub(crate) len: u64,
    sent: u64,
    begun: Instant,
    metrics: Arc<Metrics>,
    log: Option<AccessLog>,
    /// Held until the answer ends.
    pub(crate) share: Option<Share>,
    pub(crate) place: Option<OwnedSemaphorePermit>,
    _running: Running,
}

/// The request's target, and its client.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) client: Option<IpAddr>,
    pub(crate) method: Method,
    pub(crate) target: Option<PathAndQuery>,
    pub(crate) version: Version,
    pub(crate) agent: Option<HeaderValue>,
    pub(crate) referer: Option<HeaderValue>,
}

impl Entry {
    pub(crate) fn begin(
        asked: Request,
        metrics: Arc<Metrics>,
        log: Option<AccessLog>,
        running: Running,
    ) -> Self {
        Self {
            asked,
            kind: "other",
            status: StatusCode::OK,
            len: 0,
            sent: 0,
            begun: Instant::now(),
            metrics,
            log,
            share: None,
            place: None,
            _running: running,
        }
    }

    /// Counts bytes of the body that the client takes.
    pub(crate) fn count(&mut self, len: usize) {
        self.sent += len as u64;
    }

    /// Notes the end of a body whose length was not known.
    pub(crate) fn complete(&mut self) {
        self.len = self.sent;
    }

    fn line(&self, format: Format) -> String {
        let request = &self.asked;
        let target = request.target.as_ref().map_or("*", PathAndQuery::as_str);
        match format {
            Format::Combined => {
                let client = request.client.map_or("-".to_owned(), |ip| ip.to_string());
                let field = |value: &Option<HeaderValue>| {
                    value
                        .as_ref()
                        .map_or("-".to_owned(), |value| escaped(value.as_bytes()))
                };
                format!(
                    "{client} - - [{}] \"{} {} {:?}\" {} {} \"{}\" \"{}\"",
                    clf_date(SystemTime::now()),
                    escaped(request.method.as_str().as_bytes()),
                    escaped(target.as_bytes()),
                    request.version,
                    self.status.as_u16(),
                    self.sent,
                    field(&request.referer),
                    field(&request.agent),
                )
            }
            Format::Json => {
                let agent = request.agent.as_ref();
                json!({
                    "event": "request",
                    "time": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
                    "client": request.client.map(|ip| ip.to_string()),
                    "method": request.method.as_str(),
                    "target": target,
                    "version": format!("{:?}", request.version),
                    "status": self.status.as_u16(),
                    "kind": self.kind,
                    "sent": self.sent,
                    "complete": self.sent == self.len,
                    "seconds": self.begun.elapsed().as_secs_f64(),
                    "agent": agent.map(|value| escaped(value.as_bytes())),
                })
                .to_string()
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.metrics
            .request(self.kind, self.status, self.sent, seconds);
        if let Some(log) = &self.log {
            log.lines.push(&self.line(log.format));
        }
    }
}

/// Writes bytes as printable ASCII without a bare quote, as nginx does.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                let _ = write!(text, "\\x{byte:02X}");
            }
            _ => text.push(char::from(byte)),
        }
    }
    text
}

/// Turns `Thu, 26 Nov 2026 12:00:00 GMT` into `26/Nov/2026:12:00:00 +0000`.
fn clf_date(time: SystemTime) -> String {
    let date = httpdate::fmt_http_date(time);
    let mut words = date.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    let (day, month, year, clock) = (word(), word(), word(), word());
    format!("{day}/{month}/{year}:{clock} +0000")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::limits::Activity;

    fn entry(target: &str, agent: &[u8]) -> Entry {
        let asked = Request {
            client: Some("192.0.2.1".parse().unwrap()),
            method: Method::GET,
            target: target.parse().ok(),
            version: Version::HTTP_2,
            agent: HeaderValue::from_bytes(agent).ok(),
            referer: None,
        };
        let running = Arc::<Activity>::default().begin();
        let mut entry = Entry::begin(asked, Metrics::new(), None, running);
        entry.len = 5;
        entry.count(5);
        entry
    }

    #[test]
    fn a_request_is_a_line_of_the_form_that_other_programs_read() {
        let line = entry("/artifacts/summary?x", b"curl \"8\"").line(Format::Combined);
        let (before, rest) = line.split_once(" [").unwrap();
        let (_, after) = rest.split_once("] ").unwrap();
        assert_eq!(before, "192.0.2.1 - -");
        let asked = "\"GET /artifacts/summary?x HTTP/2.0\" 200 5 \"-\" \"curl \\x228\\x22\"";
        assert_eq!(after, asked);
        assert_eq!(
            clf_date(UNIX_EPOCH + Duration::from_secs(1_795_694_400)),
            "26/Nov/2026:12:00:00 +0000"
        );
    }

    #[test]
    fn a_request_is_an_object_of_json() {
        let line = entry("/x", b"a\xffb").line(Format::Json);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["agent"], "a\\xFFb");
        assert_eq!(value["client"], "192.0.2.1");
        assert_eq!(
            (&value["sent"], &value["complete"]),
            (&json!(5), &json!(true))
        );
    }

    proptest! {
        #[test]
        fn whatever_a_client_says_stays_one_line_and_within_its_quotes(agent: Vec<u8>) {
            let entry = entry("/x", &agent);
            let line = entry.line(Format::Combined);
            prop_assert!(line.bytes().all(|b| matches!(b, b' '..=b'~')));
            prop_assert_eq!(line.matches('"').count(), 6);
            prop_assert_eq!(entry.line(Format::Json).lines().count(), 1);
        }
    }
}
