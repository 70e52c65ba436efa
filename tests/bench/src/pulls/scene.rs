//! A scene: a tree, pulled into a repository of some mode over a link, by some pullers.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use artifact_tests::exec::Failure;
use artifact_tests::repo::Mode;
use rustix::process::geteuid;

use crate::case::{Case, Place, Work};
use crate::options::{Options, choice, variable};
use crate::outcome::Contest;
use crate::pulls::puller::Puller;

/// The scenes to run, how often, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the scenes of pushes have as well.
    pub options: Options<Puller>,
    /// `BENCH_MODES`.
    pub modes: Vec<Mode>,
    /// `BENCH_COLD`: with an empty page cache alone.
    pub cold: bool,
}

impl Plan {
    /// Reads the environment; `target` is Cargo's target directory.
    pub fn from_environment(target: &Path) -> Result<Self, Failure> {
        let usual = [Case::T, Case::A, Case::B];
        let pullers = (&Puller::ALL[..], Puller::name as fn(Puller) -> _);
        Ok(Self {
            options: Options::read(target, &usual, pullers, "results-pull")?,
            modes: choice("BENCH_MODES", &[Mode::Archive, Mode::BareUser], mode_name)?,
            cold: variable("BENCH_COLD").is_some(),
        })
    }
}

/// One measurement, with every puller that can take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// The tree.
    pub case: Case,
    /// How much is missing.
    pub work: Work,
    /// The mode of the repository that is pulled into.
    pub mode: Mode,
    /// Where that repository lies.
    pub place: Place,
    /// The link's round trip.
    pub round_trip: Duration,
    /// Whether to empty the page cache before each run, which needs root.
    pub cold: bool,
}

impl Scene {
    /// Lists the scenes of a tree.
    pub fn of(case: Case, plan: &Plan) -> Vec<Self> {
        let mut scenes = Vec::new();
        for &round_trip in &plan.options.round_trips {
            for &place in &plan.options.places {
                for &mode in &plan.modes {
                    for &work in &plan.options.works {
                        let scene = Self {
                            case,
                            work,
                            mode,
                            place,
                            round_trip,
                            cold: plan.cold,
                        };
                        scenes.extend(scene.is_telling(plan).then_some(scene));
                    }
                }
            }
        }
        scenes
    }

    /// Returns whether the scene shows what no other does.
    fn is_telling(&self, plan: &Plan) -> bool {
        let is_far = !self.round_trip.is_zero();
        // On a long link the disk hardly matters.
        let is_other_place = is_far && plan.options.places.first() != Some(&self.place);
        // Many objects and large ones take a link's bandwidth, and this link has no bound.
        let is_long = is_far && !matches!(self.case, Case::T | Case::A);
        let is_second_mode = is_far && plan.modes.last() != Some(&self.mode);
        let is_cold =
            self.place == Place::Disk && self.work == Work::Full && !is_far && geteuid().is_root();
        !is_other_place && !is_long && !is_second_mode && (!self.cold || is_cold)
    }

    /// Returns whether a puller takes part: not where it takes minutes to show nothing new.
    pub fn has(&self, puller: Puller) -> bool {
        let is_far = !self.round_trip.is_zero();
        let is_small = self.case == Case::T;
        match puller {
            Puller::Ssh | Puller::Post => true,
            Puller::Loose => is_small || self.round_trip < VERY_FAR,
            Puller::OstreeFromNginx => is_small || self.round_trip < VERY_FAR,
            Puller::OstreeFromServe => !self.cold && !is_far && self.case != Case::B,
            Puller::Tar => self.work == Work::Full,
            Puller::Rsync => self.work != Work::Nothing,
            Puller::True => self.work == Work::Nothing || is_small,
        }
    }

    /// Returns how often to run a puller.
    pub fn runs(&self, puller: Puller, runs: usize) -> usize {
        let is_far = !self.round_trip.is_zero();
        let is_slow = matches!(puller, Puller::OstreeFromNginx | Puller::OstreeFromServe);
        let is_small = self.case == Case::T || self.work == Work::Nothing;
        match (is_small, is_slow) {
            (true, _) => runs,
            (false, true) if is_far || self.case == Case::B => runs.min(1),
            (false, _) => runs.div_ceil(2),
        }
    }
}

impl Contest for Scene {
    type Peer = Puller;

    fn round_trip(&self) -> Duration {
        self.round_trip
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (case, work) = (self.case.name(), self.work.name());
        let (mode, place) = (mode_name(self.mode), self.place.name());
        write!(f, "{case} {work}, into {mode}, {place}")?;
        if self.cold {
            write!(f, ", cold")?;
        }
        if !self.round_trip.is_zero() {
            write!(f, ", {} ms", self.round_trip.as_millis())?;
        }
        Ok(())
    }
}

/// Returns a mode's name, as in `BENCH_MODES`.
pub const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Archive => "archive",
        Mode::BareUser => "bare-user",
    }
}

/// From this round trip on, pulls that ask for each object take minutes.
const VERY_FAR: Duration = Duration::from_millis(100);
