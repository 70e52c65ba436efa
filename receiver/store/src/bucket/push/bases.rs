//! The commits that the bucket has complete, and the objects on their closure lists.
//!
//! A commit is complete if a ref holds it and its closure list is good; a missing list is made
//! again from the objects (`survey.rs`). The push reads the beginnings of all lists before it calls
//! commits complete, and leaves out commits whose lists have no room in memory. It reads the long
//! lists when the client first asks for an object. By then the client has said which commits it
//! relies on.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::{iter, mem};

use artifact_formats::{Checksum, ObjectId};

use crate::bucket::push::closure::Beneath;
use crate::bucket::push::outline::{Outline, lists, outlines};
use crate::bucket::push::survey;
use crate::bucket::records::closures::{BASES_MAX, ClosureList};
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::Request;
use crate::error::Error;
use crate::tree::descent::Levels;

/// The commits that a push may rely on, and their lists.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    // No commit occurs twice.
    list: Vec<Base>,
    // The commits that the client relies on; `None`, which means all, until it has said so.
    relied: Option<Vec<Checksum>>,
    // Objects that were requested but have not come: a base that names one is incomplete.
    unsent: HashSet<ObjectId>,
    // The requests that store lists which were made again, by commit.
    made: Vec<(Checksum, Request)>,
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
    /// The list must be made again.
    Missing,
    /// Some lists are long. The commits of the base's own list and of the lists that complete it.
    Long(Vec<Checksum>),
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
                lists: Lists::Missing,
            }),
        }
    }

    /// Reads the beginnings of all lists, and with them all short lists. Leaves out commits that
    /// are incomplete, those whose lists have no room, and all but one of those without a list.
    /// Together, lists take `room` bytes, or what the first commit needs.
    pub(crate) fn outline(&mut self, client: &Client, room: u64) -> Result<(), Error> {
        let own = self.commits();
        let mut known: BTreeMap<_, _> = own.iter().copied().zip(outlines(client, &own)?).collect();
        let completing = known
            .values()
            .flat_map(|outline| outline.bases().iter().copied());
        let completing: BTreeSet<_> = completing
            .filter(|base| !known.contains_key(base))
            .collect();
        let completing: Vec<_> = completing.into_iter().collect();
        known.extend(
            completing
                .iter()
                .copied()
                .zip(outlines(client, &completing)?),
        );
        let (mut counted, mut taken, mut is_made_again) = (HashSet::<Checksum>::new(), 0, false);
        self.list.retain_mut(|base| {
            let own = &known[&base.commit];
            let needed = iter::once(&base.commit).chain(own.bases()).copied();
            let needed: Vec<_> = needed.collect();
            if matches!(own, Outline::Incomplete) {
                return false;
            }
            // If a list that completes this one is lost, only the objects themselves tell.
            if !needed.iter().all(|commit| known[commit].is_list()) {
                return !mem::replace(&mut is_made_again, true);
            }
            let new: Vec<_> = needed
                .iter()
                .filter(|commit| !counted.contains(commit))
                .collect();
            let len: u64 = new.iter().map(|commit| known[*commit].len()).sum();
            if taken > 0 && taken + len > room {
                return false;
            }
            taken += len;
            counted.extend(new.into_iter().copied());
            let short: Option<Vec<_>> = needed.iter().map(|commit| known[commit].whole()).collect();
            base.lists = match short {
                Some(lists) => Lists::Read(lists),
                None => Lists::Long(needed),
            };
            true
        });
        Ok(())
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
        let unsent = mem::take(&mut self.unsent);
        self.lose(|id| unsent.contains(id), unsent.iter());
        self.unsent = unsent;
    }

    /// Loses the bases that name any of these objects, because the push must not rely on them.
    pub(crate) fn lose_naming(&mut self, ids: &[ObjectId]) {
        self.lose(|_| true, ids.iter());
    }

    /// Loses these bases, because their lists may name objects that a sweep has deleted.
    pub(crate) fn lose_all(&mut self, commits: &[Checksum]) {
        for base in &mut self.list {
            if commits.contains(&base.commit) && matches!(base.lists, Lists::Read(_)) {
                let commit = base.commit;
                tracing::info!(%commit, "a collection has gone on meanwhile: nothing relies on it");
                base.lists = Lists::Lost;
            }
        }
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
    /// client relies on them. Makes missing lists again. Returns the commits whose lists it has
    /// read or made.
    pub(crate) fn read(&mut self, client: &Client) -> Result<Vec<Checksum>, Error> {
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
            if counts && matches!(base.lists, Lists::Missing | Lists::Long(_)) {
                wanted.push(at);
            }
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let read = self.read_long(client, &wanted)?;
        for &at in &wanted {
            let Base { commit, lists, .. } = &mut self.list[at];
            let all = match &*lists {
                Lists::Long(needed) => needed
                    .iter()
                    .map(|commit| read.get(commit).cloned())
                    .collect(),
                Lists::Missing | Lists::Read(_) | Lists::Lost => None,
            };
            *lists = match all.filter(|all: &Vec<_>| is_complete(all)) {
                Some(all) => Lists::Read(all),
                None => match survey::list(client, *commit)? {
                    Some((list, put)) => {
                        self.made.push((*commit, put));
                        Lists::Read(vec![Arc::new(list)])
                    }
                    None => Lists::Lost,
                },
            };
        }
        let unsent: Vec<_> = self.unsent.iter().copied().collect();
        self.lose_naming(&unsent);
        Ok(wanted.iter().map(|at| self.list[*at].commit).collect())
    }

    /// Returns, once, the requests that store lists which were made again, of bases that are not
    /// lost.
    pub(crate) fn take_made(&mut self) -> Vec<Request> {
        let made = mem::take(&mut self.made).into_iter();
        let is_good = |commit: &Checksum| {
            let mut bases = self.list.iter().filter(|base| base.commit == *commit);
            bases.any(|base| matches!(base.lists, Lists::Read(_)))
        };
        made.filter(|(commit, _)| is_good(commit))
            .map(|(_, put)| put)
            .collect()
    }

    /// Reads the lists of these bases if they have long ones, each list once.
    fn read_long(
        &self,
        client: &Client,
        wanted: &[usize],
    ) -> Result<BTreeMap<Checksum, Arc<ClosureList>>, Error> {
        let needed = wanted.iter().flat_map(|at| match &self.list[*at].lists {
            Lists::Long(needed) => needed.as_slice(),
            Lists::Missing | Lists::Read(_) | Lists::Lost => &[],
        });
        let needed: BTreeSet<_> = needed.copied().collect();
        let needed: Vec<_> = needed.into_iter().collect();
        let read = lists(client, &needed)?.into_iter().zip(needed);
        Ok(read
            .filter_map(|(list, commit)| Some((commit, list?)))
            .collect())
    }

    /// Returns whether a list that counts names an object.
    pub(crate) fn names(&self, id: &ObjectId) -> bool {
        let counting = self.list.iter().filter(|base| self.counts(base));
        counting
            .filter_map(|base| match &base.lists {
                Lists::Read(lists) => Some(lists),
                Lists::Missing | Lists::Long(_) | Lists::Lost => None,
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
            Lists::Missing | Lists::Long(_) | Lists::Lost => &[],
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

/// Returns whether the first list comes with all lists that complete it: somebody may have replaced
/// it since its beginning was read.
fn is_complete(lists: &[Arc<ClosureList>]) -> bool {
    let has = |base: &Checksum| lists.iter().any(|list| list.commit() == *base);
    lists
        .first()
        .is_some_and(|own| own.heading().bases.iter().all(has))
}

/// The most bytes of lists in memory, unless the lists of a single commit have more: 33 for each
/// object that the client need not send.
pub(crate) const LISTS_LEN_MAX: u64 = 16 * 1024 * 1024;
/// The most suggested commits whose lists are read before the client has said which it relies on.
const SUGGESTIONS_READ: usize = 2;
const _: () = assert!(SUGGESTIONS_READ <= BASES_MAX);
