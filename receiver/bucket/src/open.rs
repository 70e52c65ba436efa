//! Opens a checked bucket, with the settings that its check found to work.
//!
//! `artifact-cache-admin check` stores its findings in the bucket. Without them, no program knows
//! whether the server keeps conditions, and every program refuses to write.

use std::sync::Arc;

use artifact_store::bucket::{
    BadKey, Bucket, BucketError, Class, Client, Clock, Condition, Key, SystemClock,
};
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::engine::Engine;
use crate::probe::{Report, Subject, probe};
use crate::settings::{Settings, SettingsError, TagForm};

/// The reason why a bucket cannot be opened. The operator must correct each of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The server does not answer as it should.
    #[error("cannot reach {address}")]
    Unreachable {
        /// The bucket.
        address: Address,
        /// The error of the request.
        source: BucketError,
    },
    /// Nobody has checked the server.
    #[error(
        "{address} was not checked, and a server that ignores conditions loses refs: run \
         `artifact-cache-admin check {address}`"
    )]
    Unchecked {
        /// The bucket.
        address: Address,
    },
    /// The check found faults.
    #[error(
        "{address} failed its check ({why}); after a change of the server, run \
         `artifact-cache-admin check {address}` again"
    )]
    Faulty {
        /// The bucket.
        address: Address,
        /// The faults.
        why: String,
    },
}

/// The findings of a check, as the bucket keeps them.
#[derive(Serialize, Deserialize)]
struct Note {
    version: u32,
    report: Report,
}

/// A server to probe.
struct Server<'a> {
    settings: &'a Settings,
    quoted: Arc<Engine>,
    bare: Arc<Engine>,
}

/// Opens a bucket for reading and writing, in the form of tags that its check has found.
pub fn open(settings: &Settings) -> Result<Engine, OpenError> {
    let engine = Arc::new(Engine::new(settings)?);
    let client = client(Arc::clone(&engine));
    let address = || settings.address.clone();
    let unreachable = |source| OpenError::Unreachable {
        address: address(),
        source,
    };
    let key = key().map_err(unreachable)?;
    let found = client.get(&key).map_err(unreachable)?;
    let note = found.and_then(|found| serde_json::from_slice::<Note>(&found.content).ok());
    let note = note.filter(|note| note.version == VERSION);
    let report = note
        .ok_or_else(|| OpenError::Unchecked { address: address() })?
        .report;
    if let Some(why) = report.refusal() {
        return Err(OpenError::Faulty {
            address: address(),
            why,
        });
    }
    Ok(engine.with_tags(report.tags))
}

/// Checks a bucket, and stores the findings there if the bucket can be reached.
pub fn check(settings: &Settings) -> Result<Report, OpenError> {
    let engine = Engine::new(settings)?;
    let server = Server {
        settings,
        quoted: Arc::new(engine.with_tags(TagForm::Quoted)),
        bare: Arc::new(engine.with_tags(TagForm::Bare)),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let name = format!("{}-{}", std::process::id(), clock.wall());
    let report = probe(&server, &clock, &name);
    if report.is_reachable() {
        let unreachable = |source| OpenError::Unreachable {
            address: settings.address.clone(),
            source,
        };
        let note = Note {
            version: VERSION,
            report: report.clone(),
        };
        let content = serde_json::to_vec(&note).unwrap_or_default();
        let client = client(server.quoted);
        let key = key().map_err(unreachable)?;
        let put = client.put(&key, content.into(), Condition::Always, Class::Private);
        put.map_err(unreachable)?;
    }
    Ok(report)
}

impl Subject for Server<'_> {
    fn bucket(&self, tags: TagForm) -> Arc<dyn Bucket> {
        match tags {
            TagForm::Quoted => Arc::clone(&self.quoted) as _,
            TagForm::Bare => Arc::clone(&self.bare) as _,
        }
    }

    fn anonymous(&self) -> Option<Arc<dyn Bucket>> {
        let settings = Settings {
            anonymous: true,
            ..self.settings.clone()
        };
        Some(Arc::new(Engine::new(&settings).ok()?))
    }

    fn server_time(&self) -> Option<u64> {
        // The clock of both: they share their connections.
        self.quoted.server_time()
    }
}

fn client(engine: Arc<Engine>) -> Client {
    Client::new(engine, Arc::new(SystemClock))
}

fn key() -> Result<Key, BucketError> {
    let broken = |error: BadKey| BucketError::Broken(error.to_string());
    Key::new("extensions/artifact-cache/store").map_err(broken)
}

const VERSION: u32 = 1;
