//! Runs the scenes of pushes, each in a place made ready for it (`places`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use artifact_tests::exec::{Failure, describe, run};
use artifact_tests::http::HttpServer;
use artifact_tests::link::Link;
use artifact_tests::programs;
use artifact_tests::repo::Repo;
use artifact_tests::sshd::Sshd;

use crate::case::{Case, Place, Work};
use crate::data::{Data, copy_linked, count_objects, make_dir};
use crate::options::{Extra, Options};
use crate::outcome::{Extras, Keep, Outcome, Results, by_turns};
use crate::peer::{Peer, Way};
use crate::places::Places;
use crate::scene::Scene;
use crate::usage::{self, Cost};
use crate::{growth, lock, verify};

/// The servers, and the directories of one run of the suite.
#[derive(Debug)]
pub struct Suite<'a> {
    options: &'a Options<Peer>,
    /// The program that records memory: this one, with the argument `note-memory`.
    noter: PathBuf,
    sshd: Sshd,
    noting: Sshd,
    places: Places,
}

impl<'a> Suite<'a> {
    /// Starts the servers. `noter` is the program that runs [`usage::note_memory`].
    pub fn start(options: &'a Options<Peer>, noter: &Path) -> Result<Self, Failure> {
        make_dir(&options.data)?;
        let places = Places::make(&options.dir)?;
        let receiver = programs::receiver()?;
        let ours = receiver.parent().unwrap_or(Path::new("/")).display();
        let path = format!(
            "PATH={ours}:{}:$PATH; export PATH;",
            ostree_push(&options.data).display()
        );
        let notes = places.dir(Place::Memory).join(SERVER_NOTES);
        Ok(Self {
            options,
            noter: noter.to_owned(),
            // Like sshd without a ForceCommand, with a PATH that has everything.
            sshd: Sshd::start(&format!("{path} eval \"$SSH_ORIGINAL_COMMAND\""))?,
            noting: Sshd::start(&format!(
                "{path} exec {} note-memory {} sh -c \"$SSH_ORIGINAL_COMMAND\"",
                noter.display(),
                notes.display()
            ))?,
            places,
        })
    }

    /// Runs all scenes; reports progress to `say`, and all outcomes to `done` after each.
    pub fn run(
        &mut self,
        say: &dyn Fn(&str),
        done: &Keep<'_, Scene>,
    ) -> Result<Vec<Outcome<Scene>>, Failure> {
        let mut outcomes = Vec::new();
        for &case in &self.options.cases {
            say(&format!("{}: preparing {}", case.name(), case.title()));
            let data = Data::prepare(case, &self.options.data)?;
            let scenes = Scene::all(self.options);
            for scene in scenes.into_iter().filter(|scene| scene.case == case) {
                say(&format!("{scene}"));
                outcomes.push(self.run_scene(scene, &data, say)?);
                done(&outcomes)?;
            }
            self.places.clear_memory()?;
        }
        Ok(outcomes)
    }

    /// Runs the measurements without peers: the lock, the refs, the verifier.
    pub fn extras(&mut self, chosen: &[Extra], say: &dyn Fn(&str)) -> Result<Extras, Failure> {
        let mut extras = Extras::default();
        let runs = self.options.runs;
        for &place in &self.options.places {
            if chosen.contains(&Extra::Lock) {
                say(&format!("lock, {}", place.name()));
                let dir = self.places.scratch(place);
                let (objects, held) = lock::measure(&dir, runs)?;
                extras.lock.push((place, objects, held));
            }
            if chosen.contains(&Extra::Refs) {
                say(&format!("refs, {}", place.name()));
                let dir = self.places.scratch(place);
                let curve = growth::refs(&dir, &[1, 50_000], 2 * runs)?;
                extras.refs.push((place, curve));
            }
            self.places.clear_memory()?;
        }
        if chosen.contains(&Extra::Verify) {
            for case in self
                .options
                .cases
                .iter()
                .copied()
                .filter(|case| *case != Case::C)
            {
                say(&format!("verify, {}", case.name()));
                let data = Data::prepare(case, &self.options.data)?;
                let objects = verify::Objects::read(&data.first())?;
                extras.verify.push((case, objects.compare(runs)?));
            }
        }
        Ok(extras)
    }

