//! Runs the scenes: all pullers of a scene by turns, so that other load on the machine affects them
//! alike. Like pushes, pulls delete nothing on disk between runs (`crate::suite`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_tests::exec::{Failure, run};
use artifact_tests::programs;
use artifact_tests::repo::Repo;
use artifact_tests::sshd::Sshd;
use tempfile::TempDir;

use crate::case::{Place, Source, Work};
use crate::data::{Data, Extent, copy_linked, count_objects, make_dir, remove};
use crate::outcome::Results;
use crate::pulls::puller::{Puller, Way};
use crate::pulls::scene::{Plan, Scene, mode_name};
use crate::pulls::servers::{Servers, sshd};
use crate::spread::Spread;
use crate::usage::{self, Cost};

/// The result of a scene.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub scene: Scene,
    /// The missing objects.
    pub missing: Extent,
    pub pullers: BTreeMap<Puller, Results>,
}

impl Outcome {
    /// Returns how long a puller took, in seconds.
    pub fn wall(&self, puller: Puller) -> Option<Spread> {
        let runs = &self.pullers.get(&puller)?.runs;
        Spread::of(runs.values().map(|cost| cost.wall.as_secs_f64()))
    }

    /// Returns the time of one puller divided by that of another, each in the same round.
    pub fn ratio(&self, puller: Puller, other: Puller) -> Option<Spread> {
        self.pairs(puller, other, |one, other| one / other)
    }

    /// Returns by how many round trips a puller took longer than another.
    pub fn round_trips_more(&self, puller: Puller, other: Puller) -> Option<Spread> {
        let round_trip = self.scene.round_trip.as_secs_f64();
        self.pairs(puller, other, |one, other| (one - other) / round_trip)
    }

    fn pairs(
        &self,
        puller: Puller,
        other: Puller,
        compare: impl Fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let runs = |puller| Some(&self.pullers.get(&puller)?.runs);
        let (runs, others) = (runs(puller)?, runs(other)?);
        let seconds = |cost: &Cost| cost.wall.as_secs_f64();
        Spread::of(
            runs.iter().filter_map(|(round, cost)| {
                Some(compare(seconds(cost), seconds(others.get(round)?)))
            }),
        )
    }
}

/// The directories of one run of the suite, and sshd.
#[derive(Debug)]
pub struct Suite<'a> {
    plan: &'a Plan,
    /// The program that records memory: this one, with the argument `note-memory`.
    noter: PathBuf,
    sshd: Sshd,
    disk: TempDir,
    memory: TempDir,
    counter: usize,
}

impl<'a> Suite<'a> {
    /// Starts sshd. `noter` is the program that runs [`usage::note_memory`].
    pub fn start(plan: &'a Plan, noter: &Path) -> Result<Self, Failure> {
        make_dir(&plan.dir)?;
        make_dir(&plan.data)?;
        let directory = |place: &Path| {
            tempfile::Builder::new()
                .prefix("artifact-bench-")
                .tempdir_in(place)
                .map_err(Failure::doing(format!("make a directory in {place:?}")))
        };
        Ok(Self {
            plan,
            noter: noter.to_owned(),
            sshd: sshd()?,
            disk: directory(&plan.dir)?,
            memory: directory(Path::new("/dev/shm"))?,
            counter: 0,
        })
    }

    /// Runs all scenes; reports progress to `say`, and all outcomes to `done` after each.
    pub fn run(
        &mut self,
        say: &dyn Fn(&str),
        done: &dyn Fn(&[Outcome]) -> Result<(), Failure>,
    ) -> Result<Vec<Outcome>, Failure> {
        let mut outcomes = Vec::new();
        for &case in &self.plan.cases {
            say(&format!("{}: preparing {}", case.name(), case.title()));
            let data = Data::prepare(case, &self.plan.data)?;
            for scene in Scene::of(case, self.plan) {
                say(&format!("{scene}"));
                outcomes.push(self.run_scene(scene, &data, say)?);
                done(&outcomes)?;
            }
        }
        Ok(outcomes)
    }

