//! What the server opens in the repository: single files, and the summary with its signature.

mod files;
mod pairs;

pub(crate) use self::files::{Files, Found, Identity, Validators};
pub(crate) use self::pairs::{Half, Pairs, SUMMARY, Which};
