//! Pushes into a bucket in memory.

mod chaos;
mod faults;
mod ordinary;
mod prices;
mod races;
mod world;
