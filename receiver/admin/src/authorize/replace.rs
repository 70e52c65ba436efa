//! Replacing a file as a whole: who reads it meanwhile, or after a power cut, has the old or the new.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use anyhow::Context;
use nix::libc;

/// Reads a file; one that is not there is empty.
pub(super) fn read_if_there(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path);
    match opened.and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(text),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Gives a file this content, durably. It keeps its mode and owner; a new one gets `mode`.
pub(super) fn replace(path: &Path, content: &str, mode: u32) -> anyhow::Result<()> {
    let shown = path.display();
    let temporary = path.with_extension(format!("new.{}", std::process::id()));
    write(&temporary, path, content, mode)
        .inspect_err(|_| drop(std::fs::remove_file(&temporary)))
        .with_context(|| format!("cannot replace {shown}, which is as it was"))?;
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("cannot sync the directory of {shown}"))
}

fn write(temporary: &Path, path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let old = match path.symlink_metadata() {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(content.as_bytes())?;
    if let Some(old) = &old {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    let mode = old.map_or(mode, |old| old.mode() & 0o7777);
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}

/// Makes the directory of an `authorized_keys` as sshd wants it, if it is not there.
pub(super) fn make_ssh_dir(path: &Path) -> anyhow::Result<()> {
    let Some(dir) = path.parent().filter(|dir| *dir != Path::new("")) else {
        return Ok(());
    };
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", dir.display()))
        }
        _ => Ok(()),
    }
}
