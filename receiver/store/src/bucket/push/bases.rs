//! The commits that the bucket has complete, and the objects on their closure lists.
//!
//! A commit is complete if a ref holds it and its closure list is good; a missing list is made
//! again from the objects (`survey.rs`). The push reads all lists at once, when the client first
//! asks for an object. By then the client has said which commits it relies on.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use artifact_formats::{Checksum, ObjectId};

use crate::bucket::client::Client;
use crate::bucket::closures::{BASES_MAX, ClosureList, INCOMPLETE};
use crate::bucket::layout;
use crate::bucket::push::ask::get_all;
use crate::bucket::push::closure::Beneath;
use crate::bucket::push::survey;
use crate::error::Error;
use crate::local::repository::descent::Levels;

/// The commits that a push may rely on, and their lists.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    // No commit occurs twice.
    list: Vec<Base>,
    // The commits that the client relies on; `None`, which means all, until it has said so.
    relied: Option<Vec<Checksum>>,
    // Objects that were requested but have not come: a base that names one is incomplete.
    unsent: HashSet<ObjectId>,
    // Bases whose lists have covered an object since the last walk began.
    used: BTreeSet<usize>,
}

#[derive(Debug)]
struct Base {
    commit: Checksum,
    // The client neither named nor replaces it.
    suggested: bool,
    lists: Lists,
}

#[derive(Debug)]
enum Lists {
    NotRead,
    /// The commit's own list, and those of its bases.
    Read(Vec<Arc<ClosureList>>),
    /// The commit proved incomplete.
    Lost,
}

impl Bases {
    /// Adds a commit that a ref holds, and that the client has named or replaces.
    pub(crate) fn add(&mut self, commit: Checksum) {
        self.insert(commit, false);
    }

    /// Adds a commit that may help: a ref holds it, but the client has not named it.
    pub(crate) fn suggest(&mut self, commit: Checksum) {
        self.insert(commit, true);
    }

    fn insert(&mut self, commit: Checksum, suggested: bool) {
        match self.list.iter_mut().find(|base| base.commit == commit) {
            Some(base) => base.suggested &= suggested,
            None => self.list.push(Base {
                commit,
                suggested,
                lists: Lists::NotRead,
            }),
        }
    }

    /// Returns the commits, in order of addition.
    pub(crate) fn commits(&self) -> Vec<Checksum> {
        self.list.iter().map(|base| base.commit).collect()
    }

    /// Lets only these commits count from now on.
    ///
    /// Fails, by fault of the peer, if one of the commits was not added.
    pub(crate) fn rely(&mut self, commits: &[Checksum]) -> Result<(), Error> {
        let known = |commit| self.list.iter().any(|base| base.commit == commit);
        if let Some(&commit) = commits.iter().find(|&&commit| !known(commit)) {
            return Err(Error::NotComplete { commit });
        }
        self.relied = Some(commits.to_vec());
        Ok(())
    }

    /// Notes objects that are missing, and loses the bases that name them.
    pub(crate) fn lack(&mut self, ids: &[ObjectId]) {
        self.unsent.extend(ids);
        let unsent = std::mem::take(&mut self.unsent);
        self.lose(|id| unsent.contains(id), unsent.iter());
        self.unsent = unsent;
    }

    /// Loses the bases that name any of these objects, because the push must not rely on them.
    pub(crate) fn lose_naming(&mut self, ids: &[ObjectId]) {
        self.lose(|_| true, ids.iter());
    }

