//! The local repository that is pulled into, through libostree.
//!
//! libostree verifies every object against its checksum, sets the refs when all of them are there,
//! and takes up what an interrupted pull has left.

use std::path::Path;
use std::{fs, io};

use artifact_formats::{RepoConfig, RepoMode, Summary};
use artifact_protocol::exit;
use artifact_sender::{Checksum, RefName, escape};
use ostree::{gio, glib};

use super::Found;
use crate::AGENT;
use crate::origin::Origin;
use crate::output::PullProgress;
use crate::trouble::Trouble;

/// A repository that is pulled into.
#[derive(Debug)]
pub(super) struct LocalRepo {
    repo: ostree::Repo,
}

/// What a pull fetched.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

impl LocalRepo {
    /// Opens a repository, or makes one where there is nothing, and says whether it did.
    ///
    /// Only one directory is made: a path that leads nowhere is more likely a slip.
    pub(super) fn open_or_make(path: &Path) -> Result<(Self, bool), Trouble> {
        let made = match fs::create_dir(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_empty(path),
            Err(error) => return Err(broken(format!("cannot make {}: {error}", path.display()))),
        };
        let repo = ostree::Repo::new_for_path(path);
        if made {
            let create = repo.create(ostree::RepoMode::BareUser, gio::Cancellable::NONE);
            create.map_err(|error| {
                broken(format!(
                    "cannot make a repository in {}: {error}",
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
        Ok((Self { repo }, made))
    }

    /// Returns what a ref holds.
    pub(super) fn commit_of(&self, name: &RefName) -> Result<Option<Checksum>, Trouble> {
        let held = self.repo.resolve_rev(name.as_str(), true);
        let held = held.map_err(|error| broken(format!("cannot read the ref {name}: {error}")))?;
        Ok(held.and_then(|commit| commit.parse().ok()))
    }

    /// Pulls commits with all they reach, and sets refs to them.
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
        Ok(Stats::of(&reports))
    }
}

impl Stats {
    fn of(reports: &ostree::AsyncProgress) -> Self {
        let count = |key| u64::from(reports.uint(key));
        Self {
            // What comes from a path is not fetched, but imported.
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
    // Else objects on this machine would be believed.
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
                    code: exit::STORAGE,
                    text: format!(
                        "{origin} is of mode {}, and only an archive can be pulled over the web",
                        config.mode.as_str()
                    ),
                    advice: None,
                });
            }
            options.insert("override-url", web.url().to_string());
            options.insert("append-user-agent", AGENT);
            // The refs are known already, so the summary, which may be large, need not be fetched.
            // What else libostree wants of it is here.
            let summary = Summary {
                mode: Some(config.mode.as_str().to_owned()),
                tombstone_commits: Some(config.tombstone_commits),
                ..Summary::default()
            };
            options.insert_value("summary-bytes", &bytes(&summary.serialize()));
            options.insert_value("summary-sig-bytes", &bytes(&[]));
            // For a name that begins so, libostree does not look for a remote in the repository's
            // configuration, and the refs are set as plain ones.
            "file://".to_owned()
        }
    };
    Ok((url, options.end()))
}

fn bytes(bytes: &[u8]) -> glib::Variant {
    glib::Variant::array_from_fixed_array(bytes)
}

/// Puts a failed pull into words: whose fault is it?
fn failed(origin: &Origin, error: &glib::Error) -> Trouble {
    let text = escape(&error.to_string());
    let (code, advice) = match error.kind::<gio::IOErrorEnum>() {
        Some(
            gio::IOErrorEnum::NoSpace
            | gio::IOErrorEnum::PermissionDenied
            | gio::IOErrorEnum::ReadOnly,
        ) => return broken(format!("cannot store what {origin} has: {text}")),
        _ if text.contains("invalid mode") => {
            return Trouble {
                advice: Some("a repository of mode bare-user can hold it".to_owned()),
                ..broken(format!("cannot store what {origin} has: {text}"))
            };
        }
        Some(gio::IOErrorEnum::NotFound) => (
            exit::STORAGE,
            "the cache lacks something that a commit of it needs: tell its operator",
        ),
        _ if text.contains("orrupt") => (
            exit::STORAGE,
            "the cache is damaged, and nothing was set here: tell its operator",
        ),
        _ => (
            exit::CONNECTION,
            "pull again: what is here already is not fetched twice",
        ),
    };
    Trouble {
        code,
        text: format!("cannot pull from {origin}: {text}"),
        advice: Some(advice.to_owned()),
    }
}

fn broken(text: String) -> Trouble {
    Trouble {
        code: exit::SOURCE,
        text,
        advice: None,
    }
}

fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
