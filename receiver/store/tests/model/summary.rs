//! A summary made from the record equals one made from the repository alone, whatever others
//! changed meanwhile, and however quickly.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use crate::session::Session;
use artifact_formats::{Checksum, Summary, SummaryRef};
use artifact_protocol::frame::SummaryDone;
use artifact_store::{Fs, RepoPath, StoreConfig};
use proptest::prelude::*;

use crate::disk::{Machine, Node};
use crate::files::{ModelFs, Script};
use crate::world::{Push, Tree, Universe, held, pushed, repository, run};

/// A change between two summaries.
#[derive(Clone, Debug)]
enum Act {
    /// A client pushes.
    Push(usize, usize),
    /// Another program sets a ref, as libostree does.
    Set(usize, usize),
    Remove(usize),
    /// The directory `d` moves away and comes back elsewhere, with all its times.
    MoveDir,
    /// A commit is marked partial, or no longer.
    Mark(usize),
    /// Another program's summary replaces ours.
    Spoil,
    /// The record is damaged.
    Damage,
    /// The power is cut, with everything synced.
    Reboot,
    /// Time passes, in seconds.
    Wait(i64),
    Summarize,
}

const NAMES: [&str; 5] = ["x", "d/x", "d/y", "d/e/z", "f/z"];

fn any_act() -> impl Strategy<Value = Act> {
    let name = 0..NAMES.len();
    prop_oneof![
        1 => (name.clone(), 0..3usize).prop_map(|(name, commit)| Act::Push(name, commit)),
        3 => (name.clone(), 0..3usize).prop_map(|(name, commit)| Act::Set(name, commit)),
        2 => name.prop_map(Act::Remove),
        1 => Just(Act::MoveDir),
        1 => (0..3usize).prop_map(Act::Mark),
        1 => Just(Act::Spoil),
        1 => Just(Act::Damage),
        1 => Just(Act::Reboot),
        3 => (0..6i64).prop_map(Act::Wait),
        6 => Just(Act::Summarize),
    ]
}

fn path(text: &str) -> RepoPath {
    text.split('/')
        .fold(RepoPath::default(), |path, name| path.child(name))
}

fn write(fs: &ModelFs, name: &str, content: &[u8]) {
    let target = path(name);
    if let Ok(mut file) = fs.create(&target, 0o644) {
        file.write_all(content).unwrap();
        return;
    }
    let temporary = target.parent().child("tmp.AAAAAA");
    fs.create(&temporary, 0o644)
        .unwrap()
        .write_all(content)
        .unwrap();
    fs.rename(&temporary, &target).unwrap();
}

struct World {
    universe: Universe,
    commits: [Checksum; 3],
    machine: Arc<Mutex<Machine>>,
}

impl World {
    fn new() -> Self {
        let mut universe = Universe::default();
        let commits = [1, 2, 3].map(|content| universe.commit(None, &Tree(vec![(0, 0, content)])));
        let mut machine = repository();
        for (number, commit) in commits.into_iter().enumerate() {
            let push = Push::one(&format!("base/{number}"), commit);
            machine = pushed(&universe, &push, machine);
        }
        Self {
            universe,
            commits,
            machine: Arc::new(Mutex::new(machine)),
        }
    }

    fn fs(&self) -> ModelFs {
        ModelFs::new(&self.machine, Script::Nothing)
    }

    fn act(&self, act: &Act) {
        let fs = self.fs();
        match *act {
            Act::Push(name, commit) => {
                let push = Push::one(NAMES[name], self.commits[commit]);
                run(&self.universe, &push, &fs).unwrap();
            }
            Act::Set(name, commit) => {
                let name = format!("refs/heads/{}", NAMES[name]);
                for (end, _) in name.match_indices('/') {
                    let _ = fs.mkdir(&path(&name[..end]), 0o775);
                }
                write(&fs, &name, format!("{}\n", self.commits[commit]).as_bytes());
            }
            Act::Remove(name) => {
                let _ = fs.unlink(&path(&format!("refs/heads/{}", NAMES[name])));
            }
            Act::MoveDir => {
                let mut machine = self.machine.lock().unwrap();
                let (heads, _, dir) = machine.place("refs/heads/d").unwrap_or((0, "", None));
                let moved = machine.place("refs/heads/g").unwrap().2;
                match (dir, moved) {
                    (Some(dir), None) => {
                        machine.name(&[(heads, "g", Some(dir)), (heads, "d", None)]);
                    }
                    (None, Some(dir)) => {
                        machine.name(&[(heads, "d", Some(dir)), (heads, "g", None)]);
                    }
                    _ => {}
                }
            }
            Act::Mark(commit) => {
                let mark = format!("state/{}.commitpartial", self.commits[commit]);
                if fs.unlink(&path(&mark)).is_err() {
                    write(&fs, &mark, b"");
                }
            }
            Act::Spoil => write(&fs, "summary", &Summary::default().serialize()),
            Act::Damage => {
                let mut machine = self.machine.lock().unwrap();
                if let Ok(node) = machine.resolve("extensions/artifact-cache/summary.record")
                    && let Node::File(content) = machine.node(node)
                {
                    let at = content.len() / 2;
                    let byte = content[at] ^ 1;
                    machine.append(node, at, &[byte]);
                }
            }
            Act::Reboot => {
                let mut machine = self.machine.lock().unwrap();
                machine.sync(None);
                *machine = machine.crash(crate::disk::Crash::Weakest(0));
            }
            Act::Wait(seconds) => self.machine.lock().unwrap().clock += seconds,
            Act::Summarize => {
                let store = Session::with_fs(fs, StoreConfig::default()).unwrap();
                assert_eq!(store.summarize(), SummaryDone::Current);
            }
        }
    }

