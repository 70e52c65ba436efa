//! Pushes into a bucket in memory.

mod bases;
mod chaos;
mod crowd;
mod faults;
mod limits;
mod names;
mod ordinary;
mod prices;
mod quotas;
mod races;
mod repairs;
pub(crate) mod world;
