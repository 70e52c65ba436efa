//! Gives up every right that a program does not need, before it reads the first byte from a
//! stranger.
//!
//! [`enter`] confines; [`privilege`] gives up the rights of root, and comes before it.
//!
//! The sandbox is a second wall: no rule of the store or the session relies on it. Each layer is
//! applied as far as the kernel supports it, and the result is returned for the log. A layer holds
//! for the calling thread and for threads made after it, so `enter` must be called before any other
//! thread starts, and after the repository was opened.
//!
//! The environment needs no clearing: after the start, our programs read nothing from it. The
//! address space is not limited, because arenas and stacks reserve far more than they use; nor is
//! the length of files, which the store limits for each object and the administrator by `ulimit`.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod deny;
pub mod privilege;

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use artifact_formats::with_causes;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    make_bitflags,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// The result of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerStatus {
    /// It holds completely.
    Enforced,
    /// It holds in part: the kernel supports no more.
    InPart(String),
    /// It does not hold, for this reason.
    Absent(String),
}

impl fmt::Display for LayerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforced => f.write_str("enforced"),
            Self::InPart(why) => write!(f, "enforced in part: {why}"),
            Self::Absent(why) => write!(f, "not enforced: {why}"),
        }
    }
}

/// One layer of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The right it removes.
    pub what: &'static str,
    /// How far it holds.
    pub status: LayerStatus,
}

/// The rights a confined program still needs.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Directories in which it reads, creates, changes and removes files, at any depth.
    pub written: Vec<PathBuf>,
    /// Directories in which it reads files, at any depth.
    pub read: Vec<PathBuf>,
    /// Whether it accepts connections, on sockets that are open already.
    pub accepts: bool,
    /// Whether it connects to other machines.
    pub connects: bool,
    /// The most files it has open at once.
    pub open_files_max: u64,
}

impl Needs {
    /// The needs of a receiver: its repository. It has some ten files open, a few for each thread
    /// that verifies, and the directories of objects.
    pub fn to_write(repo: &Path) -> Self {
        Self {
            written: vec![repo.to_owned()],
            read: Vec::new(),
            accepts: false,
            connects: false,
            open_files_max: 1024,
        }
    }

    /// The needs of a process that holds connections to other machines: to make them, and to read
    /// names, certificates and keys, wherever these are.
    pub fn to_connect() -> Self {
        Self {
            written: Vec::new(),
            read: vec![PathBuf::from("/")],
            accepts: false,
            connects: true,
            open_files_max: 4096,
        }
    }

    /// The needs of a process that reads and writes only what is open already.
    pub const fn nothing() -> Self {
        Self {
            written: Vec::new(),
            read: Vec::new(),
            accepts: false,
            connects: false,
            open_files_max: 1024,
        }
    }

    /// The needs of a receiver whose client may not push: to read its repository, and to write in
    /// one directory of it, if that exists.
    pub fn to_read(repo: &Path, written: &str) -> Self {
        let written = repo.join(written);
        Self {
            written: written.is_dir().then_some(written).into_iter().collect(),
            read: vec![repo.to_owned()],
            ..Self::to_write(repo)
        }
    }
}

/// Confines the calling thread, and all threads it makes from now on, to its needs, for good.
///
/// The function never fails: it skips a layer that the kernel lacks, and says so in the result.
pub fn enter(needs: &Needs) -> Vec<Layer> {
    let layer = |what, status| Layer { what, status };
    vec![
        layer("no core dumps", of_result(limit(Resource::Core, 0))),
        layer(
            "few open files",
            of_result(limit(Resource::Nofile, needs.open_files_max)),
        ),
        layer(
            "not to be traced or read by others",
            of_result(rustix::process::set_dumpable_behavior(
                DumpableBehavior::NotDumpable,
            )),
        ),
        layer(
            "no new privileges",
            of_result(rustix::thread::set_no_new_privs(true)),
        ),
        layer(
            "no files but those it needs, no new TCP, no signals to others (Landlock)",
            confine(needs).unwrap_or_else(|error| LayerStatus::Absent(with_causes(&*error))),
        ),
        layer("no dangerous system calls (seccomp)", deny_calls(needs)),
    ]
}

/// Lowers a limit for good; a lower one stays.
fn limit(resource: Resource, max: u64) -> rustix::io::Result<()> {
    let inherited = rustix::process::getrlimit(resource).maximum;
    let max = Some(inherited.map_or(max, |inherited| inherited.min(max)));
    let limit = Rlimit {
        current: max,
        maximum: max,
    };
    rustix::process::setrlimit(resource, limit)
}

/// Applies Landlock: allows the needed access below the needed directories, and denies every other
/// access that the kernel can deny.
fn confine(needs: &Needs) -> Result<LayerStatus, Box<dyn Error>> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let writing = make_bitflags!(AccessFs::{
        WriteFile | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
    });
    let tested = ABI::V6;
    let mut ruleset = Ruleset::default()
        // Without this right (before Linux 5.19), no file may move to another directory once any
        // other right is handled: objects could not be published.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(tested))?
        .handle_access(if needs.connects {
            AccessNet::BindTcp.into()
        } else {
            AccessNet::from_all(tested)
        })?
        .scope(BitFlags::<Scope>::from(Scope::AbstractUnixSocket) | Scope::Signal)?
        .create()?;
    for path in &needs.written {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(path)?, reading | writing))?;
    }
    for path in &needs.read {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(path)?, reading))?;
    }
    let status = ruleset.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, _) => LayerStatus::Enforced,
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            LayerStatus::InPart(format!("the kernel has version {}", effective_abi as u32))
        }
        _ => LayerStatus::Absent("the kernel has no Landlock, or not enabled".to_owned()),
    })
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn deny_calls(needs: &Needs) -> LayerStatus {
    of_result(deny::apply(needs.accepts, needs.connects))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn deny_calls(_needs: &Needs) -> LayerStatus {
    LayerStatus::Absent("there is no list for this kind of processor".to_owned())
}

fn of_result(result: Result<(), impl Error>) -> LayerStatus {
    match result {
        Ok(()) => LayerStatus::Enforced,
        Err(error) => LayerStatus::Absent(with_causes(&error)),
    }
}