    fn summary(machine: &Machine) -> Summary {
        let node = machine.resolve("summary").unwrap();
        let Node::File(content) = machine.node(node) else {
            panic!("no file");
        };
        Summary {
            last_modified: None,
            ..Summary::parse(content).unwrap()
        }
    }

    /// Compares the summary with the refs, and with a rebuilt one.
    fn check(&self) {
        let machine = self.machine.lock().unwrap().clone();
        let mut held = held(&machine).unwrap();
        held.retain(|_, commit| {
            let mark = format!("state/{commit}.commitpartial");
            machine.resolve(&mark).is_err()
        });
        let mut found = Self::summary(&machine);
        let commits = |summary: &Summary| -> BTreeMap<String, Checksum> {
            let refs = summary.refs.iter();
            refs.map(|(name, entry)| (name.clone(), entry.commit))
                .collect()
        };
        assert_eq!(commits(&found), held);
        let fs = ModelFs::alone(machine, Script::Nothing);
        let store = Session::with_fs(fs.clone(), StoreConfig::default()).unwrap();
        store.rebuild_summary(|_| ()).unwrap();
        let rebuilt = Self::summary(&fs.machine());
        // Only pushed refs have a size, and never a wrong one.
        for (name, entry) in &mut found.refs {
            let counted = rebuilt.refs[name].size;
            assert!(counted.is_some() && entry.size.is_none_or(|size| Some(size) == counted));
            *entry = SummaryRef {
                size: counted,
                ..entry.clone()
            };
        }
        assert_eq!(found, rebuilt);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_summary_from_what_is_remembered_is_the_one_from_nothing(
        acts in proptest::collection::vec(any_act(), 1..30)
    ) {
        let world = World::new();
        for act in &acts {
            world.act(act);
            if matches!(act, Act::Summarize) {
                world.check();
            }
        }
    }
}

/// The trap: the directory's time is unchanged, because the clock has not ticked.
#[test]
fn a_ref_set_at_the_same_tick_as_the_last_summary_is_in_the_next() {
    for waits in [[0, 0], [2, 0], [3, 0], [10, 0], [0, 10], [10, 10]] {
        let world = World::new();
        world.act(&Act::Set(1, 0));
        world.act(&Act::Wait(waits[0]));
        world.act(&Act::Summarize);
        world.act(&Act::Set(2, 1));
        world.act(&Act::Summarize);
        world.check();
        world.act(&Act::Wait(waits[1]));
        world.act(&Act::Summarize);
        world.act(&Act::Set(1, 2));
        world.act(&Act::Remove(2));
        world.act(&Act::Summarize);
        world.check();
    }
}

/// The record pays off: unchanged directories are not listed again.
#[test]
fn what_is_quiet_is_not_read_again() {
    let world = World::new();
    for (name, _) in NAMES.iter().enumerate() {
        world.act(&Act::Set(name, 0));
    }
    world.act(&Act::Wait(10));
    world.act(&Act::Summarize);
    let operations = |act: &dyn Fn(&Session<ModelFs>)| {
        let fs = world.fs();
        act(&Session::with_fs(fs.clone(), StoreConfig::default()).unwrap());
        fs.count()
    };
    let quiet = operations(&|store| assert_eq!(store.summarize(), SummaryDone::Current));
    let rebuilt = operations(&|store| store.rebuild_summary(|_| ()).unwrap());
    world.check();
    let refs = NAMES.len() as u64 + 3;
    // A rebuild opens each ref, reads it to its end and compares it twice, and looks up and reads
    // its commit.
    assert!(quiet + 6 * refs < rebuilt, "{quiet} {rebuilt}");
}
