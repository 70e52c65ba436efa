//! The settings of a configuration that tell the engine how to reach a server. The store does not
//! use them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The table `[bucket]` of the configuration. Settings that it leaves out come from the environment
/// and from the files that other programs for object storage read as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reach {
    /// The server's URL; by default Amazon's in the region.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Whether the bucket's name is part of the host's name instead of the path.
    pub virtual_host: bool,
    /// Whether connections to other machines may go without TLS.
    pub allow_http: bool,
    /// The section of the credentials file.
    pub profile: Option<String>,
    /// The credentials file.
    pub credentials: Option<PathBuf>,
}
