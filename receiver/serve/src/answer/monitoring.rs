//! What monitoring asks: metrics, and whether the server lives and serves.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use crate::answer::context::{Context, Shared};
use crate::reply::{Body, not_found, plain};
use crate::report::{Entry, Metrics};
use crate::repository::SUMMARY;

/// Answers monitoring.
pub(crate) fn watch(context: &Context, head: &Parts, entry: &mut Entry) -> Response<Body> {
    entry.kind = "watch";
    match head.uri.path() {
        "/metrics" => {
            let text = metrics_text(&context.shared);
            let mut response = plain(StatusCode::OK, text);
            let kind = HeaderValue::from_static(Metrics::CONTENT_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        "/livez" => plain(StatusCode::OK, "alive\n"),
        "/readyz" => ready(context),
        _ => not_found(),
    }
}

/// Answers whether the server serves.
pub(crate) fn ready(context: &Context) -> Response<Body> {
    let shared = &context.shared;
    if shared.stopping.load(Ordering::Relaxed) {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    match shared.files.config() {
        Ok(_) => plain(StatusCode::OK, "ready\n"),
        Err(error) => {
            tracing::warn!("not ready: {error}");
            plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "the repository cannot be read\n",
            )
        }
    }
}

fn metrics_text(shared: &Shared) -> String {
    if let Some(log) = &shared.log {
        let dropped = i64::try_from(log.lines.dropped()).unwrap_or(i64::MAX);
        shared.metrics.log_dropped.set(dropped);
    }
    if let Ok(Some(summary)) = shared.files.look(SUMMARY) {
        let (seconds, nanoseconds) = summary.modified;
        let modified = Duration::new(
            u64::try_from(seconds).unwrap_or_default(),
            u32::try_from(nanoseconds).unwrap_or_default(),
        );
        shared.metrics.summary_modified.set(modified.as_secs_f64());
    }
    shared.metrics.text()
}
