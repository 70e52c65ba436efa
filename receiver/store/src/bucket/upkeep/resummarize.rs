//! Rebuilds the summary of a bucket from its refs.

use artifact_formats::Summary;

use crate::bucket::client::Client;
use crate::bucket::layout;
use crate::bucket::summary::{self, Maker};
use crate::bucket::upkeep::look;
use crate::error::Error;
use crate::local::summary::MadeSummary;
use crate::local::summary::config::SummaryConfig;

/// Makes the summary from all refs, regardless of the current one, while pushes run.
pub fn rebuild_summary(client: &Client, config: &SummaryConfig) -> Result<MadeSummary, Error> {
    let repo = look::config(client)?.ok_or(look::NO_CACHE)?;
    let key = layout::summary();
    let read = || {
        let found = client.get(&key).map_err(Error::bucket("reading", &key))?;
        Ok::<_, Error>(found.map(|found| found.content).unwrap_or_default())
    };
    let before = read()?;
    let done_with = summary::rebuild(Maker {
        client,
        config,
        repo: &repo,
    })?;
    let removed = client.delete(&done_with);
    removed.map_err(Error::bucket("removing", &"notes of pushes"))?;
    let after = read()?;
    let parse = |content: &[u8]| Summary::parse(content).unwrap_or_default();
    let (old, mut new) = (parse(&before), parse(&after));
    let refs = new.refs.len();
    let mut left_out = 0;
    for entry in client.list_each(layout::HEADS) {
        let entry = entry.map_err(Error::bucket("listing", &"refs"))?;
        let name = layout::head_of(&entry.key);
        let wanted = name.filter(|name| config.mode.names(name.as_str()));
        left_out += usize::from(wanted.is_some_and(|name| !new.refs.contains_key(name.as_str())));
    }
    new.last_modified = old.last_modified;
    Ok(MadeSummary {
        refs,
        len: after.len(),
        left_out,
        replaced: old != new,
    })
}
