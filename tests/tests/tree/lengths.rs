//! No file of a program or library is longer than a reader takes in at once.

use std::fs;

use crate::sources::{Sources, before_tests, members, workspace};

/// The most lines of a file, without unit tests.
const LINES_MAX: usize = 400;

#[test]
fn no_file_that_ships_has_more_than_400_lines_before_its_tests() {
    let ships = |member: &String| !member.starts_with("tests") && !member.starts_with('.');
    for member in members().into_iter().filter(ships) {
        let sources = Sources::of(&workspace().join(member).join("src"));
        for (module, path) in sources.files {
            if module.iter().any(|part| part == "tests") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let lines = before_tests(&text).lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
        }
    }
}
