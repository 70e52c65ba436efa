//! The parts that a summary leaves out to stay readable.
//!
//! Clients on Debian 12 refuse a summary of more than 10 MiB, and then pull nothing, so a store
//! never puts a longer one in place. A summary first leaves out the facts that no pull needs, and
//! then refs: those of the owners with the most, the oldest first, until all of these owners have
//! the same share. So an owner with few refs keeps them, however many refs others have.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Summary, SummaryRef};
use artifact_protocol::escape;

use crate::error::Error;

/// A summary, and its bytes.
#[derive(Debug, Default)]
pub(crate) struct Built {
    pub(crate) summary: Summary,
    pub(crate) content: Vec<u8>,
    /// Refs of `refs/heads` for which it has no room.
    pub(crate) left_out: HashSet<String>,
}

/// Leaves out what a summary has no room for; `crowd` groups its refs, if some of them must go.
///
/// Fails when even a summary without refs would be too long.
pub(crate) fn fit(
    mut summary: Summary,
    crowd: impl FnOnce(&Summary) -> Result<Crowd, Error>,
) -> Result<Built, Error> {
    let mut content = summary.serialize();
    let len = content.len();
    if len <= MAX_LEN {
        return Ok(Built {
            summary,
            content,
            left_out: HashSet::new(),
        });
    }
    let mut without = Vec::new();
    for extra in Extra::ALL {
        extra.leave_out(&mut summary);
        without.push(extra.plural().to_owned());
        content = summary.serialize();
        if content.len() <= MAX_LEN {
            break;
        }
    }
    let mut left_out = HashSet::new();
    let mut crowd = match content.len() > MAX_LEN {
        true => crowd(&summary)?,
        false => Crowd::default(),
    };
    while content.len() > MAX_LEN {
        let excess = content.len() - MAX_LEN;
        let thinned = crowd.thin(excess);
        if thinned.is_empty() {
            return Err(Error::SummaryTooLong { len: content.len() });
        }
        for (collection, name) in thinned {
            match collection {
                None => _ = summary.refs.remove(&name),
                Some(collection) => {
                    if let Some(refs) = summary.collection_map.get_mut(&collection) {
                        refs.remove(&name);
                    }
                }
            }
            left_out.insert(name);
        }
        content = summary.serialize();
    }
    without.extend(
        crowd
            .left_out
            .iter()
            .map(|(whose, refs)| format!("{refs} refs of {whose}")),
    );
    tracing::warn!(
        "the summary would take {len} bytes, but clients on Debian 12 read at most 10 MiB: it \
         leaves out {}; remove refs (`artifact-cache-admin prune`), lower `refs-max` for \
         identities that push too many, or choose another `mode` of the summary in the \
         configuration",
        escape(&without.join(", "))
    );
    Ok(Built {
        summary,
        content,
        left_out,
    })
}

/// Facts in a summary that no pull needs.
#[derive(Clone, Copy, Debug)]
enum Extra {
    Version,
    Size,
    Timestamp,
    Delta,
}

impl Extra {
    /// The most dispensable comes first.
    const ALL: [Self; 4] = [Self::Version, Self::Size, Self::Timestamp, Self::Delta];

    const fn plural(self) -> &'static str {
        match self {
            Self::Version => "versions",
            Self::Size => "sizes",
            Self::Timestamp => "timestamps",
            Self::Delta => "static deltas",
        }
    }

    fn leave_out(self, summary: &mut Summary) {
        let others = summary.collection_map.values_mut();
        let others = others.flat_map(|refs| refs.values_mut());
        let entries = summary.refs.values_mut().chain(others);
        match self {
            Self::Version => entries.for_each(|entry| entry.version = None),
            Self::Size => entries.for_each(|entry| entry.size = None),
            Self::Timestamp => entries.for_each(|entry| entry.timestamp = None),
            Self::Delta => summary.static_deltas.clear(),
        }
    }
}

