//! Judges what a client wants and says it holds, by the refs that it may read.
//!
//! A ref that it may not read, one that does not exist, and one whose commit is incomplete all look
//! the same to it. A commit that it says it holds counts only if it is the value of a ref that it
//! may read, or an ancestor of one: otherwise the objects left out would tell what other commits
//! contain.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use artifact_formats::limits::MAX_HISTORY_LEN;
use artifact_formats::{Checksum, RefName, RefPattern};
use artifact_protocol::frame::{PullState, RefAnswer, RefRequest, Refusal, RefusalCode};
use artifact_protocol::limits::MAX_REFS;
use artifact_protocol::session::pull::{PullAnswer, PullRequest};

use super::Terms;
use super::patience::Patience;
use crate::error::Error;
use crate::source::{Looks, Repository};

/// What a client gets.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// What it is told.
    pub(super) answer: PullAnswer,
    /// The promised commits, and then their wanted ancestors, generation after generation.
    pub(super) commits: Vec<Checksum>,
    /// Commits of which the client has everything that they reach.
    pub(super) left_out: Vec<Checksum>,
}

/// Judges a request.
pub(super) fn judge(
    repository: &Repository,
    terms: &Terms,
    request: &PullRequest,
    patience: &Patience,
) -> Result<Judgement, Error> {
    let mut judge = Judge {
        repository,
        terms,
        patience,
        commits: HashMap::new(),
        promises: HashMap::new(),
        reads: READS_MAX,
    };
    let mut judgement = Judgement::default();
    for wanted in &request.refs {
        let state = judge.state(wanted)?;
        if let PullState::Promised { commit, .. } = state
            && wanted.current == Some(commit)
        {
            // Only the detached metadata differ.
            judgement.left_out.push(commit);
        }
        let name = wanted.name.clone();
        judgement.answer.refs.push(RefAnswer { name, state });
    }
    for (name, commit) in judge.matched(request)? {
        if let Some(state) = judge.promise(commit)? {
            judgement.answer.refs.push(RefAnswer { name, state });
        }
    }
    judgement.answer.basis = judge.basis(request, &judgement.answer)?;
    judgement.left_out.extend(&judgement.answer.basis);
    judgement.commits = judge.history(&judgement.answer, request.history)?;
    Ok(judgement)
}

struct Judge<'a> {
    repository: &'a Repository,
    terms: &'a Terms,
    patience: &'a Patience,
    /// The commits read so far, with their parents; `None` for what is not complete here.
    commits: HashMap<Checksum, Option<Known>>,
    /// What was promised of each: thousands of refs may hold one commit.
    promises: HashMap<Checksum, Option<PullState>>,
    /// How many more commits may be read to find out which of those held are ancestors.
    reads: usize,
}

/// A complete commit, as far as it matters here.
#[derive(Clone, Debug)]
struct Known {
    parent: Option<Checksum>,
    bound: Vec<RefName>,
}

