//! Where there is something to prune: a repository on this machine, or a bucket.

use std::cell::RefCell;

use anyhow::Context;
use artifact_formats::{Checksum, RefName, counted};
use artifact_store::bucket::collect::{
    CollectEvent, CollectOptions, Collected, collect, would_collect,
};
use artifact_store::bucket::{Client, upkeep};
use artifact_store::{Pruned, Removal, StoredRef, SummaryConfig};
use serde_json::json;

use super::args::Prune;
use crate::bucket;
use crate::output::tell;
use crate::owner;

/// The place of a cache.
pub(super) enum Place<'a> {
    Repository(&'a Prune, SummaryConfig),
    Bucket(&'a Prune, SummaryConfig, Client),
}

impl<'a> Place<'a> {
    pub(super) fn open(args: &'a Prune) -> anyhow::Result<Self> {
        let summary = args.server.summary()?;
        if bucket::is_meant_by(&args.repo) {
            let client = bucket::open(&args.repo, args.server.config())?;
            return Ok(Self::Bucket(args, summary, client));
        }
        owner::become_owner_of(&args.repo)?;
        Ok(Self::Repository(args, summary))
    }

    pub(super) fn list_refs(&self) -> anyhow::Result<Vec<StoredRef>> {
        Ok(match self {
            Self::Repository(args, _) => artifact_store::list_refs(&args.repo)?,
            Self::Bucket(_, _, client) => upkeep::list_refs(client)?,
        })
    }

    pub(super) fn remove_refs(
        &self,
        wanted: &[(RefName, Option<Checksum>)],
    ) -> anyhow::Result<Vec<Removal>> {
        Ok(match self {
            Self::Repository(args, summary) => {
                artifact_store::remove_refs(&args.repo, summary.clone(), wanted)?
            }
            // What the summary names stays, so it is made again before the collection.
            Self::Bucket(args, summary, client) => {
                bucket::remove_refs(client, summary, wanted, args.json)?
            }
        })
    }

    pub(super) fn would_prune(&self, going: &[RefName]) -> anyhow::Result<Pruned> {
        match self {
            Self::Repository(args, _) => artifact_store::would_prune(&args.repo, going)
                .with_context(|| nothing_removed(args)),
            Self::Bucket(args, _, client) => would_collect(client, &options(args), going)
                .map(pruned)
                .with_context(|| nothing_removed(args)),
        }
    }

    pub(super) fn prune(self) -> anyhow::Result<Pruned> {
        match self {
            Self::Repository(args, summary) => {
                artifact_store::tidy(&args.repo)?;
                artifact_store::prune(&args.repo, summary).with_context(|| nothing_removed(args))
            }
            Self::Bucket(args, _, client) => {
                let last = RefCell::new(String::new());
                let report = |event| tell_event(args, &last, &event);
                let repo = args.repo.display();
                collect(&client, &options(args), &report).map(pruned).with_context(|| {
                    format!(
                        "the collection is not over; `artifact-cache-admin prune {repo}` goes on \
                         with it, and `artifact-cache-admin fsck {repo}` shows what is damaged"
                    )
                })
            }
        }
    }
}

fn nothing_removed(args: &Prune) -> String {
    let repo = args.repo.display();
    format!("no objects were removed; `artifact-cache-admin fsck --repair {repo}` shows why")
}

const fn options(args: &Prune) -> CollectOptions {
    CollectOptions { grace: args.grace }
}

const fn pruned(done: Collected) -> Pruned {
    let Collected {
        objects,
        removed,
        bytes,
    } = done;
    Pruned {
        objects,
        removed,
        bytes,
    }
}

/// Tells what the collection does, unless that was said last.
fn tell_event(args: &Prune, last: &RefCell<String>, event: &CollectEvent) {
    let (name, fields, text) = match event {
        CollectEvent::Condemned { objects, condemned } => (
            "condemned",
            json!({"objects": objects, "condemned": condemned}),
            format!("{condemned} of {} are to go", counted(*objects, "object")),
        ),
        CollectEvent::WaitsForPushes { sessions } => (
            "waiting",
            json!({"sessions": sessions}),
            format!(
                "waiting until {} took note of that",
                counted(sessions.len() as u64, "running push")
            ),
        ),
        CollectEvent::WaitsForCollector => (
            "waiting",
            json!({}),
            "waiting for another prune, or until it is certain that it died".to_owned(),
        ),
        CollectEvent::Deleted { objects } => (
            "deleted",
            json!({"objects": objects}),
            format!("{objects} gone"),
        ),
        // The library may learn to tell more.
        _ => return,
    };
    if *last.borrow() != text {
        tell(args.json, name, &fields, &text);
        *last.borrow_mut() = text;
    }
}
