//! The parts of a configuration that was checked.

use std::fs;
use std::path::PathBuf;

use artifact_formats::{Bytes, Share};
use artifact_protocol::limits::Limits;
use artifact_store::policy::Grants;
use artifact_store::{Allowance, HeadRoom, Places, SummaryConfig, SummaryKey, SummaryMode};
use serde::Deserialize;

use crate::access::key::Fingerprint;
use crate::config::absolute::absolute;
use crate::config::error::ConfigError;

/// What a receiver does if the kernel lacks a layer of the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    /// Works with the layers that the kernel has.
    #[default]
    BestEffort,
    /// Refuses every push.
    Required,
}

/// The table `[limits]`. A missing key has the same default as without a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitsSection {
    /// Largest object, both as stored and as unpacked.
    pub object_len_max: Option<Bytes>,
    /// Most stored bytes in one push.
    pub push_len_max: Option<Bytes>,
    /// Most objects in one push.
    pub push_objects_max: Option<u64>,
    /// Most sessions at once, of all identities together.
    pub sessions_max: Option<u32>,
    /// Quota of refs of each identity that has none of its own ([`Identity::allowance`]).
    pub refs_max: Option<u64>,
    /// Quota of objects, likewise.
    pub objects_max: Option<u64>,
    /// Quota of stored bytes, likewise.
    pub bytes_max: Option<Share>,
    /// Most sessions at once of each identity.
    pub sessions_max_each: Option<u32>,
    /// Space that must be free for a push to be accepted.
    pub min_free_space: Option<Share>,
    /// Inodes that must be free for a push to be accepted.
    pub min_free_inodes: Option<u64>,
}

impl LimitsSection {
    /// Returns the space and inodes that must be free for a push to be accepted.
    pub const fn head_room(&self) -> HeadRoom {
        HeadRoom {
            space: self.min_free_space,
            inodes: self.min_free_inodes,
        }
    }

    /// Returns the limits on concurrent sessions.
    pub const fn places(&self) -> Places {
        Places {
            of_all: self.sessions_max,
            of_each: self.sessions_max_each,
        }
    }

    /// Returns the quotas of an identity that sets some of its own.
    pub fn complete(&self, own: &Allowance) -> Allowance {
        let refs_max = self.refs_max.unwrap_or(DEFAULT_REFS_MAX);
        let objects_max = self.objects_max.unwrap_or(DEFAULT_OBJECTS_MAX);
        let bytes_max = self.bytes_max.unwrap_or(DEFAULT_BYTES_MAX);
        Allowance {
            refs_max: own.refs_max.or(Some(refs_max)),
            objects_max: own.objects_max.or(Some(objects_max)),
            bytes_max: own.bytes_max.or(Some(bytes_max)),
        }
    }

    /// Returns the limits that the server announces to clients and enforces.
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

/// The table `[audit]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AuditSection {
    /// The file that gets a line for each push; without one, the lines go to the log.
    #[serde(default, deserialize_with = "absolute")]
    pub file: Option<PathBuf>,
}

/// The table `[summary]`: `mode = "full"`, `"without-timestamps"`, `"matching"` with `patterns`, or
/// `"none"`; and the file of the key to sign it with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SummarySection {
    /// The refs that the summary lists, and what it says of each.
    pub mode: SummaryMode,
    /// The file of the signing key.
    pub sign_key: Option<PathBuf>,
}

impl SummarySection {
    /// Reads the key.
    pub fn load(&self) -> Result<SummaryConfig, ConfigError> {
        let key = |path: &PathBuf| {
            // The trust check does not apply here: whoever owns the key could only spoil
            // signatures. The key grants no rights, and belongs to the repository's owner, who
            // signs with it.
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

/// One `[[identity]]`: a person or machine, and its rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name. Not empty; ASCII letters, digits and `._@+-`.
    pub name: String,
    /// Its keys. Each belongs to one identity only.
    pub keys: Vec<Fingerprint>,
    /// Whether it is everybody whom sshd lets in and whose key no other identity has (`keys =
    /// ["*"]`). At most one identity is.
    pub any_key: bool,
    /// Its rights.
    pub grants: Grants,
    /// Its own quotas, as far as its table sets any.
    pub allowance: Allowance,
}

/// Most refs of an identity of which the configuration does not say it. Two hundred bytes each in a
/// summary of at most 10 MiB: four such identities fill no more than it holds.
const DEFAULT_REFS_MAX: u64 = 10_000;
/// The same for objects: a prune looks at some 100,000 a second.
const DEFAULT_OBJECTS_MAX: u64 = 5_000_000;
/// The same for bytes: one identity cannot take the room that others need to push.
const DEFAULT_BYTES_MAX: Share = Share::Percent(80);