    fn run_scene(
        &mut self,
        scene: Scene,
        data: &Data,
        say: &dyn Fn(&str),
    ) -> Result<Outcome, Failure> {
        let source = data.source(Source::Archive, scene.work);
        let servers = Servers::start(&self.sshd, &source, scene.round_trip)?;
        let way = servers.way(&self.sshd, !scene.round_trip.is_zero());
        let all = self.plan.pullers.iter().copied();
        let all: Vec<_> = all.filter(|puller| scene.has(*puller)).collect();
        let mut pullers = BTreeMap::new();
        for &puller in &all {
            let mut results = Results::default();
            // Bytes and memory do not depend on the link; they are measured once.
            if scene.round_trip.is_zero() && !scene.cold && puller.is_ours() {
                match self.warm_up(puller, &scene, data, &servers) {
                    Ok((carried, memory)) => {
                        results.carried = Some(carried);
                        results.memory = memory.map(|client| (client, 0));
                    }
                    Err(failure) => results.failure = Some(format!("{failure:?}")),
                }
            }
            pullers.insert(puller, results);
        }
        let counts = all.iter().map(|puller| scene.runs(*puller, self.plan.runs));
        for round in 0..counts.max().unwrap_or_default() {
            let mut turn = all.clone();
            turn.rotate_left(round % all.len());
            for puller in turn {
                let is_over = scene.runs(puller, self.plan.runs) <= round;
                let results = pullers.entry(puller).or_default();
                if is_over || results.failure.is_some() {
                    continue;
                }
                match self.time(puller, &scene, data, &way) {
                    Ok(cost) => drop(results.runs.insert(round, cost)),
                    Err(failure) => {
                        say(&format!("{scene}: {} failed: {failure:?}", puller.name()));
                        results.failure = Some(format!("{failure:?}"));
                    }
                }
            }
        }
        Ok(Outcome {
            missing: data.missing(scene.work),
            scene,
            pullers,
        })
    }

    /// Runs a puller once to count bytes and record memory, through a link and below a program that
    /// would both affect the time, and reads every object that it has brought.
    fn warm_up(
        &mut self,
        puller: Puller,
        scene: &Scene,
        data: &Data,
        servers: &Servers,
    ) -> Result<((u64, u64), Option<u64>), Failure> {
        let way = servers.way(&self.sshd, true);
        let destination = self.destination(puller, scene, data, &way)?;
        let source = data.source(Source::Archive, scene.work);
        let inner = puller.command(scene.work, data, &way, &source, &destination)?;
        let notes = self.memory.path().join("notes");
        let mut command = Command::new(&self.noter);
        command.arg("note-memory").arg(&notes);
        command.arg(inner.get_program()).args(inner.get_args());
        for (key, value) in inner.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        let before = servers.carried(puller);
        run(&mut command)?.success()?;
        let after = servers.carried(puller);
        self.check(puller, scene, data, &destination)?;
        Repo::at(&destination).fsck()?;
        self.clear(scene, &destination)?;
        let carried = (after.0 - before.0, after.1 - before.1);
        Ok((carried, usage::noted_memory(&notes)))
    }

    fn time(
        &mut self,
        puller: Puller,
        scene: &Scene,
        data: &Data,
        way: &Way,
    ) -> Result<Cost, Failure> {
        let destination = self.destination(puller, scene, data, way)?;
        let source = data.source(Source::Archive, scene.work);
        let mut command = puller.command(scene.work, data, way, &source, &destination)?;
        self.settle(scene)?;
        let (ran, cost) = usage::measure(&mut command, &self.sshd)?;
        ran.success()?;
        self.check(puller, scene, data, &destination)?;
        self.clear(scene, &destination)?;
        Ok(cost)
    }

