//! One disturbed push: which push, which fault, and the result.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fmt, fs};

use artifact_formats::{Checksum, RefName};

use crate::chaos::client::{self, Heard};
use crate::chaos::disk::{self, Cut, Disk, Kind, SmallDisk};
use crate::chaos::scenario::{Role, Scenario};
use crate::chaos::survey::{self, Call, Survey};
use crate::exec::Failure;
use crate::invariants::{Breach, Promise, judge, judge_done};
use crate::repo::Repo;

/// The fault that disturbs a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None; the power is cut after it has ended.
    None,
    /// The receiver is killed at this call, before the call takes effect.
    Kill(Call),
    /// This call fails; with `on`, so do later ones of its name.
    Errno {
        /// The call.
        call: Call,
        /// The error's name.
        errno: &'static str,
        /// Whether later calls fail as well.
        on: bool,
    },
    /// No file can grow beyond this many bytes: a write up to there is short, the next one fails.
    FileLen(u64),
    /// The disk has room for so many KiB.
    Room(u64),
    /// The disk has room for so many files.
    Files(u64),
}

/// A disturbed push.
#[derive(Clone, Debug)]
pub struct Point {
    /// Index of the scenario.
    pub scenario: usize,
    /// The fault.
    pub fault: Fault,
    /// How the power is cut after that, if at all.
    pub cut: Option<(Kind, Cut)>,
}

/// The result of a point.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Broken promises.
    pub breaches: Vec<Breach>,
    /// Whether the fault took place: not if the call was not made this time, or the space sufficed.
    pub hit: bool,
    /// Whether the client was told that the push is done.
    pub acknowledged: bool,
    /// Whether a ref is new without the client having been told: allowed, but worth counting.
    pub unheard: bool,
    /// Time until the next push was accepted.
    pub accepted_after: Duration,
}

/// The environment of a worker, which runs one point at a time.
#[derive(Debug)]
pub struct Bench<'a> {
    /// The scenarios.
    pub scenarios: &'a [Scenario],
    /// Images of the scenarios' bases, named by scenario and kind.
    pub images: &'a Path,
    /// A directory of its own.
    pub dir: PathBuf,
    /// Whose work is disturbed.
    pub role: Role,
    /// The program that does it.
    pub program: &'a Path,
    /// Whether every sync of the program does nothing and reports success: the control that shows
    /// that the harness sees power cuts.
    pub fake_syncs: bool,
}

/// Returns the path of the image of a scenario's base.
pub fn image_of(images: &Path, scenario: &Scenario, kind: Kind) -> PathBuf {
    images.join(format!("{}.{kind:?}", scenario.name))
}

