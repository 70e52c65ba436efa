//! What one client may hold: `shares.rs` counts how much, `activity.rs` judges how long.

mod activity;
mod shares;

pub(crate) use self::activity::{Activity, Counted, Running, Timeouts, Verdict, Watch};
pub(crate) use self::shares::{Share, Shares, Source};
