//! Claims about the protocol crate: its frames, and both sessions against each other.

mod frames;
mod pushes;