impl Bench<'_> {
    /// Watches an undisturbed push, which must succeed.
    pub fn survey(&self, scenario: &Scenario) -> Result<Survey, Failure> {
        self.clear()?;
        let repo = self.dir.join("repo");
        disk::copy(&scenario.base, &repo)?;
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", &format!("trace={}", Survey::CALLS), "-o"]);
        command.arg(self.trace()).arg(self.program);
        let heard = self.work(scenario, command, &repo)?;
        let breaches = judge_done(&Repo::at(&repo), &scenario.change, None)?;
        if !heard.done || !breaches.is_empty() {
            return Err(Failure::new(format!(
                "an undisturbed push fails: {heard:?} {breaches:?}"
            )));
        }
        survey::read(&self.trace())
    }

    /// Runs a point. `pull` tells whether to pull every ref as well.
    pub fn run(&self, point: &Point, pull: bool) -> Result<Outcome, Failure> {
        self.clear()?;
        let scenario = &self.scenarios[point.scenario];
        let mut place = self.place(point, scenario)?;
        let repo = place.repo();
        let command = self.command(&point.fault);
        let heard = self.work(scenario, command, &repo)?;
        match &mut place {
            Place::Plain(_) => {}
            Place::Disk(disk, cut) => disk.cut(*cut)?,
            Place::Small(disk) => disk.enlarge()?,
        }
        let repo = Repo::at(&repo);
        let scratch = self.dir.join("scratch");
        let scratch = pull.then_some(scratch.as_path());
        let change = &scenario.change;
        let mut breaches = judge(&repo, change, &heard.updated, scratch)?;
        let set = set_refs(&repo, scenario);
        breaches.extend(judge_answer(&point.fault, &heard, &set, scenario));
        let again = self.work(scenario, Command::new(self.program), repo.path())?;
        breaches.extend(judge_next(&again));
        breaches.extend(judge_done(&repo, change, scratch)?);
        Ok(Outcome {
            breaches,
            hit: self.is_hit(point, &heard),
            acknowledged: heard.updated.len() == scenario.refs.len(),
            unheard: !set.is_subset(&heard.updated),
            accepted_after: again.accepted_after.unwrap_or_default(),
        })
    }

    /// Returns whether the fault took place.
    fn is_hit(&self, point: &Point, heard: &Heard) -> bool {
        match point.fault {
            Fault::None => true,
            Fault::Kill(_) => heard.code.is_none(),
            Fault::Errno { .. } => {
                fs::read_to_string(self.trace()).is_ok_and(|trace| trace.contains("(INJECTED)"))
            }
            Fault::FileLen(_) | Fault::Room(_) | Fault::Files(_) => !heard.summarized,
        }
    }

    fn trace(&self) -> PathBuf {
        self.dir.join("trace")
    }

    fn clear(&self) -> Result<(), Failure> {
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir).map_err(Failure::doing("clear up"))?;
        }
        fs::create_dir_all(&self.dir).map_err(Failure::doing("make a directory"))
    }

    fn place(&self, point: &Point, scenario: &Scenario) -> Result<Place, Failure> {
        let mount = self.dir.join("mount");
        Ok(match (&point.fault, point.cut) {
            (_, Some((kind, cut))) => {
                let from = image_of(self.images, scenario, kind);
                let disk = Disk::fresh(kind, &from, &self.dir.join("image"), &mount)?;
                Place::Disk(disk, cut)
            }
            (Fault::Room(kib), None) => {
                Place::Small(SmallDisk::new(&scenario.base, &mount, *kib, 1000)?)
            }
            (Fault::Files(files), None) => {
                Place::Small(SmallDisk::new(&scenario.base, &mount, 10_000, *files)?)
            }
            _ => {
                let repo = self.dir.join("repo");
                disk::copy(&scenario.base, &repo)?;
                Place::Plain(repo)
            }
        })
    }

    /// Lets a command do the work, which gets the program's own arguments. One thread verifies, so
    /// that every run makes the same calls.
    fn work(
        &self,
        scenario: &Scenario,
        mut command: Command,
        repo: &Path,
    ) -> Result<Heard, Failure> {
        let Scenario { source, refs, .. } = scenario;
        match self.role {
            Role::Receiver => {
                command.args(["--threads", "1"]).arg(repo);
                client::push(source, refs, command)
            }
            Role::Puller => {
                command.arg(source).arg(repo);
                command.args(refs.iter().map(RefName::as_str));
                client::pull(command)
            }
        }
    }

    /// Returns the program's command line without its own arguments, disturbed by a fault.
    fn command(&self, fault: &Fault) -> Command {
        let inject = match fault {
            Fault::Kill(call) => Some((&call.name, call.inject("signal=KILL", false))),
            Fault::Errno { call, errno, on } => {
                Some((&call.name, call.inject(&format!("error={errno}"), *on)))
            }
            Fault::FileLen(len) => {
                // With the signal ignored, the limit makes writes short, and then fail.
                let script = "trap '' XFSZ; exec prlimit --fsize=\"$0\" -- \"$@\"";
                let mut command = Command::new("sh");
                command.args(["-c", script, &len.to_string()]);
                command.arg(self.program);
                return command;
            }
            Fault::None | Fault::Room(_) | Fault::Files(_) => None,
        };
        if inject.is_none() && !self.fake_syncs {
            return Command::new(self.program);
        }
        let mut command = Command::new("strace");
        // Not with --seccomp-bpf: strace 6.1 then forgets to inject.
        command.args(["-f", "-qq", "-o"]).arg(self.trace());
        let mut traced = Vec::new();
        if let Some((name, expression)) = inject {
            traced.push(name.as_str());
            command.arg(format!("--inject={expression}"));
        }
        if self.fake_syncs {
            for name in SYNCS {
                if !traced.contains(&name) {
                    traced.push(name);
                    command.arg(format!("--inject={name}:retval=0"));
                }
            }
        }
        command.arg(format!("--trace={}", traced.join(",")));
        command.arg(self.program);
        command
    }
}

