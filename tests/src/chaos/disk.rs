//! The disk of a disturbed push: a plain directory, a real file system on an image whose power can
//! be cut, or one that is nearly full.
//!
//! The power is cut with the `FS_IOC_SHUTDOWN` of ext4 and XFS: from then on nothing reaches the
//! image, and the next mount recovers the state that a disk would hold.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use crate::exec::{Failure, Ran, run};

/// A file system whose power can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
}

/// The state of the journal when the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// Everything except data that was not written back: names without content.
    JournalKept,
    /// Only what was synced: content without names.
    JournalLost,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];

    /// Makes an image that holds a copy of the repository at `base`.
    pub fn image(self, base: &Path, image: &Path) -> Result<(), Failure> {
        let (mkfs, len): (&[&str], _) = match self {
            // A small journal, so that copying is quick.
            Self::Ext4 => (&["mkfs.ext4", "-q", "-J", "size=4"], "32M"),
            Self::Xfs => (&["mkfs.xfs", "-q"], "300M"),
        };
        tool(Command::new("truncate").args(["-s", len]).arg(image))?;
        tool(Command::new(mkfs[0]).args(&mkfs[1..]).arg(image))?;
        let disk = Disk::mount(self, image, &image.with_extension("mnt"))?;
        copy(base, &disk.repo())?;
        // While another mount namespace holds the file system, unmounting writes nothing.
        tool(Command::new("sync").arg("--file-system").arg(disk.repo()))?;
        disk.unmount()
    }
}

/// A mounted image, unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    kind: Kind,
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Mounts a copy of an image; `image` and `mount` are the copy's places.
    pub fn fresh(kind: Kind, from: &Path, image: &Path, mount: &Path) -> Result<Self, Failure> {
        copy_image(from, image)?;
        Self::mount(kind, image, mount)
    }

    fn mount(kind: Kind, image: &Path, mount: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(mount).map_err(Failure::doing(format!("make {mount:?}")))?;
        let mut disk = Self {
            kind,
            image: image.into(),
            mount: mount.into(),
            mounted: false,
        };
        disk.remount()?;
        Ok(disk)
    }

    /// Returns where the repository is.
    pub fn repo(&self) -> PathBuf {
        self.mount.join("repo")
    }

    /// Cuts the power, and mounts what is left.
    pub fn cut(&mut self, cut: Cut) -> Result<(), Failure> {
        let shutdown = match cut {
            Cut::JournalKept => "shutdown -f",
            Cut::JournalLost => "shutdown",
        };
        tool(
            Command::new("xfs_io")
                .args(["-x", "-c", shutdown])
                .arg(&self.mount),
        )?;
        // A control of the harness itself: a cut that does not cut would prove nothing.
        if fs::write(self.mount.join("after"), b"").is_ok() {
            return Err(Failure::new(format!(
                "{:?} can still be written after its shutdown",
                self.mount
            )));
        }
        self.take_off()?;
        // A process that has unshared its mounts may still hold this file system. For the same
        // image the kernel would mount that one again, still without power.
        let left = self.image.with_extension("left");
        copy_image(&self.image, &left)?;
        fs::rename(&left, &self.image).map_err(Failure::doing(format!("rename {left:?}")))?;
        self.remount()
    }

    fn remount(&mut self) -> Result<(), Failure> {
        let options = match self.kind {
            Kind::Ext4 => "loop,noatime",
            // Copies of one image have one identity.
            Kind::Xfs => "loop,noatime,nouuid",
        };
        let mut mount = Command::new("mount");
        mount.args(["-o", options]);
        tool(mount.arg(&self.image).arg(&self.mount))?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(mut self) -> Result<(), Failure> {
        self.take_off()
    }

    fn take_off(&mut self) -> Result<(), Failure> {
        unmount(&self.mount)?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // This can fail only after a failure that is reported already.
            let _ = self.take_off();
        }
    }
}

/// A file system in memory with little space, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    mount: PathBuf,
}

impl SmallDisk {
    /// Mounts one with this much space beside a copy of `base`: KiB, and files.
    pub fn new(base: &Path, mount: &Path, kib: u64, files: u64) -> Result<Self, Failure> {
        fs::create_dir_all(mount).map_err(Failure::doing(format!("make {mount:?}")))?;
        tool(
            Command::new("mount")
                .args(["-t", "tmpfs", "none"])
                .arg(mount),
        )?;
        let disk = Self {
            mount: mount.into(),
        };
        copy(base, &disk.repo())?;
        let used = rustix::fs::statvfs(mount)
            .map_err(|errno| Failure::doing(format!("look at {mount:?}"))(errno.into()))?;
        let used_kib = (used.f_blocks - used.f_bfree) * used.f_frsize / 1024;
        let used_files = used.f_files - used.f_ffree;
        disk.resize(used_kib + kib.max(4), used_files + files)?;
        Ok(disk)
    }

    /// Returns where the repository is.
    pub fn repo(&self) -> PathBuf {
        self.mount.join("repo")
    }

    /// Enlarges it.
    pub fn enlarge(&self) -> Result<(), Failure> {
        self.resize(64 * 1024, 10_000)
    }

    fn resize(&self, kib: u64, files: u64) -> Result<(), Failure> {
        let options = format!("remount,size={kib}k,nr_inodes={files}");
        tool(
            Command::new("mount")
                .args(["-o", &options])
                .arg(&self.mount),
        )
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // This can fail only after a failure that is reported already.
        let _ = unmount(&self.mount);
    }
}

fn unmount(mount: &Path) -> Result<(), Failure> {
    for _ in 0..100 {
        if run(Command::new("umount").arg(mount))?.code == Some(0) {
            return Ok(());
        }
        // A child of another thread holds our open files until it runs its program.
        thread::sleep(Duration::from_millis(10));
    }
    tool(Command::new("umount").arg(mount))
}

/// Copies an image into a new file, whatever lies at `to`, so that no loop device has it yet.
fn copy_image(from: &Path, to: &Path) -> Result<(), Failure> {
    let options = ["--remove-destination", "--reflink=auto", "--sparse=always"];
    tool(Command::new("cp").args(options).arg(from).arg(to))
}

/// Copies a repository to a new path.
pub fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    tool(Command::new("cp").arg("-a").arg(from).arg(to))
}

/// Fails unless every tool to make faults is available: programs, root, loop devices.
pub fn check_tools() -> Result<(), Failure> {
    let tools = [
        ("strace", "strace"),
        ("mkfs.ext4", "e2fsprogs"),
        ("mkfs.xfs", "xfsprogs"),
        ("xfs_io", "xfsprogs"),
        ("mount", "mount"),
        ("prlimit", "util-linux"),
        ("ostree", "ostree"),
    ];
    for (program, package) in tools {
        run(Command::new(program).arg("-V")).map_err(|failure| {
            Failure::new(format!(
                "{failure:?}: `apt-get install {package}`, with /usr/sbin in PATH"
            ))
        })?;
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(
            "only root can mount file systems and cut their power: run this as root",
        ));
    }
    Ok(())
}

fn tool(command: &mut Command) -> Result<(), Failure> {
    run(command).and_then(Ran::success).map(drop)
}
