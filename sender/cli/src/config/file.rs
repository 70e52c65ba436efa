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
mod tests {
    use super::*;

    /// The caches of a file in short: the URL, and `+` if the client pushes to it.
    fn read(text: &str, dialect: Dialect) -> Result<Vec<String>, String> {
        let caches = parse(text, dialect).map_err(|f| format!("{}: {}", f.line, f.text))?;
        let shown =
            |cache: Cache| format!("{}{}", cache.address, if cache.push { " +" } else { "" });
        Ok(caches.into_iter().map(shown).collect())
    }

    #[test]
    fn good_files_name_their_caches() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("# nothing yet\n", &[]),
            ("artifacts:\n", &[]),
            ("artifacts: []\n", &[]),
            (
                "artifacts:\n  url: ssh://u@h:10000/artifacts\n",
                &["ssh://u@h:10000/artifacts +"],
            ),
            (
                "artifacts:\n  url: https://h/artifacts/\n",
                &["https://h/artifacts"],
            ),
            ("artifacts: {url: /srv/cache}", &["/srv/cache +"]),
            ("artifacts: {url: 'file:///srv/cache'}", &["/srv/cache +"]),
            ("artifacts: {url: 'u@h:cache', push: false}", &["u@h:cache"]),
            (
                "artifacts: {push: True, url: 'ssh://h/c'}",
                &["ssh://h/c +"],
            ),
            (
                "artifacts:\n- url: https://near/c\n- url: ssh://far/c\n  push: true\n- url: \
                 ssh://h/c\n",
                &["https://near/c", "ssh://far/c +", "ssh://h/c"],
            ),
            ("---\nartifacts: &a\n  url: https://h\n", &["https://h"]),
        ];
        for (text, expected) in table {
            assert_eq!(read(text, Dialect::Ours).unwrap(), *expected, "{text}");
        }
    }

    #[test]
    fn keys_and_certificates_belong_to_their_cache() {
        let key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        let text = format!(
            "artifacts:\n- url: https://a\n  gpg-keys: /k/one\n  ed25519-keys: [{key}]\n- url: \
             https://b\n  gpg-keys: [/k/one, /k/two]\n  tls-ca: /ca\n  tls-cert: /c\n"
        );
        let caches = parse(&text, Dialect::Ours).map_err(|f| f.text).unwrap();
        let [a, b] = &caches[..] else { panic!() };
        assert_eq!(a.trust.ed25519_keys, [key]);
        assert_eq!((a.trust.gpg_keys.len(), b.trust.gpg_keys.len()), (1, 2));
        assert!(b.trust.ca.is_some() && b.trust.certificate.is_some() && b.trust.key.is_none());
        assert!(a.trust.gpg().is_some() && a.trust.ed25519().unwrap().is_some());
        // They are none of BuildStream's.
        assert!(read(&text, Dialect::BuildStream).is_err());
    }

    #[test]
    fn bad_files_are_refused_with_the_line_and_the_reason() {
        for (text, expected) in [
            ("artifacts: [", "not valid YAML"),
            ("artifacts:\n\turl: x\n", "not valid YAML"),
            (
                "artifacts: {url: /a}\nartifacts: {url: /b}\n",
                "2: not valid YAML",
            ),
            ("hello\n", "1: the file must be a mapping"),
            ("- artifacts\n", "1: the file must be a mapping"),
            (
                "\nartefacts: {url: /a}\n",
                "2: unknown key \"artefacts\": did you mean \"artifacts\"?",
            ),
            (
                "cachedir: /a\n",
                "1: unknown key \"cachedir\": the only key here is artifacts",
            ),
            ("1: 2\n", "1: a key that is not text"),
            ("artifacts: /srv/cache\n", "1: a cache must be a mapping"),
            ("artifacts:\n- /srv/cache\n", "2: a cache must be a mapping"),
            (
                "artifacts:\n- url: /a\n- uri: /b\n",
                "3: unknown key \"uri\": did you mean \"url\"?",
            ),
            (
                "artifacts:\n- url: /a\n  gpgkeys: /b\n",
                "3: unknown key \"gpgkeys\": did you mean \"gpg-keys\"?",
            ),
            (
                "artifacts:\n- url: /a\n  colour: red\n",
                "3: unknown key \"colour\": the keys here are url, push, gpg-keys, ",
            ),
            ("artifacts: {push: true}\n", "1: a cache has no url"),
            ("artifacts:\n- push: true\n", "2: a cache has no url"),
            ("artifacts:\n  url: 7\n", "2: a url must be a text"),
            (
                "artifacts:\n  url: ''\n",
                "2: \"\" is not a place to push to: it is empty",
            ),
            (
                "artifacts:\n  url: ftp://h/c\n",
                "2: \"ftp://h/c\" is not a place to push to",
            ),
            (
                "artifacts:\n  url: https:///c\n",
                "2: \"https:///c\" is not a web address: it names no host",
            ),
            (
                "artifacts:\n  url: ssh://-oX/c\n",
                "would be an option to ssh",
            ),
            (
                "artifacts:\n  url: cache\n",
                "2: \"cache\" is a relative path",
            ),
            (
                "artifacts:\n  url: ~/cache\n",
                "2: \"~/cache\" is a relative path",
            ),
            (
                "artifacts:\n  url: /c\n  push: yes\n",
                "3: push must be true or false",
            ),
            (
                "artifacts:\n  url: https://h/c\n  push: true\n",
                "3: https://h/c only allows pulling",
            ),
            (
                "artifacts:\n  servers:\n  - url: https://h/c\n",
                "2: this key is for the caches of BuildStream 2",
            ),
            (
                "artifacts:\n  url: https://h\n  gpg-keys: keys.gpg\n",
                "3: write the path of a file that begins with /",
            ),
            (
                "artifacts:\n  url: https://h\n  gpg-keys: []\n",
                "3: the list is empty",
            ),
            (
                "artifacts:\n  url: https://h\n  ed25519-keys:\n  - AAAA\n",
                "4: not a public key: a key has 32 bytes",
            ),
            (
                "artifacts:\n  url: https://h:11002\n  server-cert: x\n",
                "3: this key is for the caches of BuildStream 1.2",
            ),
            (
                "artifacts: {url: /a}\n---\nb: c\n",
                "3: the file must contain only one document",
            ),
        ] {
            let said = read(text, Dialect::Ours).unwrap_err();
            assert!(
                said.contains(expected),
                "{text}\nsaid {said}\nnot {expected}"
            );
        }
    }

    /// Editors complete and check the file by the schema.
    #[test]
    fn the_json_schema_knows_the_keys_that_the_code_knows() {
        let text = include_str!("../../../artifact-cache.schema.json");
        let schema: serde_json::Value = serde_json::from_str(text).unwrap();
        let cache = schema.pointer("/$defs/cache").unwrap();
        let names = |table: &serde_json::Value| -> Vec<String> {
            assert_eq!(table["additionalProperties"], false);
            let table = table["properties"].as_object().unwrap();
            table.keys().cloned().collect()
        };
        assert_eq!(names(&schema), [ARTIFACTS]);
        let mut known = [&OWN_KEYS[..], &Trust::KEYS].concat();
        known.sort_unstable();
        assert_eq!(names(cache), known);
        assert_eq!(cache["required"], serde_json::json!([URL]));
        // The parser takes each of these keys, and no other.
        for key in known {
            let said = read(
                &format!("artifacts: {{url: /a, {key}: {{}}}}"),
                Dialect::Ours,
            );
            assert!(!said.unwrap_err().contains("unknown key"), "{key}");
        }
    }

    #[test]
    fn of_buildstreams_file_only_artifacts_counts_and_an_empty_url_is_none() {
        let read = |text| read(text, Dialect::BuildStream);
        let conf = "cachedir: /tmp/x\nscheduler:\n  pushers: 4\nartifacts:\n  url: ssh://h/c\n";
        assert_eq!(read(conf).unwrap(), ["ssh://h/c +"]);
        assert_eq!(read("artifacts:\n  url: ''\n").unwrap(), [""; 0]);
        assert_eq!(read("cachedir: /tmp/x\n").unwrap(), [""; 0]);
        assert!(read("artifacts: {servers: []}\n").is_err());
        assert!(
            read("artifacts:\n  uri: x\n")
                .unwrap_err()
                .starts_with("2: ")
        );
    }
}
