//! The context of answers: the parts shared by all connections, and those of one.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use artifact_page::Site;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use tokio::sync::Semaphore;

use crate::limits::{Activity, Shares};
use crate::pull::Puller;
use crate::reply::Readers;
use crate::report::{AccessLog, Metrics};
use crate::repository::{Files, Half, Pairs};

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) files: Files,
    pub(crate) pairs: Pairs,
    pub(crate) at: String,
    pub(crate) readers: Readers,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: Option<AccessLog>,
    pub(crate) answers: Arc<Semaphore>,
    pub(crate) answers_each: Arc<Shares>,
    pub(crate) stopping: AtomicBool,
    pub(crate) private: bool,
    pub(crate) site: Option<Arc<Site>>,
    /// `None` if pulls are not answered.
    pub(crate) puller: Option<Puller>,
}

/// The clients of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Pullers, and readers of the page.
    Pullers,
    /// Monitoring.
    Metrics,
}

/// The facts about a connection that its answers may use.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) role: Role,
    pub(crate) half: Half,
    pub(crate) peer: Peer,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Its address; `None` for a Unix socket.
    pub(crate) address: Option<IpAddr>,
    /// Whether it is a proxy on this machine, which names its client.
    pub(crate) proxy: bool,
}

impl Context {
    pub(crate) fn new(shared: Arc<Shared>, role: Role, peer: Peer) -> Self {
        Self {
            shared,
            activity: Arc::default(),
            role,
            half: Half::default(),
            peer,
        }
    }

    /// Returns what answers a request with this head, if its path is that of pulls.
    pub(crate) fn puller(&self, head: &Parts) -> Option<&Puller> {
        let below = head.uri.path().strip_prefix(&*self.shared.at);
        let is_pull = self.role == Role::Pullers && below == Some("/pull");
        self.shared.puller.as_ref().filter(|_| is_pull)
    }

    /// Returns the address of the client that sent a request with these headers.
    pub(crate) fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let forwarded = self.peer.proxy.then(|| forwarded(headers));
        let client = forwarded.flatten().or(self.peer.address);
        client.map(|address| address.to_canonical())
    }
}

/// Returns the client's address as named by a proxy on this machine: the last one, which the proxy
/// has seen itself.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(FORWARDED_FOR).iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

const FORWARDED_FOR: &str = "x-forwarded-for";
