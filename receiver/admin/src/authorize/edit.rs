//! Edits the texts of the two files: adds entries, and keeps everything else as people wrote it.

use std::path::Path;

use anyhow::{Context, bail};
use artifact_formats::RefPattern;
use artifact_receiver::access::{Fingerprint, PublicKey};
use artifact_receiver::config::Config;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use crate::key_lines;

/// The identity that the configuration must contain.
pub(super) struct Identity<'a> {
    pub(super) name: &'a str,
    /// As the configuration writes it.
    pub(super) key: String,
    pub(super) fingerprint: Fingerprint,
    pub(super) push: &'a [RefPattern],
    pub(super) replace: &'a [RefPattern],
    pub(super) sign: &'a [RefPattern],
    pub(super) pull: &'a [RefPattern],
}

/// Adds an identity, or extends an existing one, and returns a configuration that parses.
pub(super) fn add_identity(
    text: &str,
    identity: &Identity<'_>,
    path: &Path,
) -> anyhow::Result<String> {
    let before = Config::parse(text, path)?;
    let owner = before
        .identities
        .iter()
        .find(|known| known.keys.contains(&identity.fingerprint));
    if let Some(owner) = owner.filter(|owner| owner.name != identity.name) {
        bail!(
            "this key is {}'s already, in {}",
            owner.name,
            path.display()
        );
    }
    let known = before.identities.iter().find(|i| i.name == identity.name);
    if let Some(known) = known
        && known.grants.pull.is_none()
        && known.grants.permit_changes()
        && !identity.pull.is_empty()
    {
        bail!(
            "{} may pull every ref already, because it has another right and no list `pull`; to \
             limit it, add the list in {}",
            known.name,
            path.display()
        );
    }
    let mut document: DocumentMut = text.parse().context("the configuration is not TOML")?;
    // Keeps comments at the end of the file before the added table.
    let end = document.trailing().as_str().unwrap_or_default().to_owned();
    let tables = document
        .entry("identity")
        .or_insert(Item::ArrayOfTables(ArrayOfTables::new()))
        .as_array_of_tables_mut()
        .with_context(|| {
            format!(
                "{}: `identity` must be tables headed [[identity]]",
                path.display()
            )
        })?;
    let is_it = |table: &Table| table.get("name").and_then(Item::as_str) == Some(identity.name);
    let known = tables.iter().position(is_it);
    if known.is_none() {
        let mut table = Table::new();
        table.insert("name", value(identity.name));
        let gap = if text.is_empty() { "" } else { "\n" };
        table.decor_mut().set_prefix(format!("{end}{gap}"));
        tables.push(table);
    }
    let place = known.unwrap_or(tables.len() - 1);
    let table = tables
        .get_mut(place)
        .context("cannot find the identity in the configuration")?;
    if owner.is_none() {
        list(table, "keys")?.push(identity.key.as_str());
    }
    for (key, patterns) in [
        ("push", identity.push),
        ("replace", identity.replace),
        ("sign", identity.sign),
        ("pull", identity.pull),
    ] {
        for pattern in patterns {
            let list = list(table, key)?;
            if !list
                .iter()
                .any(|known| known.as_str() == Some(pattern.as_str()))
            {
                list.push(pattern.as_str());
            }
        }
        // An empty list of refs to pull takes a right away.
        if patterns.is_empty()
            && key != "pull"
            && table
                .get(key)
                .and_then(Item::as_array)
                .is_some_and(Array::is_empty)
        {
            table.remove(key);
        }
    }
    if known.is_none() {
        document.set_trailing("");
    }
    let after = document.to_string();
    Config::parse(&after, path).context("the edited configuration would not be valid")?;
    Ok(after)
}

/// Adds a line to an `authorized_keys`, unless it contains the key already.
pub(super) fn add_line(text: &str, key: &PublicKey, name: &str) -> String {
    let key = key.to_text();
    let known = text
        .lines()
        .any(|line| !line.trim_start().starts_with('#') && line.contains(&key));
    if known {
        return text.to_owned();
    }
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + &format!("restrict {key} {name}\n")
}

/// Removes an identity, and returns a configuration that parses.
pub(super) fn remove_identity(text: &str, name: &str, path: &Path) -> anyhow::Result<String> {
    let config = Config::parse(text, path)?;
    if !config.identities.iter().any(|known| known.name == name) {
        let names: Vec<_> = config.identities.iter().map(|i| i.name.as_str()).collect();
        let names = match names.is_empty() {
            true => "it names nobody".to_owned(),
            false => format!("it names {}", names.join(", ")),
        };
        bail!("{} does not name {name}: {names}", path.display());
    }
    let mut document: DocumentMut = text.parse().context("the configuration is not TOML")?;
    let identities = document
        .get_mut("identity")
        .and_then(Item::as_array_of_tables_mut);
    let identities = identities.with_context(|| {
        format!(
            "{}: `identity` must be tables headed [[identity]]",
            path.display()
        )
    })?;
    let is_it = |table: &Table| table.get("name").and_then(Item::as_str) == Some(name);
    let place = identities.iter().position(is_it);
    let place = place.context("cannot find the identity in the configuration")?;
    // Comments stay: those of a file's head stand above the first identity.
    let prefix = |table: &Table| {
        let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str());
        prefix.unwrap_or_default().to_owned()
    };
    let above = identities.get(place).map(prefix).unwrap_or_default();
    identities.remove(place);
    match identities.get_mut(place) {
        Some(next) => {
            let all = above + &prefix(next);
            next.decor_mut().set_prefix(all);
        }
        None => {
            if identities.is_empty() {
                document.remove("identity");
            }
            let all = above + document.trailing().as_str().unwrap_or_default();
            document.set_trailing(all);
        }
    }
    let after = document.to_string();
    Config::parse(&after, path).context("the edited configuration would not be valid")?;
    Ok(after)
}

