//! What the worst push of a key with few rights costs everybody else afterwards: pushes beside it,
//! pulls, prune and fsck, compared with the same before.
//!
//! The hostile pushes go straight to the store, as the receiver would pass them on: with an
//! identity and its quota.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind, Share};
use artifact_models::random::Random;
use artifact_protocol::frame::{Expect, PushOptions, RefOutcome, RefUpdate};
use artifact_protocol::limits::MAX_REFS;
use artifact_protocol::session::{Announcement, Published};
use artifact_store::{Allowance, LocalPush, LocalStore, Push, Stager, Store, StoreConfig};
use artifact_tests::exec::{Failure, run};
use artifact_tests::hand::Artifact;
use artifact_tests::processes::MemoryWatch;
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use bytes::Bytes;

use crate::data::make_dir;
use crate::growth::{add_refs, small_commit};
use crate::spread::Spread;
use crate::timed;

/// The size of the cache, and of the attack.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Refs of others.
    pub refs: u64,
    /// Objects of others.
    pub objects: u64,
    /// How much the hostile identity may have of each, and of their bytes, in percent of what
    /// others have.
    pub percent: u64,
    /// Honest pushes, of which the median counts, and as many pulls.
    pub pushes: usize,
}

/// The load left behind for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: shows how far two equal measurements differ.
    Nothing,
    /// Many refs beside the honest one.
    Refs,
    /// Names of the longest length allowed.
    LongNames,
    /// Each ref with directories of its own, as many as allowed.
    Directories,
    /// Versions in each commit of the longest length kept, and one much longer.
    Versions,
    /// A tree of many directories, as deep as allowed, beside the honest ref.
    Tree,
    /// A long history that many refs share.
    History,
    /// The staging of interrupted sessions.
    Cut,
}

/// The cost to others.
#[derive(Clone, Debug)]
pub struct Took {
    finalized: Spread,
    summarized: Spread,
    push_memory: u64,
    prune: (Duration, u64),
    fsck: (Duration, u64),
}

/// One kind, and the cost to others before and after.
#[derive(Clone, Debug)]
pub struct Row {
    pub kind: Kind,
    /// Refs that the hostile pushes have set.
    pub refs: usize,
    /// Files and directories left, and the bytes of the summary.
    pub left: (i64, u64),
    /// The cost before.
    pub before: Took,
    /// The cost afterwards.
    pub after: Took,
    /// Pulls from a copy that the hostile pushes did not reach, and from the cache, in turn.
    pub pulls: [Spread; 2],
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Refs,
        Self::LongNames,
        Self::Directories,
        Self::Versions,
        Self::Tree,
        Self::History,
        Self::Cut,
    ];
}

/// Measures one kind in an empty directory.
pub fn measure(dir: &Path, kind: Kind, scale: Scale) -> Result<Row, Failure> {
    make_dir(dir)?;
    let scene = Scene::new(dir, scale)?;
    let before = scene.took("before")?;
    let spared = scene.copy()?;
    let inodes = count(scene.cache.path())?;
    let refs = scene.worst(kind)?;
    let left = count(scene.cache.path())?.saturating_sub(inodes);
    let pulls = scene.pulls([&spared, &scene.cache])?;
    let after = scene.took("after")?;
    let summary = scene.cache.path().join("summary");
    let summary = fs::metadata(&summary).map_err(Failure::doing("look at the summary"))?;
    Ok(Row {
        kind,
        refs,
        left: (left, summary.len()),
        before,
        after,
        pulls,
    })
}

/// Formats the results as a table.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| left by one key | refs | files | summary | to Finalized | to SummaryDone | memory | \
         pull | prune | memory | fsck | memory |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for Row {
        kind,
        refs,
        left,
        before,
        after,
        pulls: [spared, reached],
    } in rows
    {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let ratio = |before: f64, after: f64| format!("{after:.0} ({:.2})", after / before);
        let mib = |before: u64, after: u64| {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            ratio(mib(before), mib(after))
        };
        let cells = [
            format!("{kind:?}"),
            refs.to_string(),
            left.0.to_string(),
            format!("{} KiB", left.1 >> 10),
            ratio(before.finalized.median, after.finalized.median),
            ratio(before.summarized.median, after.summarized.median),
            mib(before.push_memory, after.push_memory),
            ratio(spared.median, reached.median),
            ratio(ms(before.prune.0), ms(after.prune.0)),
            mib(before.prune.1, after.prune.1),
            ratio(ms(before.fsck.0), ms(after.fsck.0)),
            mib(before.fsck.1, after.fsck.1),
        ];
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text + "\nMilliseconds and MiB; in brackets, against the same before, and of pulls against those \
            from a copy that the key did not reach, in turn.\n"
}

