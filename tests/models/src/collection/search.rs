//! Visits every state that a model can reach, the nearest first.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A model: a state, and the steps that may follow.
pub trait Model {
    /// A state.
    type State: Clone + Hash;
    /// A step from one state to another.
    type Step: Copy + fmt::Debug;

    /// Returns the first state.
    fn initial(&self) -> Self::State;

    /// Returns every step that may follow, and where it leads.
    fn steps(&self, state: &Self::State) -> Vec<(Self::Step, Self::State)>;

    /// Fails if a state must not be, and says why.
    fn check(&self, state: &Self::State) -> Result<(), String>;

    /// Says in words what a step does in a state.
    fn describe(&self, state: &Self::State, step: Self::Step) -> String;
}

/// What a search has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many different states were visited.
    pub states: usize,
    /// How many steps were taken between them.
    pub steps: usize,
    /// The number of steps to the states farthest away.
    pub depth: usize,
    /// The shortest way to a state that must not be.
    pub fault: Option<Fault>,
    /// Whether there are states that were not visited.
    pub is_cut_short: bool,
}

/// A way to a state that must not be.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Why it must not be.
    pub why: String,
    /// The number of each step among those that may follow.
    pub steps: Vec<u16>,
}

/// Takes the steps of these numbers, one after the other, and returns each in words. Fails with the
/// words so far, and the reason, at a state that must not be.
pub fn replay<M: Model>(model: &M, steps: &[u16]) -> Result<Vec<String>, (Vec<String>, String)> {
    let mut state = model.initial();
    let mut words = Vec::new();
    for &number in steps {
        let mut next = model.steps(&state);
        if usize::from(number) >= next.len() {
            return Ok(words);
        }
        let (step, next) = next.swap_remove(usize::from(number));
        words.push(model.describe(&state, step));
        state = next;
        if let Err(why) = model.check(&state) {
            return Err((words, why));
        }
    }
    Ok(words)
}

/// Visits all states, at most `most`, or those up to the first that must not be.
///
/// States are told apart by 64 bits of a hash. Among ten million states two share one with a
/// probability of one in 400,000, and then a state is missed.
pub fn search<M: Model>(model: &M, most: usize) -> Report {
    let mut report = Report::default();
    let mut seen: HashSet<u64, Plain> = HashSet::default();
    // By which step, of those from which state, each state was first reached.
    let mut came: Vec<(u32, u16)> = Vec::new();
    let initial = model.initial();
    seen.insert(fingerprint(&initial));
    came.push((0, 0));
    let mut level = vec![(0_u32, initial)];
    while !level.is_empty() {
        let mut next = Vec::new();
        for (at, state) in level {
            if let Err(why) = model.check(&state) {
                let steps = way_to(&came, at);
                report.fault = Some(Fault { why, steps });
                report.states = came.len();
                return report;
            }
            for (number, (_, to)) in (0_u16..).zip(model.steps(&state)) {
                report.steps += 1;
                if came.len() >= most {
                    report.is_cut_short = true;
                } else if seen.insert(fingerprint(&to)) {
                    let index = u32::try_from(came.len()).unwrap_or(u32::MAX);
                    came.push((at, number));
                    next.push((index, to));
                }
            }
        }
        report.depth += usize::from(!next.is_empty());
        level = next;
    }
    report.states = came.len();
    report
}

fn way_to(came: &[(u32, u16)], to: u32) -> Vec<u16> {
    let mut steps = Vec::new();
    let mut at = to as usize;
    while at > 0 {
        let (from, number) = came[at];
        steps.push(number);
        at = from as usize;
    }
    steps.reverse();
    steps
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Takes fingerprints as they are: they are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Plain(u64);

impl std::hash::BuildHasher for Plain {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for Plain {
    fn write(&mut self, _: &[u8]) {
        unreachable!("fingerprints are numbers");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
