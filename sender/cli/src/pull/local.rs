//! The local repository that a pull writes, through libostree.
//!
//! libostree verifies every object against its checksum, sets the refs when all objects are there,
//! and continues an interrupted pull.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::{fs, io};

use artifact_formats::{Commit, ObjectId, ObjectKind, RepoConfig, RepoMode, Summary};
use artifact_protocol::exit;
use artifact_sender::{Checksum, RefName, escape};
use ostree::{gio, glib};

use super::found::Found;
use crate::AGENT;
use crate::origin::Origin;
use crate::output::PullProgress;
use crate::trouble::Trouble;

#[derive(Debug)]
pub(super) struct LocalRepo {
    path: PathBuf,
    repo: ostree::Repo,
    refs: HashMap<String, String>,
}

/// The amount that a pull fetched.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }
}

impl LocalRepo {
    /// Opens a repository, or creates one in a new or empty directory, and returns whether it did.
    ///
    /// It creates one directory at most: if the parent is missing too, the path is probably a
    /// typing mistake.
    pub(super) fn open_or_make(path: &Path) -> Result<(Self, bool), Trouble> {
        let made = match fs::create_dir(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_empty(path),
            Err(error) => return Err(broken(format!("cannot create {}: {error}", path.display()))),
        };
        let repo = ostree::Repo::new_for_path(path);
        if made {
            let create = repo.create(ostree::RepoMode::BareUser, gio::Cancellable::NONE);
            create.map_err(|error| {
                broken(format!(
                    "cannot create a repository in {}: {error}",
                    path.display()
                ))
            })?;
        }
        repo.open(gio::Cancellable::NONE).map_err(|error| {
            broken(format!(
                "cannot use {} as a repository: {error}",
                path.display()
            ))
        })?;
        let refs = repo.list_refs(None, gio::Cancellable::NONE);
        let refs = refs.map_err(|error| {
            broken(format!(
                "cannot read the refs of {}: {error}",
                path.display()
            ))
        })?;
        let path = path.to_owned();
        Ok((Self { path, repo, refs }, made))
    }

    /// Returns the commit that a ref held when the repository was opened. Looks only among the
    /// refs: libostree would take some names for an abbreviated checksum.
    pub(super) fn commit_of(&self, name: &RefName) -> Option<Checksum> {
        self.refs.get(name.as_str())?.parse().ok()
    }

    /// Reads a commit, if the repository has it.
    pub(super) fn commit(&self, commit: Checksum) -> Option<Commit> {
        let id = ObjectId::new(ObjectKind::Commit, commit);
        let path = self.path.join("objects").join(id.loose_path("commit"));
        let bytes = fs::read(path).ok()?;
        Commit::parse(&bytes).ok()
    }

    /// Returns the commit that the last pull set a ref to: that one is not the user's work.
    pub(super) fn pulled_before(&self, name: &RefName) -> Option<Checksum> {
        let text = fs::read_to_string(self.mark(name)).ok()?;
        text.trim_end().parse().ok()
    }

    /// Records the commits that refs were set to. If that fails, the next pull relies on histories
    /// alone.
    pub(super) fn remember(&self, refs: &Found) {
        for (name, commit) in refs {
            if self.pulled_before(name) == Some(*commit) {
                continue;
            }
            let mark = self.mark(name);
            let new = mark.with_extension(format!("{}.tmp", std::process::id()));
            let written = fs::create_dir_all(self.path.join(MARKS))
                .and_then(|()| fs::write(&new, format!("{commit}\n")))
                .and_then(|()| fs::rename(&new, &mark));
            if let Err(error) = written {
                tracing::debug!(%name, %error, "cannot record what the ref was set to");
            }
        }
    }

    /// One file for each ref, named by a digest, so that no two get in each other's way.
    fn mark(&self, name: &RefName) -> PathBuf {
        let digest = Checksum::of(name.as_str().as_bytes());
        self.path.join(MARKS).join(digest.to_hex())
    }

    /// Pulls commits with everything they reach, and sets refs to them.
    pub(super) fn pull(
        &self,
        origin: &Origin,
        config: &RepoConfig,
        refs: &Found,
        depth: u16,
        progress: &PullProgress,
    ) -> Result<Stats, Trouble> {
        let (url, options) = options(origin, config, refs, depth)?;
        let reports = ostree::AsyncProgress::new();
        let shown = progress.clone();
        reports.connect_changed(move |reports| {
            let stats = Stats::of(reports);
            shown.show(stats.objects, reports.uint("requested").into(), stats.bytes);
        });
        let result =
            self.repo
                .pull_with_options(&url, &options, Some(&reports), gio::Cancellable::NONE);
        reports.finish();
        result.map_err(|error| failed(origin, &error))?;
        self.set_left_out(refs)?;
        Ok(Stats::of(&reports))
    }

