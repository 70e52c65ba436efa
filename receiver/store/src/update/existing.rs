//! An announced commit that the store has already, in the form that the rules judge.

use artifact_formats::{Checksum, Commit};

use crate::error::Error;
use crate::policy::Existing;

/// The number of signed commits that a store may still read for an announcement. Each commit has up
/// to 10 MiB, and a client names it in 100 bytes; commits beyond the limit are judged at
/// publication, each once.
#[derive(Debug)]
pub(crate) struct Reads(usize);

impl Default for Reads {
    fn default() -> Self {
        Self(16)
    }
}

/// Describes a commit that the store has with this detached metadata. Reads its bindings if the
/// metadata differs from the `announced` metadata.
pub(crate) fn existing<B: AsRef<[u8]>>(
    detached: Option<Checksum>,
    announced: Checksum,
    reads: &mut Reads,
    read: impl FnOnce() -> Result<Option<B>, Error>,
) -> Result<Existing, Error> {
    let mut bound = None;
    let differs = detached.is_some_and(|there| there != announced) && reads.0 > 0;
    reads.0 -= usize::from(differs);
    if differs
        && let Some(content) = read()?
        && let Ok(commit) = Commit::parse(content.as_ref())
    {
        bound = Some(commit.ref_bindings.unwrap_or_default());
    }
    Ok(Existing { detached, bound })
}