    fn run_scene(
        &mut self,
        scene: Scene,
        data: &Data,
        say: &dyn Fn(&str),
    ) -> Result<Outcome<Scene>, Failure> {
        let http = HttpServer::start(&data.source(scene.source, scene.work))?;
        let link = (!scene.round_trip.is_zero())
            .then(|| Link::start(self.sshd.port(), scene.round_trip))
            .transpose()?;
        let far_http = (!scene.round_trip.is_zero())
            .then(|| Link::start(http.port(), scene.round_trip))
            .transpose()?;
        let way = self.way(
            &self.sshd,
            link.as_ref().map_or(self.sshd.port(), Link::port),
            far_http.as_ref().map_or(http.port(), Link::port),
        );
        let mut peers = BTreeMap::new();
        for &peer in &self.options.peers {
            if !scene.has(peer) {
                continue;
            }
            let mut results = Results {
                failure: peer.lacks(&way).map(str::to_owned),
                ..Results::default()
            };
            // Bytes and memory hardly depend on place and link; they are measured once.
            let first = self.options.places.first() == Some(&scene.place);
            let near = scene.round_trip.is_zero() && !scene.cold;
            if results.failure.is_none() && first && near && !scene.is_long(peer) {
                let noted = self.warm_up(peer, &scene, data, http.port());
                results.failure = noted.map_or_else(
                    |failure| Some(format!("{failure:?}")),
                    |(carried, memory)| {
                        results.carried = Some(carried);
                        results.memory = memory;
                        None
                    },
                );
            }
            peers.insert(peer, results);
        }
        by_turns(
            &mut peers,
            |peer| scene.runs(peer, self.options.runs),
            |peer, thorough| self.time(peer, &scene, data, &way, thorough),
            |peer, failure| say(&format!("{scene}: {} failed: {failure}", peer.name())),
        );
        Ok(Outcome {
            missing: data.missing(scene.work),
            scene,
            peers,
        })
    }

