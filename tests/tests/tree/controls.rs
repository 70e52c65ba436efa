//! The seeded faults of `tests/controls` still apply.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A change near a fault makes its patch stale; this test finds that out at once, `make
/// chaos-controls` only hours later.
#[test]
fn every_seeded_fault_can_still_be_planted() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut planted = 0;
    for entry in fs::read_dir(workspace.join("tests/controls")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "patch")
        {
            continue;
        }
        let mut patch = Command::new("patch");
        patch.args(["--dry-run", "--force", "--silent", "-p1", "-i"]);
        let output = patch.arg(&path).current_dir(&workspace).output();
        let output = output.expect("patch, of the Debian package of that name");
        assert!(output.status.success(), "{}: {output:?}", path.display());
        planted += 1;
    }
    assert!(planted >= 12);
}
