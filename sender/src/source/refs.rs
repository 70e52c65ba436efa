//! The local refs: their commits, and which of them are likely to share objects.

use std::time::SystemTime;
use std::{fs, io};

use artifact_formats::{Checksum, RefName};
use artifact_protocol::frame::Base;
use artifact_protocol::limits::MAX_BASES;

use super::repository::Repository;
use crate::error::Error;

impl Repository {
    /// Returns the commit that a ref below `refs/heads` holds, or that 64 digits name.
    ///
    /// Follows an alias, which is a symbolic link to another ref.
    pub fn resolve(&self, revision: &str) -> Result<Checksum, Error> {
        if let Ok(commit) = revision.parse() {
            return Ok(commit);
        }
        let name = revision.parse().map_err(|source| Error::BadRevision {
            text: revision.into(),
            source,
        })?;
        match (self.head(&name)?, self.parent()) {
            (Some(commit), _) => Ok(commit),
            (None, Some(parent)) => parent.resolve(revision),
            (None, None) => Err(Error::NoSuchRef { name }),
        }
    }

    /// Returns the refs beside `name`, which differ from it only in their last component, with
    /// their commits: at most [`MAX_BASES`] of those written last, newest first, no commit twice.
    ///
    /// Ignores files that are not refs.
    pub fn bases_beside(&self, name: &RefName) -> Result<Vec<Base>, Error> {
        let mut refs = self.refs_beside(name)?;
        refs.sort_unstable_by(|a, b| b.cmp(a));
        let mut bases: Vec<Base> = Vec::new();
        for (_, name) in refs.into_iter().take(READ_BESIDE) {
            if bases.len() == MAX_BASES {
                break;
            }
            match self.head(&name) {
                Ok(Some(commit)) if bases.iter().all(|base| base.commit != commit) => {
                    bases.push(Base { name, commit });
                }
                Ok(_) | Err(Error::BadRef { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bases)
    }

    fn head(&self, name: &RefName) -> Result<Option<Checksum>, Error> {
        let relative = format!("refs/heads/{name}");
        let bad = || Error::BadRef {
            path: self.path().join(&relative),
        };
        let content = match self.read_file(&relative, REF_FILE_LEN) {
            Err(Error::TooLarge { .. }) => return Err(bad()),
            content => content?,
        };
        let Some(content) = content else {
            return Ok(None);
        };
        let text = content
            .strip_suffix(b"\n")
            .and_then(|line| str::from_utf8(line).ok());
        let commit = text.and_then(|text| text.parse().ok());
        commit.ok_or_else(bad).map(Some)
    }

    /// Lists the refs in the directory of `name`, except `name`, with the time they were written.
    fn refs_beside(&self, name: &RefName) -> Result<Vec<(SystemTime, RefName)>, Error> {
        let prefix = name
            .parent()
            .map_or_else(String::new, |parent| format!("{parent}/"));
        let directory = format!("refs/heads/{prefix}");
        let unreadable = |source| Error::Io {
            action: "list",
            path: self.path().join(&directory),
            source,
        };
        let mut refs = Vec::new();
        let entries = match fs::read_dir(self.path().join(&directory)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(refs),
            entries => entries.map_err(unreadable)?,
        };
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let metadata = match entry.metadata() {
                // The ref was deleted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(unreadable)?,
            };
            let file_name = entry.file_name();
            let found = file_name
                .to_str()
                .and_then(|last| format!("{prefix}{last}").parse().ok())
                .filter(|found| metadata.is_file() && found != name);
            if let Some(found) = found {
                refs.push((metadata.modified().map_err(unreadable)?, found));
            }
        }
        Ok(refs)
    }
}

/// Most refs of one directory to read for their commits, those written last: many may hold one
/// commit.
const READ_BESIDE: usize = 16 * MAX_BASES;
/// The length of a ref's file in bytes: 64 digits and a line end.
const REF_FILE_LEN: usize = Checksum::LEN * 2 + 1;
