//! Writes caches as a configuration file.

use std::path::PathBuf;

use super::file::Cache;

/// Writes caches as a file that means the same.
pub(crate) fn written(caches: &[Cache], effective: bool) -> String {
    let mut text = "artifacts:\n".to_owned();
    for Cache {
        address,
        trust,
        push,
    } in caches
    {
        let mut begin = "- ";
        let mut add = |key: &str, value: &str| {
            text.push_str(&format!("{begin}{key}: {value}\n"));
            begin = "  ";
        };
        add("url", &quoted(&address.to_string()));
        // That of a list is the default.
        if *push || effective {
            add("push", if *push { "true" } else { "false" });
        }
        let list = |texts: Vec<String>| match &texts[..] {
            [] => None,
            texts => Some(format!("[{}]", texts.join(", "))),
        };
        let path = |path: &PathBuf| quoted(&path.to_string_lossy());
        let file = |file: &Option<PathBuf>| file.as_ref().map(path);
        let keys = trust.ed25519_keys.iter().map(|key| quoted(key));
        for (key, value) in [
            ("gpg-keys", list(trust.gpg_keys.iter().map(path).collect())),
            ("ed25519-keys", list(keys.collect())),
            ("tls-ca", file(&trust.ca)),
            ("tls-cert", file(&trust.certificate)),
            ("tls-key", file(&trust.key)),
        ] {
            if let Some(value) = value {
                add(key, &value);
            }
        }
    }
    text
}

/// Writes a text as YAML reads it: plainly if it begins like an address.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:@._-~%+".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    match begins && text.chars().all(is_plain) && !text.ends_with(':') {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Directories, load};

    #[test]
    fn what_is_shown_means_what_the_file_means() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("artifact-cache.yaml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let directories = Directories::of_environment();
            load(Some(&path), &directories).unwrap().unwrap().caches
        };
        for text in [
            "artifacts: {url: /srv/cache}",
            "artifacts:\n- url: https://near/c\n- url: ssh://u@[::1]:22/~/x%20y\n  push: true\n",
            "artifacts:\n- url: \"/srv/it's # a:\\ncache\"\n  gpg-keys: ['/a, b', /c]\n  \
             ed25519-keys: 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n- url: https://h\n  \
             tls-ca: /ca\n  tls-cert: /cert\n  tls-key: /key\n",
        ] {
            let caches = read(text);
            for effective in [false, true] {
                assert_eq!(read(&written(&caches, effective)), caches, "{text}");
            }
        }
    }
}
