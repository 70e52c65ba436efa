//! `artifact-cache pull`: decides which ref comes from which cache, and prints what became of it.
//! The library does the pulling.

mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use artifact_formats::{RefPattern, RepoMode, Size, counted};
use artifact_protocol::exit;
use artifact_puller::{
    Demands, Local, Origin, Outcome, Pull, PulledRef, Refusal, Report, SystemKeys,
};
use artifact_sender::{RefName, escape};
use serde_json::{Value, json};

use crate::address::Address;
use crate::args::{self, Args};
use crate::config::Cache;
use crate::output::Output;
use crate::progress::PullProgress;
use crate::pull::stream::Came;
use crate::retry::retrying;
use crate::trouble::Trouble;
use crate::{caches, origin};

/// Pulls each ref from the first cache that has it.
pub(crate) async fn run(pull: &args::Pull, args: &Args, output: &Output) -> u8 {
    let (caches, local) = match prepare(pull, args, output) {
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
            pull_from(cache, &local, &mut wanted, pull, args, output).await
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
) -> Result<(Vec<Cache>, Arc<Local>), Trouble> {
    let caches = caches::to_read(&pull.remote, args)?;
    let (local, created) =
        Local::open_or_create(&pull.repo, RepoMode::BareUser).map_err(Trouble::of_local)?;
    if created {
        output.line(&format!(
            "created a repository of mode {} in {}",
            local.mode().as_str(),
            pull.repo.display()
        ));
    }
    Ok((caches, Arc::new(local)))
}

/// Pulls the wanted refs that this cache has.
async fn pull_from(
    cache: &Cache,
    local: &Arc<Local>,
    wanted: &mut Wanted,
    pull: &args::Pull,
    args: &Args,
    output: &Output,
) -> Result<(), Trouble> {
    let options = |puller: Pull| {
        let puller = puller
            .depth(pull.depth)
            .force(pull.force)
            .dry_run(pull.dry_run)
            .known_as(address_in_config(cache))
            .system_keys(system_keys());
        Ok(match demands(cache)? {
            Some(demands) => puller.demand(demands),
            None => puller,
        })
    };
    let puller = options(wanted.of(Pull::new(Arc::clone(local))))?;
    let (mut report, took) = match stream::pull(&puller, cache, args, output).await? {
        Came::Pulled(report, took) => (report, took),
        Came::Files(origin) => {
            let origin = match origin {
                Some(origin) => origin,
                None => origin::of(cache, args, output).await?,
            };
            return pull_files(&puller, &origin, cache, wanted, output).await;
        }
    };
    // Only the files of the web server tell whether what a ref holds is in the cache's history.
    let mut doubtful = options(Pull::new(Arc::clone(local)))?;
    let mut is_doubtful = false;
    for pulled in &report.refs {
        if matches!(pulled.outcome, Outcome::Refused(Refusal::HoldsWork { .. })) {
            doubtful = doubtful.reference(pulled.name.clone());
            is_doubtful = true;
        }
    }
    if is_doubtful
        && let Ok(origin) = origin::of(cache, args, output).await
        && let Ok(again) = doubtful.from(&origin, |_| ()).await
    {
        let is_told = |name: &RefName| again.refs.iter().any(|told| told.name == *name);
        report.refs.retain(|pulled| !is_told(&pulled.name));
        report.refs.extend(again.refs);
        report.objects += again.objects;
        report.bytes += again.bytes;
    }
    conclude(report, cache, &cache.address, took, wanted, output)
}

/// Pulls from the files of a web server or path.
async fn pull_files(
    puller: &Pull,
    origin: &Origin,
    cache: &Cache,
    wanted: &mut Wanted,
    output: &Output,
) -> Result<(), Trouble> {
    let mut progress = PullProgress::new(output);
    let pulled = puller.from(origin, |event| progress.show(event)).await;
    let took = progress.finish();
    let report = pulled.map_err(|error| Trouble::of_pull(&error, origin))?;
    conclude(report, cache, origin, took, wanted, output)
}

/// Prints what a cache provided, and notes it.
fn conclude(
    mut report: Report,
    cache: &Cache,
    place: &dyn Display,
    took: Duration,
    wanted: &mut Wanted,
    output: &Output,
) -> Result<(), Trouble> {
    for (name, error) in &report.left_out {
        output.warning(&format!("left out {:?}: {error}", escape(name)));
    }
    if let [
        PulledRef {
            outcome: Outcome::Failed(error),
            ..
        },
    ] = &report.refs[..]
    {
        // Nothing else is to be told of this cache.
        return Err(Trouble::of_pull(error, place));
    }
    if !report.refs.is_empty() {
        report.refs.sort_by(|one, other| one.name.cmp(&other.name));
        show(&report, cache, place, took, wanted, output);
    }
    Ok(())
}

/// Prints what became of each ref, and notes it.
fn show(
    report: &Report,
    cache: &Cache,
    place: &dyn Display,
    took: Duration,
    wanted: &mut Wanted,
    output: &Output,
) {
    let (mut moved, mut would) = (false, false);
    let mut refs = Vec::new();
    for PulledRef {
        name,
        commit,
        outcome,
    } in &report.refs
    {
        let mut reason = None;
        let status = match outcome {
            Outcome::Pulled => "pulled",
            Outcome::Unchanged => "unchanged",
            Outcome::WouldPull => "would be pulled",
            Outcome::Refused(refusal) => {
                let (text, advice) = describe(refusal, name);
                let shown = format!("{name}  refused: {text}");
                output.refused(&shown, advice.as_deref());
                reason = Some(text);
                "refused"
            }
            Outcome::Failed(error) => {
                let trouble = Trouble::of_pull(error, place);
                let text = format!("{name}  failed: {}", trouble.text);
                output.refused(&text, trouble.advice.as_deref());
                wanted.fail(name, trouble.code);
                reason = Some(trouble.text);
                "failed"
            }
        };
        match outcome {
            Outcome::Pulled | Outcome::Unchanged | Outcome::WouldPull => {
                output.line(&format!("{name}  {status}"));
                wanted.settle(name, exit::DONE);
            }
            Outcome::Refused(_) => wanted.settle(name, exit::REFUSED_REF),
            Outcome::Failed(_) => {}
        }
        moved |= matches!(outcome, Outcome::Pulled);
        would |= matches!(outcome, Outcome::WouldPull);
        let mut entry =
            json!({ "name": name.as_str(), "commit": commit.to_hex(), "status": status });
        if let (Some(reason), Some(entry)) = (reason, entry.as_object_mut()) {
            entry.insert("reason".to_owned(), Value::from(reason));
        }
        refs.push(entry);
    }
    let (objects, bytes) = (report.objects, report.bytes);
    let amount = match bytes {
        0 => counted(objects, "object"),
        bytes => format!("{}, {}", counted(objects, "object"), Size(bytes)),
    };
    if would {
        output.line(&format!("would fetch {amount}, from {place}"));
    } else if moved {
        output.line(&format!(
            "fetched {amount} in {:.1} s, from {place}",
            took.as_secs_f64(),
        ));
    }
    output.object(&json!({
        "event": "done",
        "remote": cache.address.to_string(),
        "origin": place.to_string(),
        "refs": refs,
        "objects_fetched": objects,
        "bytes_fetched": bytes,
        "seconds": took.as_secs_f64(),
    }));
}

/// Returns why a ref was left alone, and what the user can do about it.
fn describe(refusal: &Refusal, name: &RefName) -> (String, Option<String>) {
    match refusal {
        Refusal::HoldsWork { held } => (
            format!(
                "it holds {held} here, which is not in the history of the cache's commit, as far \
                 as that history is available"
            ),
            Some(format!(
                "push it first; or keep it under another name (`ostree refs --create=NAME \
                 {name}`), and pull with --force to take the cache's commit"
            )),
        ),
        Refusal::Store(text) => (text.clone(), None),
        _ => ("this program does not know why".to_owned(), None),
    }
}

/// Returns the cache's address as the configuration of a repository may have it.
fn address_in_config(cache: &Cache) -> String {
    match &cache.address {
        Address::Web(url) => url.to_string(),
        Address::Receiver(remote) => remote.to_string(),
    }
}

/// Returns the signatures that the user's configuration demands of a cache.
fn demands(cache: &Cache) -> Result<Option<Demands>, Trouble> {
    let gpg = cache.trust.gpg();
    let ed25519 = cache.trust.ed25519().map_err(|why| Trouble {
        may_pass: false,
        code: exit::USAGE,
        text: format!("cannot use the keys for {}: {why}", cache.address),
        advice: None,
    })?;
    let is_any = gpg.is_some() || ed25519.is_some();
    Ok(is_any.then(|| Demands {
        by: "your configuration".to_owned(),
        gpg,
        ed25519,
        ..Demands::default()
    }))
}

/// Returns where libostree looks for the keys of the machine, too.
fn system_keys() -> SystemKeys {
    let mut keys = SystemKeys::default();
    if let Some(dir) = std::env::var_os("OSTREE_GPG_HOME").filter(|dir| !dir.is_empty()) {
        keys.gpg = dir.into();
    }
    keys
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

    /// Adds the refs to a pull.
    fn of(&self, pull: Pull) -> Pull {
        let names = self.names.iter().cloned();
        let pull = names.fold(pull, Pull::reference);
        match &self.pattern {
            Some(pattern) => pull
                .matching(pattern.clone())
                .except(self.settled.iter().cloned()),
            None => pull,
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
