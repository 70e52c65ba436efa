//! `make bench-pull`: how long pulls take, what they cost, and what the same costs others.
//!
//! [`scene`] lists the measurements, [`puller`] has the commands, [`servers`] runs what they talk
//! to, [`suite`] runs them by turns, and [`table`] shows the results beside their goals.

pub mod puller;
pub mod scene;
pub mod servers;
pub mod suite;
pub mod table;
