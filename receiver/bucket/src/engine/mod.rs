//! The engine: sends the store's requests to a server over `object_store`.
//!
//! One thread drives all connections. The engine sends each request once, and the library repeats
//! none, because only the store knows which requests are safe to repeat. The signature of a request
//! covers the SHA-256 of its body, which the server checks. No request is a HEAD.

mod answer;
mod http;
mod requests;

use std::fmt;
use std::sync::Arc;
use std::thread;

use artifact_store::bucket::{Bucket, Request, Then};
use object_store::{BackoffConfig, RetryConfig};
use rustls::crypto::ring;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::engine::http::{Connector, Heard};
use crate::engine::requests::Shared;
use crate::settings::{Settings, SettingsError, TagForm};

/// A bucket on a server.
pub struct Engine {
    shared: Arc<Shared>,
    runtime: Handle,
    /// Dropped with the last engine to end the thread that drives the connections.
    end: Arc<oneshot::Sender<()>>,
}

impl Engine {
    /// Sets up the connection to a bucket. Nothing is sent yet.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        // A program has one provider; a second installation changes nothing.
        let _ = ring::default_provider().install_default();
        let heard = Arc::new(Heard::default());
        let retry = RetryConfig {
            max_retries: 0,
            backoff: BackoffConfig::default(),
            ..RetryConfig::default()
        };
        let builder = settings.builder()?;
        let store = builder
            .with_retry(retry)
            .with_http_connector(Connector::new(Arc::clone(&heard)))
            .build()
            .map_err(|source| SettingsError::SetUp { source })?;
        let (runtime, end) = start_runtime().map_err(|source| SettingsError::Thread { source })?;
        let shared = Shared {
            store,
            address: settings.address.clone(),
            tags: settings.tags,
            heard,
        };
        Ok(Self {
            shared: Arc::new(shared),
            runtime,
            end: Arc::new(end),
        })
    }

    /// Returns an engine that writes tags in this form, over the same connections.
    pub(crate) fn with_tags(&self, tags: TagForm) -> Self {
        let shared = Shared {
            tags,
            ..Shared::clone(&self.shared)
        };
        Self {
            shared: Arc::new(shared),
            runtime: self.runtime.clone(),
            end: Arc::clone(&self.end),
        }
    }

    /// Returns the server's clock at its last answer, in seconds since 1970.
    pub fn server_time(&self) -> Option<u64> {
        self.shared.heard.date()
    }
}

impl Bucket for Engine {
    fn start(&self, request: Request, then: Then) {
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            then(shared.execute(request).await);
        });
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("address", &self.shared.address)
            .finish_non_exhaustive()
    }
}

/// Starts a thread for the connections, which ends when the returned sender is dropped.
fn start_runtime() -> std::io::Result<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (end, ended) = oneshot::channel::<()>();
    thread::Builder::new()
        .name("bucket".to_owned())
        .spawn(move || {
            // Ends when the sender is dropped; nothing is ever sent.
            let _ = runtime.block_on(ended);
        })?;
    Ok((handle, end))
}

#[cfg(test)]
mod tests;