    /// Sets refs that libostree has left unset: if a remote's ref has the same name and holds the
    /// commit, libostree takes that ref for ours.
    fn set_left_out(&self, refs: &Found) -> Result<(), Trouble> {
        let held = self.repo.list_refs(None, gio::Cancellable::NONE);
        let held = held.map_err(|error| broken(format!("cannot read the refs: {error}")))?;
        for (name, commit) in refs {
            let commit = commit.to_hex();
            if held.get(name.as_str()) == Some(&commit) {
                continue;
            }
            let set = (self.repo).set_ref_immediate(
                None,
                name.as_str(),
                Some(&commit),
                gio::Cancellable::NONE,
            );
            set.map_err(|error| broken(format!("cannot set the ref {name}: {error}")))?;
        }
        Ok(())
    }
}

impl Stats {
    fn of(reports: &ostree::AsyncProgress) -> Self {
        let count = |key| u64::from(reports.uint(key));
        Self {
            // libostree counts objects from a path as imported, not fetched.
            objects: count("fetched")
                + count("metadata-fetched-localcache")
                + count("content-fetched-localcache"),
            bytes: reports.uint64("bytes-transferred"),
        }
    }
}

/// Returns the name to pull from, and the options of libostree's pull.
fn options(
    origin: &Origin,
    config: &RepoConfig,
    refs: &Found,
    depth: u16,
) -> Result<(String, glib::Variant), Trouble> {
    let options = glib::VariantDict::new(None);
    let names: Vec<&str> = refs.keys().map(RefName::as_str).collect();
    let commits: Vec<String> = refs.values().map(Checksum::to_hex).collect();
    options.insert("refs", names);
    options.insert("override-commit-ids", commits);
    options.insert("depth", i32::from(depth));
    // Without this flag libostree trusts objects on this machine.
    options.insert("flags", ostree::RepoPullFlags::UNTRUSTED.bits() as i32);
    let url = match origin {
        Origin::Path(path) => {
            let path = fs::canonicalize(path)
                .map_err(|error| broken(format!("cannot find {}: {error}", path.display())))?;
            let uri = glib::filename_to_uri(&path, None)
                .map_err(|error| broken(format!("cannot name {}: {error}", path.display())))?;
            uri.to_string()
        }
        Origin::Web(web) => {
            if config.mode != RepoMode::Archive {
                return Err(Trouble {
                    may_pass: false,
                    code: exit::STORAGE,
                    text: format!(
                        "{origin} has mode {}, but only an archive can be pulled over the web",
                        config.mode.as_str()
                    ),
                    advice: None,
                });
            }
            options.insert("override-url", web.url().to_string());
            options.insert("append-user-agent", AGENT);
            // The refs are known already, so libostree need not fetch the summary, which may be
            // large. This one contains everything else that libostree reads from it.
            let summary = Summary {
                mode: Some(config.mode.as_str().to_owned()),
                tombstone_commits: Some(config.tombstone_commits),
                ..Summary::default()
            };
            options.insert_value("summary-bytes", &bytes(&summary.serialize()));
            options.insert_value("summary-sig-bytes", &bytes(&[]));
            // If the name begins with this, libostree does not look for a remote in the
            // repository's configuration, and sets plain refs.
            "file://".to_owned()
        }
    };
    Ok((url, options.end()))
}

fn bytes(bytes: &[u8]) -> glib::Variant {
    glib::Variant::array_from_fixed_array(bytes)
}

/// Describes a failed pull, and whose fault it is.
fn failed(origin: &Origin, error: &glib::Error) -> Trouble {
    let text = escape(&error.to_string());
    let (code, advice) = match error.kind::<gio::IOErrorEnum>() {
        Some(
            gio::IOErrorEnum::NoSpace
            | gio::IOErrorEnum::PermissionDenied
            | gio::IOErrorEnum::ReadOnly,
        ) => return broken(format!("cannot store the objects of {origin}: {text}")),
        _ if text.contains("invalid mode") => {
            return Trouble {
                advice: Some("pull into a repository of mode bare-user".to_owned()),
                ..broken(format!("cannot store the objects of {origin}: {text}"))
            };
        }
        Some(gio::IOErrorEnum::NotFound) => (
            exit::STORAGE,
            "the cache lacks an object that one of its commits needs: tell its operator",
        ),
        _ if text.contains("orrupt") => (
            exit::STORAGE,
            "the cache is damaged, and no ref was set here: tell its operator",
        ),
        _ => (
            exit::CONNECTION,
            "pull again: objects that are here already are not fetched twice",
        ),
    };
    Trouble {
        may_pass: code == exit::CONNECTION
            && !["resolve host", "connect to server", "Couldn't connect"]
                .iter()
                .any(|lasting| text.contains(lasting)),
        code,
        text: format!("cannot pull from {origin}: {text}"),
        advice: Some(advice.to_owned()),
    }
}

fn broken(text: String) -> Trouble {
    Trouble {
        may_pass: false,
        code: exit::SOURCE,
        text,
        advice: None,
    }
}

/// Below the repository. libostree ignores `extensions`.
const MARKS: &str = "extensions/artifact-cache/pulled";

fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
