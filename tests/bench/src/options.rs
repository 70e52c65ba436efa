//! The measurements to run, from the environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use artifact_tests::exec::Failure;

use crate::case::{Case, Place, Work};
use crate::peer::Peer;

/// The scenes to run, how often, and where.
#[derive(Clone, Debug)]
pub struct Options<P> {
    /// `BENCH_CASES`.
    pub cases: Vec<Case>,
    /// `BENCH_WORKS`.
    pub works: Vec<Work>,
    /// `BENCH_PEERS`.
    pub peers: Vec<P>,
    /// `BENCH_PLACES`.
    pub places: Vec<Place>,
    /// `BENCH_RTT`, in milliseconds.
    pub round_trips: Vec<Duration>,
    /// `BENCH_RUNS`: how often to run what takes about a second.
    pub runs: usize,
    /// `BENCH_DATA`: the test data, kept from one run to the next.
    pub data: PathBuf,
    /// `BENCH_DIR`: the destinations on disk, removed at the end.
    pub dir: PathBuf,
    /// `BENCH_OUT`: the results.
    pub out: PathBuf,
}

/// The measurements beside the scenes, for which there are no peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// How long `.lock` is held.
    Lock,
    /// A cache with many refs.
    Refs,
    /// The verifier against its libraries.
    Verify,
}

impl Extra {
    pub const ALL: [Self; 3] = [Self::Lock, Self::Refs, Self::Verify];

    /// Returns its name, as in `BENCH_EXTRAS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Refs => "refs",
            Self::Verify => "verify",
        }
    }

    /// Reads `BENCH_EXTRAS`.
    pub fn chosen() -> Result<Vec<Self>, Failure> {
        choice("BENCH_EXTRAS", &Self::ALL, Self::name)
    }
}

impl Options<Peer> {
    /// Reads the options of pushes; `target` is Cargo's target directory.
    pub fn of_pushes(target: &Path) -> Result<Self, Failure> {
        Self::read(target, &Case::USUAL, (&Peer::ALL, Peer::name), "results")
    }
}

impl<P: Copy> Options<P> {
    /// Reads the environment. By default, the cases are the usual ones, all peers take part, and
    /// everything lies below Cargo's target directory.
    pub(crate) fn read(
        target: &Path,
        usual: &[Case],
        (peers, name): (&[P], fn(P) -> &'static str),
        out: &str,
    ) -> Result<Self, Failure> {
        let bench = target.join("bench");
        let path =
            |name, default: &str| variable(name).map_or_else(|| bench.join(default), PathBuf::from);
        Ok(Self {
            cases: match variable("BENCH_CASES") {
                None => usual.to_vec(),
                Some(_) => choice("BENCH_CASES", &Case::ALL, Case::name)?,
            },
            works: choice("BENCH_WORKS", &Work::ALL, Work::name)?,
            peers: choice("BENCH_PEERS", peers, name)?,
            places: choice("BENCH_PLACES", &Place::ALL, Place::name)?,
            round_trips: milliseconds("BENCH_RTT", &[0, 50, 350])?,
            runs: runs(5)?,
            data: path("BENCH_DATA", "data"),
            dir: path("BENCH_DIR", "run"),
            out: path("BENCH_OUT", out),
        })
    }
}

/// Returns an environment variable, unless it is empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads a list of times.
fn milliseconds(name: &str, default: &[u64]) -> Result<Vec<Duration>, Failure> {
    let read = match variable(name) {
        None => default.to_vec(),
        Some(text) => text
            .split(',')
            .map(|each| number(name, each))
            .collect::<Result<_, _>>()?,
    };
    Ok(read.into_iter().map(Duration::from_millis).collect())
}

/// Reads how often to run what takes about a second.
fn runs(default: usize) -> Result<usize, Failure> {
    match variable("BENCH_RUNS") {
        None => Ok(default),
        Some(text) => Ok(usize::try_from(number("BENCH_RUNS", &text)?).unwrap_or(usize::MAX)),
    }
}

fn number(name: &str, text: &str) -> Result<u64, Failure> {
    text.parse()
        .map_err(|_| Failure::new(format!("{name} has {text:?}, which is no number")))
}

/// Reads a list of names separated by commas, or `none`; without the variable, returns all.
pub(crate) fn choice<T: Copy>(
    variable_name: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<Vec<T>, Failure> {
    let Some(names) = variable(variable_name) else {
        return Ok(all.to_vec());
    };
    if names == "none" {
        return Ok(Vec::new());
    }
    let find = |wanted: &str| {
        let found = all.iter().copied().find(|each| name(*each) == wanted);
        found.ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|each| name(*each)).collect();
            Failure::new(format!(
                "{variable_name}: there is no {wanted:?} among {}",
                known.join(",")
            ))
        })
    };
    names.split(',').map(find).collect()
}
