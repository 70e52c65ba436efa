//! `artifact-cache pull`: decides which ref comes from which cache. `local` does the pulling.

mod found;
mod local;
mod moves;

use std::collections::{BTreeMap, BTreeSet};

use artifact_formats::{RefPattern, RepoConfig};
use artifact_protocol::exit;
use artifact_sender::{Checksum, RefName, escape};
use indicatif::DecimalBytes;
use serde_json::{Value, json};

use self::found::Found;
use self::local::{LocalRepo, Stats};
use crate::address::Address;
use crate::args::{self, Args};
use crate::caches;
use crate::origin::Origin;
use crate::output::{Output, PullProgress, counted};
use crate::retry::retrying;
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
        let pulled = retrying(pull.retries, output, async || {
            pull_from(cache, &repo, &mut wanted, pull, args, output).await
        });
        match pulled.await {
            Ok(()) => {}
            // The fault is in the local repository, so another cache would not help.
            Err(trouble) if strict || trouble.code == exit::SOURCE => {
                return output.trouble(&trouble);
            }
            Err(trouble) => {
                output.warning(&trouble.text);
                unusable.get_or_insert(trouble.code);
            }
        }
    }
    wanted.conclude(unusable, output)
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
            "created a repository of mode bare-user in {}",
            pull.repo.display()
        ));
    }
    Ok((caches, repo))
}

/// Pulls the wanted refs that this cache has.
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
    let (found, refused) = moves::sort(found, &origin, repo, pull.force)?;
    for (name, refusal) in &refused {
        output.refused(
            &format!("{name}  refused: {}", refusal.text),
            Some(&refusal.advice),
        );
        wanted.settle(name, exit::REFUSED_REF);
    }
    let progress = output.pull_progress();
    let pulled = pull_each(&found, &origin, &config, repo, pull.depth, &progress);
    let took = progress.finish();
    let pulled = pulled?;
    repo.remember(&pulled.refs);
    let mut refs = Vec::new();
    let mut moved = false;
    for (name, commit) in &found {
        let (status, reason) = match pulled.failed.get(name) {
            Some(trouble) => ("failed", Some(trouble)),
            None if repo.commit_of(name) == Some(*commit) => ("unchanged", None),
            None => ("pulled", None),
        };
        moved |= status == "pulled";
        match reason {
            Some(trouble) => {
                let text = format!("{name}  failed: {}", trouble.text);
                output.refused(&text, trouble.advice.as_deref());
                wanted.fail(name, trouble.code);
            }
            None => output.line(&format!("{name}  {status}")),
        }
        let reason = reason.map(|trouble| trouble.text.as_str());
        refs.push(entry(name, *commit, status, reason));
    }
    for (name, refusal) in &refused {
        refs.push(entry(name, refusal.commit, "refused", Some(&refusal.text)));
    }
    let stats = &pulled.stats;
    if moved {
        let bytes = match stats.bytes {
            0 => String::new(),
            bytes => format!(", {}", DecimalBytes(bytes)),
        };
        output.line(&format!(
            "fetched {}{bytes} in {:.1} s, from {origin}",
            counted(stats.objects, "object"),
            took.as_secs_f64(),
        ));
    }
    output.object(&json!({
        "event": "done",
        "remote": cache.to_string(),
        "origin": origin.to_string(),
        "refs": refs,
        "objects_fetched": stats.objects,
        "bytes_fetched": stats.bytes,
        "seconds": took.as_secs_f64(),
    }));
    wanted.strike(pulled.refs);
    Ok(())
}

fn entry(name: &RefName, commit: Checksum, status: &str, reason: Option<&str>) -> Value {
    let mut entry = json!({ "name": name.as_str(), "commit": commit.to_hex(), "status": status });
    if let (Some(reason), Some(entry)) = (reason, entry.as_object_mut()) {
        entry.insert("reason".to_owned(), reason.into());
    }
    entry
}

