//! What is measured: which tree, how much of it is missing, from where to where, over what link.

use std::fmt;
use std::time::Duration;

use rustix::process::geteuid;

use crate::options::Options;
use crate::peer::Peer;

/// A tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// An artifact of 50 files.
    T,
    /// A root file system of Debian, as `debootstrap` makes it.
    A,
    /// 100,000 small files.
    B,
    /// Four large files, of which two can be compressed.
    C,
    /// A million files of a few bytes.
    M,
    /// One file of 10 GiB.
    G,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::T, Self::A, Self::B, Self::C, Self::M, Self::G];
    /// Those that are measured unless others are asked for.
    pub const USUAL: [Self; 4] = [Self::T, Self::A, Self::B, Self::C];

    /// Returns its name, as `BENCH_CASES` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::T => "T",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::M => "M",
            Self::G => "G",
        }
    }

    /// Returns whether it is pushed from a bare-user repository as well.
    pub const fn has_bare_user(self) -> bool {
        matches!(self, Self::A | Self::G)
    }

    /// Returns whether only its memory is of interest.
    pub const fn is_huge(self) -> bool {
        matches!(self, Self::M | Self::G)
    }

    /// Returns what it is, for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::T => "50 files",
            Self::A => "root file system",
            Self::B => "100,000 small files",
            Self::C => "4 large files",
            Self::M => "1,000,000 tiny files",
            Self::G => "a file of 10 GiB",
        }
    }
}

/// How much of the tree is missing at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// All of it: the repository is empty.
    Full,
    /// What has changed since the commit that is there: one file in a hundred, one at least.
    Change,
    /// Nothing: the ref is there.
    Nothing,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Change, Self::Nothing];

    /// Returns its name, as `BENCH_WORKS` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Change => "change",
            Self::Nothing => "nothing",
        }
    }
}

/// What the source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// An archive repository, whose objects travel as they lie.
    Archive,
    /// A bare-user repository, as build tools keep, whose objects have to be compressed.
    BareUser,
}

impl Source {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::BareUser => "bare-user",
        }
    }
}

/// Where the destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In memory, where creating files costs next to nothing.
    Memory,
    /// On disk.
    Disk,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Memory, Self::Disk];

    /// Returns its name, as `BENCH_PLACES` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "tmpfs",
            Self::Disk => "disk",
        }
    }
}

/// One thing to be measured, with every peer that can do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// The tree.
    pub case: Case,
    /// What is missing.
    pub work: Work,
    /// From where.
    pub source: Source,
    /// To where.
    pub place: Place,
    /// Over what.
    pub round_trip: Duration,
    /// Whether the page cache is emptied before each run, which needs root.
    pub cold: bool,
}

impl Scene {
    /// Lists all the scenes that were asked for, those of one case after the other.
    pub fn all(options: &Options) -> Vec<Self> {
        let mut scenes = Vec::new();
        for &case in &options.cases {
            scenes.extend(Self::of(case, options));
        }
        scenes
    }

    fn of(case: Case, options: &Options) -> Vec<Self> {
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
        // On a long link the disk hardly shows, and small trees show how often one waits.
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

    /// Returns what the others are compared with here.
    pub const fn reference(&self) -> Peer {
        match (self.source, self.work) {
            (Source::BareUser, _) => Peer::ArchiveAndTar,
            (Source::Archive, Work::Nothing) => Peer::True,
            (Source::Archive, Work::Full | Work::Change) => Peer::Tar,
        }
    }

    /// Returns whether a peer can do this, and does not take minutes to tell nothing new.
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
            // Hundreds of round trips, or seventy seconds once more.
            Peer::OstreePush => {
                let again = full && self.case == Case::B && self.place == Place::Disk;
                !(bare || self.cold || far && self.case == Case::A || very_far || again)
            }
            Peer::Pull => !(bare || self.cold || far && self.case == Case::A),
            Peer::ArchiveAndTar => bare,
        }
    }

    /// Returns how often a peer is to be run, where what takes about a second is run `runs` times.
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

    /// Returns whether a peer is so slow here that it is run once only, without being warmed up.
    pub const fn is_long(&self, peer: Peer) -> bool {
        matches!(self.case, Case::B | Case::C)
            && matches!(self.work, Work::Full)
            && matches!(peer, Peer::OstreePush | Peer::Pull)
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

/// From here on a root file system takes a quarter of a minute, however it is sent.
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
            extras: Vec::new(),
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