    fn lose<'a>(
        &mut self,
        is_lacking: impl Fn(&ObjectId) -> bool,
        ids: impl Iterator<Item = &'a ObjectId> + Clone,
    ) {
        for base in &mut self.list {
            let Lists::Read(lists) = &base.lists else {
                continue;
            };
            let mut lacking = ids.clone().filter(|id| is_lacking(id));
            let named = lacking.find(|id| lists.iter().any(|list| list.levels(id).is_some()));
            if let Some(id) = named {
                let commit = base.commit;
                tracing::warn!(%commit, %id, "a ref's commit is incomplete: nothing relies on it");
                base.lists = Lists::Lost;
            }
        }
    }

    /// Reads the lists of the commits that count, but only a few of suggested commits unless the
    /// client relies on them. Returns whether it has read any list. Under a lease, it makes missing
    /// lists and stores them.
    pub(crate) fn read(&mut self, client: &Client, has_lease: bool) -> Result<bool, Error> {
        let mut suggestions = SUGGESTIONS_READ;
        let mut wanted = Vec::new();
        for (at, base) in self.list.iter().enumerate() {
            let counts = match &self.relied {
                Some(relied) => relied.contains(&base.commit),
                None if base.suggested => {
                    let few = suggestions > 0;
                    suggestions -= usize::from(few);
                    few
                }
                None => true,
            };
            if counts && matches!(base.lists, Lists::NotRead) {
                wanted.push(at);
            }
        }
        if wanted.is_empty() {
            return Ok(false);
        }
        let commits: Vec<_> = wanted.iter().map(|at| self.list[*at].commit).collect();
        let own = read_lists(client, &commits)?;
        let mut own_lists = Vec::with_capacity(own.len());
        for (commit, list) in commits.iter().zip(own) {
            own_lists.push(match list {
                Stored::List(list) => Some(list),
                Stored::Incomplete => None,
                Stored::Nothing => survey::list(client, *commit, has_lease)?.map(Arc::new),
            });
        }
        let chain = own_lists.iter().flatten();
        let chain = chain.flat_map(|list| list.heading().bases.iter().copied());
        let known: HashSet<_> = own_lists
            .iter()
            .flatten()
            .map(|list| list.commit())
            .collect();
        let chain: BTreeSet<_> = chain.filter(|commit| !known.contains(commit)).collect();
        let chain: Vec<_> = chain.into_iter().collect();
        let mut all: Vec<Arc<ClosureList>> = own_lists.iter().flatten().cloned().collect();
        for stored in read_lists(client, &chain)? {
            match stored {
                Stored::List(list) => all.push(list),
                Stored::Incomplete | Stored::Nothing => {}
            }
        }
        for (at, own) in wanted.into_iter().zip(own_lists) {
            self.list[at].lists = match own {
                Some(own) => joined(client, own, &all, has_lease)?,
                None => Lists::Lost,
            };
        }
        let unsent: Vec<_> = self.unsent.iter().copied().collect();
        self.lose_naming(&unsent);
        Ok(true)
    }

    /// Returns whether a list that counts names an object.
    pub(crate) fn names(&self, id: &ObjectId) -> bool {
        let counting = self.list.iter().filter(|base| self.counts(base));
        counting
            .filter_map(|base| match &base.lists {
                Lists::Read(lists) => Some(lists),
                Lists::NotRead | Lists::Lost => None,
            })
            .flatten()
            .any(|list| list.levels(id).is_some())
    }

    fn counts(&self, base: &Base) -> bool {
        (self.relied.as_ref()).is_none_or(|relied| relied.contains(&base.commit))
    }

    /// Returns the lists of the bases that the last walk has used: they complete the list of the
    /// commit walked.
    pub(crate) fn used(&self) -> Vec<&Arc<ClosureList>> {
        let mut used: Vec<&Arc<ClosureList>> = Vec::new();
        for at in &self.used {
            if let Lists::Read(lists) = &self.list[*at].lists {
                for list in lists {
                    if !used.iter().any(|known| known.commit() == list.commit()) {
                        used.push(list);
                    }
                }
            }
        }
        used
    }

    /// Returns all lists that were read.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &Arc<ClosureList>> {
        self.list.iter().flat_map(|base| match &base.lists {
            Lists::Read(lists) => lists.as_slice(),
            Lists::NotRead | Lists::Lost => &[],
        })
    }
}

impl Beneath for Bases {
    fn begin_walk(&mut self) {
        self.used.clear();
    }

    fn cover(&mut self, id: &ObjectId) -> Option<Levels> {
        if self.unsent.contains(id) {
            return None;
        }
        for (at, base) in self.list.iter().enumerate() {
            if let Lists::Read(lists) = &base.lists
                && self.counts(base)
                && let Some(levels) = lists.iter().find_map(|list| list.levels(id))
            {
                self.used.insert(at);
                return Some(levels);
            }
        }
        None
    }
}

/// Combines a list with those that complete it.
fn joined(
    client: &Client,
    own: Arc<ClosureList>,
    all: &[Arc<ClosureList>],
    has_lease: bool,
) -> Result<Lists, Error> {
    let mut lists = vec![Arc::clone(&own)];
    for base in &own.heading().bases {
        match all.iter().find(|list| list.commit() == *base) {
            Some(list) => lists.push(Arc::clone(list)),
            // A list that completes this one is lost, so only the objects themselves tell.
            None => {
                let surveyed = survey::list(client, own.commit(), has_lease)?;
                return Ok(surveyed.map_or(Lists::Lost, |list| Lists::Read(vec![Arc::new(list)])));
            }
        }
    }
    Ok(Lists::Read(lists))
}

/// The content of the bucket in the place of a commit's list.
enum Stored {
    List(Arc<ClosureList>),
    /// The mark of an incomplete commit.
    Incomplete,
    /// No list, or a damaged one.
    Nothing,
}

/// Reads lists, many at once, in order.
fn read_lists(client: &Client, commits: &[Checksum]) -> Result<Vec<Stored>, Error> {
    let keys: Vec<_> = commits
        .iter()
        .map(|commit| layout::closure(*commit))
        .collect();
    let found = get_all(client, &keys)?;
    let lists = found.into_iter().zip(commits).map(|(found, commit)| {
        let content = found.map(|found| found.content).unwrap_or_default();
        if content == INCOMPLETE {
            return Stored::Incomplete;
        }
        let list = ClosureList::decode(*commit, &content);
        list.map_or(Stored::Nothing, |list| Stored::List(Arc::new(list)))
    });
    Ok(lists.collect())
}

/// The most suggested commits whose lists are read before the client has said which it relies on.
const SUGGESTIONS_READ: usize = 2;
const _: () = assert!(SUGGESTIONS_READ <= BASES_MAX);
