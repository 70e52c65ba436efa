use std::fs;

use artifact_formats::Share;
use artifact_protocol::limits::Limits;
use artifact_store::policy::{Grants, Rule};
use artifact_store::{Allowance, Places, SummaryMode};

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
            pull = ["alpha/**", "beta/*"]
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
    let pull = ["alpha/**", "beta/*"].map(|pattern| pattern.parse().unwrap());
    assert_eq!(ci.grants.pull, Some(pull.to_vec()));
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
            "unknown field `pul-url`: did you mean `pull-url`?",
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

/// Editors complete and check the file by the schema.
#[test]
fn the_json_schema_knows_the_keys_and_values_that_the_code_knows() {
    let text = include_str!("../../artifact-cache.schema.json");
    let schema: serde_json::Value = serde_json::from_str(text).unwrap();
    let names = |value: &serde_json::Value| -> Vec<String> {
        match value {
            serde_json::Value::Object(map) => map.keys().cloned().collect(),
            serde_json::Value::Array(list) => list
                .iter()
                .map(|v| v.as_str().unwrap().to_owned())
                .collect(),
            _ => panic!("{value}"),
        }
    };
    // The parser names what it expected instead.
    for (pointer, text) in [
        ("/properties", "xxxxxx = 1"),
        ("/properties/limits/properties", "[limits]\nxxxxxx = 1"),
        ("/properties/bucket/properties", "[bucket]\nxxxxxx = 1"),
        ("/properties/audit/properties", "[audit]\nxxxxxx = 1"),
        ("/properties/summary/properties", "[summary]\nxxxxxx = 1"),
        (
            "/properties/identity/items/properties",
            "[[identity]]\nxxxxxx = 1",
        ),
        ("/properties/sandbox/enum", "sandbox = 'xxxxxx'"),
        (
            "/properties/summary/properties/mode/enum",
            "[summary]\nmode = 'xxxxxx'",
        ),
        (
            "/properties/identity/items/properties/rule/enum",
            "[[identity]]\nname = 'a'\nrule = 'xxxxxx'",
        ),
    ] {
        let error = parse(text).unwrap_err();
        let mut expected: Vec<_> = error.split('`').skip(1).step_by(2).skip(1).collect();
        expected.sort_unstable();
        let mut known = names(schema.pointer(pointer).unwrap());
        known.sort_unstable();
        assert_eq!(known, expected, "{pointer}: {error}");
        let strict = pointer.strip_suffix("/properties");
        let strict = strict.map(|table| schema.pointer(&format!("{table}/additionalProperties")));
        assert_ne!(strict, Some(Some(&true.into())), "{pointer}");
        assert_ne!(strict, Some(None), "{pointer}");
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