/// Removes the lines of these keys from an `authorized_keys`, and those whose command says
/// `--identity NAME`.
pub(super) fn remove_lines(text: &str, keys: &[Fingerprint], name: &str) -> String {
    let parsed = key_lines::parse(text);
    let goes = |number: usize| {
        let line = parsed.iter().find(|line| line.number == number);
        line.is_some_and(|line| {
            let key = line
                .key
                .as_ref()
                .is_some_and(|key| keys.contains(&key.fingerprint()));
            key || line.identity().as_deref() == Some(name)
        })
    };
    let lines = text.split_inclusive('\n').zip(1..);
    let kept = lines.filter(|(_, number)| !goes(*number));
    kept.map(|(line, _)| line).collect()
}

fn list<'a>(table: &'a mut Table, key: &str) -> anyhow::Result<&'a mut Array> {
    let item = table.entry(key).or_insert(value(Array::new()));
    item.as_array_mut()
        .with_context(|| format!("`{key}` of an identity must be a list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 \
                       AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const OTHER: &str = "ssh-ed25519 \
                         AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB";

    fn add(
        text: &str,
        key: &str,
        name: &str,
        push: &[&str],
        sign: &[&str],
    ) -> anyhow::Result<String> {
        let parse = |texts: &[&str]| -> Vec<RefPattern> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let identity = Identity {
            name,
            key: format!("{key} {name}"),
            fingerprint: key.parse().unwrap(),
            push: &parse(push),
            replace: &[],
            sign: &parse(sign),
            pull: &[],
        };
        add_identity(text, &identity, Path::new("x.toml"))
    }

    #[test]
    fn an_identity_is_added_once_and_grows_and_comments_stay() {
        let text = "# ours\n[limits]\npush-objects-max = 5 # few\n# the end\n";
        let first = add(text, KEY, "ci", &["alpha/**"], &[]).unwrap();
        assert_eq!(
            first,
            format!(
                "{text}\n[[identity]]\nname = \"ci\"\nkeys = [\"{KEY} ci\"]\npush = \
                 [\"alpha/**\"]\n"
            )
        );
        assert_eq!(add(&first, KEY, "ci", &["alpha/**"], &[]).unwrap(), first);
        let grown = add(&first, OTHER, "ci", &["beta/*"], &["alpha/x"]).unwrap();
        let config = Config::parse(&grown, Path::new("x")).unwrap();
        let [ci] = &config.identities[..] else {
            panic!("{grown}");
        };
        assert_eq!(
            (ci.keys.len(), ci.grants.push.len(), ci.grants.sign.len()),
            (2, 2, 1)
        );
        assert!(
            grown.contains("# few") && grown.starts_with("# ours"),
            "{grown}"
        );
        let two = add(&grown, &OTHER.replace("AAAB", "AAAC"), "dev", &[], &[]).unwrap();
        assert!(two.starts_with(&grown), "{two}");
    }

    #[test]
    fn a_key_is_of_one_name_only_and_a_broken_file_is_left() {
        let text = add("", KEY, "ci", &[], &[]).unwrap();
        let error = add(&text, KEY, "dev", &[], &[]).unwrap_err().to_string();
        assert!(error.contains("this key is ci's already"), "{error}");
        for text in ["x", "identity = 1", "[[identity]]\nname = 'a'\nrigths = []"] {
            assert!(add(text, KEY, "ci", &[], &[]).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_is_added_once_and_lets_do_nothing_else() {
        let key: PublicKey = KEY.parse().unwrap();
        let line = format!("restrict {KEY} ci\n");
        assert_eq!(add_line("", &key, "ci"), line);
        assert_eq!(add_line(&line, &key, "other"), line);
        assert_eq!(add_line("# x", &key, "ci"), format!("# x\n{line}"));
        let commented = format!("# {KEY}\n");
        assert_eq!(
            add_line(&commented, &key, "ci"),
            format!("{commented}{line}")
        );
        let with_command = format!("command=\"x\" {KEY} ci\n");
        assert_eq!(add_line(&with_command, &key, "ci"), with_command);
    }

    #[test]
    fn who_is_revoked_leaves_both_files_and_nobody_else_does() {
        let both = add(
            &add("# ours\n", KEY, "ci", &["a/**"], &[]).unwrap(),
            OTHER,
            "dev",
            &[],
            &[],
        );
        let both = both.unwrap();
        let path = Path::new("x");
        let left = remove_identity(&both, "ci", path).unwrap();
        assert!(
            left.starts_with("# ours") && !left.contains("ci") && left.contains("dev"),
            "{left}"
        );
        assert_eq!(
            remove_identity(&left, "dev", path).unwrap().trim(),
            "# ours"
        );
        let error = remove_identity(&left, "ci", path).unwrap_err().to_string();
        assert!(error.contains("it names dev"), "{error}");

        let keys = [KEY.parse::<PublicKey>().unwrap().fingerprint()];
        let others = format!("# {KEY}\nrestrict {OTHER} dev\n");
        let by_command =
            format!("restrict,command=\"bst-artifact-receive --identity ci r\" {OTHER}\n");
        let text = format!("restrict {KEY} ci\n{others}{by_command}{KEY}");
        assert_eq!(remove_lines(&text, &keys, "ci"), others);
        assert_eq!(remove_lines(&others, &keys, "ci"), others);
    }
}
