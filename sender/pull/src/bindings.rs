//! What a commit says of the refs that may hold it.

use artifact_formats::{Checksum, RefName};

use crate::error::Error;

/// The refs and the collection that a commit is bound to.
#[derive(Clone, Debug)]
pub(crate) struct Bindings {
    pub(crate) refs: Option<Vec<String>>,
    pub(crate) collection: Option<String>,
}

impl Bindings {
    /// Checks that a ref may hold the commit: it is bound to that ref, or to none at all.
    pub(crate) fn check(&self, name: &RefName, commit: Checksum) -> Result<(), Error> {
        match &self.refs {
            Some(refs) if !refs.iter().any(|bound| bound == name.as_str()) => Err(Error::Binding {
                commit,
                name: name.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }
}
