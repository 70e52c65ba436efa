//! The bucket, who uses it, and every step that may come next.

use artifact_store::bucket::collect::{
    self as member, Collector, CollectorAsk, CollectorHeard, End, Gc, Lease, ListName, Nonce, Phase,
};

use super::objects::{Id, Ids, Ref};
use super::rules::Rule;
use super::search::Model;
use super::session::{At, Outcome, Plan, Session};

/// How large the model is, what may go wrong, and which rule is broken.
#[derive(Clone, Debug)]
pub struct Config {
    /// The values of the refs at the beginning; the objects that they reach are there.
    pub refs: [Option<Id>; REFS],
    /// Garbage that is there at the beginning.
    pub garbage: Vec<Id>,
    /// What a collector has condemned before it died, at the beginning.
    pub condemned: Vec<Id>,
    /// The sessions.
    pub plans: Vec<Plan>,
    /// How many collectors there are.
    pub collectors: u8,
    /// Whether collectors may condemn anything, also what refs reach, instead of garbage.
    pub condemns_all: bool,
    /// How often a ref may be removed by somebody.
    pub removals: u8,
    /// How many answers may be lost.
    pub losses: u8,
    /// How many of these requests may take effect later.
    pub delays: u8,
    /// How many programs may pause for longer than their leases live.
    pub pauses: u8,
    /// How many programs may die.
    pub deaths: u8,
    /// Whether a session begins only when the one before it is over.
    pub in_turn: bool,
    /// Whether sessions begin only when a sweep has begun.
    pub begins_late: bool,
    /// Whether to check for each state that all ends well if nothing goes wrong any more.
    pub checks_end: bool,
    /// The rule that is broken.
    pub broken: Option<Rule>,
}

/// The bucket and all who use it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    objects: Ids,
    refs: [Option<Id>; REFS],
    gc: Option<Gc>,
    lists: Vec<(ListName, Ids)>,
    spared: Vec<(u64, u8, u32, Ids)>,
    /// The lease of each session, and whether it is older than its life.
    leases: Vec<(Option<Lease>, bool)>,
    /// Whether `gc` is older than a claim's life.
    is_gc_old: bool,
    journal: Vec<(u8, u64, Ids)>,
    /// Requests of which the sender expects nothing any more.
    late: Vec<(Who, Effect)>,
    sessions: Vec<Session>,
    collectors: Vec<Sweeper>,
    /// Whether the ref was ever set as the session wanted.
    was_set: Vec<bool>,
    left: Left,
}

/// How much may still go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Left {
    removals: u8,
    losses: u8,
    delays: u8,
    pauses: u8,
    deaths: u8,
}

/// A collector, and how far its driver has got with a request that is many.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sweeper {
    machine: Collector<Id, u8>,
    reading: Option<Reading>,
    /// What was reached and spared when the sessions were listed; read too early, against the
    /// rules.
    early: Option<(Ids, Ids)>,
    /// The commits that are deleted last, against the rules.
    deferred: Ids,
    /// What it condemns: a name has one content, however often it is written.
    condemns: Option<Ids>,
    is_stale: bool,
    is_dead: bool,
    has_tidied: bool,
}

/// Refs that were read so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Reading {
    next: u8,
    roots: Ids,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A session.
    Session(u8),
    /// A collector.
    Collector(u8),
}

/// What a request does to the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Effect {
    Nothing,
    PutObject(Id),
    PutRef(Ref, Option<Id>, Id),
    PutLease(u8, Option<Lease>, Lease),
    RemoveLease(u8),
    PutSpared(u64, u32, Ids),
    PutJournal(u8, u64, Ids),
    PutGc(Option<Gc>, Gc),
    PutList(ListName, Ids),
    Delete(Ids),
    Tidy(u64),
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A request is executed and answered.
    Request(Who),
    /// A collector condemns all that there is.
    CondemnAll(u8),
    /// A request is executed, and its answer is lost.
    Unheard(Who),
    /// A request is lost on its way, until it arrives after all.
    Late(Who),
    /// A late request arrives.
    Arrives(u8),
    /// A session sets out to renew its lease.
    Renew(u8),
    /// A session reads the closure list of its base, or judges it, during a renewal.
    Meanwhile(u8),
    /// A session ends the sweep of a dead collector.
    EndDeadSweep(u8),
    /// More than half of the life of a lease or claim is over.
    Pause(Who),
    /// The life of a lease is over.
    LeaseEnds(u8),
    /// The life of a claim is over.
    ClaimEnds,
    /// A program dies.
    Die(Who),
    /// Somebody removes the ref.
    Remove(Ref),
}

/// How many refs there are.
pub const REFS: usize = 3;
const HELD: Nonce = Nonce(9);
/// More than everybody needs to end.
const ROUNDS_MAX: usize = 300;

