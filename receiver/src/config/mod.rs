//! The server's configuration file: who may do what, and within which limits.
//!
//! Unknown keys are errors, with their line: a misspelt right merely grants nothing, but a misspelt
//! limit would silently be no limit. The file is read once, before the receiver confines itself;
//! start at [`Config::read`].

mod trust;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use artifact_formats::{Bytes, RefPattern, Share};
use artifact_protocol::Version;
use artifact_protocol::limits::Limits;
use artifact_store::policy::{Grants, Rule};
use artifact_store::{
    Allowance, HeadRoom, KeyError, Places, SummaryConfig, SummaryKey, SummaryMode,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::access::key::Fingerprint;
pub use crate::config::trust::Untrusted;

/// The content of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The address to pull from.
    pub pull_url: Option<String>,
    /// The oldest version of the protocol that may push.
    pub protocol_min: Option<u16>,
    /// What the receiver does if it cannot confine itself.
    pub sandbox: Confinement,
    /// Limits on pushes.
    pub limits: LimitsSection,
    /// Where audit lines go.
    pub audit: AuditSection,
    /// What the summary contains.
    pub summary: SummarySection,
    /// The identities, with their keys and rights.
    pub identities: Vec<Identity>,
}

/// What a receiver does if the kernel lacks a layer of the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    /// Works with the layers that the kernel has.
    #[default]
    BestEffort,
    /// Refuses every push.
    Required,
}

/// The table `[limits]`. A missing key has the same default as without a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitsSection {
    /// Largest object, both as stored and as unpacked.
    pub object_len_max: Option<Bytes>,
    /// Most stored bytes in one push.
    pub push_len_max: Option<Bytes>,
    /// Most objects in one push.
    pub push_objects_max: Option<u64>,
    /// Most sessions at once, of all identities together.
    pub sessions_max: Option<u32>,
    /// Quota of refs of each identity that has none of its own ([`Identity::allowance`]).
    pub refs_max: Option<u64>,
    /// Quota of objects, likewise.
    pub objects_max: Option<u64>,
    /// Quota of stored bytes, likewise.
    pub bytes_max: Option<Share>,
    /// Most sessions at once of each identity.
    pub sessions_max_each: Option<u32>,
    /// Space that must be free for a push to be accepted.
    pub min_free_space: Option<Share>,
    /// Inodes that must be free for a push to be accepted.
    pub min_free_inodes: Option<u64>,
}

/// The table `[audit]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AuditSection {
    /// The file that gets a line for each push; without one, the lines go to the log.
    #[serde(default, deserialize_with = "absolute")]
    pub file: Option<PathBuf>,
}

/// The table `[summary]`: `mode = "full"`, `"without-timestamps"`, `"matching"` with `patterns`, or
/// `"none"`; and the file of the key to sign it with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SummarySection {
    /// The refs that the summary lists, and what it says of each.
    pub mode: SummaryMode,
    /// The file of the signing key.
    pub sign_key: Option<PathBuf>,
}

/// One `[[identity]]`: a person or machine, and its rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name. Not empty; ASCII letters, digits and `._@+-`.
    pub name: String,
    /// Its keys. Each belongs to one identity only.
    pub keys: Vec<Fingerprint>,
    /// Whether it is everybody whom sshd lets in and whose key no other identity has (`keys =
    /// ["*"]`). At most one identity is.
    pub any_key: bool,
    /// Its rights.
    pub grants: Grants,
    /// Its own quotas, as far as its table sets any.
    pub allowance: Allowance,
}

/// The reason why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other users of the machine could change the file and give themselves rights.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The signing key of the summary is invalid.
    #[error("{} cannot sign the summary", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: KeyError,
    },
    /// The text is not a valid configuration.
    #[error("{}:{line}: {why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The mistake.
        why: String,
    },
}

impl Config {
    /// The configuration's default path.
    pub const DEFAULT_PATH: &str = "/etc/artifact-cache.toml";

    /// Reads the file at `path`, which must exist; without a path, reads
    /// [`DEFAULT_PATH`](Self::DEFAULT_PATH) if it exists.
    pub fn read(path: Option<&Path>) -> Result<Option<Self>, ConfigError> {
        match path {
            Some(path) => Self::parse(&read_text(path)?, path).map(Some),
            None => Self::read_if_there(Path::new(Self::DEFAULT_PATH)),
        }
    }