impl Judge<'_> {
    /// Returns what becomes of a requested ref.
    fn state(&mut self, wanted: &RefRequest) -> Result<PullState, Error> {
        let promised = match self.value(&wanted.name)? {
            Some(commit) => self.promise(commit)?,
            None => None,
        };
        let Some(PullState::Promised { commit, detached }) = promised else {
            return Ok(PullState::Refused(Refusal::new(
                RefusalCode::ABSENT,
                "there is no such ref",
            )));
        };
        // Detached metadata that only the client has are its own business.
        let is_same = detached.is_none() || detached == wanted.detached;
        Ok(match wanted.current == Some(commit) && is_same {
            true => PullState::UpToDate,
            false => PullState::Promised { commit, detached },
        })
    }

    /// Returns the complete commit of a ref that the client may read.
    fn value(&mut self, name: &RefName) -> Result<Option<Checksum>, Error> {
        if !self.terms.lets_read(name) {
            return Ok(None);
        }
        match self.repository.shown_head(name)? {
            Some(commit) if self.known(commit)?.is_some() => Ok(Some(commit)),
            _ => Ok(None),
        }
    }

    /// Promises a commit with its detached metadata, if it is complete.
    fn promise(&mut self, commit: Checksum) -> Result<Option<PullState>, Error> {
        if let Some(promise) = self.promises.get(&commit) {
            return Ok(promise.clone());
        }
        let promise = self.promise_anew(commit)?;
        self.promises.insert(commit, promise.clone());
        Ok(promise)
    }

    fn promise_anew(&mut self, commit: Checksum) -> Result<Option<PullState>, Error> {
        if self.known(commit)?.is_none() {
            return Ok(None);
        }
        let detached = match self.repository.detached(commit) {
            Err(Error::TooLarge { path, .. }) => {
                tracing::warn!("{} is longer than a client takes", path.display());
                return Ok(None);
            }
            detached => detached?,
        };
        Ok(Some(PullState::Promised {
            commit,
            detached: detached.map(|metadata| Checksum::of(&metadata)),
        }))
    }

    /// Reads a commit, unless it was read before; `None` if it is not complete here.
    fn known(&mut self, commit: Checksum) -> Result<Option<&Known>, Error> {
        self.patience.check()?;
        if !self.commits.contains_key(&commit) {
            let read = match self.repository.complete_commit(commit) {
                // One damaged commit must not hide all others.
                Err(
                    error @ (Error::CorruptObject { .. }
                    | Error::UnparsableObject { .. }
                    | Error::TooLarge { .. }),
                ) => {
                    tracing::warn!(%commit, %error, "a commit cannot be pulled");
                    None
                }
                read => read?,
            };
            let known = read.map(|read| Known {
                parent: read.parent,
                bound: (read.ref_bindings.iter().flatten().take(BINDINGS_MAX))
                    .filter_map(|name| name.parse().ok())
                    .collect(),
            });
            self.commits.insert(commit, known);
        }
        Ok(self.commits.get(&commit).and_then(Option::as_ref))
    }

    /// Returns the refs that patterns match, except for those that were requested by name.
    fn matched(&self, request: &PullRequest) -> Result<BTreeMap<RefName, Checksum>, Error> {
        let requested: HashSet<_> = request.refs.iter().map(|wanted| &wanted.name).collect();
        let is_wanted = |name: &RefName| {
            let matches = |pattern: &RefPattern| pattern.matches(name.as_str());
            // What it would find later is of no use.
            self.patience.check().is_ok()
                && request.patterns.iter().any(matches)
                && self.terms.lets_read(name)
                && !requested.contains(name)
        };
        let mut found = BTreeMap::new();
        let mut looks = Looks(LOOKS_MAX);
        for root in roots(&request.patterns) {
            let all = self
                .repository
                .shown_heads(&root, &mut looks, is_wanted, &mut found)?;
            self.patience.check()?;
            if !all {
                return Err(Error::TooMuchAsked(format!(
                    "the server looks at {LOOKS_MAX} refs for the patterns of one pull, and has \
                     more: ask for fewer"
                )));
            }
            if requested.len() + found.len() > MAX_REFS {
                return Err(Error::TooMuchAsked(format!(
                    "the patterns match more than the {MAX_REFS} refs that fit one pull: ask for \
                     fewer"
                )));
            }
        }
        Ok(found)
    }

    /// Returns the held commits that the client may know to be here.
    fn basis(
        &mut self,
        request: &PullRequest,
        answer: &PullAnswer,
    ) -> Result<Vec<Checksum>, Error> {
        let mut unproven: BTreeSet<_> = request.held.iter().copied().collect();
        if unproven.is_empty() {
            return Ok(Vec::new());
        }
        let mut values: Vec<_> = answer
            .refs
            .iter()
            .filter_map(|a| promised(&a.state))
            .collect();
        values.extend(request.refs.iter().zip(&answer.refs).filter_map(|pair| {
            let (wanted, answer) = pair;
            (answer.state == PullState::UpToDate).then_some(wanted.current)?
        }));
        for value in values {
            self.prove(value, &mut unproven)?;
        }
        // Where a commit tells its refs, these are looked up, and otherwise the refs beside the
        // requested ones: builds of the same thing under other keys.
        for commit in request.held.clone() {
            if !unproven.contains(&commit) {
                continue;
            }
            let bound = self.known(commit)?.map(|known| known.bound.clone());
            for name in bound.unwrap_or_default() {
                if let Some(value) = self.value(&name)? {
                    self.prove(value, &mut unproven)?;
                }
            }
        }
        for dir in dirs_of(request) {
            if unproven.is_empty() {
                break;
            }
            let (mut looks, mut beside) = (Looks(BESIDE_MAX), BTreeMap::new());
            let lets_read = |name: &RefName| self.terms.lets_read(name);
            self.repository
                .shown_heads(&dir, &mut looks, lets_read, &mut beside)?;
            for commit in beside.into_values() {
                if unproven.contains(&commit) && self.known(commit)?.is_some() {
                    unproven.remove(&commit);
                }
            }
        }
        let mut basis = request.held.clone();
        let mut seen = HashSet::new();
        basis.retain(|commit| !unproven.contains(commit) && seen.insert(*commit));
        Ok(basis)
    }

    /// Removes the value of a readable ref, and its complete ancestors, from what is unproven.
    fn prove(&mut self, value: Checksum, unproven: &mut BTreeSet<Checksum>) -> Result<(), Error> {
        let mut next = Some(value);
        while let Some(commit) = next.filter(|_| !unproven.is_empty()) {
            if !self.commits.contains_key(&commit) {
                let Some(reads) = self.reads.checked_sub(1) else {
                    return Ok(());
                };
                self.reads = reads;
            }
            next = match self.known(commit)? {
                Some(known) => known.parent,
                None => return Ok(()),
            };
            unproven.remove(&commit);
        }
        Ok(())
    }

    /// Returns the promised commits, and then as many of their ancestors as are wanted and complete
    /// here: generation after generation, so that a history that many refs share is followed once.
    fn history(&mut self, answer: &PullAnswer, depth: u32) -> Result<Vec<Checksum>, Error> {
        let mut commits = Vec::new();
        let mut seen = HashSet::new();
        let all = answer.refs.iter().filter_map(|a| promised(&a.state));
        let mut generation: Vec<_> = all.filter(|commit| seen.insert(*commit)).collect();
        let mut count: u32 = 0;
        while !generation.is_empty() && count <= depth {
            let mut parents = Vec::new();
            for commit in generation {
                let Some(known) = self.known(commit)? else {
                    continue;
                };
                let parent = known.parent;
                commits.push(commit);
                parents.extend(parent.filter(|parent| seen.insert(*parent)));
            }
            if commits.len() > MAX_REFS + MAX_HISTORY_LEN
                || usize::try_from(count).is_ok_and(|n| n > MAX_HISTORY_LEN)
            {
                return Err(Error::TooMuchAsked(format!(
                    "a pull takes at most {MAX_HISTORY_LEN} ancestors along: ask for a smaller \
                     depth"
                )));
            }
            generation = parents;
            count = count.saturating_add(1);
        }
        Ok(commits)
    }
}