impl Config {
    fn breaks(&self, rule: Rule) -> bool {
        self.broken == Some(rule)
    }

    /// Returns whether two versions of a lease have the same tag.
    fn are_alike(&self, a: &Lease, b: &Lease) -> bool {
        a == b
            || self.breaks(Rule::NoTwoVersionsAreAlike)
                && a.acknowledged == b.acknowledged
                && a.is_fenced == b.is_fenced
    }
}

impl Model for Config {
    type State = World;
    type Step = Step;

    fn initial(&self) -> World {
        let roots = Ids::of(self.refs.into_iter().flatten());
        let early_gc = self.breaks(Rule::GcIsReadUnderALease);
        let early_base = self.breaks(Rule::BasesAreReadUnderALease);
        let (mut gc, mut lists) = (Gc::first(HELD), Vec::new());
        if !self.condemned.is_empty() {
            gc = gc.condemned(HELD);
            lists.push((gc.list(), Ids::of(self.condemned.iter().copied())));
        }
        World {
            objects: roots.closed().with(Ids::of(self.garbage.iter().copied())),
            refs: self.refs,
            gc: Some(gc),
            lists,
            spared: Vec::new(),
            leases: self.plans.iter().map(|_| (None, false)).collect(),
            is_gc_old: false,
            journal: Vec::new(),
            late: Vec::new(),
            sessions: self
                .plans
                .iter()
                .map(|&plan| Session::new(plan, early_gc || early_base && plan.base.is_some()))
                .collect(),
            collectors: (0..self.collectors).map(Sweeper::new).collect(),
            was_set: self.plans.iter().map(|_| false).collect(),
            left: Left {
                removals: self.removals,
                losses: self.losses,
                delays: self.delays,
                pauses: self.pauses,
                deaths: self.deaths,
            },
        }
    }

    fn steps(&self, world: &World) -> Vec<(Step, World)> {
        let mut steps = Vec::new();
        for number in 0..world.sessions.len() {
            self.session_steps(world, number, &mut steps);
        }
        for number in 0..world.collectors.len() {
            self.collector_steps(world, number, &mut steps);
        }
        for number in 0..world.late.len() {
            let mut next = world.clone();
            let (who, effect) = next.late.remove(number);
            self.execute(&mut next, who, &effect);
            steps.push((Step::Arrives(number as u8), next));
        }
        self.time_steps(world, &mut steps);
        for (number, value) in world.refs.iter().enumerate() {
            if world.left.removals > 0 && value.is_some() {
                let mut next = world.clone();
                next.left.removals -= 1;
                next.refs[number] = None;
                steps.push((Step::Remove(Ref(number as u8)), next));
            }
        }
        steps
    }

    fn check(&self, world: &World) -> Result<(), String> {
        for (number, value) in world.refs.iter().enumerate() {
            let reached = Ids::of(*value).closed();
            let lost = reached.without(world.objects);
            if lost != Ids::default() {
                return Err(format!("ref {number} reaches {lost:?}, which is not there"));
            }
        }
        for id in world.objects.iter() {
            let lost = id.beneath().without(world.objects);
            if lost != Ids::default() {
                return Err(format!("commit {id:?} is there, and {lost:?} is not"));
            }
        }
        if self.checks_end {
            self.check_end(world)?;
        }
        for (session, was_set) in world.sessions.iter().zip(&world.was_set) {
            if matches!(
                session.at,
                At::Leave(Outcome::Done) | At::Over(Outcome::Done)
            ) && !was_set
            {
                return Err("a push was acknowledged and its ref was never set".to_owned());
            }
        }
        Ok(())
    }

    fn describe(&self, world: &World, step: Step) -> String {
        match step {
            Step::Request(who) | Step::Unheard(who) | Step::Late(who) => {
                let how = match step {
                    Step::Unheard(_) => "; the answer is lost",
                    Step::Late(_) => "; it is delayed, and given up",
                    _ => "",
                };
                match who {
                    Who::Session(number) => {
                        let session = &world.sessions[usize::from(number)];
                        match session.member.next() {
                            Some(ask) => format!("session {number}: {ask:?}{how}"),
                            None => format!("session {number}: {:?}{how}", session.at),
                        }
                    }
                    Who::Collector(number) => {
                        let mut sweeper = world.collectors[usize::from(number)].clone();
                        let ask = sweeper.machine.next(!sweeper.is_stale);
                        format!("collector {number}: {ask:?} {:?}{how}", sweeper.reading)
                    }
                }
            }
            Step::Arrives(number) => format!("late: {:?}", world.late[usize::from(number)]),
            other => format!("{other:?}"),
        }
    }
}

