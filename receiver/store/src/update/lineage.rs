//! The rule about the ancestors of new commits, in whatever store: a client that may not pull
//! everything builds only upon commits that it has sent or may pull.
//!
//! A client that may pull a ref may pull the ancestors of its commit, and a commit can name any
//! parent. So every link that a push adds is judged: from a commit that was sent to a parent that
//! was not, anywhere in the history that the push publishes.
//!
//! A commit that was not sent and is not in the store either ends the history for those who pull.

use std::collections::{HashMap, HashSet};

use artifact_formats::Checksum;
use artifact_formats::limits::MAX_HISTORY_LEN;

use crate::error::Error;

/// The commits of a push and of its store.
pub(crate) trait Commits {
    /// Returns whether a commit was sent.
    fn is_sent(&self, commit: Checksum) -> bool;

    /// Returns the parent of a commit, if the commit is known and has one.
    fn parent(&mut self, commit: Checksum) -> Result<Option<Checksum>, Error>;

    /// Returns whether the push may read no more commits, so that a history may go on unseen.
    fn is_spent(&self) -> bool;

    /// Returns for each commit whether the store has it, sent or not.
    fn are_there(&self, commits: &[Checksum]) -> Result<Vec<bool>, Error>;

    /// Returns whether a commit was the value of a ref that the client may pull when the push
    /// began.
    fn is_base(&self, commit: Checksum) -> bool;

    /// Returns the commits of all refs that the client may pull.
    fn heads(&self) -> Result<HashSet<Checksum>, Error>;
}

/// The ground that a new commit builds upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Footing {
    /// Only commits that the client has sent or may pull.
    Firm,
    /// The client has not sent the commit itself, and may not pull it.
    Unsent,
    /// An ancestor that the client has not sent and may not pull.
    Foreign(Checksum),
}

/// The judge of all updates of one push.
#[derive(Debug)]
pub(crate) struct Lineage {
    // How far publication looks for commits that were sent, past others.
    depth: usize,
    heads: Option<HashSet<Checksum>>,
    there: HashMap<Checksum, bool>,
    // By new commit and value of the ref: thousands of refs may get one commit.
    judged: HashMap<(Checksum, Option<Checksum>), Footing>,
    left: usize,
}

impl Lineage {
    /// Prepares for a push that publishes up to this many ancestors past those that it has sent.
    pub(crate) fn new(depth: usize) -> Self {
        Self {
            depth,
            heads: None,
            there: HashMap::new(),
            judged: HashMap::new(),
            left: STEPS_MAX,
        }
    }

    /// Judges a new commit of a ref that holds `held`.
    pub(crate) fn judge(
        &mut self,
        commits: &mut impl Commits,
        held: Option<Checksum>,
        new: Checksum,
    ) -> Result<Footing, Error> {
        if let Some(judged) = self.judged.get(&(new, held)) {
            return Ok(*judged);
        }
        let footing = match self.line(commits, new)? {
            Ok(line) => self.judge_line(commits, held, &line)?,
            Err(unseen) => Footing::Foreign(unseen),
        };
        self.judged.insert((new, held), footing);
        Ok(footing)
    }

    /// Returns the commits that publication looks at, the new one first, and for each whether it
    /// was sent; or the last one seen, if the history may go on beyond the limits of a push.
    fn line(
        &mut self,
        commits: &mut impl Commits,
        new: Checksum,
    ) -> Result<Result<Vec<(Checksum, bool)>, Checksum>, Error> {
        let mut line = Vec::new();
        let mut next = Some(new);
        while let Some(at) = next.take() {
            if !self.spend(1) {
                return Ok(Err(at));
            }
            let sent = commits.is_sent(at);
            line.push((at, sent));
            if sent || line.len() <= self.depth {
                next = commits.parent(at)?;
                if next.is_none() && !sent && commits.is_spent() {
                    return Ok(Err(at));
                }
            }
        }
        Ok(Ok(line))
    }

