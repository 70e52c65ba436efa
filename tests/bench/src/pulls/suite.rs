//! Runs the scenes of pulls, each in a place made ready for it (`places`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_tests::exec::{Failure, run};
use artifact_tests::programs;
use artifact_tests::repo::Repo;
use artifact_tests::sshd::Sshd;

use crate::case::{Place, Source, Work};
use crate::data::{Data, copy_linked, count_objects, make_dir};
use crate::outcome::{Keep, Outcome, Results, by_turns};
use crate::places::Places;
use crate::pulls::puller::{Puller, Way};
use crate::pulls::scene::{Plan, Scene, mode_name};
use crate::pulls::servers::{Servers, sshd};
use crate::usage::{self, Cost};

/// The directories of one run of the suite, and sshd.
#[derive(Debug)]
pub struct Suite<'a> {
    plan: &'a Plan,
    /// The program that records memory: this one, with the argument `note-memory`.
    noter: PathBuf,
    sshd: Sshd,
    places: Places,
}

impl<'a> Suite<'a> {
    /// Starts sshd. `noter` is the program that runs [`usage::note_memory`].
    pub fn start(plan: &'a Plan, noter: &Path) -> Result<Self, Failure> {
        make_dir(&plan.options.data)?;
        Ok(Self {
            plan,
            noter: noter.to_owned(),
            sshd: sshd()?,
            places: Places::make(&plan.options.dir)?,
        })
    }

    /// Runs all scenes; reports progress to `say`, and all outcomes to `done` after each.
    pub fn run(
        &mut self,
        say: &dyn Fn(&str),
        done: &Keep<'_, Scene>,
    ) -> Result<Vec<Outcome<Scene>>, Failure> {
        let mut outcomes = Vec::new();
        for &case in &self.plan.options.cases {
            say(&format!("{}: preparing {}", case.name(), case.title()));
            let data = Data::prepare(case, &self.plan.options.data)?;
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
    ) -> Result<Outcome<Scene>, Failure> {
        let source = data.source(Source::Archive, scene.work);
        let servers = Servers::start(&self.sshd, &source, scene.round_trip)?;
        let way = servers.way(&self.sshd, !scene.round_trip.is_zero());
        let mut peers = BTreeMap::new();
        for &puller in &self.plan.options.peers {
            if !scene.has(puller) {
                continue;
            }
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
            peers.insert(puller, results);
        }
        by_turns(
            &mut peers,
            |puller| scene.runs(puller, self.plan.options.runs),
            |puller, _| self.time(puller, &scene, data, &way),
            |puller, failure| say(&format!("{scene}: {} failed: {failure}", puller.name())),
        );
        Ok(Outcome {
            missing: data.missing(scene.work),
            scene,
            peers,
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
        let notes = self.places.dir(Place::Memory).join("notes");
        let mut command = usage::noting(&self.noter, &notes, &inner);
        let before = servers.carried(puller);
        run(&mut command)?.success()?;
        let after = servers.carried(puller);
        self.check(puller, scene, data, &destination)?;
        Repo::at(&destination).fsck()?;
        self.places
            .clear(scene.place, scene.work, &[&destination])?;
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
        self.places.settle(scene.place, scene.cold)?;
        let (ran, cost) = usage::measure(&mut command, &self.sshd)?;
        ran.success()?;
        self.check(puller, scene, data, &destination)?;
        self.places
            .clear(scene.place, scene.work, &[&destination])?;
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
            let kept = self.places.dir(scene.place).join(name);
            if puller.refs().is_some() {
                if !kept.exists() {
                    copy_linked(&self.base(scene, data)?, &kept)?;
                }
                puller.prepare(way, &kept)?;
            }
            return Ok(kept);
        }
        let destination = self.places.scratch(scene.place);
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
        let path = self.places.dir(scene.place).join(name);
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
