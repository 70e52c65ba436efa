//! The `config` file of a repository, as far as it binds programs that read or write there.

/// The settings of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoConfig {
    /// `core.mode`: how objects are stored.
    pub mode: RepoMode,
    /// `core.locking`: whether programs take `.lock`; true by default.
    pub locking: bool,
    /// `core.lock-timeout-secs`: how long to wait for `.lock`; 300 seconds by default.
    pub lock_timeout: LockTimeout,
    /// `core.fsync`: whether to sync; true by default.
    pub fsync: bool,
    /// `core.tombstone-commits`: whether deleted commits leave a mark; false by default.
    pub tombstone_commits: bool,
    /// `core.collection-id`: the collection the refs belong to.
    pub collection_id: Option<String>,
    /// `core.no-deltas-in-summary`: whether the summary leaves static deltas out; false by default.
    pub no_deltas_in_summary: bool,
    /// `core.parent`: the repository that has the objects that this one lacks.
    pub parent: Option<String>,
    /// `core.min-free-space-size` or `-percent`: how much to keep free, if either is set.
    pub min_free: Option<MinFree>,
}

/// How much of a repository's disk to keep free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinFree {
    /// A number of bytes.
    Bytes(u64),
    /// A percentage of the disk.
    Percent(u8),
}

/// How a repository stores objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoMode {
    /// Deflated, served over https.
    Archive,
    /// As files with their real owners and attributes.
    Bare,
    /// As files of one user, with owners and attributes in `user.ostreemeta`.
    BareUser,
    /// As files of one user, without owners and attributes.
    BareUserOnly,
}

/// How long to wait for a repository's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockTimeout {
    /// A number of seconds.
    Seconds(u32),
    /// For ever.
    Never,
}

/// A repository's `config` is malformed, or this project cannot work with the repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A line is neither empty, a comment, a group nor a key with a value.
    #[error("line {line} of the repository's config is neither a group nor a key with a value")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A required key is missing.
    #[error("the repository's config does not set core.{key}")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key has an unusable value.
    #[error("the repository's config sets core.{key} to {value:?}: {rule}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The rule that the value breaks.
        rule: &'static str,
    },
}

impl RepoConfig {
    /// Parses the text of `config`. If a key occurs twice, the last value counts.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut core = Core::default();
        let mut in_core = false;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_ascii_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(group) = line.strip_prefix('[') {
                let group = group.trim_ascii_end().strip_suffix(']');
                in_core = group.ok_or(ConfigError::Line { line: index + 1 })? == "core";
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or(ConfigError::Line { line: index + 1 })?;
            if in_core {
                core.set(key.trim_ascii_end(), value.trim_ascii());
            }
        }
        core.check()
    }

    /// Returns the settings that concern those who pull from an archive: what a server shows as its
    /// `config`, without the secrets that the repository's own may have.
    pub fn for_pullers(&self) -> String {
        let mut text = "[core]\nrepo_version=1\nmode=archive-z2\n".to_owned();
        if self.tombstone_commits {
            text += "tombstone-commits=true\n";
        }
        if let Some(id) = &self.collection_id {
            text += &format!("collection-id={id}\n");
        }
        text
    }
}

impl RepoMode {
    /// Returns the name in `config` and in a summary.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Archive => "archive-z2",
            Self::Bare => "bare",
            Self::BareUser => "bare-user",
            Self::BareUserOnly => "bare-user-only",
        }
    }
}

/// The values of the group `core`, as the file writes them.
#[derive(Default)]
struct Core<'a> {
    repo_version: Option<&'a str>,
    archive: Option<&'a str>,
    mode: Option<&'a str>,
    locking: Option<&'a str>,
    lock_timeout_secs: Option<&'a str>,
    fsync: Option<&'a str>,
    tombstone_commits: Option<&'a str>,
    collection_id: Option<&'a str>,
    no_deltas_in_summary: Option<&'a str>,
    parent: Option<&'a str>,
    min_free_space_size: Option<&'a str>,
    min_free_space_percent: Option<&'a str>,
}

