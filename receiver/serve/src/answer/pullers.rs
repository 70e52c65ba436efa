//! What pullers, and readers of the page, ask: each path leads to what it names.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use artifact_protocol::Version;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use crate::answer::context::Context;
use crate::answer::file::{cache_control, file, find};
use crate::answer::monitoring::ready;
use crate::answer::page;
use crate::answer::paths::Asked;
use crate::pull;
use crate::reply::{Body, no_cache, not_found, plain, set};
use crate::report::Entry;
use crate::repository::Which;

/// Answers pullers.
pub(crate) async fn give(
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
