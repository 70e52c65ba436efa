//! The settings to reach a bucket, from the configuration, the environment, and the files that
//! other programs for object storage read as well.
//!
//! The configuration takes precedence over the environment (`AWS_ENDPOINT_URL`, `AWS_REGION`, ...),
//! and the environment over the profile in `~/.aws`. Keys come from the environment, from a
//! profile's file, or from the machine or container that runs the program. They never come from a
//! command line, which everybody on the machine can read.

use std::io;
use std::path::PathBuf;

use artifact_store::bucket::Reach;
use serde::{Deserialize, Serialize};

use crate::address::Address;

/// The address of a bucket, and the settings to reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The bucket and the prefix.
    pub address: Address,
    /// The configuration's settings for the server.
    pub reach: Reach,
    /// The form in which the server wants tags in `If-Match`.
    pub tags: TagForm,
    /// Whether requests go without keys, like those of everybody.
    pub anonymous: bool,
}

/// The form in which a server wants tags in `If-Match`. The standard demands quotes, but some
/// servers compare the quoted text with a tag without quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TagForm {
    /// As in the standard.
    #[default]
    Quoted,
    /// Without quotes: Ceph's gateway, DigitalOcean Spaces.
    Bare,
}

/// The reason why settings cannot be used. Each is a mistake of the operator, except [`Thread`].
///
/// [`Thread`]: Self::Thread
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The endpoint is not the URL of a server.
    #[error("{endpoint:?} is no endpoint: write it as `https://host` or `https://host:port`")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
    },
    /// Others could read and change the requests on their way.
    #[error(
        "{endpoint} is not on this machine, and without TLS others could read and change what \
         travels: use `https://`, or allow it with `allow-http = true` in the table [bucket]"
    )]
    Plain {
        /// The endpoint.
        endpoint: String,
    },
    /// A file with keys cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Others may read a file with keys.
    #[error(
        "other users may read the keys in {path}: run `chmod go= {path}`",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A file with keys is malformed.
    #[error("{}:{line}: expected `[profile]` or `name = value`", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A file with keys has no such section, or no keys in it.
    #[error(
        "{} has no keys (aws_access_key_id, aws_secret_access_key) in [{profile}]",
        path.display()
    )]
    NoKeys {
        /// The file.
        path: PathBuf,
        /// The section.
        profile: String,
    },
    /// The thread for the connections cannot start.
    #[error("cannot start the thread for the connections to object storage")]
    Thread {
        /// The system's error.
        source: io::Error,
    },
    /// The library cannot be set up.
    #[error("cannot set up the connection to object storage")]
    SetUp {
        /// Its error.
        source: object_store::Error,
    },
}

impl Settings {
    /// The default settings for a bucket.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            reach: Reach::default(),
            tags: TagForm::Quoted,
            anonymous: false,
        }
    }
}
