//! Who may pull in one streamed answer at a time, and how much: `answer.rs` answers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use artifact_sender::{Repository, Terms};
use hyper::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{Share, Shares, Source};
use crate::pull::refusal::Refusal;
use crate::report::Metrics;

/// The limits of pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulls {
    /// The most pulls that are answered at once. Each takes a thread for each processor and two
    /// more, and 6 MiB.
    pub max: usize,
    /// The most pulls at once of one address.
    pub each_max: usize,
    /// The most objects that one pull may reach, with those of the commits that the client holds.
    /// Each takes 18 bytes of memory.
    pub objects_max: u64,
}

impl Default for Pulls {
    fn default() -> Self {
        Self {
            max: 16,
            each_max: 4,
            objects_max: 2_000_000,
        }
    }
}

/// What answers pulls.
#[derive(Debug)]
pub(crate) struct Puller {
    pub(crate) repository: Arc<Repository>,
    pub(crate) terms: Terms,
    pub(crate) metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    each: Arc<Shares>,
}

/// The place of one pull, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place(
    #[expect(dead_code, reason = "held")] (OwnedSemaphorePermit, Option<Share>),
);

impl Puller {
    pub(crate) fn new(repository: Repository, limits: Pulls, metrics: Arc<Metrics>) -> Self {
        Self {
            repository: Arc::new(repository),
            terms: Terms {
                readable: None,
                objects_max: limits.objects_max,
                planning_max: PLANNING_MAX,
            },
            metrics,
            places: Arc::new(Semaphore::new(limits.max)),
            each: Shares::new(limits.each_max),
        }
    }

    /// Takes a place for a client, which holds it until its answer has ended.
    pub(crate) fn place(&self, client: Option<IpAddr>) -> Result<Place, Refusal> {
        let client = client.filter(|client| !client.is_loopback());
        let share = match client.map(|client| self.each.take(Source::of(client))) {
            Some(None) => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                return Err(Refusal::Busy(status, "too many pulls of yours are running"));
            }
            share => share.flatten(),
        };
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Ok(Place((place, share))),
            Err(_) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Err(Refusal::Busy(status, "too many pulls are running"))
            }
        }
    }
}

/// How long judging and listing may take for one pull.
const PLANNING_MAX: Duration = Duration::from_secs(120);