    fn read_if_there(path: &Path) -> Result<Option<Self>, ConfigError> {
        match read_text(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            // A dangling symlink is an error, not a missing file: a missing file would let
            // everybody push.
            Err(ConfigError::Read { source, .. })
                if source.kind() == io::ErrorKind::NotFound && !path.is_symlink() =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Parses the text of a configuration; `path` is for errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let invalid = |span: Option<Range<usize>>, why: String| {
            let before = span.and_then(|span| text.get(..span.start));
            ConfigError::Invalid {
                path: path.to_owned(),
                line: before.map_or(1, |before| before.matches('\n').count() + 1),
                why,
            }
        };
        let raw: RawConfig = toml::from_str(text)
            .map_err(|error| invalid(error.span(), error.message().replace('\n', " ")))?;
        let identities =
            gather(raw.identity).map_err(|Fault(span, why)| invalid(Some(span), why))?;
        Ok(Self {
            pull_url: raw.pull_url,
            protocol_min: raw.protocol_min,
            sandbox: raw.sandbox,
            limits: raw.limits,
            audit: raw.audit,
            summary: summarize(raw.summary).map_err(|Fault(span, why)| invalid(Some(span), why))?,
            identities,
        })
    }
}

impl LimitsSection {
    /// Returns the space and inodes that must be free for a push to be accepted.
    pub const fn head_room(&self) -> HeadRoom {
        HeadRoom {
            space: self.min_free_space,
            inodes: self.min_free_inodes,
        }
    }

    /// Returns the limits on concurrent sessions.
    pub const fn places(&self) -> Places {
        Places {
            of_all: self.sessions_max,
            of_each: self.sessions_max_each,
        }
    }

    /// Returns the quotas of an identity that sets some of its own.
    pub fn complete(&self, own: &Allowance) -> Allowance {
        let refs_max = self.refs_max.unwrap_or(DEFAULT_REFS_MAX);
        let objects_max = self.objects_max.unwrap_or(DEFAULT_OBJECTS_MAX);
        let bytes_max = self.bytes_max.unwrap_or(DEFAULT_BYTES_MAX);
        Allowance {
            refs_max: own.refs_max.or(Some(refs_max)),
            objects_max: own.objects_max.or(Some(objects_max)),
            bytes_max: own.bytes_max.or(Some(bytes_max)),
        }
    }