    fn judge_line(
        &mut self,
        commits: &mut impl Commits,
        held: Option<Checksum>,
        line: &[(Checksum, bool)],
    ) -> Result<Footing, Error> {
        let own = line.iter().take_while(|(_, sent)| *sent).count();
        let rest = line.get(own..).unwrap_or_default();
        let filled = rest.iter().filter(|(_, sent)| *sent);
        let filled: Vec<_> = filled.map(|(commit, _)| *commit).collect();
        if let Some(&last) = filled.last()
            && !self.look(commits, &filled)?
        {
            return Ok(Footing::Foreign(last));
        }
        // Whether the history from here on was there, and not by a link that this push adds.
        let mut is_old = false;
        for (at, (commit, sent)) in rest.iter().enumerate() {
            if *sent {
                is_old &= self.is_there(commit);
            } else if !is_old {
                if !self.may_have(commits, held, *commit)? {
                    return Ok(match own + at {
                        0 => Footing::Unsent,
                        _ => Footing::Foreign(*commit),
                    });
                }
                is_old = true;
            }
        }
        Ok(Footing::Firm)
    }

    /// Returns whether a commit that was not sent is no secret from the client: the store does not
    /// have it, it is in the history of this ref, or another ref that the client may pull holds it.
    fn may_have(
        &mut self,
        commits: &mut impl Commits,
        held: Option<Checksum>,
        commit: Checksum,
    ) -> Result<bool, Error> {
        if held == Some(commit) || commits.is_base(commit) {
            return Ok(true);
        }
        if !self.look(commits, &[commit])? {
            return Ok(false);
        }
        if !self.is_there(&commit) || self.descends(commits, held, commit)? {
            return Ok(true);
        }
        let heads = match self.heads.take() {
            Some(heads) => heads,
            None => commits.heads()?,
        };
        Ok(self.heads.insert(heads).contains(&commit))
    }

    /// Returns whether history that is in the store leads from one commit to another (LIM-22). The
    /// client itself may have sent what would link them.
    fn descends(
        &mut self,
        commits: &mut impl Commits,
        from: Option<Checksum>,
        to: Checksum,
    ) -> Result<bool, Error> {
        let mut next = from;
        let mut passed = Vec::new();
        while let Some(at) = next
            && passed.len() < MAX_HISTORY_LEN
            && self.spend(1)
        {
            if at == to {
                let looked = self.look(commits, &passed)?;
                return Ok(looked && passed.iter().all(|commit| self.is_there(commit)));
            }
            passed.push(at);
            next = commits.parent(at)?;
        }
        Ok(false)
    }

    /// Looks which commits are there; returns false if that would be too many.
    fn look(&mut self, commits: &impl Commits, wanted: &[Checksum]) -> Result<bool, Error> {
        let new = wanted
            .iter()
            .filter(|commit| !self.there.contains_key(*commit));
        let new: Vec<_> = new.copied().collect();
        if !self.spend(new.len() * LOOK_STEPS) {
            return Ok(false);
        }
        let there = commits.are_there(&new)?;
        self.there.extend(new.into_iter().zip(there));
        Ok(true)
    }

    fn is_there(&self, commit: &Checksum) -> bool {
        self.there.get(commit) == Some(&true)
    }

