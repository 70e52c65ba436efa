//! The source files of the workspace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A module's path within its crate, such as `["frame", "head"]`.
pub(crate) type Module = Vec<String>;

/// The files of one crate, by module.
pub(crate) struct Sources {
    pub(crate) files: BTreeMap<Module, PathBuf>,
}

impl Sources {
    pub(crate) fn of(root: &Path) -> Self {
        let mut sources = Self {
            files: BTreeMap::new(),
        };
        sources.collect(root, root);
        sources
    }

    fn collect(&mut self, root: &Path, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.collect(root, &path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let within = path.strip_prefix(root).unwrap().with_extension("");
                let mut module: Module = within
                    .iter()
                    .map(|part| part.to_str().unwrap().to_owned())
                    .collect();
                let last = module.last().unwrap();
                if ["mod", "lib", "main"].contains(&last.as_str()) {
                    module.pop();
                }
                self.files.insert(module, path);
            }
        }
    }
}

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the folders of all crates.
pub(crate) fn members() -> Vec<String> {
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let members = manifest.split_once("members = [").unwrap().1;
    let members = members.split_once(']').unwrap().0;
    let names = members.split('"').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

/// Returns the part of a file before its unit tests, if these stand in it.
pub(crate) fn before_tests(text: &str) -> &str {
    let tests = |from: &str| from.lines().nth(2).is_some_and(|line| line.ends_with('{'));
    let mut marked = text.match_indices("\n#[cfg(test)]\nmod ");
    let begin = marked.find(|(at, _)| tests(&text[*at..]));
    begin.map_or(text, |(at, _)| &text[..at])
}

#[test]
fn only_unit_tests_that_stand_in_a_file_are_left_out() {
    let file = "use a;\n#[cfg(test)]\nmod tests;\npub use b;\n#[cfg(test)]\nmod more {\n}\n";
    assert_eq!(
        before_tests(file),
        "use a;\n#[cfg(test)]\nmod tests;\npub use b;"
    );
}
