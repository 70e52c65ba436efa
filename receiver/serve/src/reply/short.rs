//! The building blocks of answers.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode, Version};

use crate::reply::body::Body;

pub(crate) fn retry_later(status: StatusCode, why: &str) -> Response<Body> {
    let mut response = plain(status, format!("{why}: try again\n"));
    set(&mut response, header::RETRY_AFTER, "5");
    response
}

pub(crate) fn not_found() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "not found\n")
}

/// A short text that caches must not keep.
pub(crate) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let body = Body::bytes(text);
    let len = body.len().to_string();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    set(
        &mut response,
        header::CONTENT_TYPE,
        "text/plain; charset=utf-8",
    );
    set(&mut response, header::CONTENT_LENGTH, &len);
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    no_cache(&mut response);
    response
}

pub(crate) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

pub(crate) fn no_cache(response: &mut Response<Body>) {
    set(response, header::CACHE_CONTROL, NO_CACHE);
}

/// Closes the connection after this answer: further bytes on it cannot be trusted.
pub(crate) fn last(mut response: Response<Body>, version: Version) -> Response<Body> {
    if version != Version::HTTP_2 {
        set(&mut response, header::CONNECTION, "close");
    }
    response
}

pub(crate) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    // The value is always printable ASCII.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

pub(crate) const NO_CACHE: &str = "no-cache";