struct Scene {
    dir: PathBuf,
    scale: Scale,
    // Who pushes to the store, and what that may have.
    identity: &'static str,
    allowance: Allowance,
    source: Repo,
    cache: Repo,
}

impl Scene {
    /// Creates a cache that others use.
    fn new(dir: &Path, scale: Scale) -> Result<Self, Failure> {
        let percent = |number: u64| number * scale.percent / 100;
        let mut scene = Self {
            dir: dir.to_owned(),
            scale,
            identity: "others",
            allowance: Allowance::default(),
            source: Repo::init(&dir.join("source"), Mode::Archive)?,
            cache: Repo::at(&dir.join("cache")),
        };
        scene.cache.ostree("init", ["--mode=archive-z2"])?;
        let mut random = Random(SEED);
        for when in ["before", "after"] {
            for push in 0..=scale.pushes {
                let name = format!("alpha/shared/{when}{push}");
                small_commit(&scene.source, &name, &dir.join("tree"), &mut random)?;
            }
        }
        let commit = small_commit(&scene.cache, "beta/x/first", &dir.join("tree"), &mut random)?;
        add_refs(&scene.cache, scale.refs, &commit)?;
        let bytes = scene.fill(scale.objects)?;
        scene.identity = "mallory";
        scene.allowance = Allowance {
            refs_max: Some(percent(scale.refs)),
            objects_max: Some(percent(scale.objects)),
            bytes_max: Some(Share::Bytes(percent(bytes))),
        };
        scene.cache.ostree("summary", ["-u"])?;
        Ok(scene)
    }

    /// Has others push so many objects; returns their bytes.
    fn fill(&self, objects: u64) -> Result<u64, Failure> {
        let mut made = Made::new();
        let empty = made.empty;
        let name = |n: u64| format!("{n:0200}");
        let dirs: Vec<_> = (0..objects)
            .map(|n| (name(n), made.dir(&[(name(n), empty)])))
            .collect();
        let parts: Vec<_> = dirs
            .chunks(1000)
            .enumerate()
            .map(|(n, part)| (name(n as u64), made.dir(part)))
            .collect();
        let root = made.dir(&parts);
        let commit = made.commit(root, None, 0, None);
        self.push(&made, &[("gamma/x/all".to_owned(), commit)])?;
        Ok(made.objects.values().map(|bytes| bytes.len() as u64).sum())
    }

    /// Measures the cost to others.
    fn took(&self, when: &str) -> Result<Took, Failure> {
        let name = |push: usize| vec![format!("alpha/shared/{when}{push}")];
        let push = |push| timed::push(self.source.path(), self.cache.path(), &name(push));
        let pushes: Result<Vec<_>, _> = (0..self.scale.pushes).map(push).collect();
        let pushes = pushes?;
        let spread = |part: fn(&timed::Timed) -> Duration| {
            let times = pushes.iter().map(|push| part(push).as_secs_f64() * 1e3);
            Spread::of(times).ok_or_else(|| Failure::new("no push was measured"))
        };
        let (_, push_memory) = self.watched(|| push(self.scale.pushes))?;
        let admin = |command: &str| {
            let program = programs::admin()?;
            self.watched(|| {
                run(Command::new(program).arg(command).arg(self.cache.path()))?.success()
            })
        };
        Ok(Took {
            finalized: spread(|push| push.finalized)?,
            summarized: spread(|push| push.summarized)?,
            push_memory,
            prune: admin("prune")?,
            fsck: admin("fsck")?,
        })
    }

    /// Copies the cache as it is now.
    fn copy(&self) -> Result<Repo, Failure> {
        let copy = self.dir.join("spared");
        run(Command::new("cp")
            .arg("-a")
            .arg(self.cache.path())
            .arg(&copy))?
        .success()?;
        Ok(Repo::at(&copy))
    }

