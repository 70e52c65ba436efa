//! Reads refs for clients of the old protocols, which are told before they announce anything.

use artifact_formats::{Checksum, RefName};
use artifact_protocol::session::RefQuery;

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::repository::{listing, objects, refs};

/// Returns refs with complete commits, and whether all of them fitted.
pub(crate) fn heads<F: Fs>(
    fs: &F,
    query: &RefQuery,
) -> Result<(Vec<(RefName, Checksum)>, bool), Error> {
    let mut found = Vec::new();
    match query {
        RefQuery::Named(names) => {
            for name in names {
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
                len += name.len() + Checksum::LEN * 2;
                if len > *len_max {
                    return Ok((found, false));
                }
                if let Ok(name) = name.parse()
                    && objects::is_whole(fs, commit)?
                {
                    found.push((name, commit));
                }
            }
        }
    }
    Ok((found, true))
}
