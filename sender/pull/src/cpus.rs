//! How much of this machine a pull may use.

use std::num::NonZero;
use std::thread::available_parallelism;

/// Returns the number of processors, 1 if that is not known.
pub(crate) fn cpus() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}
