//! Checks who else could change a file: whoever may write to it, or to a directory or link on its
//! path, could give himself rights.

use std::fmt;
use std::fs::{Metadata, read_link, symlink_metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::process::geteuid;

/// A file that somebody other than root and its reader can change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Untrusted {
    path: PathBuf,
    place: PathBuf,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Owner(u32),
    Mode,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, place) = (self.path.display(), self.place.display());
        match self.why {
            Why::Owner(user) => write!(
                f,
                "{path} is not trusted: {place} belongs to user {user}, who could change it; \
                 `chown root {place}`"
            ),
            Why::Mode => write!(
                f,
                "{path} is not trusted: others may write {place}; `chmod go-w {place}`"
            ),
        }
    }
}

/// Checks a file, and every directory and symbolic link on its path.
pub(super) fn check(path: &Path) -> io::Result<Result<(), Untrusted>> {
    let mut links = 0;
    // Remaining components, the next one last.
    let mut rest: Vec<_> = parts(&std::path::absolute(path)?);
    let mut at = PathBuf::from("/");
    let untrusted = |place: &Path, why| {
        let (path, place) = (path.to_owned(), place.to_owned());
        Untrusted { path, place, why }
    };
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let metadata = symlink_metadata(&next)?;
        if let Some(why) = fault(&metadata) {
            return Ok(Err(untrusted(&next, why)));
        }
        if !metadata.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(io::Error::other("too many symbolic links on the path"));
        }
        let target = read_link(&next)?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        rest.extend(parts(&target));
    }
    Ok(Ok(()))
}

/// Returns the names in a path, the last first.
fn parts(path: &Path) -> Vec<std::ffi::OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

fn fault(metadata: &Metadata) -> Option<Why> {
    if ![0, geteuid().as_raw()].contains(&metadata.uid()) {
        return Some(Why::Owner(metadata.uid()));
    }
    // A link has no mode of its own. In a directory such as /tmp, nobody can replace another user's
    // file, and we check each file's owner.
    let is_shared = metadata.is_dir() && metadata.mode() & STICKY != 0;
    let is_writable = metadata.mode() & 0o022 != 0;
    // Writing to a device such as /dev/null does not change what is read from it.
    let is_content = !metadata.is_symlink() && !metadata.file_type().is_char_device();
    (is_writable && !is_shared && is_content).then_some(Why::Mode)
}

const STICKY: u32 = 0o1000;
const MAX_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    fn place_of(path: &Path) -> Option<PathBuf> {
        check(path).unwrap().err().map(|untrusted| untrusted.place)
    }

    #[test]
    fn a_device_that_everybody_may_write_to_is_trusted() {
        assert_eq!(place_of(Path::new("/dev/null")), None);
    }

    #[test]
    fn every_place_on_the_way_counts_and_every_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["safe", "open", "open/deep", "others"] {
            fs::create_dir(at(name)).unwrap();
        }
        for name in ["safe/file", "open/deep/file", "others/file"] {
            fs::write(at(name), "").unwrap();
        }
        set_permissions(at("open"), Permissions::from_mode(0o775)).unwrap();
        symlink(at("safe/file"), at("open/link")).unwrap();
        symlink("../safe/file", at("others/link")).unwrap();
        symlink("open/deep/file", at("into")).unwrap();
        symlink("safe/file", at("good")).unwrap();
        symlink("safe/file", at("theirs")).unwrap();
        symlink("good", at("twice")).unwrap();
        chown(at("others"), Some(4321), None).unwrap();
        lchown(at("theirs"), Some(4321), None).unwrap();
        for (path, place) in [
            ("safe/file", None),
            ("good", None),
            ("twice", None),
            ("others/../safe/file", Some("others")),
            ("open/deep/file", Some("open")),
            ("open/link", Some("open")),
            ("into", Some("open")),
            ("others/file", Some("others")),
            ("others/link", Some("others")),
            ("theirs", Some("theirs")),
        ] {
            assert_eq!(place_of(&at(path)), place.map(at), "{path}");
        }
        // As /tmp is: only the owner of a file, and root, can remove it.
        set_permissions(at("open"), Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(place_of(&at("open/deep/file")), None);
        symlink("loop", at("loop")).unwrap();
        assert!(check(&at("loop")).is_err());
    }
}
