//! The seeded faults of `tests/controls` can still be planted.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What changes near a fault makes its patch stale, which is found out here rather than hours later by
/// `make chaos-controls`.
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
