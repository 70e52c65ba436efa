//! The content of a summary, and its signing key: the table `[summary]` of the configuration.

use artifact_formats::RefPattern;

use crate::summary::key::SummaryKey;

/// How to make the summary of a repository.
#[derive(Clone, Debug, Default)]
pub struct SummaryConfig {
    /// The refs that it lists, and what it says of each.
    pub mode: SummaryMode,
    /// The signing key, if any.
    pub sign_key: Option<SummaryKey>,
}

/// The refs that a summary lists, and what it says of each.
///
/// Clients of Debian 12 refuse a summary of more than 10 MiB. If a summary grows towards that
/// limit, the other modes make it smaller. Given its name, `artifact-cache` can pull a ref that the
/// summary does not list; stock ostree cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SummaryMode {
    /// All refs, with timestamps, versions, and up to 25,000 of them with sizes. Suitable up to
    /// some 40,000 refs with names as long as those of build tools.
    #[default]
    Full,
    /// All refs, with only what a pull needs: a fifth shorter. `ostree remote refs` works, but a
    /// listing has no ages and no sizes.
    WithoutTimestamps,
    /// Only the refs that one of these patterns matches: for a large cache in whose list people
    /// look up only a few refs, such as releases.
    Matching(Vec<RefPattern>),
    /// No summary; an existing one is removed. For a cache whose clients know the names of the refs
    /// they need, as build tools do. Nobody can list the refs, nor mirror the whole cache.
    None,
}

impl SummaryMode {
    /// Returns whether the summary must list a ref of this name.
    pub fn names(&self, name: &str) -> bool {
        match self {
            Self::Full | Self::WithoutTimestamps => true,
            Self::Matching(patterns) => patterns.iter().any(|pattern| pattern.matches(name)),
            Self::None => false,
        }
    }

    /// Returns whether the summary has the timestamps of commits.
    pub(crate) fn has_timestamps(&self) -> bool {
        *self != Self::WithoutTimestamps
    }
}
