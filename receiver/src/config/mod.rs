//! The server's configuration file: who may do what, within which bounds.
//!
//! Whatever is not understood is an error with its line: a right that is misspelt is none, but a
//! limit that is misspelt must not be no limit. It is read once, before the receiver confines
//! itself; where to start is [`Config::read`].

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
use artifact_store::{HeadRoom, KeyError, Places, SummaryConfig, SummaryKey, SummaryMode};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::access::key::Fingerprint;
pub use crate::config::trust::Untrusted;

/// What the configuration file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Where everybody may pull from.
    pub pull_url: Option<String>,
    /// The oldest version of the protocol that may push.
    pub protocol_min: Option<u16>,
    /// Whether a receiver works where it cannot confine itself.
    pub sandbox: Confinement,
    /// Bounds on pushes.
    pub limits: LimitsSection,
    /// What is written down of each push.
    pub audit: AuditSection,
    /// What the summary is like.
    pub summary: SummarySection,
    /// Those who may push.
    pub identities: Vec<Identity>,
}

/// What a receiver does where the kernel has not all that it confines itself with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    /// It works, as far confined as it can be.
    #[default]
    BestEffort,
    /// It takes no push.
    Required,
}

/// The table `[limits]`. What is not said is as without a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitsSection {
    /// Largest object, as stored and as unpacked.
    pub object_len_max: Option<Bytes>,
    /// Most stored bytes in one push.
    pub push_len_max: Option<Bytes>,
    /// Most objects in one push.
    pub push_objects_max: Option<u64>,
    /// Most sessions at once, of all identities together.
    pub sessions_max: Option<u32>,
    /// Most refs of one identity, where it says nothing itself ([`Identity::refs_max`]).
    pub refs_max: Option<u64>,
    /// Most sessions at once of one identity.
    pub sessions_max_each: Option<u32>,
    /// Room that must be free for a push to be accepted.
    pub min_free_space: Option<Share>,
    /// Inodes that must be free for a push to be accepted.
    pub min_free_inodes: Option<u64>,
}

/// The table `[audit]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AuditSection {
    /// The file that gets a line for each push; without one it goes to the log.
    #[serde(default, deserialize_with = "absolute")]
    pub file: Option<PathBuf>,
}

/// The table `[summary]`: `mode = "full"`, `"without-timestamps"`, `"matching"` with `patterns`, or
/// `"none"`; and the file of a key to sign it with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SummarySection {
    /// Which refs it names, and what it says of them.
    pub mode: SummaryMode,
    /// The file of the key it is signed with.
    pub sign_key: Option<PathBuf>,
}

/// One `[[identity]]`: a person or machine, and its rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it is called. Not empty; ASCII letters, digits and `._@+-`.
    pub name: String,
    /// Its keys. Each belongs to one identity only.
    pub keys: Vec<Fingerprint>,
    /// Whether it is everybody that sshd lets in and no other identity has a key of (`keys = ["*"]`).
    /// At most one is.
    pub any_key: bool,
    /// What it may do.
    pub grants: Grants,
    /// Most refs that it has set and that are there, long names and directories counting more.
    pub refs_max: Option<u64>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else on the machine could give himself rights.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The key for the summary is none.
    #[error("{} cannot sign the summary", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// It is not a configuration.
    #[error("{}:{line}: {why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
}

impl Config {
    /// Where the configuration is if nothing else is said.
    pub const DEFAULT_PATH: &str = "/etc/artifact-cache.toml";

    /// Reads the file at `path`, which must be there; without one, that at
    /// [`DEFAULT_PATH`](Self::DEFAULT_PATH) if it is there.
    pub fn read(path: Option<&Path>) -> Result<Option<Self>, ConfigError> {
        match path {
            Some(path) => Self::parse(&read_text(path)?, path).map(Some),
            None => Self::read_if_there(Path::new(Self::DEFAULT_PATH)),
        }
    }

    fn read_if_there(path: &Path) -> Result<Option<Self>, ConfigError> {
        match read_text(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            // Without a configuration everybody may do everything: a link that leads nowhere is none
            // that is not there.
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
    /// Returns what must be free for a push to be accepted.
    pub const fn head_room(&self) -> HeadRoom {
        HeadRoom {
            space: self.min_free_space,
            inodes: self.min_free_inodes,
        }
    }

    /// Returns how many sessions there may be at once.
    pub const fn places(&self) -> Places {
        Places {
            of_all: self.sessions_max,
            of_each: self.sessions_max_each,
        }
    }

    /// Returns the limits a client is told and held to.
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
            // Whoever owns the key could only spoil signatures: it grants no rights, and belongs to the
            // repository's owner, who signs with it.
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
}

/// Something wrong, and where.
struct Fault(Range<usize>, String);

/// Reads a version of the protocol, of which none later than ours may be asked for: nobody could push.
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

/// Reads a path that means the same wherever the program is run.
fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        Ok(Some(path))
    } else {
        Err(D::Error::custom("an absolute path is expected"))
    }
}

/// Checks that patterns are there if, and only if, the mode wants them.
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
            let why = "patterns are for mode matching alone".to_owned();
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

/// Checks what binds identities to each other: names and keys are each of one only.
fn gather(raw: Vec<RawIdentity>) -> Result<Vec<Identity>, Fault> {
    let mut identities: Vec<Identity> = Vec::with_capacity(raw.len());
    // By key; `None` is any.
    let mut owners: BTreeMap<Option<Fingerprint>, String> = BTreeMap::new();
    for raw in raw {
        let (span, name) = (raw.name.span(), raw.name.into_inner());
        if !is_name(&name) {
            let why = "the name of an identity is made of letters, digits and ._@+- and begins \
                       with a letter or digit";
            return Err(Fault(span, why.to_owned()));
        }
        if identities.iter().any(|identity| identity.name == name) {
            return Err(Fault(
                span,
                format!("there are two identities named {name}"),
            ));
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
            refs_max: raw.refs_max,
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

/// Returns whether text may be the name of an identity. It can stand in a `command="..."` as it is.
pub fn is_name(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
    begins && text.len() <= MAX_NAME_LEN && text.chars().all(goes_on)
}

/// Reads a file that nobody else can write.
fn read_text(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    // Whoever is not trusted here could not have changed the file since it was opened.
    trust::check(path).map_err(failed)??;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

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
        assert_eq!((ci.refs_max, others.refs_max), (Some(40), None));
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
            ("[summary]\npatterns = ['a']", 2, "for mode matching alone"),
            ("[summary]\nsign-key = 'key'", 2, "absolute path"),
            ("[[identity]]\n", 1, "missing field `name`"),
            ("[[identity]]\nname = 'a b'", 2, "the name of an identity"),
            ("[[identity]]\nname = '-x'", 2, "the name of an identity"),
            (
                "[[identity]]\nname='a'\n\n[[identity]]\nname='a'",
                5,
                "two identities named a",
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
                "no public key",
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
