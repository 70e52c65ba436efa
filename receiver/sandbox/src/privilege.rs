//! Giving up root: a program that root starts works on a repository as its owner.
//!
//! A repository's owner can neither change nor remove a file that root makes in it; and a receiver
//! that is no longer root can do less harm.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, getgroups, setegid, seteuid, setgid, setgroups, setuid};

/// Becomes the owner of `path`, for good, if this process is root and the owner is not. Returns the
/// new user.
///
/// It must be called before anything is written, and while there is one thread. It does nothing if
/// `path` does not exist.
pub fn become_owner_of(path: &Path) -> io::Result<Option<u32>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let owner = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if owner.uid() == 0 {
        return Ok(None);
    }
    become_user(owner.uid(), owner.gid())?;
    Ok(Some(owner.uid()))
}

/// Acts as a user, with this group and no other, in accessing files, and is root again afterwards.
/// It needs root, and one thread.
pub fn act_as<T>(uid: u32, gid: u32, act: impl FnOnce() -> T) -> io::Result<T> {
    let groups = getgroups()?;
    // In this order: each step takes away the right to the one before.
    setgroups(&[Gid::from_raw(gid)])?;
    setegid(Gid::from_raw(gid))?;
    seteuid(Uid::from_raw(uid))?;
    let done = act();
    seteuid(Uid::from_raw(0))?;
    setegid(Gid::current())?;
    setgroups(&groups)?;
    Ok(done)
}

/// Becomes a user, with this group and no other, for good. It needs root.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // In this order: each step takes away the right to the one before.
    setgroups(&[gid])?;
    setgid(gid)?;
    setuid(uid)?;
    let back = !uid.is_root() && setuid(Uid::from_raw(0)).is_ok();
    if back || Uid::current() != uid || Uid::effective() != uid {
        return Err(io::Error::other("the rights of root could not be given up"));
    }
    Ok(())
}