    fn spend(&mut self, steps: usize) -> bool {
        let left = self.left.checked_sub(steps);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

/// Steps from a commit to its parent, for all refs of a push, in some seconds: a push of a few
/// kilobytes can announce thousands of refs whose histories are long.
const STEPS_MAX: usize = 10_000_000;
/// The steps that cost as much as one look whether a commit is there.
const LOOK_STEPS: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A single history, the new commit first.
    #[derive(Clone, Debug)]
    struct Line {
        // For each commit whether it was sent, and whether it was there.
        commits: Vec<(bool, bool)>,
        heads: Vec<usize>,
        spent: bool,
    }

    fn commit(at: usize) -> Checksum {
        Checksum::new([u8::try_from(at).unwrap(); 32])
    }

    fn at(commit: Checksum) -> usize {
        commit.as_bytes()[0].into()
    }

    impl Commits for Line {
        fn is_sent(&self, commit: Checksum) -> bool {
            self.commits[at(commit)].0
        }

        fn parent(&mut self, commit: Checksum) -> Result<Option<Checksum>, Error> {
            let parent = at(commit) + 1;
            // A closure list may name the parent of a commit that is not there.
            Ok((parent < self.commits.len()).then(|| self::commit(parent)))
        }

        fn is_spent(&self) -> bool {
            self.spent
        }

        fn are_there(&self, commits: &[Checksum]) -> Result<Vec<bool>, Error> {
            Ok(commits.iter().map(|c| self.commits[at(*c)].1).collect())
        }

        fn is_base(&self, _: Checksum) -> bool {
            false
        }

        fn heads(&self) -> Result<HashSet<Checksum>, Error> {
            Ok(self.heads.iter().copied().map(commit).collect())
        }
    }

    impl Line {
        fn judge(&mut self, depth: usize, held: Option<usize>) -> Footing {
            let held = held.map(commit);
            Lineage::new(depth).judge(self, held, commit(0)).unwrap()
        }

        /// Returns the commits that a pull of a ref gets.
        fn pulled(&self, from: usize) -> impl Iterator<Item = usize> {
            let rest = self.commits.iter().enumerate().skip(from);
            rest.take_while(|(_, commit)| commit.1).map(|(at, _)| at)
        }

        /// Publishes the sent commits that are within reach.
        fn publish(&mut self, depth: usize) {
            let mut is_linked = false;
            for (at, (sent, there)) in self.commits.iter_mut().enumerate() {
                is_linked = *sent && (is_linked || at <= depth);
                *there |= is_linked;
            }
        }
    }

    fn line() -> impl Strategy<Value = (Line, usize, Option<usize>)> {
        let commits = vec(any::<(bool, bool)>(), 1..8);
        (commits, vec(0..8usize, 0..2), 0..8usize, 0..12usize).prop_map(
            |(mut commits, heads, depth, held)| {
                // Refs hold commits that are there.
                let held = Some(held).filter(|held| *held < commits.len());
                let heads: Vec<_> = heads.into_iter().filter(|h| *h < commits.len()).collect();
                for &at in heads.iter().chain(&held) {
                    commits[at].1 = true;
                }
                let spent = false;
                let line = Line {
                    commits,
                    heads,
                    spent,
                };
                (line, depth, held)
            },
        )
    }

    proptest! {
        #[test]
        fn a_push_lets_its_client_pull_nothing_but_that_and_what_it_sends(
            (mut line, depth, held) in line(),
        ) {
            let refs: Vec<_> = line.heads.iter().copied().chain(held).collect();
            let before: HashSet<_> = refs.iter().flat_map(|at| line.pulled(*at)).collect();
            let footing = line.judge(depth, held);
            let own: HashSet<_> = held.into_iter().flat_map(|at| line.pulled(at)).collect();
            let is_known = |at: &usize| own.contains(at) || line.heads.contains(at);
            let is_sent_or_known = (0..line.commits.len())
                .all(|at| line.commits[at].0 || is_known(&at));
            prop_assert!(!is_sent_or_known || footing == Footing::Firm, "{footing:?}");
            if footing != Footing::Firm {
                return Ok(());
            }
            line.publish(depth);
            for at in refs.into_iter().chain([0]).flat_map(|at| line.pulled(at)) {
                prop_assert!(line.commits[at].0 || before.contains(&at), "{at}");
            }
        }
    }

    #[test]
    fn a_history_that_goes_on_beyond_the_limits_of_a_push_is_refused() {
        let mut line = Line {
            commits: vec![(true, false); 5],
            heads: Vec::new(),
            spent: false,
        };
        for (left, footing) in [(5, Footing::Firm), (4, Footing::Foreign(commit(4)))] {
            let mut lineage = Lineage {
                left,
                ..Lineage::new(0)
            };
            let judged = lineage.judge(&mut line, None, commit(0)).unwrap();
            assert_eq!(judged, footing);
        }
        line.commits[4] = (false, true);
        line.heads = vec![4];
        for (spent, footing) in [(false, Footing::Firm), (true, Footing::Foreign(commit(4)))] {
            line.spent = spent;
            assert_eq!(line.judge(9, None), footing);
        }
    }
}
