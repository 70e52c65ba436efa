//! The outlines of closure lists: their headings and lengths, before a push reads the lists.
//!
//! A client relies on all commits that the server calls complete, and the push then keeps their
//! lists in memory. So the push must know the lengths of lists before it calls commits complete.

use std::sync::Arc;

use artifact_formats::Checksum;

use crate::bucket::records::closures::{ClosureList, Heading, INCOMPLETE};
use crate::bucket::records::layout;
use crate::bucket::requests::ask::{ask_all, found_at, get_all};
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::Request;
use crate::error::Error;

/// The content of the bucket in the place of a commit's list.
#[derive(Debug)]
pub(super) enum Outline {
    /// The whole list, because it is short.
    Whole(Arc<ClosureList>),
    /// The heading of a long list, and the length of the list in bytes.
    Long(Heading, u64),
    /// The mark of an incomplete commit.
    Incomplete,
    /// No list, or a damaged one.
    Nothing,
}

impl Outline {
    /// Returns the commits whose lists complete this one.
    pub(super) fn bases(&self) -> &[Checksum] {
        match self {
            Self::Whole(list) => &list.heading().bases,
            Self::Long(heading, _) => &heading.bases,
            Self::Incomplete | Self::Nothing => &[],
        }
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::Whole(_) | Self::Long(..))
    }

    /// Returns the list if it is short.
    pub(super) fn whole(&self) -> Option<Arc<ClosureList>> {
        match self {
            Self::Whole(list) => Some(Arc::clone(list)),
            Self::Long(..) | Self::Incomplete | Self::Nothing => None,
        }
    }

    /// Returns the bytes that the list takes in memory.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Whole(list) => list.bytes_len(),
            Self::Long(_, len) => *len,
            Self::Incomplete | Self::Nothing => 0,
        }
    }
}

/// Reads the first bytes of the lists of these commits, many at once, in order.
pub(super) fn outlines(client: &Client, commits: &[Checksum]) -> Result<Vec<Outline>, Error> {
    let first = |commit: &Checksum| Request::GetRange {
        key: layout::closure(*commit),
        from: 0,
        most: FIRST,
    };
    let answers = ask_all(client, commits.iter().map(first).collect());
    let outline = |(&commit, answer)| {
        let found = found_at(&layout::closure(commit), answer)?;
        let content = found.map(|found| found.content).unwrap_or_default();
        if content == INCOMPLETE {
            return Ok(Outline::Incomplete);
        }
        if let Some(list) = ClosureList::decode(commit, &content) {
            return Ok(Outline::Whole(Arc::new(list)));
        }
        let is_cut = content.len() as u64 == FIRST;
        let long = ClosureList::outline(commit, &content).filter(|_| is_cut);
        Ok(long.map_or(Outline::Nothing, |(heading, len)| {
            Outline::Long(heading, len)
        }))
    };
    commits.iter().zip(answers).map(outline).collect()
}

/// Reads whole lists, many at once, in order; `None` for each that is missing or damaged.
pub(super) fn lists(
    client: &Client,
    commits: &[Checksum],
) -> Result<Vec<Option<Arc<ClosureList>>>, Error> {
    let keys: Vec<_> = commits
        .iter()
        .map(|commit| layout::closure(*commit))
        .collect();
    let found = get_all(client, &keys)?.into_iter().zip(commits);
    let lists = found.map(|(found, commit)| ClosureList::decode(*commit, &found?.content));
    Ok(lists.map(|list| list.map(Arc::new)).collect())
}

/// The bytes that are read of each list at first: a heading, and the objects of most artifacts.
const FIRST: u64 = 8 * 1024;
const _: () = assert!(FIRST > Heading::LEN_MAX);
