//! An announced commit that is there already, as the rules look at it.

use artifact_formats::{Checksum, Commit};

use crate::error::Error;
use crate::policy::Existing;

/// How many signed commits may still be read while refs are announced. Each has up to 10 MiB, and a
/// client names it in 100 bytes; commits beyond the limit are judged at publication, each once.
#[derive(Debug)]
pub(crate) struct Reads(usize);

impl Default for Reads {
    fn default() -> Self {
        Self(16)
    }
}

/// Describes a commit that is there with this detached metadata. Reads its bindings if the metadata
/// differ from the `announced` ones.
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
