//! Parses a configuration file; each error has its line.
//!
//! ```yaml
//! artifacts:                # one cache ...
//!   url: ssh://artifacts@cache.example.com/artifacts
//!
//! artifacts:                # ... or several, in the order of preference
//! - url: https://near.example.com/artifacts
//! - url: ssh://artifacts@cache.example.com/artifacts
//!   push: true
//!   gpg-keys: /etc/keys/publisher.gpg
//! ```
//!
//! The client pushes to a single cache if its address allows that, as BuildStream 1.0 did; in a
//! list, it pushes to those with `push: true`, as BuildStream has done since 1.1.

use artifact_formats::nearest;
use artifact_sender::Remote;
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

use super::fault::{Fault, fault, string};
use super::trust::Trust;
use crate::address::Address;

/// One cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) address: Address,
    pub(crate) trust: Trust,
    /// Whether `push` without `--remote` pushes to it. Only if its address allows that.
    pub(crate) push: bool,
}

impl Cache {
    /// A cache of which only the address is known.
    pub(crate) fn named(address: Address) -> Self {
        Self {
            push: address.can_push(),
            address,
            trust: Trust::default(),
        }
    }
}

/// Whose configuration file it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Ours: unknown keys are errors.
    Ours,
    /// BuildStream's: only `artifacts` concerns us, and it may be empty.
    BuildStream,
}

/// Reads the caches that a file names, possibly none.
pub(super) fn parse(text: &str, dialect: Dialect) -> Result<Vec<Cache>, Fault> {
    let documents = MarkedYaml::load_from_str(text).map_err(|error| Fault {
        line: error.marker().line(),
        text: format!("not valid YAML: {}", error.info()),
    })?;
    if let [_, second, ..] = documents.as_slice() {
        return fault(second, "the file must contain only one document");
    }
    let Some(root) = documents.first().filter(|root| !is_null(root)) else {
        return Ok(Vec::new());
    };
    let mut artifacts = None;
    for (key, value) in mapping(root, "the file")? {
        match string(key) {
            Some(ARTIFACTS) => artifacts = Some(value),
            _ if dialect == Dialect::BuildStream => {}
            _ => return unknown(key, &[ARTIFACTS]),
        }
    }
    match artifacts {
        Some(node) if !is_null(node) => caches(node, dialect),
        _ => Ok(Vec::new()),
    }
}

fn caches(node: &MarkedYaml<'_>, dialect: Dialect) -> Result<Vec<Cache>, Fault> {
    let YamlData::Sequence(items) = &node.data else {
        let cache = cache(node, dialect, Address::can_push)?;
        return Ok(cache.into_iter().collect());
    };
    let caches = items.iter().map(|item| cache(item, dialect, |_| false));
    Ok(caches
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// Reads one cache. BuildStream's own defaults contain one with an empty URL, which does not count.
fn cache(
    node: &MarkedYaml<'_>,
    dialect: Dialect,
    push_unless_said: impl Fn(&Address) -> bool,
) -> Result<Option<Cache>, Fault> {
    let (mut url, mut push, mut trust) = (None, None, Trust::default());
    for (key, value) in mapping(node, "a cache")? {
        match string(key) {
            Some(name) if dialect == Dialect::Ours && trust.take(name, value)? => {}
            Some(URL) => url = Some(value),
            Some(PUSH) => push = Some(value),
            Some("servers" | "override-project-caches") => {
                return fault(
                    key,
                    "this key is for the caches of BuildStream 2, which are of another \
                    kind: name your cache in artifact-cache.yaml, as artifacts: {url: ...}",
                );
            }
            Some("server-cert" | "client-cert" | "client-key") => {
                return fault(
                    key,
                    "this key is for the caches of BuildStream 1.2 and later, which are \
                    of another kind: name your cache in artifact-cache.yaml, as artifacts: {url: \
                    ...}",
                );
            }
            _ => return unknown(key, &[&OWN_KEYS[..], &Trust::KEYS].concat()),
        }
    }
    let Some(url) = url else {
        return fault(node, "a cache has no url");
    };
    let Some(text) = string(url) else {
        return fault(
            url,
            "a url must be a text, such as https://cache.example.com/artifacts",
        );
    };
    if text.is_empty() && dialect == Dialect::BuildStream {
        return Ok(None);
    }
    let address: Address = match text.parse() {
        Ok(address) => address,
        Err(reason) => return fault(url, reason),
    };
    if let Address::Receiver(Remote::Local(path)) = &address
        && !path.is_absolute()
    {
        let text = format!("{text:?} is a relative path: write one that begins with /");
        return fault(url, text);
    }
    let push = match push {
        None => push_unless_said(&address),
        Some(node) => match &node.data {
            YamlData::Value(Scalar::Boolean(push)) => {
                if *push && !address.can_push() {
                    return fault(
                        node,
                        format!(
                            "{address} only allows pulling: push to \
                        ssh://[user@]host[:port]/path"
                        ),
                    );
                }
                *push
            }
            _ => return fault(node, "push must be true or false"),
        },
    };
    Ok(Some(Cache {
        address,
        trust,
        push,
    }))
}

fn mapping<'a, 'y>(
    node: &'a MarkedYaml<'y>,
    what: &str,
) -> Result<impl Iterator<Item = (&'a MarkedYaml<'y>, &'a MarkedYaml<'y>)>, Fault> {
    match &node.data {
        YamlData::Mapping(entries) => Ok(entries.iter()),
        _ => fault(
            node,
            format!("{what} must be a mapping of keys to values, such as url: https://..."),
        ),
    }
}

/// Reports a key that is none of the known ones, and which of them was meant.
fn unknown<T>(key: &MarkedYaml<'_>, known: &[&str]) -> Result<T, Fault> {
    let Some(name) = string(key) else {
        return fault(key, "a key that is not text");
    };
    let meant = match (nearest(name, known.iter().copied()), known) {
        (Some(meant), _) => format!("did you mean {meant:?}?"),
        (None, [only]) => format!("the only key here is {only}"),
        (None, _) => format!("the keys here are {}", known.join(", ")),
    };
    fault(key, format!("unknown key {name:?}: {meant}"))
}

fn is_null(node: &MarkedYaml<'_>) -> bool {
    matches!(&node.data, YamlData::Value(Scalar::Null))
}

const ARTIFACTS: &str = "artifacts";
const URL: &str = "url";
const PUSH: &str = "push";
/// The keys of a cache but for those of [`Trust`].
const OWN_KEYS: [&str; 2] = [URL, PUSH];

#[cfg(test)]
mod tests;