/// The refs of a summary, grouped by owner.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    groups: BTreeMap<Whose, Vec<Member>>,
    /// How many refs each owner lost.
    left_out: BTreeMap<Whose, usize>,
}

/// The owner of refs. A ref belongs to its first component if no identity is known to have set it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    Identity(String),
    Project(String),
    Collection(String),
}

#[derive(Debug)]
struct Member {
    /// When it was set; `None` means just now.
    set: Option<(i64, u64)>,
    collection: Option<String>,
    name: String,
}

impl Member {
    /// Returns the least number of bytes that leaving it out saves.
    fn weight(&self) -> usize {
        self.name.len() + MIN_ENTRY_LEN
    }
}

impl Crowd {
    /// Groups the refs of a summary; `owner` returns the owner of a ref, and the time when it was
    /// set.
    pub(crate) fn of(
        summary: &Summary,
        owner: impl Fn(&str, &SummaryRef) -> (Whose, Option<(i64, u64)>),
    ) -> Self {
        let mut crowd = Self::default();
        for (name, entry) in &summary.refs {
            let (whose, set) = owner(name, entry);
            crowd.groups.entry(whose).or_default().push(Member {
                set,
                collection: None,
                name: name.clone(),
            });
        }
        crowd.join_others(summary);
        crowd
    }

    /// Adds the refs of other collections, and brings each group into order.
    fn join_others(&mut self, summary: &Summary) {
        for (collection, refs) in &summary.collection_map {
            let members = refs.keys().map(|name| Member {
                set: None,
                collection: Some(collection.clone()),
                name: name.clone(),
            });
            let whose = Whose::Collection(collection.clone());
            self.groups.entry(whose).or_default().extend(members);
        }
        for members in self.groups.values_mut() {
            // The newest first; a ref without a stamp is newer.
            members.sort_by(|a, b| {
                let key = |m: &Member| (m.set.is_some(), Reverse(m.set));
                key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
            });
        }
    }

    /// Removes refs of the owners with the most, at least `excess` bytes together, or all of them.
    fn thin(&mut self, excess: usize) -> Vec<(Option<String>, String)> {
        let total = |members: &Vec<Member>| members.iter().map(Member::weight).sum::<usize>();
        let totals: Vec<_> = self.groups.values().map(total).collect();
        let wanted = totals.iter().sum::<usize>().saturating_sub(excess);
        // The largest share that each owner may keep; beyond it they would keep too much together.
        let (mut level, mut beyond) = (0, totals.iter().max().map_or(0, |most| most + 1));
        while beyond - level > 1 {
            let middle = level + (beyond - level) / 2;
            let kept: usize = totals.iter().map(|total| (*total).min(middle)).sum();
            if kept <= wanted {
                level = middle;
            } else {
                beyond = middle;
            }
        }
        let mut thinned = Vec::new();
        for (whose, members) in &mut self.groups {
            let kept = members.iter().scan(0, |kept, member| {
                *kept += member.weight();
                Some(*kept)
            });
            let first = kept.take_while(|kept| *kept <= level).count();
            let taken = members.split_off(first);
            if !taken.is_empty() {
                *self.left_out.entry(whose.clone()).or_default() += taken.len();
            }
            thinned.extend(taken.into_iter().map(|m| (m.collection, m.name)));
        }
        thinned
    }
}

impl Whose {
    /// Returns the owner of a ref that nobody is known to have set.
    pub(crate) fn project(name: &str) -> Self {
        Self::Project(name.split('/').next().unwrap_or_default().to_owned())
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(name) => write!(f, "{name}"),
            Self::Project(name) => write!(f, "project {name}"),
            Self::Collection(name) => write!(f, "collection {name}"),
        }
    }
}

/// The longest summary that is put in place, in bytes.
const MAX_LEN: usize = MAX_METADATA_LEN - 4096;
/// The least length of a ref's entry without its name: checksum, length, and offsets.
const MIN_ENTRY_LEN: usize = 48;
