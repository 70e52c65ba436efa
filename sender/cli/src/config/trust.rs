//! Whom to trust at a cache: who signs its commits, who certifies its server, and as whom to
//! introduce oneself there.

use std::path::PathBuf;

use artifact_puller::{Ed25519Keys, GpgKeys};
use saphyr::{MarkedYaml, YamlData};

use super::fault::{Fault, fault, string};

/// The keys and certificates of one cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) gpg_keys: Vec<PathBuf>,
    /// In base64.
    pub(crate) ed25519_keys: Vec<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl Trust {
    /// The keys of a cache that are about trust.
    pub(super) const KEYS: [&str; 5] =
        ["gpg-keys", "ed25519-keys", "tls-ca", "tls-cert", "tls-key"];

    /// Takes a value; returns whether its key is about trust.
    pub(super) fn take(&mut self, key: &str, value: &MarkedYaml<'_>) -> Result<bool, Fault> {
        match key {
            "gpg-keys" => self.gpg_keys = each(value, path)?,
            "ed25519-keys" => self.ed25519_keys = each(value, ed25519_key)?,
            "tls-ca" => self.ca = Some(path(value)?),
            "tls-cert" => self.certificate = Some(path(value)?),
            "tls-key" => self.key = Some(path(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the files that it names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let tls = [&self.ca, &self.certificate, &self.key];
        self.gpg_keys.iter().chain(tls.into_iter().flatten())
    }

    /// Returns the OpenPGP keys of which one must have signed each commit, if any are named.
    pub(crate) fn gpg(&self) -> Option<GpgKeys> {
        let mut keys = GpgKeys::default();
        self.gpg_keys.iter().for_each(|path| keys.add_file(path));
        (!self.gpg_keys.is_empty()).then_some(keys)
    }

    /// The same for ed25519 keys.
    pub(crate) fn ed25519(&self) -> Result<Option<Ed25519Keys>, &'static str> {
        let mut keys = Ed25519Keys::default();
        for key in &self.ed25519_keys {
            keys.add(key)?;
        }
        Ok((!self.ed25519_keys.is_empty()).then_some(keys))
    }
}

/// Reads one text, or a list of texts; an empty list would demand nothing, and look as if it did.
fn each<T>(
    value: &MarkedYaml<'_>,
    read: impl Fn(&MarkedYaml<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    match &value.data {
        YamlData::Sequence(items) if items.is_empty() => fault(value, "the list is empty"),
        YamlData::Sequence(items) => items.iter().map(read).collect(),
        _ => Ok(vec![read(value)?]),
    }
}

fn path(value: &MarkedYaml<'_>) -> Result<PathBuf, Fault> {
    match string(value) {
        Some(text) if text.starts_with('/') => Ok(text.into()),
        _ => fault(value, "write the path of a file that begins with /"),
    }
}

fn ed25519_key(value: &MarkedYaml<'_>) -> Result<String, Fault> {
    let Some(text) = string(value) else {
        return fault(value, "a key must be a text in base64");
    };
    match Ed25519Keys::default().add(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(why) => fault(value, format!("not a public key: {why}")),
    }
}
