//! libostree's own tests of pulling, with our server in the place of the one that comes with them.

use std::path::Path;
use std::process::Command;

use artifact_tests::exec::run;
use artifact_tests::programs;

use crate::extra;

#[test]
fn libostrees_own_tests_of_pulling_pass_against_our_server() {
    if !extra() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("libostree/run");
    let said = run(Command::new(script).arg(programs::serve().unwrap())).unwrap();
    let said = said.success().expect("`apt-get install ostree-tests`");
    assert!(
        said.lines().filter(|line| line.starts_with("ok ")).count() > 12,
        "{said}"
    );
}
