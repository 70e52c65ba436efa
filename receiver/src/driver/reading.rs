//! What a client that pulls may get, and what it got.

use std::sync::Arc;

use artifact_protocol::frame::Sent;
use artifact_protocol::session::pull::PullAnswer;
use artifact_sender::{Repository, Terms};
use artifact_store::LocalStore;

/// What clients that pull get.
#[derive(Clone, Debug)]
pub struct Pulls {
    /// The repository.
    pub repository: Arc<Repository>,
    /// What the client may read of it.
    pub terms: Terms,
    /// The same repository, whose limit of concurrent sessions counts pulls as well.
    pub store: Arc<LocalStore>,
}

/// What a client has pulled.
#[derive(Clone, Debug, Default)]
pub struct Pulled {
    /// What it was told of its refs.
    pub answer: PullAnswer,
    /// Whether the client got all of it.
    pub is_sent: bool,
    /// The objects of the answer; none, unless everything was sent.
    pub sent: Sent,
}
