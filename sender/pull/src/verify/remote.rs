//! The demands of remotes in a repository's configuration, with libostree's keys and defaults.

use std::path::Path;

use reqwest::Url;

use super::{Demands, Ed25519Keys, GpgKeys, Reason, SystemKeys};
use crate::error::Error;

/// Returns the demands of each remote in the text of a repository's `config` that has one of these
/// addresses.
pub(crate) fn demands_of_remotes(
    repo: &Path,
    config: &str,
    addresses: &[String],
    system: &SystemKeys,
) -> Result<Vec<Demands>, Error> {
    let mut demands = Vec::new();
    for remote in remotes(config) {
        let is_meant = |url: &str| addresses.iter().any(|address| same_place(address, url));
        if remote.get("url").is_some_and(is_meant) {
            demands.push(remote.demands(repo, system)?);
        }
    }
    Ok(demands)
}

/// A group `[remote "NAME"]`.
#[derive(Debug)]
struct Remote<'a> {
    name: &'a str,
    // A later value of a key counts more than an earlier one.
    settings: Vec<(&'a str, &'a str)>,
}

fn remotes(config: &str) -> Vec<Remote<'_>> {
    let mut remotes: Vec<Remote<'_>> = Vec::new();
    let mut in_remote = false;
    for line in config.lines() {
        let line = line.trim_ascii_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(group) = line.strip_prefix('[') {
            let group = group.trim_ascii_end();
            let name = group
                .strip_prefix("remote \"")
                .and_then(|rest| rest.strip_suffix("\"]"));
            in_remote = name.is_some();
            // GLib adds up groups of one name.
            match name {
                Some(name) if remotes.last().is_none_or(|last| last.name != name) => {
                    let settings = match remotes.iter().position(|r| r.name == name) {
                        Some(index) => remotes.remove(index).settings,
                        None => Vec::new(),
                    };
                    remotes.push(Remote { name, settings });
                }
                Some(_) | None => {}
            }
            continue;
        }
        if let (true, Some((key, value)), Some(remote)) =
            (in_remote, line.split_once('='), remotes.last_mut())
        {
            let setting = (key.trim_ascii_end(), value.trim_ascii());
            remote.settings.push(setting);
        }
    }
    remotes
}

impl<'a> Remote<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        let mut settings = self.settings.iter().rev();
        let found = settings.find(|(name, _)| *name == key);
        found.map(|(_, value)| *value)
    }

    fn demands(&self, repo: &Path, system: &SystemKeys) -> Result<Demands, Error> {
        let mut demands = Demands {
            by: format!("the remote {} of {}", self.name, repo.display()),
            collection: self.get("collection-id").map(str::to_owned),
            ..Demands::default()
        };
        let unusable = |reason| demands.unverified("the cache".to_owned(), reason);
        let (commits, summary) = (
            self.boolean(repo, "gpg-verify", true)?,
            self.boolean(repo, "gpg-verify-summary", false)?,
        );
        let mut gpg = None;
        if commits || summary {
            gpg = Some(self.gpg_keys(repo, system).map_err(unusable)?);
        }
        let ed25519 = self.ed25519_keys(repo, "sign-verify", system)?;
        let ed25519 = ed25519.map_err(unusable)?;
        let ed25519_summary = self.ed25519_keys(repo, "sign-verify-summary", system)?;
        let ed25519_summary = ed25519_summary.map_err(unusable)?;
        demands.gpg = gpg.clone().filter(|_| commits);
        demands.gpg_summary = gpg.filter(|_| summary);
        demands.ed25519 = ed25519;
        demands.ed25519_summary = ed25519_summary;
        Ok(demands)
    }

    /// As libostree collects them (`ostree-repo.c`, `_ostree_repo_gpg_prepare_verifier`): the
    /// remote's own keyring, or else those of the machine; and the files and directories that the
    /// remote names.
    fn gpg_keys(&self, repo: &Path, system: &SystemKeys) -> Result<GpgKeys, Reason> {
        let mut keys = GpgKeys::default();
        let own = repo.join(format!("{}.trustedkeys.gpg", self.name));
        if own.is_file() {
            keys.add_file(own);
        } else {
            keys.add_system(system)?;
        }
        let named = self.get("gpgkeypath").unwrap_or_default();
        for path in named.split([';', ',']).filter(|path| !path.is_empty()) {
            match Path::new(path) {
                dir if dir.is_dir() => keys.add_dir(dir)?,
                file => keys.add_file(file),
            }
        }
        Ok(keys)
    }

    /// As libostree does (`ostree-repo-pull-verify.c`, `verifiers_from_config`). The outer error
    /// is about the configuration, the inner one about the keys.
    fn ed25519_keys(
        &self,
        repo: &Path,
        key: &str,
        system: &SystemKeys,
    ) -> Result<Result<Option<Ed25519Keys>, Reason>, Error> {
        match self.get(key).unwrap_or_default() {
            "" | "false" | "0" => return Ok(Ok(None)),
            "true" | "1" => {}
            list => {
                let kinds = list.split([';', ',']).filter(|kind| !kind.is_empty());
                if let Some(other) = kinds.into_iter().find(|kind| *kind != "ed25519") {
                    let reason = format!(
                        "{key} of the remote {} demands signatures of the kind {other:?}, which \
                         this program cannot check; use ed25519, or `ostree pull`",
                        self.name
                    );
                    return Err(bad_config(repo, reason));
                }
            }
        }
        let mut keys = Ed25519Keys::default();
        let (file, inline) = (
            self.get("verification-ed25519-file"),
            self.get("verification-ed25519-key"),
        );
        if let Some(file) = file
            && let Err(reason) = keys.add_file(Path::new(file))
        {
            return Ok(Err(reason));
        }
        if let Some(inline) = inline
            && let Err(why) = keys.add(inline)
        {
            let reason = format!(
                "verification-ed25519-key of the remote {}: {why}",
                self.name
            );
            return Err(bad_config(repo, reason));
        }
        if file.is_none() && inline.is_none() {
            keys.add_system(system);
        }
        keys.revoke(system);
        Ok(Ok(Some(keys)))
    }

    fn boolean(&self, repo: &Path, key: &str, default: bool) -> Result<bool, Error> {
        match self.get(key) {
            None => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => {
                let name = self.name;
                let reason =
                    format!("{key} of the remote {name} is {other:?}: write true or false");
                Err(bad_config(repo, reason))
            }
        }
    }
}