impl Config {
    fn session_steps(&self, world: &World, number: usize, steps: &mut Vec<(Step, World)>) {
        let session = &world.sessions[number];
        let is_new = session.at == At::Begin && world.leases[number].0.is_none();
        let waits = self.in_turn && number > 0 && !world.sessions[number - 1].is_over()
            || self.begins_late
                && world
                    .gc
                    .is_some_and(|gc| gc.epoch == 0 || gc.phase == Phase::Condemned);
        if session.is_over() || is_new && waits {
            return;
        }
        let name = number as u8;
        let who = Who::Session(name);
        let effect = self.session_effect(world, number);
        let mut next = world.clone();
        self.answer_session(&mut next, number, &effect);
        steps.push((Step::Request(who), next));
        if effect != Effect::Nothing && world.left.losses > 0 {
            let mut next = world.clone();
            next.left.losses -= 1;
            self.execute(&mut next, who, &effect);
            self.session_is_unsure(&mut next.sessions[number]);
            steps.push((Step::Unheard(who), next));
        }
        if effect != Effect::Nothing && world.left.delays > 0 {
            let mut next = world.clone();
            next.left.delays -= 1;
            next.late.push((who, effect));
            self.session_is_unsure(&mut next.sessions[number]);
            steps.push((Step::Late(who), next));
        }
        let is_joined = !matches!(
            session.at,
            At::Early | At::Begin | At::Leave(_) | At::Over(_)
        );
        let is_news = world.gc != session.member.gc();
        if is_joined && session.member.is_ready() && (is_news || session.is_stale) {
            let mut next = world.clone();
            next.sessions[number].member.renew_now();
            steps.push((Step::Renew(name), next));
        }
        let reads = matches!(session.at, At::List | At::Judge(_));
        if reads && !session.member.is_ready() {
            let mut next = world.clone();
            self.go_on_with_base(&mut next, number);
            steps.push((Step::Meanwhile(name), next));
        }
        let sweeps = world.gc.is_some_and(|gc| gc.phase == Phase::Sweeping);
        let knows = session.member.gc() == world.gc;
        if is_joined && sweeps && knows && world.is_gc_old {
            let mut next = world.clone();
            let member = &mut next.sessions[number].member;
            // What it waits with is a look at `gc`, which it needs no more.
            if matches!(member.next(), Some(member::Ask::ReadGc)) {
                member.hear(member::Heard::Gc(world.gc));
            }
            if member.is_ready() {
                member.end_dead_sweep(Nonce(20 + u64::from(name)));
                steps.push((Step::EndDeadSweep(name), next));
            }
        }
        if world.left.pauses > 0 && !session.is_stale && is_joined {
            let mut next = world.clone();
            next.left.pauses -= 1;
            next.sessions[number].is_stale = true;
            steps.push((Step::Pause(who), next));
        }
        if world.left.deaths > 0 {
            let mut next = world.clone();
            next.left.deaths -= 1;
            next.sessions[number].is_dead = true;
            steps.push((Step::Die(who), next));
        }
    }

    /// Returns what the session's next request does to the bucket.
    fn session_effect(&self, world: &World, number: usize) -> Effect {
        let session = &world.sessions[number];
        let plan = session.plan;
        let name = number as u8;
        if session.at == At::Early {
            return Effect::Nothing;
        }
        if self.must_renew(session) {
            return Effect::Nothing;
        }
        if let Some(ask) = session.member.next() {
            return match ask {
                member::Ask::BeginLease(lease) => Effect::PutLease(name, None, lease),
                member::Ask::RenewLease(lease) => {
                    Effect::PutLease(name, session.tag.clone(), lease)
                }
                member::Ask::Spare { epoch, part, ids } => {
                    let part = if self.breaks(Rule::SparedListsAreNeverReplaced) {
                        0
                    } else {
                        part
                    };
                    Effect::PutSpared(epoch, part, Ids::of(ids))
                }
                member::Ask::MoveGc(from, to) => Effect::PutGc(Some(from), to),
                member::Ask::ReadLease | member::Ask::ReadGc | member::Ask::ReadList(_) => {
                    Effect::Nothing
                }
            };
        }
        match session.at {
            At::Put | At::Write(_) => {
                let id = match session.at {
                    At::Write(id) => Some(id),
                    _ => session.missing(),
                };
                let is_put = (session.at == At::Put) != self.breaks(Rule::JournalsFollowAnswers);
                match id {
                    Some(id) if is_put => Effect::PutObject(id),
                    Some(id) => {
                        let epoch = session.member.epoch();
                        Effect::PutJournal(plan.identity, epoch, Ids::of([id]))
                    }
                    None => Effect::Nothing,
                }
            }
            At::Commit => Effect::PutObject(plan.commit),
            At::Ref => Effect::PutRef(plan.to, plan.expected, plan.commit),
            At::Leave(_) => Effect::RemoveLease(name),
            At::Early | At::Begin | At::Base | At::List | At::Judge(_) | At::Rely(_) => {
                Effect::Nothing
            }
            At::LastList | At::Journal => Effect::Nothing,
            At::CheckRef | At::Over(_) => Effect::Nothing,
        }
    }