/// The result of pulling some refs.
#[derive(Default)]
struct Pulled {
    refs: Found,
    failed: BTreeMap<RefName, Trouble>,
    stats: Stats,
}

/// Pulls refs together. If that fails, pulls them one by one, so that a ref that cannot be stored,
/// or that the cache has only in part, does not stop the others.
fn pull_each(
    found: &Found,
    origin: &Origin,
    config: &RepoConfig,
    repo: &LocalRepo,
    depth: u16,
    progress: &PullProgress,
) -> Result<Pulled, Trouble> {
    let mut pulled = Pulled::default();
    if found.is_empty() {
        return Ok(pulled);
    }
    match repo.pull(origin, config, found, depth, progress) {
        Ok(stats) => {
            pulled.refs = found.clone();
            pulled.stats = stats;
            return Ok(pulled);
        }
        Err(trouble) if found.len() == 1 || trouble.may_pass => return Err(trouble),
        Err(_) => {}
    }
    for (name, commit) in found {
        let one = Found::from([(name.clone(), *commit)]);
        match repo.pull(origin, config, &one, depth, progress) {
            Ok(stats) => {
                pulled.stats += stats;
                pulled.refs.extend(one);
            }
            Err(trouble) if trouble.may_pass => return Err(trouble),
            Err(trouble) => drop(pulled.failed.insert(name.clone(), trouble)),
        }
    }
    Ok(pulled)
}

/// The refs still to pull.
struct Wanted {
    names: BTreeSet<RefName>,
    pattern: Option<RefPattern>,
    // Pulled or refused: no other cache is asked for these.
    settled: BTreeSet<RefName>,
    // Failed at the caches so far, with the exit code.
    failed: BTreeMap<RefName, u8>,
    code: u8,
}

impl Wanted {
    fn new(pull: &args::Pull) -> Self {
        Self {
            names: pull.refs.iter().cloned().collect(),
            pattern: pull.all.clone(),
            settled: BTreeSet::new(),
            failed: BTreeMap::new(),
            code: exit::DONE,
        }
    }

    /// With a pattern, the next cache may always have more.
    fn is_satisfied(&self) -> bool {
        self.pattern.is_none() && self.names.is_empty()
    }

    /// Returns the wanted refs that a cache has.
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
                Ok(name) if self.settled.contains(&name) => {}
                Ok(name) => drop(found.insert(name, entry.commit)),
                Err(error) => {
                    output.warning(&format!("left out {:?}: {error}", escape(&name)));
                }
            }
        }
        Ok(found)
    }

    fn find_names(&self, origin: &Origin) -> Result<Found, Trouble> {
        // The summary may be large, and may list only some of the refs.
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
            self.settle(&name, exit::DONE);
        }
    }

    /// Marks a ref as done, whether it succeeded or not.
    fn settle(&mut self, name: &RefName, code: u8) {
        self.names.remove(name);
        self.failed.remove(name);
        self.settled.insert(name.clone());
        if self.code == exit::DONE {
            self.code = code;
        }
    }

    /// Notes that this cache could not provide a ref; the next may.
    fn fail(&mut self, name: &RefName, code: u8) {
        self.failed.entry(name.clone()).or_insert(code);
    }

    /// Prints the refs that no cache had, and returns the exit code.
    fn conclude(&self, unusable: Option<u8>, output: &Output) -> u8 {
        // A cache that did not answer may have it.
        let not_found = unusable.unwrap_or(exit::NOT_FOUND);
        let mut code = self.code;
        for name in &self.names {
            if !self.failed.contains_key(name) {
                output.error(&format!("no cache has {name}"), None);
                code = not_found;
            }
        }
        if let (Some(pattern), true) = (&self.pattern, self.settled.is_empty())
            && self.failed.is_empty()
        {
            output.error(&format!("no cache has a ref that matches {pattern}"), None);
            code = not_found;
        }
        match self.failed.values().next() {
            Some(failed) if code == exit::DONE => *failed,
            _ => code,
        }
    }
}

/// Up to this many refs are asked for one by one.
const FEW: usize = 8;