    /// Measures pulls from two caches in turn.
    fn pulls(&self, caches: [&Repo; 2]) -> Result<[Spread; 2], Failure> {
        let mut times = [Vec::new(), Vec::new()];
        let dir = self.dir.join("user");
        for round in 0..self.scale.pushes {
            // Neither is always the second.
            for turn in [round % 2, (round + 1) % 2] {
                let user = Repo::init(&dir, Mode::BareUser)?;
                let url = format!("file://{}", caches[turn].path().display());
                let begun = Instant::now();
                user.pull_http(&url, &["beta/x/first"])?;
                times[turn].push(begun.elapsed().as_secs_f64() * 1e3);
                fs::remove_dir_all(&dir).map_err(Failure::doing("remove a user's repository"))?;
            }
        }
        let spread = |times: Vec<f64>| {
            Spread::of(times.into_iter()).ok_or_else(|| Failure::new("no pull was measured"))
        };
        let [spared, reached] = times;
        Ok([spread(spared)?, spread(reached)?])
    }

    /// Returns how long an action took, and the memory peak of any program that names the cache.
    fn watched<T>(
        &self,
        act: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<(Duration, u64), Failure> {
        let watch = MemoryWatch::start(self.cache.path());
        let begun = Instant::now();
        act()?;
        let took = begun.elapsed();
        let peaks = watch.stop()?;
        Ok((took, peaks.into_values().max().unwrap_or_default()))
    }

    /// Executes the worst push of one kind; returns how many refs were set.
    fn worst(&self, kind: Kind) -> Result<usize, Failure> {
        let refs_max = self.allowance.refs_max.unwrap_or_default();
        // A commit, and what else there is of few, fit as well.
        let amount = self.allowance.objects_max.unwrap_or_default();
        let amount = amount.saturating_sub(10);
        let bytes_max = self.allowance.bytes_max.map_or(0, |share| share.of(0));
        let mut made = Made::new();
        let one = made.commit(made.empty, None, 0, None);
        let refs = |name: &dyn Fn(u64) -> String| -> Vec<(String, Checksum)> {
            (0..=refs_max).map(|n| (name(n), one)).collect()
        };
        match kind {
            Kind::Nothing => Ok(0),
            Kind::Refs => self.push(&made, &refs(&|n| format!("alpha/shared/{n:08}"))),
            Kind::LongNames => {
                let dirs = format!("{}/", "x".repeat(199)).repeat(4);
                let name = |n| format!("alpha/{dirs}{}{n:08}", "y".repeat(190));
                self.push(&made, &refs(&name))
            }
            Kind::Directories => {
                self.push(&made, &refs(&|n| format!("alpha/{n}/{}x", "d/".repeat(13))))
            }
            Kind::Versions => {
                let mut names = Vec::new();
                for n in 0..=refs_max {
                    let len = if n == 0 { bytes_max as usize / 4 } else { 64 };
                    let commit = made.commit(made.empty, None, n, Some("9".repeat(len)));
                    names.push((format!("alpha/v/{n}"), commit));
                }
                self.push(&made, &names)
            }
            Kind::Tree => {
                let mut heads = Vec::new();
                let height = amount.min(200) - 1;
                for n in 0..amount / (height + 1) {
                    let mut tree = made.dir(&[(format!("{n}"), made.empty)]);
                    for _ in 0..height {
                        tree = made.dir(&[("d".to_owned(), tree)]);
                    }
                    heads.push((format!("{n:08}"), tree));
                }
                let root = made.dir(&heads);
                let commit = made.commit(root, None, 1, None);
                self.push(&made, &[("alpha/shared/zzz".to_owned(), commit)])
            }
            Kind::History => {
                let mut parent = None;
                let mut names = Vec::new();
                for n in 0..amount {
                    let commit = made.commit(made.empty, parent, n, None);
                    parent = Some(commit);
                    names.push((format!("alpha/h/{n}"), commit));
                }
                names.truncate(refs_max as usize);
                self.push(&made, &names)
            }
            Kind::Cut => {
                for n in 0..4 {
                    let mut made = Made::new();
                    let empty = made.empty;
                    for dir in 0..amount {
                        made.dir(&[(format!("{n}-{dir}"), empty)]);
                    }
                    let announced = announce(&[(format!("alpha/cut/{n}"), one)])?;
                    let begun = self.open()?.begin(&announced);
                    let (_, push) = begun.map_err(|error| failed(&error))?;
                    made.stage(&push)?;
                }
                Ok(0)
            }
        }
    }

    fn open(&self) -> Result<LocalStore, Failure> {
        let config = StoreConfig {
            identity: self.identity.to_owned(),
            allowance: self.allowance,
            ..StoreConfig::default()
        };
        LocalStore::open(self.cache.path(), config).map_err(|error| failed(&error))
    }

    /// Pushes, as often as necessary; returns how many refs were accepted.
    fn push(&self, made: &Made, refs: &[(String, Checksum)]) -> Result<usize, Failure> {
        let mut taken = 0;
        for refs in refs.chunks(MAX_REFS) {
            let store = self.open()?;
            let begun = store.begin(&announce(refs)?);
            let (_, mut push) = begun.map_err(|error| failed(&error))?;
            made.stage(&push)?;
            match push.publish().map_err(|error| failed(&error))? {
                Published::Done(outcomes) => {
                    let updated = |outcome: &&RefOutcome| **outcome == RefOutcome::Updated;
                    taken += outcomes.iter().filter(updated).count();
                }
                Published::Missing(missing) => return Err(Failure::new(format!("{missing:?}"))),
            }
            push.summarize();
        }
        Ok(taken)
    }
}

fn announce(refs: &[(String, Checksum)]) -> Result<Announcement, Failure> {
    let updates = refs.iter().map(|(name, commit)| {
        let name = name.parse().map_err(|error| failed(&error))?;
        Ok(RefUpdate {
            name,
            commit: *commit,
            detached: None,
            expect: Expect::Any,
        })
    });
    Ok(Announcement {
        options: PushOptions::default(),
        refs: updates.collect::<Result<_, Failure>>()?,
        ..Announcement::default()
    })
}

/// Directories and commits made by hand.
struct Made {
    objects: BTreeMap<ObjectId, Vec<u8>>,
    meta: Checksum,
    empty: Checksum,
}

impl Made {
    fn new() -> Self {
        let artifact = Artifact::of_dirtree(Dirtree::serialize([], []));
        let objects = artifact.objects.into_iter();
        let objects: BTreeMap<_, _> = objects.map(|(id, bytes)| (id, bytes.to_vec())).collect();
        let first = |kind| {
            objects
                .keys()
                .find(|id| id.kind == kind)
                .map(|id| id.checksum)
        };
        Self {
            meta: first(ObjectKind::Dirmeta).unwrap_or(Checksum::new([0; 32])),
            empty: first(ObjectKind::Dirtree).unwrap_or(Checksum::new([0; 32])),
            objects,
        }
    }

