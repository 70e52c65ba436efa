//! The TOML file as it is written, and how its values are checked.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use artifact_formats::{RefPattern, Share};
use artifact_protocol::Version;
use artifact_store::bucket::Reach;
use artifact_store::policy::{Grants, Rule};
use artifact_store::{Allowance, SummaryMode};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::access::key::Fingerprint;
use crate::config::absolute::absolute;
use crate::config::sections::{AuditSection, Confinement, Identity, LimitsSection, SummarySection};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawConfig {
    pub(super) pull_url: Option<String>,
    #[serde(default, deserialize_with = "known_version")]
    pub(super) protocol_min: Option<u16>,
    #[serde(default)]
    pub(super) sandbox: Confinement,
    #[serde(default)]
    pub(super) limits: LimitsSection,
    #[serde(default)]
    pub(super) audit: AuditSection,
    #[serde(default)]
    pub(super) summary: RawSummary,
    #[serde(default)]
    pub(super) bucket: Reach,
    #[serde(default)]
    pub(super) identity: Vec<RawIdentity>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawSummary {
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
pub(super) struct RawIdentity {
    name: Spanned<String>,
    #[serde(default)]
    keys: Vec<Spanned<String>>,
    #[serde(default)]
    push: Vec<Spanned<String>>,
    #[serde(default)]
    replace: Vec<Spanned<String>>,
    #[serde(default)]
    sign: Vec<Spanned<String>>,
    pull: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    rule: Rule,
    refs_max: Option<u64>,
    objects_max: Option<u64>,
    bytes_max: Option<Share>,
}

/// A mistake, and its place.
pub(super) struct Fault(pub(super) Range<usize>, pub(super) String);

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

/// Checks that `patterns` is present if, and only if, the mode needs it.
pub(super) fn summarize(raw: RawSummary) -> Result<SummarySection, Fault> {
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
pub(super) fn gather(raw: Vec<RawIdentity>) -> Result<Vec<Identity>, Fault> {
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
                pull: raw.pull.as_deref().map(parse_all).transpose()?,
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

const ANY_KEY: &str = "*";
const MAX_NAME_LEN: usize = 128;