fn promised(state: &PullState) -> Option<Checksum> {
    match state {
        PullState::Promised { commit, .. } => Some(*commit),
        PullState::UpToDate | PullState::Refused(_) => None,
    }
}

/// Returns the directories below which the patterns match, none of them below another.
fn roots(patterns: &[RefPattern]) -> BTreeSet<String> {
    let literal = |pattern: &RefPattern| {
        let components: Vec<_> = pattern.as_str().split('/').collect();
        let (_, above) = components.split_last().unwrap_or((&"", &[]));
        let fixed = above.iter().take_while(|part| !part.contains('*'));
        fixed.copied().collect::<Vec<_>>().join("/")
    };
    let all: BTreeSet<_> = patterns.iter().map(literal).collect();
    let is_below = |dir: &str, root: &str| {
        dir != root && (root.is_empty() || dir.starts_with(&format!("{root}/")))
    };
    let kept = |dir: &&String| !all.iter().any(|root| is_below(dir, root));
    all.iter().filter(kept).cloned().collect()
}

/// Returns the directories of the requested refs: as many as are worth a look.
fn dirs_of(request: &PullRequest) -> BTreeSet<String> {
    let parents = request
        .refs
        .iter()
        .filter_map(|wanted| wanted.name.parent());
    parents.map(str::to_owned).take(DIRS_MAX).collect()
}

/// Entries of directories to look at for the patterns of one request: some seconds' work.
const LOOKS_MAX: usize = 200_000;
/// Commits to read for finding out which held commits are ancestors.
const READS_MAX: usize = 2_000;
/// Refs to look at beside requested ones, and requested ones to look beside.
const BESIDE_MAX: usize = 1_000;
const DIRS_MAX: usize = 16;
/// Refs that a commit is bound to, and that are looked up.
const BINDINGS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_that_patterns_reach_are_listed_once() {
        let roots = |patterns: &[&str]| {
            let patterns: Vec<_> = patterns.iter().map(|p| p.parse().unwrap()).collect();
            roots(&patterns).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(roots(&["a/b/c"]), ["a/b"]);
        assert_eq!(roots(&["a/*/c", "a/b/**", "ab/*"]), ["a", "ab"]);
        assert_eq!(roots(&["**", "a/b/*"]), [""]);
        assert!(roots(&[]).is_empty());
    }
}
