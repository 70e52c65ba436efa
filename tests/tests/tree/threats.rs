//! The threat table of `tests/README.md` names existing tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use artifact_tests::claims::CLAIMS;

/// Adds the name of every function in the Rust files below `dir`.
fn functions(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(str::trim);
            let lines = lines.map(|line| line.strip_prefix("async ").unwrap_or(line));
            let lines = lines.filter_map(|line| line.strip_prefix("fn "));
            names.extend(lines.filter_map(|line| Some(line.split_once('(')?.0.to_owned())));
        }
    }
}

#[test]
fn every_test_that_the_threat_table_names_exists() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut known: BTreeSet<String> = CLAIMS.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.insert("make chaos".to_owned());
    for package in ["protocol", "receiver", "sender", "tests"] {
        functions(&workspace.join(package), &mut known);
    }
    let manual = fs::read_to_string(workspace.join("tests/README.md")).unwrap();
    let rows: Vec<&str> = manual
        .lines()
        .filter(|line| line.starts_with("| T"))
        .collect();
    for (number, row) in (1..).zip(&rows) {
        assert!(row.starts_with(&format!("| T{number} |")), "{row}");
        let tests = row.trim_end_matches('|').rsplit_once('|').unwrap().1;
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{row}");
        for name in named {
            assert!(known.contains(name), "there is no {name}: {row}");
        }
    }
    assert_eq!(rows.len(), 46);
}
