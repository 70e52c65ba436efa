//! The page for people, at the root of the host. `artifact-page` makes it; here it becomes an
//! answer.

use std::io;
use std::sync::Arc;

use artifact_page::{Page, Site};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use crate::reply::{Body, not_found, set, status};

/// Answers a request for a path that is none of a puller's.
///
/// Whoever can read a page gets one also where there is nothing; others get a short text.
pub(crate) async fn answer(site: Option<&Arc<Site>>, head: &Parts) -> io::Result<Response<Body>> {
    let Some(site) = site.cloned() else {
        return Ok(not_found());
    };
    let path = head.uri.path().to_owned();
    let query = head.uri.query().map(str::to_owned);
    let host = host(head);
    let reads = reads_pages(&head.headers);
    // It may look at directories first.
    let answered = tokio::task::spawn_blocking(move || {
        let page = site.answer(&path, query.as_deref(), &host);
        page.or_else(|| reads.then(|| site.not_found(&path, &host)))
    });
    let page = answered
        .await
        .map_err(|_| io::Error::other("the thread that makes pages is gone"))?;
    Ok(page.map_or_else(not_found, |page| response(page, &head.headers)))
}

fn response(page: Page, asked: &HeaderMap) -> Response<Body> {
    let tag = page.headers.iter().find(|(name, _)| *name == "ETag");
    let has_it = page.status == 200 && tag.is_some_and(|(_, tag)| has(asked, tag));
    let mut response = if has_it {
        status(StatusCode::NOT_MODIFIED)
    } else {
        let mut response = Response::new(Body::bytes(page.body));
        let len = response.body().len().to_string();
        set(&mut response, header::CONTENT_LENGTH, &len);
        set(&mut response, header::CONTENT_TYPE, page.content_type);
        *response.status_mut() =
            StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response
    };
    for (name, value) in page.headers {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            set(&mut response, name, &value);
        }
    }
    response
}

/// Returns whether the client says that it has what this tag is of.
fn has(asked: &HeaderMap, tag: &str) -> bool {
    let values = asked.get_all(header::IF_NONE_MATCH).iter();
    let tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

/// Returns whether the client is a program that shows pages.
fn reads_pages(asked: &HeaderMap) -> bool {
    let accepts = asked.get(header::ACCEPT).map(HeaderValue::to_str);
    accepts.is_some_and(|accepts| accepts.is_ok_and(|accepts| accepts.contains("text/html")))
}

/// Returns the host that the client has asked, as it says.
fn host(head: &Parts) -> String {
    let named = head.headers.get(header::HOST);
    let named = named.and_then(|host| host.to_str().ok());
    let authority = head.uri.authority().map(|authority| authority.as_str());
    named.or(authority).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_the_client_has_is_not_sent_again() {
        let page = || Page {
            status: 200,
            content_type: "text/html",
            headers: vec![("ETag", "\"a\"".to_owned())],
            body: b"page".to_vec(),
        };
        for (known, code, len) in [
            (None, 200, 4),
            (Some("\"b\""), 200, 4),
            (Some("\"b\", W/\"a\""), 304, 0),
            (Some("*"), 304, 0),
        ] {
            let mut asked = HeaderMap::new();
            if let Some(known) = known {
                asked.insert(header::IF_NONE_MATCH, HeaderValue::from_static(known));
            }
            let response = response(page(), &asked);
            let found = (response.status().as_u16(), response.body().len());
            assert_eq!(found, (code, len), "{known:?}");
            assert_eq!(response.headers()[header::ETAG], "\"a\"");
        }
        let missing = Page {
            status: 404,
            ..page()
        };
        let mut asked = HeaderMap::new();
        asked.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert_eq!(response(missing, &asked).status(), 404);
    }
}