    /// Returns whether the session renews its lease before it publishes.
    fn must_renew(&self, session: &Session) -> bool {
        session.is_stale
            && session.member.is_ready()
            && matches!(session.at, At::Commit | At::Ref)
            && !self.breaks(Rule::LeaseIsYoungWhenPublishing)
    }

    /// Executes the session's next request, and lets the session hear the answer.
    fn answer_session(&self, world: &mut World, number: usize, effect: &Effect) {
        if self.must_renew(&world.sessions[number]) {
            world.sessions[number].member.renew_now();
            return;
        }
        let is_met = self.execute(world, Who::Session(number as u8), effect);
        let (gc, lease) = (world.gc, world.leases[number].0.clone());
        let refs = world.refs;
        let session = &mut world.sessions[number];
        let ask_kind = session.member.next().filter(|_| session.at != At::Early);
        if let Some(ask) = ask_kind.clone() {
            let heard = match ask {
                member::Ask::BeginLease(lease) | member::Ask::RenewLease(lease) => {
                    if is_met {
                        session.tag = Some(lease);
                        session.is_stale = false;
                        member::Heard::Stored
                    } else {
                        member::Heard::NotMet
                    }
                }
                member::Ask::ReadLease => {
                    session.tag.clone_from(&lease);
                    member::Heard::Lease(lease)
                }
                member::Ask::ReadGc => {
                    // What was spared and cannot be any more seems to be in time.
                    let as_known = session.member.gc().filter(|_| session.is_late);
                    session.is_late = false;
                    let early = session.early_gc.take();
                    member::Heard::Gc(early.unwrap_or(as_known.or(gc)))
                }
                member::Ask::ReadList(name) => {
                    let name = self.name(name);
                    let list = world.lists.iter().find(|(known, _)| *known == name);
                    member::Heard::List(list.map(|(_, ids)| {
                        let relied = ids.iter().filter(|id| session.relied.contains(*id));
                        let relied = if self.breaks(Rule::SparedBeforeAcknowledged) {
                            Vec::new()
                        } else {
                            relied.collect()
                        };
                        (ids.list(), relied)
                    }))
                }
                member::Ask::Spare { .. } => member::Heard::Stored,
                member::Ask::MoveGc(..) if is_met => member::Heard::Stored,
                member::Ask::MoveGc(..) => member::Heard::NotMet,
            };
            let was_spared = matches!(ask_kind, Some(member::Ask::Spare { .. }));
            session.member.hear(heard);
            session.is_late = self.breaks(Rule::TooLateIfNoLongerCondemned)
                && was_spared
                && matches!(session.member.next(), Some(member::Ask::ReadGc));
            session.go_on(self.broken);
            return;
        }
        if matches!(session.at, At::List | At::Judge(_)) {
            return self.go_on_with_base(world, number);
        }
        let value = |r: Ref| refs[usize::from(r.0)];
        let plan = session.plan;
        match session.at {
            At::Early => {
                session.at = At::Begin;
                if self.breaks(Rule::GcIsReadUnderALease) {
                    session.early_gc = Some(gc);
                } else if let Some((r, base)) = plan.base
                    && value(r) == Some(base)
                {
                    session.rely(base.beneath());
                }
            }
            At::Base => {
                let (r, _) = plan.base.unwrap_or((plan.to, plan.commit));
                if self.breaks(Rule::BasesAreReadUnderALease) {
                    session.at = At::LastList;
                } else {
                    session.hear_base(value(r));
                }
            }
            At::Journal => {
                let counts_all = self.breaks(Rule::JournalsCountByEpoch);
                for (_, epoch, ids) in world
                    .journal
                    .iter()
                    .filter(|(identity, ..)| *identity == plan.identity)
                {
                    session.hear_journal(*epoch, *ids, counts_all);
                }
                session.at = At::Put;
            }
            At::Put => {
                if let Some(id) = session.missing() {
                    session.relied.insert(id);
                    if !self.breaks(Rule::JournalsFollowAnswers) {
                        session.here.insert(id);
                    }
                    session.at = At::Write(id);
                }
            }
            At::Write(id) => {
                session.here.insert(id);
                session.at = At::Put;
            }
            At::Commit => {
                session.relied.insert(plan.commit);
                session.at = At::Ref;
            }
            At::Ref if is_met => session.at = At::Leave(Outcome::Done),
            At::Ref => session.at = At::CheckRef,
            At::CheckRef => {
                session.at = match value(plan.to) {
                    Some(found) if found == plan.commit => At::Leave(Outcome::Done),
                    found if found == plan.expected => At::Ref,
                    _ => At::Leave(Outcome::Failed),
                }
            }
            At::Leave(outcome) => session.at = At::Over(outcome),
            At::Begin | At::List | At::Judge(_) | At::Rely(_) => {}
            At::LastList | At::Over(_) => {}
        }
        session.go_on(self.broken);
    }

