//! The disk below the repository: its kind, how it is mounted, and how much of it is free.

use std::path::{Path, PathBuf};

use artifact_formats::{MinFree, RepoConfig, Share, Size, grouped};
use artifact_store::HeadRoom;
use rustix::fs::statvfs;

use crate::doctor::finding::{Finding, shell};
use crate::doctor::machine::{Machine, SERVE_AGAIN};

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    at: PathBuf,
    kind: String,
    /// The device, or whatever else stands for it.
    source: String,
    options: Vec<String>,
}

/// The disk, and how much of it has to be free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    bytes: u64,
    bytes_free: u64,
    /// All inodes and the free ones; `None` if the file system makes them as it needs them.
    inodes: Option<(u64, u64)>,
    bytes_needed: u64,
    inodes_needed: u64,
}

pub(super) fn check(
    machine: &Machine,
    config: Option<&RepoConfig>,
    head_room: HeadRoom,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = parse(&table);
    match below(&mounts, &machine.repo) {
        Some(mount) => found.extend(judge_mount(machine, mount, &mounts)),
        None => found.push(Finding::unseen(
            "disk-unseen",
            "cannot tell the kind of file system",
        )),
    }
    match look_at_room(&machine.repo, config, head_room) {
        Ok(room) => found.extend(judge_room(machine, room)),
        Err(error) => {
            let what = format!("cannot tell how much of the disk is free: {error}");
            found.push(Finding::unseen("disk-unseen", what));
        }
    }
    found
}

fn look_at_room(
    repo: &Path,
    config: Option<&RepoConfig>,
    head_room: HeadRoom,
) -> rustix::io::Result<Room> {
    let stat = statvfs(repo)?;
    let bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
    let own = config
        .and_then(|config| config.min_free)
        .map(|min| match min {
            MinFree::Bytes(bytes) => Share::Bytes(bytes),
            MinFree::Percent(percent) => Share::Percent(percent),
        });
    let needed = [head_room.space, own].into_iter().flatten();
    Ok(Room {
        bytes,
        bytes_free: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: (stat.f_files > 0).then_some((stat.f_files, stat.f_favail)),
        bytes_needed: needed.map(|share| share.of(bytes)).max().unwrap_or(0),
        inodes_needed: head_room.inodes.unwrap_or(0),
    })
}

fn judge_mount(machine: &Machine, mount: &Mount, mounts: &[Mount]) -> Vec<Finding> {
    let mut found = Vec::new();
    let (at, kind) = (shell(&mount.at), mount.kind.as_str());
    let has = |option: &str| mount.options.iter().any(|known| known == option);
    let unfit = mount.unfit();
    if let Some((id, why)) = unfit {
        let what = format!("the repository is on {kind}, {why}");
        let finding = match id {
            "disk-unknown" => Finding::warning(id, what),
            _ => Finding::fault(id, what),
        };
        found.push(
            moved(machine, mounts)
                .into_iter()
                .fold(finding, Finding::fix),
        );
    }
    if has("nobarrier") || has("barrier=0") {
        let what = format!(
            "{} is mounted without barriers, so a power cut can take back what was acknowledged",
            mount.at.display()
        );
        let of_table = "sed -i -E 's/\\b(nobarrier|barrier=0)\\b/barrier/' /etc/fstab";
        found.push(
            Finding::fault("disk-barriers", what)
                .fix(of_table)
                .fix(format!("mount -o remount,barrier {at}")),
        );
    }
    // A move to a better disk solves that as well, and some kinds can never be written.
    if has("ro") && unfit.is_none() {
        let what = format!("{} is mounted to be read only", mount.at.display());
        let fix = format!("mount -o remount,rw {at}");
        found.push(Finding::fault("disk-read-only", what).fix(fix));
    }
    found
}

impl Mount {
    /// Returns why a repository does not belong there.
    fn unfit(&self) -> Option<(&'static str, &'static str)> {
        let options = (self.kind == "ext4").then(|| {
            let device = Path::new(&self.source).canonicalize().ok()?;
            let name = device.file_name()?;
            std::fs::read_to_string(Path::new("/proc/fs/ext4").join(name).join("options")).ok()
        });
        match options.flatten() {
            Some(options) if !is_journaled(&options) => Some((NO_JOURNAL, WITHOUT_JOURNAL)),
            _ => unfit(&self.kind),
        }
    }
}

/// Returns whether the options of an ext4, as the kernel lists all of them, say what its journal
/// is for. One without a journal has no such option.
fn is_journaled(options: &str) -> bool {
    options.lines().any(|line| line.starts_with("data="))
}

/// Returns why a repository does not belong on a kind of file system.
fn unfit(kind: &str) -> Option<(&'static str, &'static str)> {
    const JOURNALED: [&str; 7] = ["ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs"];
    const NETWORK: [&str; 11] = [
        "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "lustre", "ocfs2", "gfs2", "virtiofs",
    ];
    match kind {
        _ if JOURNALED.contains(&kind) => None,
        _ if NETWORK.contains(&kind) => Some((
            "disk-network",
            "whose locks and syncs are those of another machine",
        )),
        "overlay" | "aufs" => Some((
            "disk-overlay",
            "which is gone with its container, and does not keep what is open in place",
        )),
        "tmpfs" | "ramfs" => Some(("disk-memory", "which is gone when the power is")),
        _ if kind.starts_with("fuse") => Some((
            "disk-fuse",
            "whose promises about syncs and renames are those of one program",
        )),
        "ext2" | "vfat" | "msdos" | "exfat" | "ntfs" | "ntfs3" | "minix" => {
            Some((NO_JOURNAL, WITHOUT_JOURNAL))
        }
        _ => Some(("disk-unknown", "on which nobody has tried it")),
    }
}