    /// Runs a peer once to count bytes and record memory, through a proxy and between programs that
    /// would both affect the time.
    #[expect(
        clippy::type_complexity,
        reason = "two pairs that are taken apart at once"
    )]
    fn warm_up(
        &mut self,
        peer: Peer,
        scene: &Scene,
        data: &Data,
        http: u16,
    ) -> Result<((u64, u64), Option<(u64, u64)>), Failure> {
        let ssh = Link::start(self.noting.port(), Duration::ZERO)?;
        let web = Link::start(http, Duration::ZERO)?;
        let way = self.way(&self.noting, ssh.port(), web.port());
        let destination = self.destination(peer, scene, data, &way)?;
        let scratch = self.places.scratch(scene.place);
        let inner = peer.command(scene.source, scene.work, data, &way, &destination, &scratch)?;
        let notes = self.places.dir(Place::Memory).join("client-notes");
        let mut command = usage::noting(&self.noter, &notes, &inner);
        let (ran, _) = usage::measure(&mut command, &self.noting)?;
        ran.success()?;
        self.check(peer, scene, data, &destination, true)?;
        self.places
            .clear(scene.place, scene.work, &[&destination, &scratch])?;
        let client = usage::noted_memory(&notes);
        let server = usage::noted_memory(&self.places.dir(Place::Memory).join(SERVER_NOTES));
        let carried = match peer {
            Peer::Pull => {
                // A peer that pulls is the receiving end.
                let (asked, served) = web.carried();
                (served, asked)
            }
            _ => ssh.carried(),
        };
        let memory = match peer {
            Peer::Pull => client.map(|receiver| (0, receiver)),
            _ => client.zip(server),
        };
        Ok((carried, memory))
    }

    fn time(
        &mut self,
        peer: Peer,
        scene: &Scene,
        data: &Data,
        way: &Way,
        thorough: bool,
    ) -> Result<Cost, Failure> {
        let destination = self.destination(peer, scene, data, way)?;
        let scratch = self.places.scratch(scene.place);
        let mut command =
            peer.command(scene.source, scene.work, data, way, &destination, &scratch)?;
        self.places.settle(scene.place, scene.cold)?;
        let (ran, mut cost) = usage::measure(&mut command, &self.sshd)?;
        ran.success()?;
        if peer == Peer::Pull {
            // A peer that pulls is the receiving end; the web server's time is not measured.
            cost.server = std::mem::take(&mut cost.client);
        }
        self.check(peer, scene, data, &destination, thorough)?;
        self.places
            .clear(scene.place, scene.work, &[&destination, &scratch])?;
        Ok(cost)
    }

    /// Creates the destination of a peer, and returns its path. A peer with nothing to do changes
    /// nothing, and gets the same one again.
    fn destination(
        &mut self,
        peer: Peer,
        scene: &Scene,
        data: &Data,
        way: &Way,
    ) -> Result<PathBuf, Failure> {
        if scene.work == Work::Nothing {
            let name = format!("nothing-{}-{}", scene.case.name(), peer.name());
            let kept = self.places.dir(scene.place).join(name);
            if peer.leaves_repository() {
                if !kept.exists() {
                    copy_linked(&self.prepare_base(scene.place, data)?, &kept)?;
                }
                peer.prepare(way, &kept)?;
            }
            return Ok(kept);
        }
        let destination = self.places.scratch(scene.place);
        if !peer.leaves_repository() {
            return Ok(destination);
        }
        if scene.work == Work::Full {
            Repo::at(&destination).ostree("init", ["--mode=archive-z2"])?;
        } else {
            copy_linked(&self.prepare_base(scene.place, data)?, &destination)?;
        }
        peer.prepare(way, &destination)?;
        Ok(destination)
    }

    /// Copies the repository with the first commit to a place, unless it is there, and returns its
    /// path; further copies are hard links.
    fn prepare_base(&self, place: Place, data: &Data) -> Result<PathBuf, Failure> {
        let base = self.base(place, data.case);
        if !base.exists() {
            run(Command::new("cp").arg("-a").arg(data.first()).arg(&base))?.success()?;
            let repo = Repo::at(&base);
            repo.ostree("config", ["set", "core.fsync", "true"])?;
            repo.ostree("summary", ["-u"])?;
        }
        Ok(base)
    }

    /// Fails unless the destination has everything that was pushed. With `thorough`, reads every
    /// object where that is quick, and always after our own pushes.
    fn check(
        &self,
        peer: Peer,
        scene: &Scene,
        data: &Data,
        destination: &Path,
        thorough: bool,
    ) -> Result<(), Failure> {
        if !peer.leaves_repository() {
            return Ok(());
        }
        let wrong = |what: String| Err(Failure::new(format!("{}: {what}", peer.name())));
        if peer.counts_objects(scene.work) {
            let name = data.reference(scene.work);
            let path = destination.join(peer.refs()).join(name);
            let found =
                fs::read_to_string(&path).map_err(Failure::doing(format!("read {path:?}")))?;
            let expected = data.commit(scene.work).to_hex();
            if found.trim() != expected {
                return wrong(format!("{path:?} holds {found:?} and not {expected}"));
            }
            let (found, expected) = (count_objects(destination)?, data.objects_after(scene.work));
            if found != expected {
                return wrong(format!("{found} objects and not {expected}"));
            }
        }
        let ours = matches!(peer, Peer::Ours | Peer::OursAes);
        if thorough && (ours || matches!(scene.case, Case::T | Case::A)) {
            Repo::at(destination).fsck()?;
        }
        if thorough && ours {
            run(Command::new(programs::admin()?)
                .arg("fsck")
                .arg(destination))?
            .success()?;
        }
        Ok(())
    }

    fn way(&self, sshd: &Sshd, ssh_port: u16, http_port: u16) -> Way {
        Way {
            ssh_port,
            ssh: sshd.ssh_command(),
            user: sshd.user().to_owned(),
            http: format!("http://127.0.0.1:{http_port}"),
            ostree_push: ostree_push(&self.options.data),
        }
    }

    fn base(&self, place: Place, case: Case) -> PathBuf {
        self.places.dir(place).join(format!("base-{}", case.name()))
    }
}

fn ostree_push(data: &Path) -> PathBuf {
    data.join("ostree-push/bin")
}

/// Describes the machine, for comparing results.
pub fn machine(dir: &Path) -> BTreeMap<&'static str, String> {
    let first_line = |command: &mut Command| {
        let ran = run(command).map(|ran| ran.stdout + &ran.stderr);
        let text = ran.unwrap_or_else(|_| "unknown".to_owned());
        text.lines().next().unwrap_or_default().to_owned()
    };
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    BTreeMap::from([
        ("kernel", first_line(Command::new("uname").arg("-r"))),
        ("ssh", first_line(Command::new("ssh").arg("-V"))),
        (
            "ostree",
            first_line(Command::new("ostree").arg("--version")),
        ),
        (
            "cores",
            std::thread::available_parallelism()
                .map_or(1, usize::from)
                .to_string(),
        ),
        (
            "processor",
            model.map_or("unknown", |(_, name)| name).to_owned(),
        ),
        (
            "file system",
            first_line(Command::new("stat").args(["-f", "-c", "%T"]).arg(dir)),
        ),
        ("load before", load.trim().to_owned()),
        (
            "programs",
            describe(&Command::new(programs::client().unwrap_or_default())),
        ),
    ])
}

const SERVER_NOTES: &str = "server-notes";