    /// Lets a session read the closure list of its base, or judge the objects on it.
    fn go_on_with_base(&self, world: &mut World, number: usize) {
        let objects = world.objects;
        let session = &mut world.sessions[number];
        if let At::Judge(since) = session.at {
            session.judge_base(since, self.broken);
        } else {
            // The list of a commit is deleted together with the commit.
            let base = session.plan.base;
            session.hear_list(base.is_some_and(|(_, base)| objects.contains(base)));
        }
        session.go_on(self.broken);
    }

    /// Lets a session know that there is no answer.
    fn session_is_unsure(&self, session: &mut Session) {
        if session.member.next().is_some() {
            session.member.hear(member::Heard::Unclear);
        } else {
            match session.at {
                // It may be there from now on. It is put again, and spared already.
                At::Put => {
                    let missing = session.missing();
                    missing.into_iter().for_each(|id| session.relied.insert(id));
                }
                At::Commit => {
                    session.is_unclear = true;
                    session.relied.insert(session.plan.commit);
                }
                At::Ref => {
                    session.is_unclear = true;
                    session.at = At::CheckRef;
                }
                _ => {}
            }
            if self.breaks(Rule::LeaseStaysWhileUnclear) {
                session.is_unclear = false;
            }
        }
        session.go_on(self.broken);
    }
}

impl Config {
    fn collector_steps(&self, world: &World, number: usize, steps: &mut Vec<(Step, World)>) {
        let sweeper = &world.collectors[number];
        if sweeper.is_over() {
            return;
        }
        let name = number as u8;
        let who = Who::Collector(name);
        let garbage = world
            .objects
            .without(Ids::of(world.refs.into_iter().flatten()).closed());
        let mut choices = vec![(Step::Request(who), garbage)];
        if self.condemns_all && matches!(self.ask(&mut sweeper.clone()), Some(Ask::Condemn(_))) {
            choices.push((Step::CondemnAll(name), world.objects));
        }
        for (step, condemned) in choices {
            let mut next = world.clone();
            let condemns = &mut next.collectors[number].condemns;
            let condemned = *condemns.get_or_insert(condemned);
            let effect = self.collector_effect(&mut next, number, condemned);
            let before = next.clone();
            self.answer_collector(&mut next, number, &effect, condemned);
            steps.push((step, next));
            if effect == Effect::Nothing {
                continue;
            }
            if world.left.losses > 0 {
                let mut next = before.clone();
                next.left.losses -= 1;
                self.execute(&mut next, who, &effect);
                self.collector_is_unsure(&mut next.collectors[number]);
                steps.push((Step::Unheard(who), next));
            }
            if world.left.delays > 0 {
                let mut next = before;
                next.left.delays -= 1;
                next.late.push((who, effect));
                self.collector_is_unsure(&mut next.collectors[number]);
                steps.push((Step::Late(who), next));
            }
        }
        let sweeps = world
            .gc
            .is_some_and(|gc| gc.phase == Phase::Sweeping && name_of(gc.by) == name);
        if world.left.pauses > 0 && !sweeper.is_stale && sweeps {
            let mut next = world.clone();
            next.left.pauses -= 1;
            next.collectors[number].is_stale = true;
            steps.push((Step::Pause(who), next));
        }
        if world.left.deaths > 0 {
            let mut next = world.clone();
            next.left.deaths -= 1;
            next.collectors[number].is_dead = true;
            steps.push((Step::Die(who), next));
        }
    }

    /// Returns what the collector is about to do.
    fn ask(&self, sweeper: &mut Sweeper) -> Option<Ask> {
        let is_fresh = !sweeper.is_stale || self.breaks(Rule::ClaimIsYoungWhenDeleting);
        sweeper.machine.next(is_fresh)
    }