    /// Creates the destination of a puller, and returns its path. A puller with nothing to do gets
    /// the same one again.
    fn destination(
        &mut self,
        puller: Puller,
        scene: &Scene,
        data: &Data,
        way: &Way,
    ) -> Result<PathBuf, Failure> {
        let mode = mode_name(scene.mode);
        if scene.work == Work::Nothing {
            let name = format!("nothing-{}-{mode}-{}", scene.case.name(), puller.name());
            let kept = self.dir(scene.place).join(name);
            if puller.refs().is_some() {
                if !kept.exists() {
                    copy_linked(&self.base(scene, data)?, &kept)?;
                }
                puller.prepare(way, &kept)?;
            }
            return Ok(kept);
        }
        self.counter += 1;
        let destination = self.dir(scene.place).join(self.counter.to_string());
        match (puller.refs(), scene.work) {
            (None, Work::Change) => {
                // The trees lie on the disk, and the destination perhaps in memory.
                let mut copy = Command::new("cp");
                copy.arg("-a").arg(data.checkout(Work::Full)?);
                run(copy.arg(&destination))?.success().map(drop)?;
            }
            (None, _) => make_dir(&destination)?,
            (Some(_), Work::Change) => copy_linked(&self.base(scene, data)?, &destination)?,
            (Some(_), _) => {
                let mode = format!("--mode={mode}");
                Repo::at(&destination).ostree("init", [mode])?;
            }
        }
        puller.prepare(way, &destination)?;
        Ok(destination)
    }

    /// Makes a repository with the first commit, unless there is one; copies are hard links.
    fn base(&self, scene: &Scene, data: &Data) -> Result<PathBuf, Failure> {
        let mode = mode_name(scene.mode);
        let name = format!("base-{}-{mode}", scene.case.name());
        let path = self.dir(scene.place).join(name);
        if !path.exists() {
            let base = Repo::at(&path);
            base.ostree("init", [format!("--mode={mode}")])?;
            base.pull_path(&data.first(), &[&data.reference(Work::Full)])?;
        }
        Ok(path)
    }

    /// Fails unless the destination has everything that was pulled.
    fn check(
        &self,
        puller: Puller,
        scene: &Scene,
        data: &Data,
        destination: &Path,
    ) -> Result<(), Failure> {
        let Some(refs) = puller.refs() else {
            return Ok(());
        };
        let path = destination.join(refs).join(data.reference(scene.work));
        let found = fs::read_to_string(&path).map_err(Failure::doing(format!("read {path:?}")))?;
        let expected = (
            data.commit(scene.work).to_hex(),
            data.objects_after(scene.work),
        );
        let found = (found.trim().to_owned(), count_objects(destination)?);
        if found != expected {
            let name = puller.name();
            return Err(Failure::new(format!(
                "{name}: {path:?} and objects: {found:?}, not {expected:?}"
            )));
        }
        Ok(())
    }

    /// Frees space after a run, where that disturbs no measurement.
    fn clear(&self, scene: &Scene, used: &Path) -> Result<(), Failure> {
        if scene.place == Place::Memory && scene.work != Work::Nothing {
            remove(used)?;
        }
        Ok(())
    }

    /// Completes all work that earlier runs have left to the system.
    fn settle(&self, scene: &Scene) -> Result<(), Failure> {
        let dir = self.dir(scene.place);
        let disk = File::open(dir).map_err(Failure::doing(format!("open {dir:?}")))?;
        rustix::fs::syncfs(&disk)
            .map_err(|errno| Failure::doing(format!("sync {dir:?}"))(errno.into()))?;
        if scene.cold {
            fs::write("/proc/sys/vm/drop_caches", "3")
                .map_err(Failure::doing("empty the page cache"))?;
        }
        Ok(())
    }

    fn dir(&self, place: Place) -> &Path {
        match place {
            Place::Memory => self.memory.path(),
            Place::Disk => self.disk.path(),
        }
    }
}

/// Fails unless the client is there and has no shared library but the system's.
pub fn libraries() -> Result<Vec<String>, Failure> {
    let said = run(Command::new("ldd").arg(programs::client()?))?;
    let lines = said.stdout.lines().map(str::trim);
    let names = lines.filter_map(|line| line.split_whitespace().next());
    let is_system = |name: &&str| {
        [
            "linux-vdso",
            "libc.",
            "libm.",
            "libgcc_s",
            "/lib",
            "statically",
            "not",
        ]
        .iter()
        .any(|known| name.starts_with(known))
    };
    Ok(names.filter(|n| !is_system(n)).map(str::to_owned).collect())
}
