//! `artifact-cache pull`: which ref comes from which cache. How it comes is in `local`.

mod local;

use std::collections::{BTreeMap, BTreeSet};

use artifact_formats::RefPattern;
use artifact_protocol::exit;
use artifact_sender::{Checksum, RefName, escape};
use indicatif::{DecimalBytes, HumanCount};
use serde_json::json;

use self::local::LocalRepo;
use crate::address::Address;
use crate::args::{self, Args};
use crate::caches;
use crate::origin::Origin;
use crate::output::Output;
use crate::trouble::Trouble;

/// Pulls each ref from the first cache that has it.
pub(crate) async fn run(pull: &args::Pull, args: &Args, output: &Output) -> u8 {
    let (caches, repo) = match prepare(pull, args, output) {
        Ok(prepared) => prepared,
        Err(trouble) => return output.trouble(&trouble),
    };
    let strict = pull.strict || caches.len() == 1;
    let mut wanted = Wanted::new(pull);
    let mut unusable = None;
    for cache in &caches {
        if wanted.is_satisfied() {
            break;
        }
        match pull_from(cache, &repo, &mut wanted, pull, args, output).await {
            Ok(()) => {}
            // Another cache does not help.
            Err(trouble) if strict || trouble.code == exit::SOURCE => {
                return output.trouble(&trouble);
            }
            Err(trouble) => {
                output.warning(&trouble.text);
                unusable.get_or_insert(trouble.code);
            }
        }
    }
    let mut code = exit::DONE;
    for name in &wanted.names {
        output.error(&format!("no cache has {name}"), None);
        // It may be where nobody answered.
        code = unusable.unwrap_or(exit::NOT_FOUND);
    }
    if let (Some(pattern), true) = (&pull.all, wanted.pulled.is_empty()) {
        output.error(
            &format!("no cache has a ref of the pattern {pattern}"),
            None,
        );
        code = unusable.unwrap_or(exit::NOT_FOUND);
    }
    code
}

fn prepare(
    pull: &args::Pull,
    args: &Args,
    output: &Output,
) -> Result<(Vec<Address>, LocalRepo), Trouble> {
    let caches = caches::to_read(&pull.remote, args)?;
    let (repo, made) = LocalRepo::open_or_make(&pull.repo)?;
    if made {
        output.line(&format!(
            "made a repository of mode bare-user in {}",
            pull.repo.display()
        ));
    }
    Ok((caches, repo))
}

/// Pulls what a cache has of what is still wanted.
async fn pull_from(
    cache: &Address,
    repo: &LocalRepo,
    wanted: &mut Wanted,
    pull: &args::Pull,
    args: &Args,
    output: &Output,
) -> Result<(), Trouble> {
    let origin = Origin::of(cache, args, output).await?;
    let config = origin.config()?;
    let found = wanted.find(&origin, output)?;
    if found.is_empty() {
        return Ok(());
    }
    let mut refs = Vec::new();
    for (name, commit) in &found {
        let before = repo.commit_of(name)?;
        let status = if before == Some(*commit) {
            "unchanged"
        } else {
            "pulled"
        };
        refs.push((name, commit, status));
    }
    let progress = output.pull_progress();
    let result = repo.pull(&origin, &config, &found, pull.depth, &progress);
    let took = progress.finish();
    let stats = result?;
    for (name, _, status) in &refs {
        output.line(&format!("{name}  {status}"));
    }
    if refs.iter().any(|(_, _, status)| *status == "pulled") {
        let bytes = match stats.bytes {
            0 => String::new(),
            bytes => format!(", {}", DecimalBytes(bytes)),
        };
        output.line(&format!(
            "fetched {} objects{bytes} in {:.1} s, from {origin}",
            HumanCount(stats.objects),
            took.as_secs_f64(),
        ));
    }
    let refs = refs.iter().map(|(name, commit, status)| {
        json!({ "name": name.as_str(), "commit": commit.to_hex(), "status": status })
    });
    output.object(&json!({
        "event": "done",
        "remote": cache.to_string(),
        "origin": origin.to_string(),
        "refs": refs.collect::<Vec<_>>(),
        "objects_fetched": stats.objects,
        "bytes_fetched": stats.bytes,
        "seconds": took.as_secs_f64(),
    }));
    wanted.strike(found);
    Ok(())
}

/// What is to be pulled, less what was.
struct Wanted {
    names: BTreeSet<RefName>,
    pattern: Option<RefPattern>,
    pulled: BTreeSet<RefName>,
}

impl Wanted {
    fn new(pull: &args::Pull) -> Self {
        Self {
            names: pull.refs.iter().cloned().collect(),
            pattern: pull.all.clone(),
            pulled: BTreeSet::new(),
        }
    }

    /// Of a pattern, the next cache may always have more.
    fn is_satisfied(&self) -> bool {
        self.pattern.is_none() && self.names.is_empty()
    }

    /// Returns what a cache has of it.
    fn find(&self, origin: &Origin, output: &Output) -> Result<Found, Trouble> {
        let Some(pattern) = &self.pattern else {
            return self.find_names(origin);
        };
        let mut found = Found::new();
        for (name, entry) in origin.refs()? {
            if !pattern.matches(&name) {
                continue;
            }
            match name.parse::<RefName>() {
                Ok(name) if self.pulled.contains(&name) => {}
                Ok(name) => drop(found.insert(name, entry.commit)),
                Err(error) => {
                    output.warning(&format!("left out {:?}: {error}", escape(&name)));
                }
            }
        }
        Ok(found)
    }

    fn find_names(&self, origin: &Origin) -> Result<Found, Trouble> {
        // The summary may be large, and name no more than the operator wants it to.
        let summary = match self.names.len() {
            ..=FEW => None,
            _ => origin.summary()?,
        };
        let listed = |name: &RefName| Some(summary.as_ref()?.refs.get(name.as_str())?.commit);
        let mut found = Found::new();
        for name in &self.names {
            let commit = match listed(name) {
                Some(commit) => Some(commit),
                None => origin.commit_of(name)?,
            };
            found.extend(commit.map(|commit| (name.clone(), commit)));
        }
        Ok(found)
    }

    fn strike(&mut self, found: Found) {
        for name in found.into_keys() {
            self.names.remove(&name);
            self.pulled.insert(name);
        }
    }
}

/// Refs of a cache.
type Found = BTreeMap<RefName, Checksum>;

/// So many refs are asked for one by one.
const FEW: usize = 8;
