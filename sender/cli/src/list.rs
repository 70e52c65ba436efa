//! `artifact-cache list`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use artifact_formats::{Size, SummaryRef};
use artifact_protocol::exit;
use artifact_sender::escape;
use indicatif::HumanDuration;
use serde_json::json;

use crate::args::{self, Args};
use crate::config::Cache;
use crate::output::Output;
use crate::retry::retrying;
use crate::trouble::Trouble;
use crate::{caches, origin};

/// Prints the refs of all caches. If several caches have a ref, prints it as the first of them has
/// it.
pub(crate) async fn run(list: &args::List, args: &Args, output: &Output) -> u8 {
    let caches = match caches::to_read(&list.remote, args) {
        Ok(caches) => caches,
        Err(trouble) => return output.trouble(&trouble),
    };
    let strict = list.strict || caches.len() == 1;
    let mut refs = BTreeMap::new();
    let mut answered = false;
    for cache in &caches {
        let read = retrying(list.retries, output, async || {
            read(cache, args, output).await
        });
        match read.await {
            Ok(read) => {
                answered = true;
                for (name, found) in read {
                    if list
                        .pattern
                        .as_ref()
                        .is_none_or(|pattern| pattern.matches(&name))
                    {
                        refs.entry(name).or_insert((cache, found));
                    }
                }
            }
            Err(trouble) if !strict => output.warning(&trouble.text),
            Err(trouble) => return output.trouble(&trouble),
        }
    }
    if !answered {
        output.error("could not read any cache", None);
        return exit::CONNECTION;
    }
    if refs.is_empty() {
        let of = (list.pattern.as_ref()).map_or(String::new(), |p| format!(" that matches {p}"));
        output.note(&match &caches[..] {
            [cache] => format!("{} has no ref{of}", cache.address),
            _ => format!("none of the caches has a ref{of}"),
        });
    }
    show(&refs, output);
    exit::DONE
}

async fn read(
    cache: &Cache,
    args: &Args,
    output: &Output,
) -> Result<BTreeMap<String, SummaryRef>, Trouble> {
    let origin = origin::of(cache, args, output).await?;
    let refs = origin.refs().await;
    refs.map_err(|error| Trouble::of_reading(&error))
}

fn show(refs: &BTreeMap<String, (&Cache, SummaryRef)>, output: &Output) {
    let width = refs.keys().map(|name| escape(name).chars().count()).max();
    let width = width.unwrap_or(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    for (name, (cache, found)) in refs {
        let age = found.timestamp.map_or("-".to_owned(), |seconds| {
            let age = now.saturating_sub(Duration::from_secs(seconds));
            HumanDuration(age).to_string()
        });
        let size = found
            .size
            .map_or("-".to_owned(), |size| Size(size).to_string());
        output.line(&format!("{:width$}  {age:>10}  {size:>10}", escape(name)));
        output.object(&json!({
            "event": "ref",
            "name": name,
            "commit": found.commit.to_hex(),
            "timestamp": found.timestamp,
            "version": found.version,
            "size": found.size,
            "cache": cache.address.to_string(),
        }));
    }
}