impl<'a> Core<'a> {
    fn set(&mut self, key: &str, value: &'a str) {
        let field = match key {
            "repo_version" => &mut self.repo_version,
            "archive" => &mut self.archive,
            "mode" => &mut self.mode,
            "locking" => &mut self.locking,
            "lock-timeout-secs" => &mut self.lock_timeout_secs,
            "fsync" => &mut self.fsync,
            "tombstone-commits" => &mut self.tombstone_commits,
            "collection-id" => &mut self.collection_id,
            "no-deltas-in-summary" => &mut self.no_deltas_in_summary,
            "parent" => &mut self.parent,
            "min-free-space-size" => &mut self.min_free_space_size,
            "min-free-space-percent" => &mut self.min_free_space_percent,
            _ => return,
        };
        *field = Some(value);
    }

    fn check(&self) -> Result<RepoConfig, ConfigError> {
        let key = "repo_version";
        let version = self.repo_version.ok_or(ConfigError::Missing { key })?;
        if version != "1" {
            return Err(refuse(key, version, "only version 1 is known"));
        }
        if boolean("archive", self.archive, false)? {
            let rule = "ostree abandoned this format in 2013; convert it to archive-z2";
            return Err(refuse("archive", "true", rule));
        }
        Ok(RepoConfig {
            mode: self.mode.map_or(Ok(RepoMode::Bare), parse_mode)?,
            locking: boolean("locking", self.locking, true)?,
            lock_timeout: parse_lock_timeout(self.lock_timeout_secs.unwrap_or("300"))?,
            fsync: boolean("fsync", self.fsync, true)?,
            tombstone_commits: boolean("tombstone-commits", self.tombstone_commits, false)?,
            collection_id: self.collection_id.map(str::to_owned),
            no_deltas_in_summary: boolean(
                "no-deltas-in-summary",
                self.no_deltas_in_summary,
                false,
            )?,
            // libostree takes an empty path for none (`ostree-repo.c`, `reload_core_config`).
            parent: self
                .parent
                .filter(|path| !path.is_empty())
                .map(str::to_owned),
            min_free: self.min_free()?,
        })
    }

    /// If both are set, the size counts (`ostree-repo.c`, `reload_core_config`).
    fn min_free(&self) -> Result<Option<MinFree>, ConfigError> {
        if let Some(size) = self.min_free_space_size {
            let rule = "it must be a number of MB, GB or TB";
            let bytes = parse_size(size).ok_or_else(|| refuse("min-free-space-size", size, rule));
            return bytes.map(MinFree::Bytes).map(Some);
        }
        let Some(text) = self.min_free_space_percent else {
            return Ok(None);
        };
        let percent = text.parse().ok().filter(|percent| *percent < 100);
        let rule = "it must be from 0 to 99";
        let percent = percent.ok_or_else(|| refuse("min-free-space-percent", text, rule));
        percent.map(MinFree::Percent).map(Some)
    }
}

/// Parses a mode; libostree takes a missing one for `bare`.
fn parse_mode(text: &str) -> Result<RepoMode, ConfigError> {
    match text {
        "archive" | "archive-z2" => Ok(RepoMode::Archive),
        "bare" => Ok(RepoMode::Bare),
        "bare-user" => Ok(RepoMode::BareUser),
        "bare-user-only" => Ok(RepoMode::BareUserOnly),
        _ => {
            let rule = "it must be archive-z2, bare, bare-user or bare-user-only";
            Err(refuse("mode", text, rule))
        }
    }
}

fn parse_lock_timeout(text: &str) -> Result<LockTimeout, ConfigError> {
    if text == "-1" {
        return Ok(LockTimeout::Never);
    }
    let rule = "it must be a number of seconds, or -1 to wait for ever";
    let seconds = text.parse();
    seconds
        .map(LockTimeout::Seconds)
        .map_err(|_| refuse("lock-timeout-secs", text, rule))
}

