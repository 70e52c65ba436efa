//! A file as an answer: whole or in part, if the request's conditions hold.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::header;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use crate::answer::context::{Context, Shared};
use crate::answer::paths::{Kind, Wanted};
use crate::answer::ranges::{self, Outcome};
use crate::reply::{Body, NO_CACHE, plain, read_now, set, status};
use crate::repository::{Found, Identity};

/// Opens a requested file, if pullers may have it.
pub(crate) async fn find(context: &Context, wanted: &Wanted) -> io::Result<Option<Found>> {
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
pub(crate) const fn cache_control(shared: &Shared, immutable: bool) -> &'static str {
    match (immutable, shared.private) {
        (false, _) => NO_CACHE,
        (true, false) => IMMUTABLE,
        (true, true) => IMMUTABLE_PRIVATE,
    }
}

/// Answers with a file, or the requested part of it.
pub(crate) fn file(
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

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// For a server that requires certificates: shared caches must not keep its answers.
const IMMUTABLE_PRIVATE: &str = "private, max-age=31536000, immutable";
/// Up to this length, a file is read at once.
const MAX_SHORT_LEN: u64 = 32 * 1024;
