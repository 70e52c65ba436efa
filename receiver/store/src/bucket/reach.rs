//! How a server is reached, as far as a configuration says. The engine has to do with it; the store
//! has not.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The table `[bucket]` of the configuration. What it leaves out comes from the environment and the
/// files that other programs for object storage read as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reach {
    /// The server's URL; without one, that of Amazon in the region.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Whether the bucket's name is part of the host's name instead of the path.
    pub virtual_host: bool,
    /// Whether connections without TLS are allowed to other machines.
    pub allow_http: bool,
    /// The section of the file with the keys.
    pub profile: Option<String>,
    /// The file with the keys.
    pub credentials: Option<PathBuf>,
}
