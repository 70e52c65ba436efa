//! The machine's clock, by which prune removes and certificates expire.

use std::process::Command;

use crate::doctor::finding::Finding;
use crate::doctor::look;

pub(super) fn check() -> Option<Finding> {
    let mut command = Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    let said = look::run(&mut command).ok().filter(|ran| ran.succeeded);
    let Some(said) = said else {
        let what = "cannot tell whether anything keeps the clock right: timedatectl does not run";
        return Some(Finding::unseen("clock-unseen", what));
    };
    (said.stdout.trim() == "no").then(|| {
        let what = "nothing keeps this machine's clock right, and prune goes by it";
        Finding::warning("clock-unsynchronized", what).fix("timedatectl set-ntp true")
    })
}
