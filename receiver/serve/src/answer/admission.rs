//! From the head of a request to its answer.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use artifact_protocol::Version;
use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

use crate::answer::context::{Context, Role, Shared};
use crate::answer::heads::refuse;
use crate::answer::page;
use crate::answer::paths::{Asked, Kind, Wanted};
use crate::answer::ranges::{self, Outcome};
use crate::limits::Source;
use crate::pull;
use crate::reply::{
    Body, NO_CACHE, no_cache, not_found, plain, read_now, retry_later, set, status,
};
use crate::report::{self, Entry, Metrics};
use crate::repository::{Found, Identity, Which};

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

/// Lets a request proceed once a place is free.
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
    let result = match context.role {
        Role::Pullers => give(context, head, client, entry).await,
        Role::Metrics => Ok(watch(context, head, entry)),
    };
    result.unwrap_or_else(|error| fault(head, &error))
}

/// Answers monitoring.
fn watch(context: &Context, head: &Parts, entry: &mut Entry) -> Response<Body> {
    entry.kind = "watch";
    match head.uri.path() {
        "/metrics" => {
            let text = context.shared.metrics_text();
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

/// Answers pullers.
async fn give(
    context: &Context,
    head: &Parts,
    client: Option<IpAddr>,
    entry: &mut Entry,
) -> io::Result<Response<Body>> {
    let shared = &context.shared;
    match Asked::parse(&shared.at, head.uri.path()) {
        Asked::File(wanted) => {
            entry.kind = wanted.kind.name();
            let Some(found) = find(context, &wanted).await? else {
                return Ok(not_found());
            };
            let cache = cache_control(shared, wanted.kind.is_immutable());
            file(context, head, found.file, found.identity, cache)
        }
        asked @ (Asked::Summary | Asked::Signature) => {
            entry.kind = "summary";
            let which = match asked {
                Asked::Summary => Which::Summary,
                _ => Which::Signature,
            };
            let pair = match context.half.take(which, client) {
                Some(pair) => pair,
                None => {
                    let pair = shared.pairs.current(&shared.files).await?;
                    context.half.give(which, client, &pair);
                    pair
                }
            };
            let Some(found) = pair.get(which) else {
                return Ok(not_found());
            };
            let cache = cache_control(shared, false);
            file(
                context,
                head,
                Arc::clone(&found.file),
                found.identity,
                cache,
            )
        }
        Asked::Config => {
            entry.kind = "config";
            let config = shared.files.config().map_err(io::Error::other)?;
            let mut response = plain(StatusCode::OK, config.for_pullers());
            no_cache(&mut response);
            if shared.puller.is_some() {
                set(&mut response, pull::HEADER, &Version::NEWEST.to_string());
            }
            Ok(response)
        }
        Asked::Live => Ok(plain(StatusCode::OK, "alive\n")),
        Asked::Ready => Ok(ready(context)),
        Asked::Other => {
            entry.kind = "page";
            page::answer(shared.site.as_ref(), head).await
        }
    }
}

/// Opens a requested file, if pullers may have it.
async fn find(context: &Context, wanted: &Wanted) -> io::Result<Option<Found>> {
    let files = &context.shared.files;
    let found = match files.find_now(&wanted.path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let (shared, path) = (Arc::clone(&context.shared), wanted.path.clone());
            let find = move || shared.files.find(&path);
            tokio::task::spawn_blocking(find)
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the opening thread is gone")))?
        }
        found => found?,
    };
    // A puller that finds a commit relies on everything below it. Without the commit, it knows at
    // once that it cannot have it.
    let partial = match wanted.kind {
        Kind::Commit => wanted.partial_mark(),
        _ => None,
    };
    match partial {
        Some(mark) if found.is_some() && files.find(&mark)?.is_some() => Ok(None),
        _ => Ok(found),
    }
}

/// Returns how long caches may keep a file.
const fn cache_control(shared: &Shared, immutable: bool) -> &'static str {
    match (immutable, shared.private) {
        (false, _) => NO_CACHE,
        (true, false) => IMMUTABLE,
        (true, true) => IMMUTABLE_PRIVATE,
    }
}

/// Answers with a file, or the requested part of it.
fn file(
    context: &Context,
    head: &Parts,
    file: Arc<std::fs::File>,
    identity: Identity,
    cache: &'static str,
) -> io::Result<Response<Body>> {
    let validators = identity.validators();
    let len = identity.len;
    let ranges = head.method == Method::GET;
    let outcome = ranges::decide(&head.headers, &validators, ranges, SystemTime::now());
    let part = |first: u64, len: u64| body(context, &file, first, len, ranges);
    let mut response = match outcome {
        Outcome::Whole => Response::new(part(0, len)?),
        Outcome::Part(first, last) => {
            let mut response = Response::new(part(first, last - first + 1)?);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {first}-{last}/{len}");
            set(&mut response, header::CONTENT_RANGE, &range);
            response
        }
        Outcome::NotModified => status(StatusCode::NOT_MODIFIED),
        Outcome::PreconditionFailed => {
            plain(StatusCode::PRECONDITION_FAILED, "it is another one now\n")
        }
        Outcome::Unsatisfiable => {
            let refusal = StatusCode::RANGE_NOT_SATISFIABLE;
            let mut response = plain(refusal, "it is not as long as that\n");
            set(
                &mut response,
                header::CONTENT_RANGE,
                &format!("bytes */{len}"),
            );
            response
        }
    };
    let given = response.status().is_success();
    if given {
        let len = response.body().len().to_string();
        set(&mut response, header::CONTENT_LENGTH, &len);
        set(
            &mut response,
            header::CONTENT_TYPE,
            "application/octet-stream",
        );
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    }
    if given || response.status() == StatusCode::NOT_MODIFIED {
        set(&mut response, header::ETAG, &validators.tag);
        let date = httpdate::fmt_http_date(validators.modified);
        set(&mut response, header::LAST_MODIFIED, &date);
        set(&mut response, header::CACHE_CONTROL, cache);
    }
    Ok(response)
}

/// Returns a part of a file: at once if it is short and in memory, so that no file stays open for
/// it.
fn body(
    context: &Context,
    file: &Arc<std::fs::File>,
    at: u64,
    len: u64,
    wanted: bool,
) -> io::Result<Body> {
    if len <= MAX_SHORT_LEN && wanted {
        let mut buffer = vec![0; usize::try_from(len).unwrap_or_default()];
        match read_now(file, &mut buffer, at) {
            Ok(read) if read == buffer.len() => return Ok(Body::bytes(buffer)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let readers = &context.shared.readers;
    Ok(Body::file(Arc::clone(file), at, len, readers))
}

fn ready(context: &Context) -> Response<Body> {
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

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// For a server that requires certificates: shared caches must not keep its answers.
const IMMUTABLE_PRIVATE: &str = "private, max-age=31536000, immutable";
/// Up to this length, a file is read at once.
const MAX_SHORT_LEN: u64 = 32 * 1024;
/// How long a request waits for others to end.
const WAIT_FOR_PLACE: Duration = Duration::from_secs(10);
