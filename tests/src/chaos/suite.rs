//! All points, a fair sample of them, and their execution.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use artifact_models::random::Random;

use crate::chaos::disk::{self, Cut, Kind};
use crate::chaos::point::{Bench, Fault, Point, image_of};
use crate::chaos::scenario::{self, Role, Scenario};
use crate::chaos::survey::Survey;
use crate::chaos::tally::{Group, Tally};
use crate::exec::Failure;

/// The parameters of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A directory for everything. Its disk only decides the speed, except that plain kills and
    /// failing calls happen on its file system.
    pub dir: PathBuf,
    /// Whose work is disturbed.
    pub role: Role,
    /// The program that does it.
    pub program: PathBuf,
    /// Chooses the points to draw, and their order.
    pub seed: u64,
    /// How many points to draw; `None` for all.
    pub points: Option<usize>,
    /// Groups to draw from; all if empty.
    pub groups: Vec<Group>,
    /// See [`Bench::fake_syncs`].
    pub fake_syncs: bool,
}

/// The scenarios, surveyed.
#[derive(Debug)]
pub struct Suite {
    plan: Plan,
    scenarios: Vec<Scenario>,
    surveys: Vec<Survey>,
}

impl Suite {
    /// Makes the scenarios and watches an undisturbed push of each.
    pub fn prepare(plan: Plan) -> Result<Self, Failure> {
        disk::check_tools()?;
        let made = plan.dir.join("scenarios");
        fs::create_dir_all(&made).map_err(Failure::doing(format!("make {made:?}")))?;
        let scenarios = scenario::all(&made, plan.role)?;
        let mut suite = Self {
            plan,
            scenarios,
            surveys: Vec::new(),
        };
        let images = suite.images();
        fs::create_dir_all(&images).map_err(Failure::doing(format!("make {images:?}")))?;
        let bench = suite.bench(&images, 0);
        let surveys = suite.scenarios.iter().map(|each| bench.survey(each));
        suite.surveys = surveys.collect::<Result<_, _>>()?;
        Ok(suite)
    }

    /// Returns the surveyed scenarios.
    pub fn surveys(&self) -> impl Iterator<Item = (&Scenario, &Survey)> {
        self.scenarios.iter().zip(&self.surveys)
    }

    /// Returns the points to run, drawn by turns from the groups, so that even a few of them cover
    /// everything.
    pub fn points(&self) -> Vec<Point> {
        let mut random = Random(self.plan.seed);
        let mut groups: BTreeMap<Group, Vec<Point>> = BTreeMap::new();
        for (index, survey) in self.surveys.iter().enumerate() {
            for point in points_of(index, survey) {
                let group = Group::of(&point);
                if self.plan.groups.is_empty() || self.plan.groups.contains(&group) {
                    groups.entry(group).or_default().push(point);
                }
            }
        }
        let wanted = self.plan.points.unwrap_or(usize::MAX);
        let mut drawn = Vec::new();
        while drawn.len() < wanted && !groups.is_empty() {
            groups.retain(|_, points| {
                if drawn.len() < wanted && !points.is_empty() {
                    let which = random.below(points.len() as u64) as usize;
                    drawn.push(points.swap_remove(which));
                }
                !points.is_empty()
            });
        }
        drawn
    }

    /// Runs points, a few at a time, and passes each that breaks a promise to `report`.
    pub fn run(&self, points: &[Point], report: &(dyn Fn(&str) + Sync)) -> Result<Tally, Failure> {
        let images = self.images();
        self.make_images(&images, points)?;
        let next = AtomicUsize::new(0);
        let tally = Mutex::new(Tally::default());
        let work = |worker: usize| -> Result<(), Failure> {
            let bench = self.bench(&images, worker);
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(point) = points.get(index) else {
                    return Ok(());
                };
                let pull = index.is_multiple_of(PULL_EVERY);
                let named = point.describe(&self.scenarios);
                let outcome = bench.run(point, pull).map_err(|failure| {
                    Failure::new(format!("the harness fails at {named}: {failure:?}"))
                })?;
                for breach in &outcome.breaches {
                    report(&format!("{named}: {breach}"));
                }
                tally
                    .lock()
                    .expect("no thread panics with it")
                    .add(Group::of(point), &outcome);
            }
        };
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let ended: Vec<_> = thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = (0..workers)
                .map(|worker| scope.spawn(move || work(worker)))
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        for end in ended {
            end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(tally.into_inner().expect("no thread panics with it"))
    }

    /// Makes the images that these points need.
    fn make_images(&self, images: &Path, points: &[Point]) -> Result<(), Failure> {
        let needed = points.iter().filter_map(|point| {
            let (kind, _) = point.cut?;
            Some((point.scenario, kind))
        });
        for (scenario, kind) in needed.collect::<BTreeSet<_>>() {
            let scenario = &self.scenarios[scenario];
            let image = image_of(images, scenario, kind);
            if !image.exists() {
                kind.image(&scenario.base, &image)?;
            }
        }
        Ok(())
    }

    fn images(&self) -> PathBuf {
        self.plan.dir.join("images")
    }

    fn bench<'a>(&'a self, images: &'a Path, worker: usize) -> Bench<'a> {
        Bench {
            scenarios: &self.scenarios,
            images,
            dir: self.plan.dir.join(format!("worker-{worker}")),
            role: self.plan.role,
            program: &self.plan.program,
            fake_syncs: self.plan.fake_syncs,
        }
    }
}

/// Lists the points of a scenario.
fn points_of(scenario: usize, survey: &Survey) -> Vec<Point> {
    let mut points = Vec::new();
    let mut add = |fault, cut| {
        points.push(Point {
            scenario,
            fault,
            cut,
        });
    };
    let cuts: Vec<_> = Kind::ALL
        .into_iter()
        .flat_map(|kind| [Cut::JournalKept, Cut::JournalLost].map(|cut| (kind, cut)))
        .collect();
    for call in survey.kills().0 {
        add(Fault::Kill(call.clone()), None);
        for &cut in &cuts {
            add(Fault::Kill(call.clone()), Some(cut));
        }
    }
    for _ in 0..CUTS_WHEN_DONE {
        for &cut in &cuts {
            add(Fault::None, Some(cut));
        }
    }
    for call in survey.failing() {
        for errno in ERRNOS {
            for on in [false, true] {
                // An interrupted call is repeated: EINTR for ever would never end.
                if on && errno == "EINTR" {
                    continue;
                }
                let call = call.clone();
                add(Fault::Errno { call, errno, on }, None);
            }
        }
    }
    for step in 0..20 {
        add(Fault::Room(step * 16), None);
        add(Fault::Files(step * 6), None);
        add(Fault::FileLen(step * step * 1_024), None);
        add(Fault::FileLen(step * 16 + 1), None);
    }
    points
}

/// The errors to inject.
const ERRNOS: [&str; 8] = [
    "EIO", "ENOSPC", "EDQUOT", "EROFS", "EMFILE", "EINTR", "EFBIG", "ENOMEM",
];
/// How often to cut the power after a complete push, for each scenario, file system and cut.
const CUTS_WHEN_DONE: usize = 26;
/// After this many points, stock ostree pulls all refs.
const PULL_EVERY: usize = 8;