/// Parses a size as libostree does: its units are powers of two.
fn parse_size(text: &str) -> Option<u64> {
    let units = [("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1u64 << 40)];
    let parse = |(unit, factor)| {
        text.strip_suffix(unit)?
            .parse::<u64>()
            .ok()?
            .checked_mul(factor)
    };
    units.into_iter().find_map(parse)
}

fn boolean(key: &'static str, text: Option<&str>, default: bool) -> Result<bool, ConfigError> {
    match text {
        None => Ok(default),
        Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(refuse(key, other, "it must be true or false")),
    }
}

fn refuse(key: &'static str, value: &str, rule: &'static str) -> ConfigError {
    let value = value.to_owned();
    ConfigError::Value { key, value, rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(lines: &str) -> Result<RepoConfig, ConfigError> {
        RepoConfig::parse(&format!("[core]\nrepo_version=1\n{lines}\n"))
    }

    #[test]
    fn what_is_not_said_is_as_libostree_takes_it() {
        let config = core("mode=archive-z2").unwrap();
        assert_eq!(
            config,
            RepoConfig {
                mode: RepoMode::Archive,
                locking: true,
                lock_timeout: LockTimeout::Seconds(300),
                fsync: true,
                tombstone_commits: false,
                collection_id: None,
                no_deltas_in_summary: false,
                parent: None,
                min_free: None,
            }
        );
        assert_eq!(core("").unwrap().mode, RepoMode::Bare);
    }

    #[test]
    fn every_key_is_read_from_its_own_group_only() {
        let config = core(
            "mode = archive\r\n# locking=true\n\nlocking=0\nlock-timeout-secs=-1\nfsync=false\n\
             tombstone-commits=1 \ncollection-id=org.example.Id\nno-deltas-in-summary=true\n\
             min-free-space-size=2GB\nmin-free-space-percent=7\n[remote \
             \"origin\"]\nmode=nonsense\n[archive]\nlocking=maybe\n[core]\nfsync=true",
        );
        assert_eq!(
            config.unwrap(),
            RepoConfig {
                mode: RepoMode::Archive,
                locking: false,
                lock_timeout: LockTimeout::Never,
                fsync: true,
                tombstone_commits: true,
                collection_id: Some("org.example.Id".into()),
                no_deltas_in_summary: true,
                parent: None,
                min_free: Some(MinFree::Bytes(2 << 30)),
            }
        );
        assert_eq!(
            core("min-free-space-percent=7").unwrap().min_free,
            Some(MinFree::Percent(7))
        );
    }

    #[test]
    fn every_mode_is_read_by_its_own_name() {
        for mode in [
            RepoMode::Archive,
            RepoMode::Bare,
            RepoMode::BareUser,
            RepoMode::BareUserOnly,
        ] {
            assert_eq!(core(&format!("mode={}", mode.as_str())).unwrap().mode, mode);
        }
    }

    #[test]
    fn what_cannot_be_worked_with_is_refused_by_name() {
        for (lines, text) in [
            (
                "mode=bare-split-xattrs",
                "core.mode to \"bare-split-xattrs\"",
            ),
            ("archive=true", "core.archive"),
            ("repo_version=2", "core.repo_version to \"2\""),
            ("locking=maybe", "core.locking"),
            ("lock-timeout-secs=-2", "core.lock-timeout-secs"),
            ("min-free-space-size=7", "core.min-free-space-size"),
            ("min-free-space-percent=100", "core.min-free-space-percent"),
            ("nonsense", "line 3"),
            ("[core", "line 3"),
        ] {
            let error = core(lines).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let error = RepoConfig::parse("[core]\nmode=bare\n").unwrap_err();
        assert_eq!(
            error,
            ConfigError::Missing {
                key: "repo_version"
            }
        );
    }
}
