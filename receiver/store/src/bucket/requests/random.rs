//! Random numbers: for names that must be unique, for waits that must differ, and for faults that a
//! seed repeats.

use crate::error::Error;

/// Returns a number that no other process has, for a name.
pub(crate) fn unique() -> Result<u64, Error> {
    getrandom::u64().map_err(|error| Error::io("reading", &"random numbers")(error.into()))
}

/// The generator `splitmix64`: small, fast, and good enough where nobody gains by guessing.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator that gives the same numbers for the same seed.
    pub(crate) const fn of_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator with a random seed.
    pub(crate) fn new() -> Self {
        // After a failure, two processes may at worst wait equally long.
        Self(getrandom::u64().unwrap_or_else(|_| std::process::id().into()))
    }

    /// Returns the next number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which is not zero.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
