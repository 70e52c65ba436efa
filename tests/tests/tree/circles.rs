//! No file imports from a file that imports from it, directly or by way of others.
//!
//! An import is any path that begins with `crate`, `super` or `self`, in a `use` or elsewhere,
//! outside unit tests. Declaring a module is no import, nor is using an item of a module declared
//! in the same file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::sources::{Module, Sources, before_tests, members, workspace};

/// Folders whose files may import from each other.
const ALLOWED: [&str; 6] = [
    // The states of one session: SPEC's own diagram has loops, and each transition names the state
    // it leads to.
    "protocol/src/session/receiver",
    "protocol/src/session/sender",
    "protocol/src/session/pull/client",
    "protocol/src/session/pull/server",
    "protocol/src/dialect/receiver",
    "protocol/src/dialect/sender",
];

impl Sources {
    /// Returns the modules that each module imports from.
    fn imports(&self) -> BTreeMap<&Module, BTreeSet<&Module>> {
        let imports = |(module, path): (&'_ Module, &PathBuf)| {
            let text = fs::read_to_string(path).unwrap();
            let code: Vec<&str> = before_tests(&text)
                .lines()
                .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
                .collect();
            paths(&code.join("\n"))
                .into_iter()
                .filter_map(|path| self.resolve(module, &path))
                .collect::<BTreeSet<Module>>()
        };
        self.files
            .iter()
            .map(|(module, path)| {
                let found = imports((module, path));
                let known = found
                    .iter()
                    .filter(|target| *target != module)
                    .filter_map(|target| self.files.get_key_value(target))
                    .map(|(target, _)| target)
                    .collect();
                (module, known)
            })
            .collect()
    }

    /// Returns the module of the item that a path in `module` names.
    fn resolve(&self, module: &Module, path: &[String]) -> Option<Module> {
        let mut at = match path.first()?.as_str() {
            "crate" => Vec::new(),
            _ => module.clone(),
        };
        for name in path {
            match name.as_str() {
                "crate" | "self" => {}
                "super" => {
                    at.pop()?;
                }
                _ => {
                    let mut below = at.clone();
                    below.push(name.clone());
                    if !self.files.contains_key(&below) {
                        break;
                    }
                    at = below;
                }
            }
        }
        Some(at)
    }
}

/// Returns every path that begins with `crate`, `super` or `self`, with braces written out.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let starts = code.match_indices("::").filter_map(|(at, _)| {
        let word = code[..at]
            .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
            .next()?;
        let before = code[..at - word.len()].chars().last();
        let begins = ["crate", "super", "self"].contains(&word) && before != Some(':');
        begins.then_some(at - word.len())
    });
    for start in starts {
        let mut rest = &code[start..];
        tree(&mut rest, &mut Vec::new(), &mut paths);
    }
    paths
}

/// Reads one path, or one tree of a `use`, and stops behind it.
fn tree(rest: &mut &str, before: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let depth = before.len();
    loop {
        *rest = rest.trim_start();
        if let Some(inner) = rest.strip_prefix('{') {
            *rest = inner;
            while !rest.trim_start().starts_with('}') && !rest.trim_start().is_empty() {
                tree(rest, before, paths);
                *rest = rest.trim_start().trim_start_matches(',');
            }
            *rest = rest.trim_start().trim_start_matches('}');
            break;
        }
        let len = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (word, behind) = rest.split_at(len);
        if word.is_empty() {
            // A glob, or a token that begins no path; never read twice.
            *rest = rest.get(1..).unwrap_or_default();
            paths.push(before.clone());
            break;
        }
        before.push(word.to_owned());
        *rest = behind;
        match rest.strip_prefix("::") {
            Some(further) => *rest = further,
            None => {
                paths.push(before.clone());
                if let Some(alias) = rest.trim_start().strip_prefix("as ") {
                    let end = alias.find([',', ';', '}']).unwrap_or(alias.len());
                    *rest = &alias[end..];
                }
                break;
            }
        }
    }
    before.truncate(depth);
}

/// Returns the groups of modules that import from each other.
fn circles<'a>(imports: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> Vec<BTreeSet<&'a Module>> {
    let reached = |from: &'a Module| {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&'a Module> = imports[from].iter().copied().collect();
        while let Some(module) = next.pop() {
            if reached.insert(module) {
                next.extend(&imports[module]);
            }
        }
        reached
    };
    let all: BTreeMap<&Module, BTreeSet<&'a Module>> = imports
        .keys()
        .map(|module| (*module, reached(module)))
        .collect();
    let groups = imports
        .keys()
        .filter(|module| all[**module].contains(*module));
    let groups: BTreeSet<BTreeSet<&'a Module>> = groups
        .map(|module| {
            let mutual = all[*module]
                .iter()
                .filter(|other| all[**other].contains(module));
            mutual.copied().collect()
        })
        .collect();
    groups.into_iter().collect()
}

#[test]
fn no_file_imports_from_a_file_that_imports_from_it() {
    for member in members() {
        let sources = Sources::of(&workspace().join(member).join("src"));
        for circle in circles(&sources.imports()) {
            let files: Vec<&Path> = circle
                .iter()
                .map(|module| sources.files[*module].strip_prefix(workspace()).unwrap())
                .collect();
            let allowed = |folder: &&str| files.iter().all(|file| file.starts_with(folder));
            assert!(ALLOWED.iter().any(allowed), "{files:?}");
        }
    }
}

#[test]
fn a_path_is_found_wherever_it_stands() {
    let code = "use crate::a::{self, b::{C, D as E}, f::*};\nlet x = super::g::h(self::i::J);";
    let found: Vec<String> = paths(code).iter().map(|path| path.join("::")).collect();
    assert_eq!(
        found,
        [
            "crate::a::self",
            "crate::a::b::C",
            "crate::a::b::D",
            "crate::a::f",
            "super::g::h",
            "self::i::J",
        ]
    );
}
