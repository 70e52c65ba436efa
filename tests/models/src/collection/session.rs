//! A push, as far as collection can tell: what it reads, puts and publishes, in which order.

use artifact_store::bucket::collect::{Fate, Gc, Lease, Member};

use super::objects::{Id, Ids, Ref};
use super::rules::Rule;

/// What a session is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The ref that it sets.
    pub to: Ref,
    /// The value that the ref had when the push was announced.
    pub expected: Option<Id>,
    /// The commit that the ref is to hold.
    pub commit: Id,
    /// A ref whose commit the session relies on, if it holds that.
    pub base: Option<(Ref, Id)>,
    /// Whose journals it goes by, and whose it writes.
    pub identity: u8,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    pub(super) plan: Plan,
    pub(super) member: Member<Id>,
    /// The lease that its next renewal must find.
    pub(super) tag: Option<Lease>,
    pub(super) at: At,
    /// What it has begun to put, and what it holds to be there: all that it spares.
    pub(super) relied: Ids,
    /// What it holds to be there.
    pub(super) here: Ids,
    /// `gc` as it was read too early, and whether a late spare is to be taken for one in time:
    /// against the rules.
    pub(super) early_gc: Option<Option<Gc>>,
    pub(super) is_late: bool,
    /// Whether more than half of the lease's life is over by its own clock.
    pub(super) is_stale: bool,
    /// Whether nobody knows what became of a put of the commit or the ref.
    pub(super) is_unclear: bool,
    pub(super) is_dead: bool,
}

/// Where a session stands: before a request, unless the member asks for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// Reads the base or `gc` although there is no lease yet: against the rules.
    Early,
    Begin,
    /// Reads the ref of the base.
    Base,
    /// Reads the closure list of the base.
    List,
    /// Judges the objects on the list, which it read while it kept to this epoch.
    Judge(u64),
    /// Spares those of them that are condemned.
    Rely(u64),
    LastList,
    Journal,
    Put,
    /// Writes what it put into the journal.
    Write(Id),
    Commit,
    Ref,
    /// Reads the ref because the put was refused or its answer was lost.
    CheckRef,
    Leave(Outcome),
    Over(Outcome),
}

/// What the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The ref is set.
    Done,
    /// The ref is not set, or perhaps.
    Failed,
}

impl Session {
    pub(super) fn new(plan: Plan, is_early: bool) -> Self {
        Self {
            plan,
            member: Member::new(String::new()),
            tag: None,
            at: if is_early { At::Early } else { At::Begin },
            relied: Ids::default(),
            here: Ids::default(),
            early_gc: None,
            is_late: false,
            is_stale: false,
            is_unclear: false,
            is_dead: false,
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_dead || matches!(self.at, At::Over(_))
    }

    /// Goes on until a request is needed. Called after all that the session hears.
    pub(super) fn go_on(&mut self, broken: Option<Rule>) {
        loop {
            if let At::Leave(outcome) = self.at
                && (self.is_unclear || self.member.is_lost())
            {
                self.at = At::Over(outcome);
            }
            if matches!(self.at, At::Early | At::Leave(_) | At::Over(_)) {
                return;
            }
            if self.member.is_lost() {
                self.at = At::Over(Outcome::Failed);
                return;
            }
            if !self.member.is_ready() {
                return;
            }
            match self.at {
                At::Begin => self.at = At::Base,
                At::Base if self.plan.base.is_none() => self.at = At::LastList,
                At::Rely(since) => self.rely_on_base(since, broken),
                At::LastList => {
                    self.at = At::Journal;
                    self.member.read_last_list();
                }
                At::Put => {
                    let Some(id) = self.missing() else {
                        self.at = At::Commit;
                        continue;
                    };
                    return self.prepare(id, broken);
                }
                At::Commit => return self.prepare(self.plan.commit, broken),
                At::Base | At::List | At::Judge(_) => return,
                At::Journal | At::Write(_) | At::Ref | At::CheckRef => return,
                At::Early | At::Leave(_) | At::Over(_) => return,
            }
        }
    }

    /// Takes the value of the base's ref.
    pub(super) fn hear_base(&mut self, value: Option<Id>) {
        let base = self.plan.base.filter(|(_, base)| value == Some(*base));
        self.at = base.map_or(At::LastList, |_| At::List);
    }

    /// Takes the closure list of the base, if that exists. From now on, spares the objects on it.
    ///
    /// A push reads several lists at once, and takes the epoch before all of them, so it may see
    /// more changes of the epoch.
    pub(super) fn hear_list(&mut self, is_there: bool) {
        if is_there {
            self.relied = self.beneath_base();
            self.at = At::Judge(self.member.epoch());
        } else {
            self.at = At::LastList;
        }
    }

    /// Looks whether the objects on the list of the base are still there.
    pub(super) fn judge_base(&mut self, since: u64, broken: Option<Rule>) {
        let (spare, _) = self.member.doubtful(self.beneath_base().iter());
        self.at = At::Rely(since);
        if spare.is_empty() {
            self.rely_on_base(since, broken);
        } else {
            self.member.spare(spare);
        }
    }

    /// Relies on the base if it is complete.
    fn rely_on_base(&mut self, since: u64, broken: Option<Rule>) {
        let (late, gone) = self.member.doubtful(self.beneath_base().iter());
        let is_kept =
            late.is_empty() && gone.is_empty() || broken == Some(Rule::CondemnedCountsAsAbsent);
        let is_judged =
            self.member.epoch() == since || broken == Some(Rule::BasesAreJudgedUnderOneList);
        self.relied = Ids::default();
        if is_kept && is_judged {
            self.rely(self.beneath_base());
        }
        self.at = At::LastList;
    }

    fn beneath_base(&self) -> Ids {
        let base = self.plan.base;
        base.map_or_else(Ids::default, |(_, base)| base.beneath())
    }

    /// Takes what a journal says.
    pub(super) fn hear_journal(&mut self, epoch: u64, ids: Ids, counts_all: bool) {
        for id in ids.iter() {
            let counts = self.member.counts(epoch, &id) && self.member.judge(&id) == Fate::Free;
            if counts || counts_all {
                self.rely(Ids::of([id]));
            }
        }
    }

    /// Returns what is to be put next, but for the commit.
    pub(super) fn missing(&self) -> Option<Id> {
        let mut beneath = self.plan.commit.beneath().iter();
        beneath.find(|id| !self.here.contains(*id))
    }

    pub(super) const fn rely(&mut self, ids: Ids) {
        self.relied = self.relied.with(ids);
        self.here = self.here.with(ids);
    }

    /// Does what has to be done before an object may be put.
    fn prepare(&mut self, id: Id, broken: Option<Rule>) {
        match self.member.judge(&id) {
            _ if broken == Some(Rule::CondemnedCountsAsAbsent) => {}
            Fate::Free => {}
            Fate::Spare => self.member.spare(vec![id]),
            Fate::Wait => self.member.look(),
        }
    }
}
