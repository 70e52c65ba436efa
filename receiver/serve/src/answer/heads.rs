//! Checks the heads of requests, whatever their target.
//!
//! hyper parses HTTP. These checks refuse heads that hyper accepts and no puller sends: with such
//! heads, two programs may read the same bytes differently.

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};

use crate::reply::{Body, last, plain, set};

/// Returns the refusal of a request that no puller would send, whatever its target.
///
/// `is_pull` says that the path is that of pulls, which are the only requests with a body.
pub(crate) fn refuse<B: hyper::body::Body>(
    head: &Parts,
    body: &B,
    is_pull: bool,
) -> Option<Response<Body>> {
    let refuse = |status, why| Some(last(plain(status, why), head.version));
    let is_chunked = head.headers.contains_key(header::TRANSFER_ENCODING);
    let takes_body = is_pull && head.method == Method::POST;
    // Request smuggling plays with the end of a body.
    if takes_body && is_chunked {
        return refuse(StatusCode::LENGTH_REQUIRED, "a pull says its length\n");
    }
    if is_chunked || !(takes_body || body.is_end_stream()) {
        return refuse(StatusCode::BAD_REQUEST, "requests have no body here\n");
    }
    if let Err(why) = check_target(head) {
        return refuse(StatusCode::BAD_REQUEST, why);
    }
    let (allowed, why) = match is_pull {
        true => ("POST", "only POST\n"),
        false => ("GET, HEAD", "only GET and HEAD\n"),
    };
    if takes_body || (!is_pull && matches!(head.method, Method::GET | Method::HEAD)) {
        return None;
    }
    let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, why);
    set(&mut refusal, header::ALLOW, allowed);
    Some(last(refusal, head.version))
}

/// Checks that a request names exactly one host, and a path.
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
        Some(Err(_)) => return Err("the host is not a valid name\n"),
        None => None,
    };
    let authority = head.uri.authority().map(|authority| authority.as_str());
    for name in [host, authority].into_iter().flatten() {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if name.len() > 255 || !name.bytes().all(allowed) {
            return Err("the host is not a valid name\n");
        }
    }
    if head.version == Version::HTTP_2
        && let (Some(host), Some(authority)) = (host, authority)
        && !host.eq_ignore_ascii_case(authority)
    {
        return Err("two hosts are named\n");
    }
    let known = matches!(head.uri.scheme_str(), None | Some("http" | "https"));
    let method = matches!(head.method, Method::GET | Method::HEAD | Method::POST);
    if !known || (method && !head.uri.path().starts_with('/')) {
        return Err("the target is not a path\n");
    }
    Ok(())
}
