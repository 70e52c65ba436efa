//! Reads refs for clients of the old protocols, which are told before they announce anything.

use artifact_formats::{Checksum, RefName};
use artifact_protocol::session::RefQuery;

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::repository::{listing, objects, refs};
use crate::policy::Policy;

/// Returns refs with complete commits that a client may know, and whether all of them fitted.
pub(crate) fn heads<F: Fs>(
    fs: &F,
    policy: &Policy,
    query: &RefQuery,
) -> Result<(Vec<(RefName, Checksum)>, bool), Error> {
    let mut found = Vec::new();
    match query {
        RefQuery::Named(names) => {
            for name in names.iter().filter(|name| policy.tells(name)) {
                if let Some(commit) = refs::look(fs, &RepoPath::head(name))?.commit()
                    && objects::is_whole(fs, commit)?
                {
                    found.push((name.clone(), commit));
                }
            }
        }
        RefQuery::All { len_max } => {
            let mut len = 0;
            for (name, commit) in listing::list(fs)?.heads {
                let name = name.parse::<RefName>().ok();
                let Some(name) = name.filter(|name| policy.tells(name)) else {
                    continue;
                };
                len += name.as_str().len() + Checksum::LEN * 2;
                if len > *len_max {
                    return Ok((found, false));
                }
                if objects::is_whole(fs, commit)? {
                    found.push((name, commit));
                }
            }
        }
    }
    Ok((found, true))
}