    /// Returns what the collector's next request does to the bucket.
    fn collector_effect(&self, world: &mut World, number: usize, condemned: Ids) -> Effect {
        let sweeper = &mut world.collectors[number];
        let claims_early = self.breaks(Rule::ClaimedBeforeRefsAreRead) && sweeper.early.is_none();
        match self.ask(sweeper) {
            None => Effect::Tidy(world.gc.map_or(0, |gc| gc.epoch)),
            Some(Ask::MoveGc(_, to)) if claims_early && to.phase == Phase::Sweeping => {
                Effect::Nothing
            }
            Some(Ask::MoveGc(from, to)) => Effect::PutGc(from, to),
            Some(Ask::Condemn(_)) if condemned == Ids::default() => Effect::Nothing,
            Some(Ask::Condemn(name)) => Effect::PutList(name, condemned),
            Some(Ask::Fence(..)) if self.breaks(Rule::DeadSessionsAreFenced) => Effect::Nothing,
            Some(Ask::Fence(session, lease)) => {
                let before = Lease {
                    beat: lease.beat - 1,
                    is_fenced: false,
                    ..lease.clone()
                };
                Effect::PutLease(session, Some(before), lease)
            }
            Some(Ask::Delete(ids)) => {
                let ids = Ids::of(ids);
                let commits = Ids::of(ids.iter().filter(|id| id.is_commit()));
                if self.breaks(Rule::CommitsGoFirst) && commits != Ids::default() {
                    Effect::Nothing
                } else {
                    Effect::Delete(ids)
                }
            }
            Some(Ask::Settle) if sweeper.deferred != Ids::default() => {
                Effect::Delete(sweeper.deferred)
            }
            Some(
                Ask::ReadGc
                | Ask::Wait
                | Ask::ReadList(_)
                | Ask::ListSessions
                | Ask::ReadLease(_)
                | Ask::FindReached(_)
                | Ask::ReadSpared(_)
                | Ask::Settle,
            ) => Effect::Nothing,
        }
    }

    /// Executes the collector's next request, and lets the collector hear the answer.
    fn answer_collector(&self, world: &mut World, number: usize, effect: &Effect, condemned: Ids) {
        let who = Who::Collector(number as u8);
        let is_met = self.execute(world, who, effect);
        let (gc, refs, objects) = (world.gc, world.refs, world.objects);
        let is_dead = world.is_gc_old || self.breaks(Rule::LivingClaimsAreRespected);
        let spared = |epoch| {
            let lists = world.spared.iter().filter(|list| list.0 == epoch);
            lists.fold(Ids::default(), |all, list| all.with(list.3))
        };
        let settles = !world.late.iter().any(|(by, effect)| {
            *by == who
                && matches!(effect, Effect::Delete(_))
                && !self.breaks(Rule::IdleWhenAllIsSettled)
        });
        let sweeper = &mut world.collectors[number];
        let Some(ask) = self.ask(sweeper) else {
            sweeper.has_tidied = true;
            return;
        };
        let stored = if is_met { Heard::Stored } else { Heard::NotMet };
        let heard = match ask {
            Ask::ReadGc | Ask::Wait => Heard::Gc(gc, is_dead),
            Ask::MoveGc(_, to) if to.phase == Phase::Sweeping && *effect == Effect::Nothing => {
                let reached = Ids::of(refs.into_iter().flatten()).closed();
                sweeper.early = Some((reached, spared(to.epoch)));
                return;
            }
            Ask::MoveGc(..) => {
                sweeper.is_stale &= !is_met;
                stored
            }
            Ask::Condemn(_) => {
                sweeper.condemns = None;
                Heard::List(Some(condemned.list()))
            }
            Ask::ReadList(name) => {
                let name = self.name(name);
                let list = world.lists.iter().find(|(known, _)| *known == name);
                Heard::List(list.map(|(_, ids)| ids.list()))
            }
            Ask::ListSessions => {
                let leases = (0_u8..).zip(&world.leases);
                let there = leases.filter(|(_, (lease, _))| lease.is_some());
                let there = there.map(|(session, _)| session).collect();
                if self.breaks(Rule::SessionsAreWaitedFor) {
                    Heard::Sessions(Vec::new())
                } else {
                    Heard::Sessions(there)
                }
            }
            Ask::ReadLease(session) => {
                let (lease, is_dead) = world.leases[usize::from(session)].clone();
                Heard::Lease(lease, is_dead)
            }
            Ask::Fence(..) => stored,
            Ask::FindReached(list) => {
                let list = Ids::of(list.iter().copied());
                let mut reading = sweeper.reading.unwrap_or(Reading {
                    next: 0,
                    roots: Ids::default(),
                });
                let at = usize::from(reading.next);
                if at < REFS {
                    if !self.breaks(Rule::RefsAreReadAgain) {
                        reading.roots = reading.roots.with(Ids::of(refs[at]));
                    }
                    reading.next += 1;
                    sweeper.reading = Some(reading);
                    return;
                }
                if !self.breaks(Rule::NewCommitsKeepWhatTheyReach) {
                    let commits = Ids::of(objects.iter().filter(|id| id.is_commit()));
                    reading.roots = reading.roots.with(commits.without(list));
                }
                sweeper.reading = None;
                let reached = sweeper
                    .early
                    .map_or(reading.roots.closed(), |(reached, _)| reached);
                Heard::Ids(reached.iter().filter(|id| list.contains(*id)).collect())
            }
            Ask::ReadSpared(epoch) => {
                let spared = match sweeper.early.take() {
                    Some((_, spared)) => spared,
                    None => spared(epoch),
                };
                if self.breaks(Rule::SparedStays) {
                    Heard::Ids(Vec::new())
                } else {
                    Heard::Ids(spared.iter().collect())
                }
            }
            Ask::Delete(ids) => {
                if *effect == Effect::Nothing {
                    sweeper.deferred = sweeper.deferred.with(Ids::of(ids));
                }
                Heard::Stored
            }
            Ask::Settle => {
                if !settles {
                    return;
                }
                sweeper.deferred = Ids::default();
                Heard::Stored
            }
        };
        sweeper.machine.hear(heard);
    }