/// The place where a point works.
#[derive(Debug)]
enum Place {
    Plain(PathBuf),
    Disk(Disk, Cut),
    Small(SmallDisk),
}

impl Place {
    fn repo(&self) -> PathBuf {
        match self {
            Self::Plain(repo) => repo.clone(),
            Self::Disk(disk, _) => disk.repo(),
            Self::Small(disk) => disk.repo(),
        }
    }
}

/// Checks that a push that fails says so, to the client and by its exit code. `set` are the new
/// refs.
fn judge_answer(
    fault: &Fault,
    heard: &Heard,
    set: &BTreeSet<String>,
    scenario: &Scenario,
) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut other = |what: &str| {
        let what = format!("{what}: {heard:?}");
        breaches.push(Breach::new(Promise::Other, what));
    };
    if heard.hung {
        other("the receiver hangs");
    }
    let speaks = match fault {
        Fault::None => {
            if !heard.done {
                other("a push fails without a fault");
            }
            return breaches;
        }
        Fault::Kill(_) => return breaches,
        // The call may be the very one that would tell the client.
        Fault::Errno { call, .. } => call.name != "write",
        Fault::FileLen(_) | Fault::Room(_) | Fault::Files(_) => true,
    };
    let all = scenario.refs.len();
    // A push that is done is done, even if the client could not be told.
    if set.len() < all && heard.code.is_none_or(|code| code == 0) {
        other("a push that failed has a good exit code, or none");
    }
    if speaks && heard.updated.len() < all && !heard.told {
        other("the client was not told of the failure");
    }
    breaches
}

/// Checks that the next push is accepted at once, and succeeds.
fn judge_next(again: &Heard) -> Vec<Breach> {
    let mut breaches = Vec::new();
    if !again.done {
        let what = format!("the next push fails: {again:?}");
        breaches.push(Breach::new(Promise::Other, what));
    }
    if again.accepted_after.is_none_or(|after| after > AT_ONCE) {
        let what = format!("the next push is not accepted at once: {again:?}");
        breaches.push(Breach::new(Promise::Other, what));
    }
    breaches
}

/// Returns the refs that hold their new values.
fn set_refs(repo: &Repo, scenario: &Scenario) -> BTreeSet<String> {
    let is_set = |(name, (_, new)): &(&String, &(_, Checksum))| {
        let path = repo.path().join("refs/heads").join(name);
        fs::read_to_string(path).is_ok_and(|held| held.trim() == new.to_hex())
    };
    let refs = scenario.change.refs.iter().filter(is_set);
    refs.map(|(name, _)| name.clone()).collect()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("done"),
            Self::Kill(call) => write!(f, "killed at {} {}", call.name, call.nth),
            Self::Errno { call, errno, on } => {
                let on = if *on { " and later" } else { "" };
                write!(f, "{errno} of {} {}{on}", call.name, call.nth)
            }
            Self::FileLen(len) => write!(f, "no file over {len} bytes"),
            Self::Room(kib) => write!(f, "room for {kib} KiB"),
            Self::Files(files) => write!(f, "room for {files} files"),
        }
    }
}

impl Point {
    /// Describes the point.
    pub fn describe(&self, scenarios: &[Scenario]) -> String {
        let cut = self
            .cut
            .map_or_else(String::new, |(kind, cut)| format!(", {kind:?} {cut:?}"));
        format!("{}: {}{cut}", scenarios[self.scenario].name, self.fault)
    }
}

const SYNCS: [&str; 3] = ["fsync", "fdatasync", "syncfs"];
/// How long the next push may take to be accepted.
const AT_ONCE: Duration = Duration::from_secs(1);
