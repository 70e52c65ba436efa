use super::*;

/// The caches of a file in short: the URL, and `+` if the client pushes to it.
fn read(text: &str, dialect: Dialect) -> Result<Vec<String>, String> {
    let caches = parse(text, dialect).map_err(|f| format!("{}: {}", f.line, f.text))?;
    let shown = |cache: Cache| format!("{}{}", cache.address, if cache.push { " +" } else { "" });
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
    let text = include_str!("../../../../artifact-cache.schema.json");
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
