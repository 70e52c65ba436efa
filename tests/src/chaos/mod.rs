//! Real faults for the real receiver, and for the store as pulls use it: kills at every call that
//! changes something, failing calls, disks that fill up, and power cuts of real file systems.
//!
//! After each fault, [`invariants`](crate::invariants) judges the repository. Then the same push is
//! repeated, and must succeed at once. [`suite`] lists the points and runs them; [`point`] is one
//! of them. `tests/README.md` says what this proves and what not.

pub mod client;
pub mod disk;
pub mod point;
pub mod puller;
pub mod scenario;
pub mod suite;
pub mod survey;
pub mod tally;
