//! Pushes into a bucket in memory.

mod bases;
mod chaos;
mod crowd;
mod faults;
mod ordinary;
mod prices;
mod races;
pub(crate) mod world;