    /// Lets a collector know that there is no answer.
    fn collector_is_unsure(&self, sweeper: &mut Sweeper) {
        match self.ask(sweeper) {
            // It lists, and writes the same list, again.
            Some(Ask::Condemn(_)) | None => {}
            Some(_) => sweeper.machine.hear(Heard::Unclear),
        }
    }

    fn time_steps(&self, world: &World, steps: &mut Vec<(Step, World)>) {
        for (number, (lease, is_old)) in world.leases.iter().enumerate() {
            let session = &world.sessions[number];
            let who = Who::Session(number as u8);
            let is_left = session.is_stale || session.is_over();
            // Nothing takes effect longer after it was sent than half of a lease's life.
            let publishes = world.late.iter().any(|(by, effect)| {
                *by == who
                    && match effect {
                        Effect::PutRef(..) => true,
                        Effect::PutObject(id) => id.is_commit(),
                        _ => false,
                    }
            });
            if lease.is_some() && !is_old && is_left && !publishes {
                let mut next = world.clone();
                next.leases[number].1 = true;
                steps.push((Step::LeaseEnds(number as u8), next));
            }
        }
        if let Some(gc) = world.gc
            && gc.phase == Phase::Sweeping
            && !world.is_gc_old
        {
            let who = Who::Collector(name_of(gc.by));
            let sweeper = &world.collectors[usize::from(name_of(gc.by))];
            let deletes = world
                .late
                .iter()
                .any(|(by, effect)| *by == who && matches!(effect, Effect::Delete(_)));
            if (sweeper.is_stale || sweeper.is_dead) && !deletes {
                let mut next = world.clone();
                next.is_gc_old = true;
                steps.push((Step::ClaimEnds, next));
            }
        }
    }

    /// Fails unless everybody ends when nothing goes wrong any more, and a last collection leaves
    /// nothing but what refs reach.
    fn check_end(&self, world: &World) -> Result<(), String> {
        let mut world = world.clone();
        world.left = Left::default();
        for (who, effect) in std::mem::take(&mut world.late) {
            self.execute(&mut world, who, &effect);
        }
        let calm = Self {
            in_turn: false,
            begins_late: false,
            ..self.clone()
        };
        for last in [false, true] {
            if last {
                world
                    .collectors
                    .push(Sweeper::new(world.collectors.len() as u8));
            }
            let mut rounds = 0;
            while !world.are_all_over() {
                rounds += 1;
                if rounds > ROUNDS_MAX {
                    return Err("it never ends".to_owned());
                }
                calm.go_round(&mut world);
            }
        }
        let reached = Ids::of(world.refs.into_iter().flatten()).closed();
        let garbage = world.objects.without(reached);
        if garbage != Ids::default() {
            return Err(format!("garbage stays: {garbage:?}"));
        }
        Ok(())
    }

    /// Lets everybody take a step, and lets the leases of the dead end.
    fn go_round(&self, world: &mut World) {
        let mut steps = Vec::new();
        for number in 0..world.sessions.len() {
            self.session_steps(world, number, &mut steps);
            let urgency = |(step, _): &(Step, World)| match step {
                Step::EndDeadSweep(_) => 0,
                Step::Renew(_) => 1,
                _ => 2,
            };
            if let Some(at) = (0..steps.len()).min_by_key(|at| urgency(&steps[*at])) {
                *world = steps.swap_remove(at).1;
            }
            steps.clear();
        }
        for number in 0..world.collectors.len() {
            self.collector_steps(world, number, &mut steps);
            if !steps.is_empty() {
                *world = steps.swap_remove(0).1;
            }
            steps.clear();
        }
        loop {
            let over = |(step, _): &(Step, World)| match step {
                Step::LeaseEnds(number) => world.sessions[usize::from(*number)].is_over(),
                Step::ClaimEnds => world
                    .gc
                    .is_some_and(|gc| world.collectors[usize::from(name_of(gc.by))].is_dead),
                _ => false,
            };
            self.time_steps(world, &mut steps);
            let Some(at) = steps.iter().position(over) else {
                break;
            };
            *world = steps.swap_remove(at).1;
            steps.clear();
        }
    }

