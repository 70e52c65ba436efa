//! A new commit, as the rules look at it for one ref after the other.

use std::collections::HashSet;

use artifact_formats::{Checksum, Commit, RefName};

use crate::policy::Policy;

/// A new commit, to be judged for one ref after the other.
pub(crate) struct New {
    commit: Commit,
    bindings: Option<HashSet<String>>,
    // Whether it is the client's; `None` until that is needed.
    is_of: Option<bool>,
}

impl New {
    /// Parses a commit; `None` if this is none. A commit bound to an alias counts as bound to no
    /// ref.
    pub(crate) fn parse(content: &[u8], is_alias: impl Fn(&str) -> bool) -> Option<Self> {
        let mut commit = Commit::parse(content).ok()?;
        Some(Self {
            bindings: (commit.ref_bindings.take())
                .filter(|names| !names.iter().any(|name| is_alias(name)))
                .map(HashSet::from_iter),
            is_of: None,
            commit,
        })
    }

    pub(crate) const fn parent(&self) -> Option<Checksum> {
        self.commit.parent
    }

    /// Returns whether a client may create a ref that the commit is bound to.
    pub(crate) fn is_of(&mut self, policy: &Policy) -> bool {
        let bound = self.bindings.iter().flatten();
        *(self.is_of).get_or_insert_with(|| policy.may_create_any(bound.map(String::as_str)))
    }

    /// Returns the commit with this name as its only binding, out of perhaps a million.
    pub(crate) fn as_bound_to(&mut self, name: &RefName) -> &Commit {
        let bound = self.bindings.as_ref().map(|all| all.get(name.as_str()));
        self.commit.ref_bindings = bound.map(|bound| bound.cloned().into_iter().collect());
        &self.commit
    }
}
