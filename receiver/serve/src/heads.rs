//! Which heads of requests are answered at all, whatever they ask for.
//!
//! The parser of HTTP is hyper's. What is refused here is what it takes and no puller sends: it is by
//! such that two programs come to read one stream of bytes differently.

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};

use crate::body::Body;
use crate::replies::{last, plain, set};

/// Returns the answer to a request that is not one of a puller's, whatever it asks for.
pub(crate) fn refuse<B: hyper::body::Body>(head: &Parts, body: &B) -> Option<Response<Body>> {
    let headers = &head.headers;
    // Nobody who pulls sends a body, and where it ends is what requests are smuggled by.
    if headers.contains_key(header::TRANSFER_ENCODING) || !body.is_end_stream() {
        let refusal = plain(StatusCode::BAD_REQUEST, "requests have no body here\n");
        return Some(last(refusal, head.version));
    }
    if let Err(why) = check_target(head) {
        return Some(last(plain(StatusCode::BAD_REQUEST, why), head.version));
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        set(&mut refusal, header::ALLOW, "GET, HEAD");
        return Some(last(refusal, head.version));
    }
    None
}

/// Checks that a request says one way for which host it is, and with a path.
fn check_target(head: &Parts) -> Result<(), &'static str> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("several hosts are named\n");
    }
    if head.version == Version::HTTP_11 && host.is_none() {
        return Err("no host is named\n");
    }
    let host = match host.map(HeaderValue::to_str) {
        Some(Ok(host)) => Some(host),
        Some(Err(_)) => return Err("the host is no name\n"),
        None => None,
    };
    let authority = head.uri.authority().map(|authority| authority.as_str());
    for name in [host, authority].into_iter().flatten() {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if name.len() > 255 || !name.bytes().all(allowed) {
            return Err("the host is no name\n");
        }
    }
    if head.version == Version::HTTP_2
        && let (Some(host), Some(authority)) = (host, authority)
        && !host.eq_ignore_ascii_case(authority)
    {
        return Err("two hosts are named\n");
    }
    let known = matches!(head.uri.scheme_str(), None | Some("http" | "https"));
    let method = matches!(head.method, Method::GET | Method::HEAD);
    if !known || (method && !head.uri.path().starts_with('/')) {
        return Err("that is no path\n");
    }
    Ok(())
}
