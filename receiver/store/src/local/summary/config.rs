//! What a summary holds, and who signs it: the table `[summary]` of the configuration.

use artifact_formats::RefPattern;

use crate::local::summary::key::SummaryKey;

/// How the summary of a repository is made.
#[derive(Clone, Debug, Default)]
pub struct SummaryConfig {
    /// Which refs it names, and what it says of them.
    pub mode: SummaryMode,
    /// The key it is signed with, if it is.
    pub sign_key: Option<SummaryKey>,
}

/// Which refs a summary names, and what it says of them.
///
/// Clients of Debian 12 read no summary of more than 10 MiB. When one grows towards that, the other
/// modes make it smaller; a ref that it does not name can be pulled by `artifact-cache`, by its name,
/// and not by stock ostree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SummaryMode {
    /// All refs, with timestamps, versions, and up to 25,000 of them with sizes. Right up to some
    /// 40,000 refs with names as long as those of build tools.
    #[default]
    Full,
    /// All refs, with no more than what a pull needs: a fifth shorter. `ostree remote refs` works,
    /// and a listing has no ages and no sizes.
    WithoutTimestamps,
    /// Only the refs that one of these matches: for a large cache of which few refs are looked for
    /// in a list, such as releases.
    Matching(Vec<RefPattern>),
    /// There is none, and one that is there is removed: for a cache whose clients know the names of
    /// what they want, as build tools do. Nothing can be listed then, nor mirrored as a whole.
    None,
}

impl SummaryMode {
    /// Returns whether a ref of this name is to be in the summary.
    pub fn names(&self, name: &str) -> bool {
        match self {
            Self::Full | Self::WithoutTimestamps => true,
            Self::Matching(patterns) => patterns.iter().any(|pattern| pattern.matches(name)),
            Self::None => false,
        }
    }

    /// Returns whether the summary says when commits were made.
    pub(crate) fn has_timestamps(&self) -> bool {
        *self != Self::WithoutTimestamps
    }
}