fn bad_config(repo: &Path, reason: String) -> Error {
    Error::LocalConfig {
        path: repo.join("config"),
        reason,
    }
}

/// Returns whether two addresses mean the same repository, however they are written.
fn same_place(one: &str, other: &str) -> bool {
    let plain = |text: &str| {
        let text = text.trim_end_matches('/');
        if text.starts_with('/') {
            return format!("file://{text}");
        }
        match Url::parse(text) {
            Ok(mut url) => {
                // Who asks does not matter.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.to_string().trim_end_matches('/').to_owned()
            }
            Err(_) => text.to_owned(),
        }
    };
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn demands(config: &str, address: &str) -> Result<Vec<Demands>, Error> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("own.trustedkeys.gpg"), "keys").unwrap();
        let system = SystemKeys {
            gpg: dir.path().join("none"),
            ed25519: Vec::new(),
        };
        demands_of_remotes(dir.path(), config, &[address.to_owned()], &system)
    }

    #[test]
    fn the_remote_with_the_address_counts_however_it_is_written() {
        let config = "[core]\nmode=bare\n[remote \"a\"]\nurl=https://H.example/x/\n\
                      gpg-verify=false\n[remote \"b\"]\nurl=file:///srv/cache\n";
        let count = |address: &str| demands(config, address).unwrap().len();
        for address in [
            "https://h.example/x",
            "https://h.example:443/x/",
            "/srv/cache/",
        ] {
            assert_eq!(count(address), 1, "{address}");
        }
        for address in ["https://h.example/y", "http://h.example/x", "/srv", ""] {
            assert_eq!(count(address), 0, "{address}");
        }
    }

    #[test]
    fn without_a_word_gpg_signatures_of_commits_are_demanded_as_libostree_does() {
        let of = |settings: &str| {
            let config = format!("[remote \"own\"]\nurl=https://h/x\n{settings}");
            demands(&config, "https://h/x").map(|mut demands| demands.remove(0))
        };
        let plain = of("").unwrap();
        assert!(plain.gpg.is_some() && plain.gpg_summary.is_none() && plain.ed25519.is_none());
        assert!(of("gpg-verify=false\n").unwrap().gpg.is_none());
        let both = of("gpg-verify-summary=true\ngpg-verify=0\n").unwrap();
        assert!(both.gpg.is_none() && both.gpg_summary.is_some());
        for value in ["true", "ed25519", "ed25519;"] {
            assert!(
                of(&format!("sign-verify={value}\n"))
                    .unwrap()
                    .ed25519
                    .is_some()
            );
        }
        for bad in [
            "gpg-verify=perhaps",
            "sign-verify=spki",
            "sign-verify=true\nverification-ed25519-key=short",
            "sign-verify=true\nverification-ed25519-file=/no/such/file",
            "gpg-verify=false\nsign-verify=dummy;ed25519",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
        let twice = of("gpg-verify=false\n[core]\nx=y\n[remote \"own\"]\ngpg-verify=true\n");
        assert!(twice.unwrap().gpg.is_some(), "the last value counts");
    }
}
