//! How long pushes take, what they cost at both ends, and what the same costs others.
//!
//! [`scene`] lists the measurements, [`data`] makes the test data, [`peer`] has the commands, and
//! [`suite`] runs them by turns; [`report`] and [`goals`] show the results. [`pulls`] does the same
//! for pulls. [`lock`], [`growth`] and [`verify`] measure what no peer has.
//! `tests/bench/README.md` explains how it measures and how to read the results.
//!
//! People judge the numbers: slowness is no failure. A failed push is one, and so is a wrong result
//! of a push.
#![expect(
    missing_docs,
    reason = "measurements for people: many fields need no more than their name"
)]

pub mod case;
pub mod codec;
pub mod data;
pub mod goals;
pub mod growth;
pub mod lock;
pub mod neighbours;
pub mod options;
pub mod outcome;
pub mod peer;
mod places;
pub mod plot;
pub mod pulls;
pub mod report;
pub mod scene;
pub mod spread;
pub mod suite;
pub mod timed;
pub mod usage;
pub mod verify;