    fn add(&mut self, kind: ObjectKind, bytes: Vec<u8>) -> Checksum {
        let checksum = Checksum::of(&bytes);
        self.objects.insert(ObjectId::new(kind, checksum), bytes);
        checksum
    }

    fn dir(&mut self, dirs: &[(String, Checksum)]) -> Checksum {
        let meta = self.meta;
        let dirs = dirs.iter().map(|(name, tree)| (name.as_str(), *tree, meta));
        self.add(ObjectKind::Dirtree, Dirtree::serialize([], dirs))
    }

    fn commit(
        &mut self,
        tree: Checksum,
        parent: Option<Checksum>,
        number: u64,
        version: Option<String>,
    ) -> Checksum {
        let commit = Commit {
            parent,
            timestamp: number,
            version,
            ..Commit::new(tree, self.meta)
        };
        self.add(ObjectKind::Commit, commit.serialize())
    }

    fn stage(&self, push: &LocalPush) -> Result<(), Failure> {
        let stager = push.stager();
        for (id, bytes) in &self.objects {
            let staged = stager.stage(*id, Bytes::copy_from_slice(bytes));
            staged.map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("the hostile push: {error}"))
}

/// Counts files and directories.
fn count(dir: &Path) -> Result<i64, Failure> {
    let mut count = 0;
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(&dir).map_err(Failure::doing(format!("list {dir:?}")))?;
        for entry in entries.flatten() {
            count += 1;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            }
        }
    }
    Ok(count)
}

const SEED: u64 = 9;