    /// Returns the limits that the server announces to clients and enforces.
    pub fn of_wire(&self) -> Limits {
        let default = Limits::default();
        let bytes = |limit: Option<Bytes>, default| limit.map_or(default, |Bytes(bytes)| bytes);
        Limits {
            frame_len_max: default.frame_len_max,
            object_len_max: bytes(self.object_len_max, default.object_len_max),
            push_objects_max: self.push_objects_max.unwrap_or(default.push_objects_max),
            push_len_max: bytes(self.push_len_max, default.push_len_max),
        }
    }
}

impl SummarySection {
    /// Reads the key.
    pub fn load(&self) -> Result<SummaryConfig, ConfigError> {
        let key = |path: &PathBuf| {
            // The trust check does not apply here: whoever owns the key could only spoil
            // signatures. The key grants no rights, and belongs to the repository's owner, who
            // signs with it.
            let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
                path: path.clone(),
                source,
            })?;
            SummaryKey::parse(&text).map_err(|source| ConfigError::Key {
                path: path.clone(),
                source,
            })
        };
        Ok(SummaryConfig {
            mode: self.mode.clone(),
            sign_key: self.sign_key.as_ref().map(key).transpose()?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawConfig {
    pull_url: Option<String>,
    #[serde(default, deserialize_with = "known_version")]
    protocol_min: Option<u16>,
    #[serde(default)]
    sandbox: Confinement,
    #[serde(default)]
    limits: LimitsSection,
    #[serde(default)]
    audit: AuditSection,
    #[serde(default)]
    summary: RawSummary,
    #[serde(default)]
    identity: Vec<RawIdentity>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSummary {
    mode: Option<Spanned<RawMode>>,
    patterns: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default, deserialize_with = "absolute")]
    sign_key: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawMode {
    Full,
    WithoutTimestamps,
    Matching,
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawIdentity {
    name: Spanned<String>,
    #[serde(default)]
    keys: Vec<Spanned<String>>,
    #[serde(default)]
    push: Vec<Spanned<String>>,
    #[serde(default)]
    replace: Vec<Spanned<String>>,
    #[serde(default)]
    sign: Vec<Spanned<String>>,
    #[serde(default)]
    rule: Rule,
    refs_max: Option<u64>,
    objects_max: Option<u64>,
    bytes_max: Option<Share>,
}

/// A mistake, and its place.
struct Fault(Range<usize>, String);

/// Reads a version of the protocol. Refuses one later than ours: nobody could push.
fn known_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let version = u16::deserialize(deserializer)?;
    if version <= Version::NEWEST.0 {
        Ok(Some(version))
    } else {
        Err(D::Error::custom(format!(
            "the newest version of the protocol is {}",
            Version::NEWEST
        )))
    }
}

/// Reads an absolute path: it means the same in whatever directory the program runs.
fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        Ok(Some(path))
    } else {
        Err(D::Error::custom("expected an absolute path"))
    }
}

/// Checks that `patterns` is present if, and only if, the mode needs it.
fn summarize(raw: RawSummary) -> Result<SummarySection, Fault> {
    let (mode, span) = raw
        .mode
        .map_or((RawMode::Full, 0..0), |mode| (*mode.as_ref(), mode.span()));
    let mode = match (mode, raw.patterns) {
        (RawMode::Matching, Some(patterns)) => SummaryMode::Matching(parse_all(patterns.as_ref())?),
        (RawMode::Matching, None) => {
            return Err(Fault(span, "mode matching needs patterns".to_owned()));
        }
        (_, Some(patterns)) => {
            let why = "patterns are only for mode matching".to_owned();
            return Err(Fault(patterns.span(), why));
        }
        (RawMode::Full, None) => SummaryMode::Full,
        (RawMode::WithoutTimestamps, None) => SummaryMode::WithoutTimestamps,
        (RawMode::None, None) => SummaryMode::None,
    };
    Ok(SummarySection {
        mode,
        sign_key: raw.sign_key,
    })
}

/// Checks that names and keys are unique among identities.
fn gather(raw: Vec<RawIdentity>) -> Result<Vec<Identity>, Fault> {
    let mut identities: Vec<Identity> = Vec::with_capacity(raw.len());
    // By key; `None` is any key.
    let mut owners: BTreeMap<Option<Fingerprint>, String> = BTreeMap::new();
    for raw in raw {
        let (span, name) = (raw.name.span(), raw.name.into_inner());
        if !is_name(&name) {
            let why = "the name of an identity may contain letters, digits and ._@+- only, and \
                must begin \
                       with a letter or digit";
            return Err(Fault(span, why.to_owned()));
        }
        if identities.iter().any(|identity| identity.name == name) {
            return Err(Fault(span, format!("two identities are named {name}")));
        }
        let mut keys = Vec::new();
        for key in raw.keys {
            let span = key.span();
            let key = match key.as_ref().as_str() {
                ANY_KEY => None,
                _ => Some(parse(&key)?),
            };
            if let Some(owner) = owners.insert(key, name.clone()) {
                return Err(Fault(span, format!("this key is {owner}'s already")));
            }
            keys.push(key);
        }
        identities.push(Identity {
            name,
            any_key: keys.contains(&None),
            keys: keys.into_iter().flatten().collect(),
            grants: Grants {
                push: parse_all(&raw.push)?,
                replace: parse_all(&raw.replace)?,
                sign: parse_all(&raw.sign)?,
                rule: raw.rule,
            },
            allowance: Allowance {
                refs_max: raw.refs_max,
                objects_max: raw.objects_max,
                bytes_max: raw.bytes_max,
            },
        });
    }
    Ok(identities)
}

fn parse_all(texts: &[Spanned<String>]) -> Result<Vec<RefPattern>, Fault> {
    texts.iter().map(parse).collect()
}

fn parse<T: FromStr<Err: fmt::Display>>(text: &Spanned<String>) -> Result<T, Fault> {
    let parsed = text.as_ref().parse();
    parsed.map_err(|error| Fault(text.span(), format!("{:?}: {error}", text.as_ref())))
}

/// Returns whether text may be the name of an identity. Such a name needs no quotes in a
/// `command="..."`.
pub fn is_name(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
    begins && text.len() <= MAX_NAME_LEN && text.chars().all(goes_on)
}

/// Reads a file that no untrusted user can write.
fn read_text(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    // Checking after opening is enough: users who are not trusted now could not have changed the
    // file since then.
    trust::check(path).map_err(failed)??;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Most refs of an identity of which the configuration does not say it. Two hundred bytes each in a
/// summary of at most 10 MiB: four such identities fill no more than it holds.
const DEFAULT_REFS_MAX: u64 = 10_000;
/// The same for objects: a prune looks at some 100,000 a second.
const DEFAULT_OBJECTS_MAX: u64 = 5_000_000;
/// The same for bytes: one identity cannot take the room that others need to push.
const DEFAULT_BYTES_MAX: Share = Share::Percent(80);
const ANY_KEY: &str = "*";
const MAX_NAME_LEN: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
                       AAAAAAAA a comment";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/x.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn no_version_may_be_asked_for_that_nobody_speaks() {
        assert_eq!(parse("protocol-min = 1").unwrap().protocol_min, Some(1));
        assert_eq!(parse("").unwrap().protocol_min, None);
        for text in [
            "protocol-min = 3",
            "protocol-min = -1",
            "protocol-min = \"2\"",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_key_is_read() {
        let text = format!(
            r#"
            pull-url = "https://cache.example.com/artifacts"
            sandbox = "required"
            protocol-min = 2
            [limits]
            object-len-max = "2GiB"
            push-len-max = 1000
            push-objects-max = 10
            sessions-max = 20
            refs-max = 300
            objects-max = 5000
            bytes-max = "10%"
            sessions-max-each = 5
            min-free-space = "3%"
            min-free-inodes = 7
            [audit]
            file = "/var/log/artifact-cache.jsonl"
            [summary]
            mode = "matching"
            patterns = ["release/**"]
            sign-key = "/etc/key"
            [[identity]]
            name = "ci@build-1"
            keys = ["{KEY}", "SHA256:SGSjj7CXhT0ZiYy8JBupcoovTPLzBZi1u3JWCpLUWIY"]
            push = ["alpha/**"]
            replace = ["alpha/main/*"]
            sign = ["alpha/x"]
            rule = "any"
            refs-max = 40
            bytes-max = "7GB"
            [[identity]]
            name = "others"
            keys = ["*"]
            "#
        );
        let config = parse(&text).unwrap();
        assert_eq!(
            config.limits.of_wire(),
            Limits {
                object_len_max: 2 << 30,
                push_len_max: 1000,
                push_objects_max: 10,
                ..Limits::default()
            }
        );
        assert_eq!(config.limits.min_free_space, Some(Share::Percent(3)));
        assert_eq!(config.limits.min_free_inodes, Some(7));
        assert_eq!(config.limits.refs_max, Some(300));
        assert_eq!(config.protocol_min, Some(2));
        assert_eq!(config.sandbox, Confinement::Required);
        assert_eq!(Config::default().sandbox, Confinement::BestEffort);
        let (of_all, of_each) = (Some(20), Some(5));
        assert_eq!(config.limits.places(), Places { of_all, of_each });
        assert_eq!(
            config.summary,
            SummarySection {
                mode: SummaryMode::Matching(vec!["release/**".parse().unwrap()]),
                sign_key: Some("/etc/key".into()),
            }
        );
        assert_eq!(
            parse("[summary]\nmode='without-timestamps'")
                .unwrap()
                .summary
                .mode,
            SummaryMode::WithoutTimestamps
        );
        let [ci, others] = &config.identities[..] else {
            panic!("{config:?}");
        };
        assert_eq!((ci.name.as_str(), ci.keys.len()), ("ci@build-1", 2));
        assert_eq!(ci.grants.rule, Rule::Any);
        let own = |refs_max, bytes_max| Allowance {
            refs_max: Some(refs_max),
            objects_max: Some(5000),
            bytes_max: Some(bytes_max),
        };
        assert_eq!(
            [ci, others].map(|identity| config.limits.complete(&identity.allowance)),
            [
                own(40, Share::Bytes(7_000_000_000)),
                own(300, Share::Percent(10)),
            ]
        );
        assert_eq!(ci.grants.replace, ["alpha/main/*".parse().unwrap()]);
        assert!(others.any_key && others.keys.is_empty() && !ci.any_key);
        assert_eq!(others.grants, Grants::default());
        assert_eq!(parse(""), Ok(Config::default()));
        assert_eq!(Config::default().limits.of_wire(), Limits::default());
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_line() {
        let key = format!("[[identity]]\nname='a'\nkeys=['{KEY}']\n");
        for (text, line, why) in [
            (
                "pull-url = 'x'\npul-url = 'y'\n",
                2,
                "unknown field `pul-url`",
            ),
            ("sandbox = 'yes'", 1, "unknown variant `yes`"),
            ("\n[limit]\n", 2, "unknown field `limit`"),
            ("[limits]\nmin-free-space = '1 gig'", 2, "a number of bytes"),
            ("[limits]\nmin-free-space = '100%'", 2, "a percentage"),
            ("[limits]\nobject-len-max = -1", 2, "a number of bytes"),
            ("[limits]\nobject-len-max = '3%'", 2, "a number of bytes"),
            ("[audit]\nfile = 'log'", 2, "absolute path"),
            ("[audit]\nfil = '/log'", 2, "unknown field `fil`"),
            ("[summary]\nmode = 'small'", 2, "unknown variant `small`"),
            ("[summary]\nmode = 'matching'", 2, "needs patterns"),
            ("[summary]\npatterns = ['a']", 2, "only for mode matching"),
            ("[summary]\nsign-key = 'key'", 2, "absolute path"),
            ("[[identity]]\n", 1, "missing field `name`"),
            ("[[identity]]\nname = 'a b'", 2, "the name of an identity"),
            ("[[identity]]\nname = '-x'", 2, "the name of an identity"),
            (
                "[[identity]]\nname='a'\n\n[[identity]]\nname='a'",
                5,
                "two identities are named a",
            ),
            (
                "[[identity]]\nname='a'\npush='x/**'",
                3,
                "expected a sequence",
            ),
            ("[[identity]]\nname='a'\npush=['x/***']", 3, "'**' must be"),
            (
                "[[identity]]\nname='a'\npush=[\n 'x',\n '/y']",
                5,
                "component",
            ),
            (
                "[[identity]]\nname='a'\nrule='force'",
                3,
                "unknown variant `force`",
            ),
            (
                "[[identity]]\nname='a'\nkey=['x']",
                3,
                "unknown field `key`",
            ),
            (
                "[[identity]]\nname='a'\nkeys=['ssh-ed25519']",
                3,
                "not a public key",
            ),
            ("identity = 1\n", 1, "expected a sequence"),
            ("x", 1, ""),
            (
                &format!("{key}{key}").replacen("'a'", "'b'", 1),
                6,
                "this key is b's already",
            ),
            (
                "[[identity]]\nname='a'\nkeys=['*',\n'*']",
                4,
                "this key is a's already",
            ),
        ] {
            let error = parse(text).unwrap_err();
            let wanted = format!("/etc/x.toml:{line}: ");
            assert!(
                error.starts_with(&wanted) && error.contains(why),
                "{text}: {error}"
            );
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn only_the_default_file_may_be_missing_and_none_may_be_others_to_write() {
        use std::fs::{Permissions, set_permissions};
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert!(matches!(
            Config::read(Some(&path)),
            Err(ConfigError::Read { .. })
        ));
        assert_eq!(Config::read_if_there(&path).unwrap(), None);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Config::read_if_there(&link).is_err());
        fs::write(&path, "").unwrap();
        assert!(Config::read_if_there(&link).unwrap().is_some());
        assert_eq!(Config::read(Some(&path)).unwrap(), Some(Config::default()));
        for (what, bad, good) in [
            (path.as_path(), 0o666, 0o644),
            (&path, 0o664, 0o444),
            (dir.path(), 0o770, 0o750),
            (dir.path(), 0o707, 0o705),
        ] {
            set_permissions(what, Permissions::from_mode(bad)).unwrap();
            for path in [&path, &link] {
                let error = Config::read(Some(path)).unwrap_err();
                assert!(matches!(error, ConfigError::Untrusted(_)), "{error}");
                assert!(error.to_string().contains("chmod go-w"), "{error}");
            }
            set_permissions(what, Permissions::from_mode(good)).unwrap();
            Config::read(Some(&link)).unwrap();
        }
    }
}