    /// Lets a request take effect, and returns whether its condition held.
    fn execute(&self, world: &mut World, who: Who, effect: &Effect) -> bool {
        match effect {
            Effect::Nothing => {}
            Effect::PutObject(id) => world.objects.insert(*id),
            Effect::PutRef(r, from, to) => {
                let value = &mut world.refs[usize::from(r.0)];
                if value != from {
                    return false;
                }
                *value = Some(*to);
                for (session, was_set) in world.sessions.iter().zip(&mut world.was_set) {
                    *was_set |= session.plan.to == *r && session.plan.commit == *to;
                }
            }
            Effect::PutLease(session, from, to) => {
                let lease = &mut world.leases[usize::from(*session)];
                let is_met = match (&lease.0, from) {
                    (None, None) => true,
                    (Some(found), Some(from)) => self.are_alike(found, from),
                    (None, Some(_)) | (Some(_), None) => false,
                };
                let is_ignored = self.breaks(Rule::LeasesMoveByCompareAndSwap) && from.is_some();
                if !is_met && !is_ignored {
                    return false;
                }
                *lease = (Some(to.clone()), false);
            }
            Effect::RemoveLease(session) => world.leases[usize::from(*session)] = (None, false),
            Effect::PutSpared(epoch, part, ids) => {
                let Who::Session(session) = who else {
                    return false;
                };
                let name = (*epoch, session, *part);
                world.spared.retain(|list| (list.0, list.1, list.2) != name);
                world.spared.push((*epoch, session, *part, *ids));
                world
                    .spared
                    .sort_unstable_by_key(|list| (list.0, list.1, list.2));
            }
            Effect::PutJournal(identity, epoch, ids) => {
                let mut entries = world.journal.iter_mut();
                match entries.find(|entry| (entry.0, entry.1) == (*identity, *epoch)) {
                    Some(entry) => entry.2 = entry.2.with(*ids),
                    None => world.journal.push((*identity, *epoch, *ids)),
                }
                world
                    .journal
                    .sort_unstable_by_key(|entry| (entry.0, entry.1));
            }
            Effect::PutGc(from, to) => {
                let is_met = match (world.gc, from) {
                    (Some(found), Some(from)) if self.breaks(Rule::NoTwoVersionsAreAlike) => {
                        found
                            == Gc {
                                turn: found.turn,
                                ..*from
                            }
                    }
                    (found, from) => found == *from,
                };
                if !is_met && !self.breaks(Rule::GcMovesByCompareAndSwap) {
                    return false;
                }
                world.gc = Some(*to);
                world.is_gc_old = false;
            }
            Effect::PutList(name, ids) => {
                let name = self.name(*name);
                world.lists.retain(|(known, _)| *known != name);
                world.lists.push((name, *ids));
                world.lists.sort_unstable_by_key(|(name, _)| *name);
            }
            Effect::Delete(ids) => world.objects = world.objects.without(*ids),
            Effect::Tidy(epoch) => {
                world.lists.retain(|(name, _)| name.epoch >= *epoch);
                let is_idle = world.gc.is_some_and(|gc| gc.phase == Phase::Idle);
                world
                    .spared
                    .retain(|list| list.0 > *epoch || list.0 == *epoch && !is_idle);
            }
        }
        true
    }

    /// Returns the key of a list.
    fn name(&self, name: ListName) -> ListName {
        if self.breaks(Rule::ListsHaveNamesOfTheirOwn) {
            ListName {
                judge: HELD,
                ..name
            }
        } else {
            name
        }
    }
}

impl World {
    fn are_all_over(&self) -> bool {
        self.sessions.iter().all(Session::is_over) && self.collectors.iter().all(Sweeper::is_over)
    }
}

impl Sweeper {
    fn new(number: u8) -> Self {
        Self {
            machine: Collector::new(Nonce(u64::from(number + 1) * 100), 1000),
            reading: None,
            early: None,
            deferred: Ids::default(),
            condemns: None,
            is_stale: false,
            is_dead: false,
            has_tidied: false,
        }
    }

    fn is_over(&self) -> bool {
        self.is_dead || self.has_tidied || matches!(self.machine.end(), Some(End::Clean))
    }
}

/// Returns the collector of whom this is a nonce.
fn name_of(nonce: Nonce) -> u8 {
    (nonce.0 / 100).saturating_sub(1) as u8
}

type Ask = CollectorAsk<Id, u8>;
type Heard = CollectorHeard<Id, u8>;
