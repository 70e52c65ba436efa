//! Every path that the store uses, relative to the repository's root.
//!
//! Paths are built only here, and only from parsed names; so no byte of a peer can be a separator
//! or a `..` (INV-5). [`Fs`](crate::local::disk::Fs) maps them to the disk.

use std::fmt;

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName, RepoMode};
use serde::{Deserialize, Serialize};

/// A path below the root of a repository, without `.`, `..`, or an empty component. The root itself
/// is the empty path, and the default.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct RepoPath(String);

impl RepoPath {
    /// Returns the path as text, `/` between components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the directory (empty for the root) and the name in it.
    pub fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }

    /// Returns the directory that contains it; the root for the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.split().0.to_owned())
    }

    /// Returns the path of an entry of this directory. If `name` is not a single component, the
    /// path does not exist.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let plain = !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']);
        let name = if plain { name } else { "\u{fffd}" };
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self(format!("{}/{name}", self.0))
        }
    }

    pub(crate) fn root() -> Self {
        Self::default()
    }

    pub(crate) fn config() -> Self {
        Self("config".to_owned())
    }

    /// libostree's lock of the repository.
    pub(crate) fn repo_lock() -> Self {
        Self(".lock".to_owned())
    }

    pub(crate) fn summary() -> Self {
        Self("summary".to_owned())
    }

    pub(crate) fn summary_signature() -> Self {
        Self("summary.sig".to_owned())
    }

    pub(crate) fn objects() -> Self {
        Self("objects".to_owned())
    }

    /// One of the 256 directories of objects.
    pub(crate) fn fan_out(first: u8) -> Self {
        Self(format!("objects/{first:02x}"))
    }

    /// Returns whether a directory stays in place during a session: `objects`, a directory in it,
    /// or a staging directory, which only its session removes.
    pub(crate) fn is_steady(dir: &str) -> bool {
        dir == "objects"
            || dir.starts_with("objects/")
            || dir.starts_with("extensions/artifact-cache/staging/")
    }

    /// Returns the extension of an object's name.
    pub(crate) const fn extension(mode: RepoMode, kind: ObjectKind) -> &'static str {
        match (mode, kind) {
            (RepoMode::Bare | RepoMode::BareUser | RepoMode::BareUserOnly, ObjectKind::File) => {
                "file"
            }
            _ => kind.archive_extension(),
        }
    }

    /// Returns the path of an object in a repository of this mode.
    pub(crate) fn object_of(id: &ObjectId, mode: RepoMode) -> Self {
        Self(format!(
            "objects/{}",
            id.loose_path(Self::extension(mode, id.kind))
        ))
    }

    /// Returns the path of an object in an archive, or of a metadata object in any repository.
    pub(crate) fn object(id: &ObjectId) -> Self {
        Self::object_of(id, RepoMode::Archive)
    }

    pub(crate) fn detached(commit: Checksum) -> Self {
        Self::beside_commit(commit, DETACHED)
    }

    pub(crate) fn tombstone(commit: Checksum) -> Self {
        Self::beside_commit(commit, TOMBSTONE)
    }

    fn beside_commit(commit: Checksum, extension: &str) -> Self {
        let id = ObjectId::new(ObjectKind::Commit, commit);
        Self(format!("objects/{}", id.loose_path(extension)))
    }

    /// libostree's directory for objects that it is about to publish.
    pub(crate) fn tmp() -> Self {
        Self("tmp".to_owned())
    }

    pub(crate) fn state() -> Self {
        Self("state".to_owned())
    }

    /// The mark of a partial commit, some of whose objects are missing.
    pub(crate) fn partial(commit: Checksum) -> Self {
        Self(format!("state/{commit}{}", Self::PARTIAL))
    }

    /// The end of such a mark's name.
    pub(crate) const PARTIAL: &str = ".commitpartial";

    pub(crate) fn refs() -> Self {
        Self("refs".to_owned())
    }

    pub(crate) fn heads() -> Self {
        Self("refs/heads".to_owned())
    }

    pub(crate) fn mirrors() -> Self {
        Self("refs/mirrors".to_owned())
    }

    pub(crate) fn remotes() -> Self {
        Self("refs/remotes".to_owned())
    }

    pub(crate) fn head(name: &RefName) -> Self {
        Self(format!("refs/heads/{name}"))
    }

    /// A ref below a directory of refs.
    pub(crate) fn ref_in(dir: &Self, name: &RefName) -> Self {
        Self(format!("{dir}/{name}"))
    }

    pub(crate) fn deltas() -> Self {
        Self("deltas".to_owned())
    }

    pub(crate) fn delta_indexes() -> Self {
        Self("delta-indexes".to_owned())
    }

    pub(crate) fn extensions() -> Self {
        Self("extensions".to_owned())
    }

    /// This project's own directory.
    pub(crate) fn own() -> Self {
        Self("extensions/artifact-cache".to_owned())
    }

    /// The directory for damaged objects.
    pub(crate) fn quarantine() -> Self {
        Self::own().child("quarantine")
    }

    /// Held while refs are compared and set.
    pub(crate) fn refs_lock() -> Self {
        Self::own().child("refs.lock")
    }

    /// Held while a summary is made.
    pub(crate) fn summary_lock() -> Self {
        Self::own().child("summary.lock")
    }

    /// The data kept from one summary to the next.
    pub(crate) fn summary_record() -> Self {
        Self::own().child("summary.record")
    }

    /// Sizes for the next summary, each in a file named by its commit.
    pub(crate) fn sizes() -> Self {
        Self::own().child("sizes")
    }

    /// The refs that identities have set, each identity's in a file of its own.
    pub(crate) fn accounts() -> Self {
        Self::own().child("accounts")
    }

    /// The commits that pulls have set refs to, each in a file named by a digest of the ref.
    pub(crate) fn pulled() -> Self {
        Self::own().child("pulled")
    }

    /// The quotas used by identities, one file each.
    pub(crate) fn held() -> Self {
        Self::own().child("held")
    }

    /// Held while a staging directory is created, or judged dead.
    pub(crate) fn staging_lock() -> Self {
        Self::own().child("staging.lock")
    }

    /// The file in which each session locks some bytes.
    pub(crate) fn sessions() -> Self {
        Self::own().child("sessions")
    }

    pub(crate) fn all_staging() -> Self {
        Self::own().child("staging")
    }

    /// Returns the path of a staged object in this staging directory.
    pub(crate) fn staged(&self, id: &ObjectId, mode: RepoMode) -> Self {
        let extension = Self::extension(mode, id.kind);
        self.child(&format!("{}.{extension}", id.checksum))
    }

    /// Returns the object that a name in a staging directory stands for.
    pub(crate) fn staged_id(name: &str, mode: RepoMode) -> Option<ObjectId> {
        let (digits, found) = name.split_once('.')?;
        let mut kinds = ObjectKind::ALL.into_iter();
        let kind = kinds.find(|&kind| Self::extension(mode, kind) == found)?;
        Some(ObjectId::new(kind, digits.parse().ok()?))
    }

    /// Returns the path of staged detached metadata in this staging directory. It lies among the
    /// files that end with the session, because no other session takes it over.
    pub(crate) fn staged_detached(&self, commit: Checksum) -> Self {
        self.child(STAGED_TMP)
            .child(&format!("{commit}.{DETACHED}"))
    }

    /// Returns the rest of the path after `dir` and a slash.
    pub(crate) fn below(&self, dir: &Self) -> Option<&str> {
        self.0.strip_prefix(dir.as_str())?.strip_prefix('/')
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

impl From<String> for RepoPath {
    fn from(path: String) -> Self {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.fold(Self::root(), |path, name| path.child(name))
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepoPath({self})")
    }
}

/// The part of a staging directory that is emptied when its session ends.
pub(crate) const STAGED_TMP: &str = "tmp";
/// Extension of a commit's detached metadata.
pub(crate) const DETACHED: &str = "commitmeta";
/// Extension of the mark that a deleted commit leaves if `core.tombstone-commits` is set.
pub(crate) const TOMBSTONE: &str = "tombstone-commit";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_always_one_component_below() {
        for name in ["a", "", ".", "..", "../x", "a/b", "a\0b"] {
            let path = RepoPath::heads().child(name);
            assert_eq!(path.parent(), RepoPath::heads(), "{name:?}");
            assert!(!path.as_str().ends_with('.'), "{name:?}");
        }
    }
}
