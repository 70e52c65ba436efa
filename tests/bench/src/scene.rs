//! A scene: a tree, pushed from a repository to a place over a link, by some peers.

use std::fmt;
use std::time::Duration;

use rustix::process::geteuid;

use crate::case::{Case, Place, Source, Work};
use crate::options::Options;
use crate::outcome::Contest;
use crate::peer::Peer;

/// One measurement, with every peer that can take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// The tree.
    pub case: Case,
    /// How much is missing.
    pub work: Work,
    pub source: Source,
    pub place: Place,
    /// The link's round trip.
    pub round_trip: Duration,
    /// Whether to empty the page cache before each run, which needs root.
    pub cold: bool,
}

impl Scene {
    /// Lists all requested scenes, case by case.
    pub fn all(options: &Options<Peer>) -> Vec<Self> {
        let mut scenes = Vec::new();
        for &case in &options.cases {
            scenes.extend(Self::of(case, options));
        }
        scenes
    }

    fn of(case: Case, options: &Options<Peer>) -> Vec<Self> {
        let scene = |work, place| Self {
            case,
            work,
            source: Source::Archive,
            place,
            round_trip: Duration::ZERO,
            cold: false,
        };
        let mut scenes = Vec::new();
        for &place in &options.places {
            for &work in &options.works {
                scenes.push(scene(work, place));
            }
        }
        if case.has_bare_user() && options.works.contains(&Work::Full) {
            for &place in &options.places {
                scenes.push(Self {
                    source: Source::BareUser,
                    ..scene(Work::Full, place)
                });
            }
        }
        let can_cool = options.places.contains(&Place::Disk) && geteuid().is_root();
        if case == Case::A && options.works.contains(&Work::Full) && can_cool {
            scenes.push(Self {
                cold: true,
                ..scene(Work::Full, Place::Disk)
            });
        }
        if !options.round_trips.contains(&Duration::ZERO) {
            scenes.clear();
        }
        // On a long link the disk hardly matters, and small trees show the number of round trips.
        let place = options.places.first().copied().unwrap_or(Place::Memory);
        let long = options.round_trips.iter().filter(|each| !each.is_zero());
        let is_told = matches!(case, Case::T | Case::A) && options.works.contains(&Work::Full);
        for &round_trip in long.filter(|_| is_told) {
            scenes.push(Self {
                round_trip,
                ..scene(Work::Full, place)
            });
        }
        scenes
    }

    /// Returns the peer that the others are compared with.
    pub const fn reference(&self) -> Peer {
        match (self.source, self.work) {
            (Source::BareUser, _) => Peer::ArchiveAndTar,
            (Source::Archive, Work::Nothing) => Peer::True,
            (Source::Archive, Work::Full | Work::Change) => Peer::Tar,
        }
    }

    /// Returns whether a peer can take part, and does not take minutes to show nothing new.
    pub fn has(&self, peer: Peer) -> bool {
        let far = !self.round_trip.is_zero();
        let very_far = self.round_trip > VERY_FAR;
        let full = self.work == Work::Full;
        let bare = self.source == Source::BareUser;
        match peer {
            Peer::Ours => true,
            Peer::True => !bare,
            Peer::Tar => !bare && self.work != Work::Nothing,
            Peer::Cat => !bare && full && !(far || self.cold || self.case.is_huge()),
            Peer::OursAes => !bare && full && !far && matches!(self.case, Case::A | Case::C),
            Peer::Rsync => !bare && !self.cold,
            // Hundreds of round trips, or seventy seconds again.
            Peer::OstreePush => {
                let again = full && self.case == Case::B && self.place == Place::Disk;
                !(bare || self.cold || far && self.case == Case::A || very_far || again)
            }
            Peer::Pull => !(bare || self.cold || far && self.case == Case::A),
            Peer::ArchiveAndTar => bare,
        }
    }

    /// Returns how often to run a peer; a push of about a second is run `runs` times.
    pub fn runs(&self, peer: Peer, runs: usize) -> usize {
        let far = !self.round_trip.is_zero();
        let large = !matches!(self.case, Case::T | Case::A);
        let slow = matches!(peer, Peer::OstreePush | Peer::Pull);
        let root = self.case == Case::A;
        if !self.has(peer) {
            0
        } else if slow && (large || root && self.work == Work::Full || far) {
            runs.min(1)
        } else if self.round_trip > VERY_FAR && root {
            runs.div_ceil(3)
        } else if slow || large && self.work != Work::Nothing || far && root {
            runs.div_ceil(2)
        } else if self.case == Case::T && !far {
            (2 * runs).saturating_sub(1)
        } else {
            runs
        }
    }

    /// Returns whether a peer is so slow here that it runs only once, without a warm-up.
    pub const fn is_long(&self, peer: Peer) -> bool {
        matches!(self.case, Case::B | Case::C)
            && matches!(self.work, Work::Full)
            && matches!(peer, Peer::OstreePush | Peer::Pull)
    }
}

impl Contest for Scene {
    type Peer = Peer;

    fn round_trip(&self) -> Duration {
        self.round_trip
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}, {}",
            self.case.name(),
            self.work.name(),
            self.place.name()
        )?;
        if self.source == Source::BareUser {
            write!(f, ", from bare-user")?;
        }
        if self.cold {
            write!(f, ", cold")?;
        }
        if !self.round_trip.is_zero() {
            write!(f, ", {} ms", self.round_trip.as_millis())?;
        }
        Ok(())
    }
}

/// From this round trip on, any way to send a root file system takes a quarter of a minute.
const VERY_FAR: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_scene_is_measured_with_ours_and_with_the_reference_in_the_same_rounds() {
        let options = Options {
            cases: Case::ALL.to_vec(),
            works: Work::ALL.to_vec(),
            peers: Peer::ALL.to_vec(),
            places: Place::ALL.to_vec(),
            round_trips: [0, 50, 350].map(Duration::from_millis).to_vec(),
            runs: 5,
            data: Path::new("data").to_owned(),
            dir: Path::new("dir").to_owned(),
            out: Path::new("out").to_owned(),
        };
        let scenes = Scene::all(&options);
        let unique: std::collections::BTreeSet<_> = scenes.iter().map(Scene::to_string).collect();
        assert_eq!(unique.len(), scenes.len());
        for scene in &scenes {
            let runs = [Peer::Ours, scene.reference()].map(|peer| scene.runs(peer, 5));
            assert!(runs[0] > 0 && runs[0] == runs[1], "{scene}: {runs:?}");
        }
        let far = scenes.iter().filter(|scene| !scene.round_trip.is_zero());
        assert_eq!(far.count(), 4);
    }
}
