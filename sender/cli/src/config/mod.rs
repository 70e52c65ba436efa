//! The user's configuration: the caches, and which of them to push to.
//!
//! This module finds the file; `file` parses it, and `write` writes one. The library knows nothing
//! of it.

mod fault;
mod file;
mod trust;
mod write;

use std::path::{Path, PathBuf};
use std::{env, fmt};

pub(crate) use file::Cache;
pub(crate) use trust::Trust;
pub(crate) use write::{quoted, written};

/// A configuration: at least one cache, in the order of preference.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) file: PathBuf,
    pub(crate) caches: Vec<Cache>,
}

/// A mistake in a configuration, and its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    pub(crate) file: PathBuf,
    /// Counted from 1.
    pub(crate) line: Option<usize>,
    pub(crate) text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.text)
    }
}

/// The configuration directories of the XDG base directory specification.
#[derive(Debug)]
pub(crate) struct Directories {
    user: Option<PathBuf>,
    system: Vec<PathBuf>,
}

impl Directories {
    pub(crate) fn of_environment() -> Self {
        let directory = |name| env::var_os(name).map(PathBuf::from);
        // The specification says to ignore relative paths; an empty variable counts as unset.
        let absolute = |name| directory(name).filter(|dir| dir.is_absolute());
        let home = || absolute("HOME").map(|home| home.join(".config"));
        let system = env::var_os("XDG_CONFIG_DIRS").filter(|dirs| !dirs.is_empty());
        let system = system.unwrap_or_else(|| "/etc/xdg".into());
        Self {
            user: absolute("XDG_CONFIG_HOME").or_else(home),
            system: env::split_paths(&system)
                .filter(|dir| dir.is_absolute())
                .collect(),
        }
    }

    /// Returns the file that a user would write.
    pub(crate) fn users_file(&self) -> PathBuf {
        let dir = self.user.clone();
        dir.unwrap_or_else(|| "~/.config".into()).join(OURS)
    }

    /// Returns the files that may name caches. Only the first that does is used.
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let user = self
            .user
            .iter()
            .flat_map(|dir| [OURS, BUILDSTREAM].map(|file| dir.join(file)));
        user.chain(self.system.iter().map(|dir| dir.join(OURS)))
    }
}

/// Reads the configuration: `explicit`, or the first file that names caches.
pub(crate) fn load(
    explicit: Option<&Path>,
    directories: &Directories,
) -> Result<Option<Config>, ConfigError> {
    if let Some(path) = explicit {
        let error = |text: &str| ConfigError {
            file: path.to_owned(),
            line: None,
            text: text.to_owned(),
        };
        let caches = read(path)?.ok_or_else(|| error("the file does not exist"))?;
        if caches.is_empty() {
            return Err(error("the file names no cache"));
        }
        return Ok(Some(Config {
            file: path.to_owned(),
            caches,
        }));
    }
    for file in directories.files() {
        if let Some(caches) = read(&file)?.filter(|caches| !caches.is_empty()) {
            return Ok(Some(Config { file, caches }));
        }
    }
    Ok(None)
}

/// Reads a file, if it exists.
fn read(path: &Path) -> Result<Option<Vec<Cache>>, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(ConfigError {
                file: path.to_owned(),
                line: None,
                text: format!("cannot read the file: {error}"),
            });
        }
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dialect = match name.starts_with("buildstream") {
        true => file::Dialect::BuildStream,
        false => file::Dialect::Ours,
    };
    let caches = file::parse(&text, dialect).map_err(|error| ConfigError {
        file: path.to_owned(),
        line: Some(error.line),
        text: error.text,
    })?;
    Ok(Some(caches))
}

const OURS: &str = "artifact-cache.yaml";
const BUILDSTREAM: &str = "buildstream.conf";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn scene() -> (tempfile::TempDir, Directories) {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories {
            user: Some(dir.path().join("user")),
            system: vec![dir.path().join("site"), dir.path().join("etc")],
        };
        for name in ["user", "site", "etc"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        (dir, directories)
    }

    fn hosts(directories: &Directories) -> Vec<String> {
        let config = load(None, directories).unwrap();
        let caches = config.into_iter().flat_map(|config| config.caches);
        caches.map(|cache| cache.address.to_string()).collect()
    }

    #[test]
    fn the_first_file_that_names_caches_is_used_alone() {
        let (dir, directories) = scene();
        let write = |path: &str, url: &str| {
            let text = format!("artifacts:\n  url: https://{url}\n");
            fs::write(dir.path().join(path), text).unwrap();
        };
        assert!(hosts(&directories).is_empty());
        write("etc/artifact-cache.yaml", "etc");
        assert_eq!(hosts(&directories), ["https://etc"]);
        write("site/artifact-cache.yaml", "site");
        write("site/buildstream.conf", "not-searched");
        assert_eq!(hosts(&directories), ["https://site"]);
        fs::write(dir.path().join("user/buildstream.conf"), "scheduler: {}\n").unwrap();
        assert_eq!(hosts(&directories), ["https://site"]);
        write("user/buildstream.conf", "bst");
        assert_eq!(hosts(&directories), ["https://bst"]);
        write("user/artifact-cache.yaml", "user");
        assert_eq!(hosts(&directories), ["https://user"]);
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let (dir, directories) = scene();
        let path = dir.path().join("user/artifact-cache.yaml");
        fs::write(&path, "artifacts:\n  uri: https://a\n").unwrap();
        let said = load(None, &directories).unwrap_err().to_string();
        assert!(
            said.starts_with(&format!("{}:2: ", path.display())),
            "{said}"
        );
        fs::write(&path, b"\xff").unwrap();
        let said = load(None, &directories).unwrap_err().to_string();
        assert!(
            said.starts_with(&format!("{}: cannot read the file", path.display())),
            "{said}"
        );
    }

    #[test]
    fn an_explicit_file_has_to_be_there_and_to_name_a_cache() {
        let (dir, directories) = scene();
        let path = dir.path().join("mine.yaml");
        let load = || load(Some(&path), &directories);
        assert!(
            load()
                .unwrap_err()
                .to_string()
                .ends_with("the file does not exist")
        );
        fs::write(&path, "artifacts: []\n").unwrap();
        assert!(
            load()
                .unwrap_err()
                .to_string()
                .ends_with("the file names no cache")
        );
        fs::write(&path, "artifacts: {url: /srv/cache}\n").unwrap();
        assert_eq!(load().unwrap().unwrap().caches.len(), 1);
    }
}
