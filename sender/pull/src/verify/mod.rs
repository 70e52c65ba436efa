//! Which signatures a pull demands, and whether they are there.
//!
//! The demands are those of a remote in the local repository's configuration, as libostree reads
//! them, and the user's own. What cannot be checked is refused: a demand is never skipped. Checks
//! nothing else; that the signed bytes are those of the commit is the store's work.

mod ed25519;
mod gpg;
pub(crate) mod reason;
pub(crate) mod remote;
mod system;

use artifact_formats::{Checksum, RefName};

pub use self::ed25519::Ed25519Keys;
pub use self::gpg::GpgKeys;
pub use self::reason::{Reason, Unverified};
pub use self::system::SystemKeys;

use crate::bindings::Bindings;

/// The signatures that a cache's commits and summary must have.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// Who demands them, for messages.
    pub by: String,
    /// Every commit is signed by one of these OpenPGP keys.
    pub gpg: Option<GpgKeys>,
    /// Every commit is signed by one of these ed25519 keys.
    pub ed25519: Option<Ed25519Keys>,
    /// The summary is signed by one of these OpenPGP keys.
    pub gpg_summary: Option<GpgKeys>,
    /// The summary is signed by one of these ed25519 keys.
    pub ed25519_summary: Option<Ed25519Keys>,
    /// Commits are bound to this collection, and to the ref that leads to them.
    pub collection: Option<String>,
}

impl Demands {
    /// Returns whether refs may only be learnt from a signed summary.
    pub(crate) const fn are_of_summary(&self) -> bool {
        self.gpg_summary.is_some() || self.ed25519_summary.is_some()
    }

    /// Checks a commit's signatures.
    pub(crate) async fn check_commit(
        &self,
        commit: Checksum,
        content: &[u8],
        detached: Option<&[u8]>,
    ) -> Result<(), Unverified> {
        let signatures = detached.unwrap_or_default();
        let what = || format!("commit {commit}");
        self.check(what, &self.gpg, &self.ed25519, content, signatures)
            .await
    }

    /// Checks a summary's signatures.
    pub(crate) async fn check_summary(
        &self,
        content: &[u8],
        signatures: Option<&[u8]>,
    ) -> Result<(), Unverified> {
        let signatures = signatures.unwrap_or_default();
        let what = || "the summary".to_owned();
        self.check(
            what,
            &self.gpg_summary,
            &self.ed25519_summary,
            content,
            signatures,
        )
        .await
    }

    async fn check(
        &self,
        what: impl Fn() -> String,
        gpg: &Option<GpgKeys>,
        ed25519: &Option<Ed25519Keys>,
        content: &[u8],
        signatures: &[u8],
    ) -> Result<(), Unverified> {
        let refuse = |reason| self.unverified(what(), reason);
        if let Some(keys) = ed25519 {
            keys.check(content, signatures).map_err(refuse)?;
        }
        if let Some(keys) = gpg {
            let checked = keys.check(content, signatures).await;
            checked.map_err(|reason| self.unverified(what(), reason))?;
        }
        Ok(())
    }

    /// Checks that a commit is bound to the demanded collection, and to refs at all.
    pub(crate) fn check_bindings(
        &self,
        name: &RefName,
        commit: Checksum,
        bindings: &Bindings,
    ) -> Result<(), Unverified> {
        match &self.collection {
            Some(wanted)
                if bindings.collection.as_ref() != Some(wanted) || bindings.refs.is_none() =>
            {
                let collection = wanted.clone();
                let what = format!("commit {commit} of {name}");
                Err(self.unverified(what, Reason::Unbound { collection }))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn unverified(&self, what: String, reason: Reason) -> Unverified {
        Unverified {
            what,
            by: self.by.clone(),
            reason,
        }
    }
}
