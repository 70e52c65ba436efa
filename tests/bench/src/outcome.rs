//! The results of a run of the suite.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use artifact_tests::exec::Failure;

use crate::case::{Case, Place};
use crate::data::Extent;
use crate::growth::Curve;
use crate::lock::Held;
use crate::spread::Spread;
use crate::usage::Cost;
use crate::verify::Verified;

/// A scene with peers that push, or one with peers that pull.
pub trait Contest {
    type Peer: Copy + Ord + Debug;

    /// Returns the link's round trip.
    fn round_trip(&self) -> Duration;
}

/// The result of a scene.
#[derive(Clone, Debug)]
pub struct Outcome<S: Contest> {
    pub scene: S,
    /// The missing objects.
    pub missing: Extent,
    /// By peer.
    pub peers: BTreeMap<S::Peer, Results>,
}

/// Keeps the outcomes of a suite so far, after each scene.
pub type Keep<'a, S> = dyn Fn(&[Outcome<S>]) -> Result<(), Failure> + 'a;

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

impl<S: Contest> Outcome<S> {
    /// Returns how long a peer took, in seconds.
    pub fn wall(&self, peer: S::Peer) -> Option<Spread> {
        let runs = &self.peers.get(&peer)?.runs;
        Spread::of(runs.values().map(|cost| cost.wall.as_secs_f64()))
    }

    /// Returns the time of one peer divided by that of another, each in the same round.
    pub fn ratio(&self, peer: S::Peer, other: S::Peer) -> Option<Spread> {
        self.pairs(peer, other, |one, other| one / other)
    }

    /// Returns how much longer than another a peer took, in round trips of the link.
    pub fn round_trips_more(&self, peer: S::Peer, other: S::Peer) -> Option<Spread> {
        let round_trip = self.scene.round_trip().as_secs_f64();
        self.pairs(peer, other, |one, other| (one - other) / round_trip)
    }

    fn pairs(
        &self,
        peer: S::Peer,
        other: S::Peer,
        compare: impl Fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let (runs, others) = (&self.peers.get(&peer)?.runs, &self.peers.get(&other)?.runs);
        let seconds = |cost: &Cost| cost.wall.as_secs_f64();
        Spread::of(
            runs.iter().filter_map(|(round, cost)| {
                Some(compare(seconds(cost), seconds(others.get(round)?)))
            }),
        )
    }
}

/// Times all peers by turns, so that other load on the machine affects them alike. `time` is told
/// whether to read every object that has arrived; a peer is not run again after a failure.
pub(crate) fn by_turns<P: Copy + Ord>(
    peers: &mut BTreeMap<P, Results>,
    runs: impl Fn(P) -> usize,
    mut time: impl FnMut(P, bool) -> Result<Cost, Failure>,
    failed: impl Fn(P, &str),
) {
    let all: Vec<P> = peers.keys().copied().collect();
    let rounds = all.iter().map(|peer| runs(*peer)).max();
    for round in 0..rounds.unwrap_or_default() {
        let mut turn = all.clone();
        turn.rotate_left(round % all.len());
        for peer in turn {
            let results = peers.entry(peer).or_default();
            if results.failure.is_some() || runs(peer) <= round {
                continue;
            }
            // A warm-up has read them already.
            let thorough = runs(peer) == round + 1 && results.carried.is_none();
            match time(peer, thorough) {
                Ok(cost) => drop(results.runs.insert(round, cost)),
                Err(failure) => {
                    let failure = format!("{failure:?}");
                    failed(peer, &failure);
                    results.failure = Some(failure);
                }
            }
        }
    }
}
