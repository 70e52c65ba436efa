//! The way of every request: checked, logged, admitted once a place is free, and answered.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

use crate::answer::context::{Context, Role};
use crate::answer::heads::refuse;
use crate::answer::monitoring::watch;
use crate::answer::pullers::give;
use crate::limits::Source;
use crate::pull;
use crate::reply::{Body, plain, retry_later};
use crate::report::{self, Entry};

/// Answers a request. Every request gets an answer.
pub(crate) async fn answer<B>(context: &Context, request: Request<B>) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let (head, body) = request.into_parts();
    let client = context.client(&head.headers);
    let shared = &context.shared;
    let mut entry = Entry::begin(
        report::Request {
            client,
            method: head.method.clone(),
            target: head.uri.path_and_query().cloned(),
            version: head.version,
            agent: head.headers.get(header::USER_AGENT).cloned(),
            referer: head.headers.get(header::REFERER).cloned(),
        },
        Arc::clone(&shared.metrics),
        shared.log.clone(),
        context.activity.begin(),
    );
    let is_pull = context.puller(&head).is_some();
    let response = match refuse(&head, &body, is_pull) {
        Some(refusal) => refusal,
        None => admit(context, &head, body, client, &mut entry).await,
    };
    entry.status = response.status();
    let is_head = head.method == Method::HEAD;
    entry.len = if is_head { 0 } else { response.body().len() };
    response.map(|body| if is_head { body.into_head() } else { body }.with(entry))
}

/// Lets a request proceed once a place is free; one of monitoring needs none.
async fn admit<B>(
    context: &Context,
    head: &Parts,
    body: B,
    client: Option<IpAddr>,
    entry: &mut Entry,
) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    if context.role == Role::Metrics {
        // A server whose places are all taken is alive, and must say so.
        return watch(context, head, entry);
    }
    let shared = &context.shared;
    if let Some(client) = client.filter(|client| !client.is_loopback()) {
        match shared.answers_each.take(Source::of(client)) {
            Some(share) => entry.share = Some(share),
            None => {
                let refusal = StatusCode::TOO_MANY_REQUESTS;
                return retry_later(refusal, "too many requests of yours are running");
            }
        }
    }
    let place = Arc::clone(&shared.answers).acquire_owned();
    match tokio::time::timeout(WAIT_FOR_PLACE, place).await {
        Ok(Ok(place)) => entry.place = Some(place),
        Ok(Err(_)) | Err(_) => {
            return retry_later(StatusCode::SERVICE_UNAVAILABLE, "the server is busy");
        }
    }
    if let Some(puller) = context.puller(head) {
        entry.kind = "pull";
        return pull::answer(puller, &context.activity, head, body, client).await;
    }
    let given = give(context, head, client, entry).await;
    given.unwrap_or_else(|error| fault(head, &error))
}

/// An error on the server's side: the operator gets the reason, the client only the fact.
fn fault(head: &Parts, error: &io::Error) -> Response<Body> {
    let path = head.uri.path();
    tracing::warn!("cannot serve {}: {error}", artifact_protocol::escape(path));
    match error.kind() {
        io::ErrorKind::PermissionDenied => plain(
            StatusCode::FORBIDDEN,
            "the server may not read this; its log says more\n",
        ),
        _ => retry_later(StatusCode::INTERNAL_SERVER_ERROR, "the server failed"),
    }
}

/// How long a request waits for others to end.
const WAIT_FOR_PLACE: Duration = Duration::from_secs(10);
