//! How long pushes take, what they cost at both ends, and what others need for the same.
//!
//! [`scene`] lists what is measured, [`data`] makes what is pushed, [`peer`] has the commands, and
//! [`suite`] runs them in turn; [`report`] and [`goals`] say what came out. [`lock`], [`growth`] and
//! [`verify`] look at what no peer can be compared with. `tests/bench/README.md` says how it measures
//! and how to read it.
//!
//! Numbers are for people to judge: nothing here fails because something is slow. It fails when a
//! push does, or when what it left is not what was pushed.

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
pub mod plot;
pub mod report;
pub mod scene;
pub mod spread;
pub mod suite;
pub mod timed;
pub mod usage;
pub mod verify;
