//! The refs that a server shows to its clients: regular files below `refs/heads`.
//!
//! No symbolic link is followed, as no web server that the manual describes follows one: an alias
//! would show a ref under a name that other rights apply to.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use artifact_formats::{Checksum, RefName};

use super::repository::Repository;
use crate::error::Error;

/// How many entries of directories may still be looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looks(pub(crate) usize);

impl Repository {
    /// Returns the commit that a ref holds; `None` for anything but a ref.
    pub(crate) fn shown_head(&self, name: &RefName) -> Result<Option<Checksum>, Error> {
        let relative = format!("refs/heads/{name}");
        match self.read_beneath(&relative, HEAD_LEN) {
            Err(Error::TooLarge { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(content) => Ok(content.as_deref().and_then(parse)),
        }
    }

    /// Adds the names and commits of refs below `refs/heads/ABOVE`, or of all refs, if `is_wanted`
    /// picks their names. Returns whether `looks` sufficed for all of them.
    pub(crate) fn shown_heads(
        &self,
        above: &str,
        looks: &mut Looks,
        is_wanted: impl Fn(&RefName) -> bool,
        found: &mut BTreeMap<RefName, Checksum>,
    ) -> Result<bool, Error> {
        let mut dirs = vec![above.to_owned()];
        while let Some(dir) = dirs.pop() {
            for (name, is_dir) in self.list_heads(&dir)? {
                let Some(left) = looks.0.checked_sub(1) else {
                    return Ok(false);
                };
                looks.0 = left;
                let name = match &*dir {
                    "" => name,
                    dir => format!("{dir}/{name}"),
                };
                if is_dir {
                    dirs.push(name);
                    continue;
                }
                let Ok(name) = name.parse() else { continue };
                if is_wanted(&name)
                    && let Some(commit) = self.shown_head(&name)?
                {
                    found.insert(name, commit);
                }
            }
        }
        Ok(true)
    }

    /// Lists the regular files and the directories in a directory of refs; nothing, if it is none.
    fn list_heads(&self, dir: &str) -> Result<Vec<(String, bool)>, Error> {
        let path = self.path().join("refs/heads").join(dir);
        let unreadable = |source| Error::Io {
            action: "list",
            path: path.clone(),
            source,
        };
        let entries = match fs::read_dir(&path) {
            Err(error) if is_absence(&error) => return Ok(Vec::new()),
            entries => entries.map_err(unreadable)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let kind = match entry.file_type() {
                Err(error) if is_absence(&error) => continue,
                kind => kind.map_err(unreadable)?,
            };
            if let (Ok(name), true) = (
                entry.file_name().into_string(),
                kind.is_dir() || kind.is_file(),
            ) {
                found.push((name, kind.is_dir()));
            }
        }
        Ok(found)
    }
}

/// A push or a prune may remove a directory of refs while it is listed.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn parse(content: &[u8]) -> Option<Checksum> {
    let line = content.strip_suffix(b"\n")?;
    str::from_utf8(line).ok()?.parse().ok()
}

/// The length of a ref's file in bytes: 64 digits and a line end.
const HEAD_LEN: usize = Checksum::LEN * 2 + 1;
