//! Rebuilds the summary of a bucket from its refs.

use artifact_formats::Summary;

use crate::bucket::records::{config, layout, refs};
use crate::bucket::requests::client::Client;
use crate::bucket::summary::{self, Maker};
use crate::error::Error;
use crate::summary::MadeSummary;
use crate::summary::config::SummaryConfig;

/// Makes the summary from all refs, regardless of the current one, while pushes run.
pub fn rebuild_summary(client: &Client, config: &SummaryConfig) -> Result<MadeSummary, Error> {
    let repo = config::read(client)?;
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
    for entry in refs::list(client) {
        let (name, _) = entry?;
        let name = name.as_str();
        left_out += usize::from(config.mode.names(name) && !new.refs.contains_key(name));
    }
    new.last_modified = old.last_modified;
    Ok(MadeSummary {
        refs,
        len: after.len(),
        left_out,
        replaced: old != new,
    })
}
