//! The results of a run of the suite.

use std::collections::BTreeMap;

use crate::case::{Case, Place};
use crate::data::Extent;
use crate::growth::Curve;
use crate::lock::Held;
use crate::peer::Peer;
use crate::scene::Scene;
use crate::spread::Spread;
use crate::usage::Cost;
use crate::verify::Verified;

/// The result of a scene.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub scene: Scene,
    /// The missing objects.
    pub missing: Extent,
    /// By peer.
    pub peers: BTreeMap<Peer, Results>,
}

/// The result of one peer.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The runs that count, by round: those of one round are consecutive.
    pub runs: BTreeMap<usize, Cost>,
    /// Bytes to the server and back.
    pub carried: Option<(u64, u64)>,
    /// Largest resident size of one process at the client's end and at the server's, in bytes.
    pub memory: Option<(u64, u64)>,
    /// The reason why it was given up.
    pub failure: Option<String>,
}

/// The results beside the scenes.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// How long `.lock` was held, by place, with the number of objects.
    pub lock: Vec<(Place, usize, Vec<Held>)>,
    /// Pushes to caches with few refs and many, by place.
    pub refs: Vec<(Place, Curve)>,
    /// The verifier, by what it verified.
    pub verify: Vec<(Case, Verified)>,
}

impl Outcome {
    /// Returns how long a peer took, in seconds.
    pub fn wall(&self, peer: Peer) -> Option<Spread> {
        let runs = &self.peers.get(&peer)?.runs;
        Spread::of(runs.values().map(|cost| cost.wall.as_secs_f64()))
    }

    /// Returns the time of one peer divided by that of another, each in the same round.
    pub fn ratio(&self, peer: Peer, other: Peer) -> Option<Spread> {
        let (runs, others) = (&self.peers.get(&peer)?.runs, &self.peers.get(&other)?.runs);
        Spread::of(runs.iter().filter_map(|(round, cost)| {
            Some(cost.wall.as_secs_f64() / others.get(round)?.wall.as_secs_f64())
        }))
    }

    /// Returns how much longer than another a peer took, in round trips of the link.
    pub fn round_trips_more(&self, peer: Peer, other: Peer) -> Option<Spread> {
        let (runs, others) = (&self.peers.get(&peer)?.runs, &self.peers.get(&other)?.runs);
        Spread::of(runs.iter().filter_map(|(round, cost)| {
            let more = cost.wall.as_secs_f64() - others.get(round)?.wall.as_secs_f64();
            Some(more / self.scene.round_trip.as_secs_f64())
        }))
    }
}
