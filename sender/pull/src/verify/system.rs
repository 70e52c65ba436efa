//! Where the machine's own keys are.

use std::path::PathBuf;

/// Where this machine keeps the keys that it trusts for every remote.
#[derive(Clone, Debug)]
pub struct SystemKeys {
    /// A directory of OpenPGP keyrings (`*.gpg`).
    pub gpg: PathBuf,
    /// Directories with `trusted.ed25519`, `trusted.ed25519.d`, `revoked.ed25519` and
    /// `revoked.ed25519.d`.
    pub ed25519: Vec<PathBuf>,
}

impl Default for SystemKeys {
    /// libostree's places.
    fn default() -> Self {
        Self {
            gpg: "/usr/share/ostree/trusted.gpg.d".into(),
            ed25519: vec!["/etc/ostree".into(), "/usr/share/ostree".into()],
        }
    }
}