/// Returns commands that put the repository onto a better disk, at the same path.
fn moved(machine: &Machine, mounts: &[Mount]) -> Vec<String> {
    let fit = |mount: &&Mount| {
        mount.unfit().is_none()
            && !mount.options.iter().any(|option| option == "ro")
            && mount.at.is_dir()
            && below(mounts, &mount.at) == Some(*mount)
    };
    let room = |mount: &&Mount| statvfs(&mount.at).map_or(0, |s| s.f_bavail * s.f_frsize);
    let Some(best) = mounts.iter().filter(fit).max_by_key(room) else {
        return vec!["lsblk --fs".to_owned()];
    };
    let (to, repo) = (best.at.join("artifact-cache"), shell(&machine.repo));
    let to = shell(&to);
    vec![
        format!("cp -a {repo} {to}"),
        format!("mount --bind {to} {repo}"),
        format!("echo {to} {repo} none bind 0 0 >>/etc/fstab"),
        SERVE_AGAIN.to_owned(),
    ]
}

fn judge_room(machine: &Machine, room: Room) -> Vec<Finding> {
    let Room {
        bytes,
        bytes_free,
        inodes,
        bytes_needed,
        inodes_needed,
    } = room;
    let mut found = Vec::new();
    let prune = || machine.admin("prune");
    let hint = "prune removes what no ref reaches, and old refs with --keep-younger-than";
    let free = Size(bytes_free);
    if bytes_free < bytes_needed {
        let needed = Size(bytes_needed);
        let what = format!("pushes are refused: {free} are free, and {needed} must be; {hint}");
        found.push(Finding::fault("disk-space", what).fix(prune()));
    } else if bytes_free < bytes / 100 * LOW_PERCENT {
        let what = format!(
            "the disk is nearly full: {free} of {} are free; {hint}",
            Size(bytes)
        );
        found.push(Finding::warning("disk-space", what).fix(prune()));
    }
    if let Some((inodes, inodes_free)) = inodes {
        let free = grouped(inodes_free);
        if inodes_free < inodes_needed {
            let needed = grouped(inodes_needed);
            let what =
                format!("pushes are refused: {free} inodes are free, and {needed} must be; {hint}");
            found.push(Finding::fault("disk-inodes", what).fix(prune()));
        } else if inodes_free < inodes / 100 * LOW_PERCENT {
            let all = grouped(inodes);
            let what = format!("the disk has few inodes left: {free} of {all} are free; {hint}");
            found.push(Finding::warning("disk-inodes", what).fix(prune()));
        }
    }
    found
}

/// Parses `/proc/self/mountinfo`.
fn parse(table: &str) -> Vec<Mount> {
    let mounts = table.lines().filter_map(|line| {
        let (own, shared) = line.split_once(" - ")?;
        let own: Vec<_> = own.split(' ').collect();
        let mut shared = shared.split(' ');
        let (kind, source) = (shared.next()?, shared.next()?);
        let options = own.get(5)?.split(',');
        let options = options.chain(shared.next().unwrap_or_default().split(','));
        Some(Mount {
            at: PathBuf::from(unescaped(own.get(4)?)),
            kind: kind.to_owned(),
            source: unescaped(source),
            options: options.map(str::to_owned).collect(),
        })
    });
    mounts.collect()
}

/// The kernel writes spaces and the like as three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                whole.push(char::from(code));
                whole += part.get(3..).unwrap_or_default();
            }
            None => whole += part,
        }
    }
    whole
}

/// Returns the mount that a path is on: of several at one place, the last covers the others.
fn below<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let over = mounts.iter().filter(|mount| path.starts_with(&mount.at));
    over.max_by_key(|mount| mount.at.components().count())
}

const NO_JOURNAL: &str = "disk-no-journal";
const WITHOUT_JOURNAL: &str = "which has no journal, so a power cut can damage it";
/// Below this share of the disk, a build or two fill it.
const LOW_PERCENT: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
        22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,nobarrier\n\
        30 22 0:30 / /srv rw - tmpfs tmpfs rw\n\
        31 30 0:31 / /srv/a\\040b ro,nosuid - nfs4 host:/x rw,vers=4.2\n";

    #[test]
    fn the_deepest_mount_counts_with_the_options_of_both_kinds() {
        let mounts = parse(TABLE);
        let kind = |path: &str| below(&mounts, Path::new(path)).unwrap().kind.as_str();
        assert_eq!(kind("/home/x"), "ext4");
        assert_eq!(kind("/srv/y"), "tmpfs");
        assert_eq!(kind("/srv/a b/c"), "nfs4");
        assert!(mounts[0].options.contains(&"nobarrier".to_owned()));
        assert!(mounts[2].options.contains(&"ro".to_owned()));
    }

    #[test]
    fn an_ext4_without_a_journal_is_told_by_its_options() {
        assert!(is_journaled("rw\nnojournal_checksum\ndata=ordered\n"));
        assert!(!is_journaled("rw\nnojournal_checksum\nmax_dir_size_kb=0\n"));
    }

    #[test]
    fn only_local_file_systems_with_a_journal_are_fit() {
        for kind in ["ext4", "xfs", "btrfs", "zfs"] {
            assert_eq!(unfit(kind), None);
        }
        for (kind, id) in [
            ("nfs4", "disk-network"),
            ("overlay", "disk-overlay"),
            ("fuse.sshfs", "disk-fuse"),
            ("fuseblk", "disk-fuse"),
            ("tmpfs", "disk-memory"),
            ("vfat", "disk-no-journal"),
            ("novel", "disk-unknown"),
        ] {
            assert_eq!(unfit(kind).unwrap().0, id);
        }
    }
}
