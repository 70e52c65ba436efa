//! The contents of the cache, in the order of its pages: projects, their elements, their keys.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use artifact_store::CatalogueRef;

/// All refs, as `project/element/key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shelf {
    refs: Vec<Item>,
    projects: Vec<Project>,
    // The refs pushed last, as indices into `refs`, the newest first.
    newest: Vec<usize>,
}

/// One ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) stored: CatalogueRef,
    /// The identity that set the ref to its commit, or made the ref, as far as known.
    pub(crate) who: Option<String>,
    // Where the project ends in the name, and where the key begins.
    project_end: usize,
    key_start: usize,
    // What a search looks at: name and identity, in lower case. No word holds what is between them.
    folded: String,
}

/// The elements whose names share the first component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    /// Empty for refs without a slash.
    pub(crate) name: String,
    pub(crate) elements: Vec<Element>,
    pub(crate) refs: usize,
    last: usize,
}

/// The refs whose names differ only in the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// Without the project; empty if the key follows it directly.
    pub(crate) name: String,
    // The newest first.
    refs: Vec<usize>,
}

impl Shelf {
    /// Sorts refs; `who` returns who pushed one.
    pub(crate) fn new(
        stored: Vec<CatalogueRef>,
        who: impl Fn(&CatalogueRef) -> Option<String>,
    ) -> Self {
        let mut refs: Vec<_> = stored
            .into_iter()
            .map(|stored| Item::new(stored, &who))
            .collect();
        refs.sort_unstable_by(|a, b| a.stored.name.cmp(&b.stored.name));
        let mut grouped: BTreeMap<&str, BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
        for (index, item) in refs.iter().enumerate() {
            let elements = grouped.entry(item.project()).or_default();
            elements.entry(item.element()).or_default().push(index);
        }
        let age = |&index: &usize| (Reverse(refs.get(index).map(|item| item.stored.set)), index);
        let mut projects = Vec::with_capacity(grouped.len());
        for (name, elements) in grouped {
            let elements = elements.into_iter().map(|(name, mut refs)| {
                refs.sort_unstable_by_key(age);
                Element {
                    name: name.to_owned(),
                    refs,
                }
            });
            let elements: Vec<_> = elements.collect();
            let all = || elements.iter().flat_map(|element| element.refs.iter());
            projects.push(Project {
                name: name.to_owned(),
                refs: all().count(),
                last: all().copied().min_by_key(age).unwrap_or_default(),
                elements,
            });
        }
        let mut newest: Vec<_> = (0..refs.len()).collect();
        if newest.len() > NEWEST {
            newest.select_nth_unstable_by_key(NEWEST, age);
            newest.truncate(NEWEST);
        }
        newest.sort_unstable_by_key(age);
        Self {
            refs,
            projects,
            newest,
        }
    }

    /// Returns the number of refs.
    pub(crate) const fn len(&self) -> usize {
        self.refs.len()
    }

    /// Returns the projects, sorted by name.
    pub(crate) fn projects(&self) -> &[Project] {
        &self.projects
    }

    /// Returns a project by its name.
    pub(crate) fn project(&self, name: &str) -> Option<&Project> {
        let found = self
            .projects
            .binary_search_by(|project| project.name.as_str().cmp(name));
        self.projects.get(found.ok()?)
    }

    /// Returns the ref of a project that was pushed last.
    pub(crate) fn last_of(&self, project: &Project) -> Option<&Item> {
        self.refs.get(project.last)
    }

    /// Returns the keys of an element, the newest first.
    pub(crate) fn keys<'a>(
        &'a self,
        element: &'a Element,
    ) -> impl ExactSizeIterator<Item = &'a Item> {
        element.refs.iter().map(|&index| &self.refs[index])
    }

    /// Returns the refs pushed last, the newest first.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Item> {
        self.newest.iter().map(|&index| &self.refs[index])
    }

    /// Returns the ref with this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Item> {
        let found = self
            .refs
            .binary_search_by(|item| item.stored.name.as_str().cmp(name));
        self.refs.get(found.ok()?)
    }

    /// Returns the position of a ref among the keys of its element.
    pub(crate) fn place_of(&self, item: &Item) -> usize {
        let element = self
            .project(item.project())
            .and_then(|p| p.element(item.element()));
        let mut keys = element.into_iter().flat_map(|element| self.keys(element));
        keys.position(|key| key.stored.name == item.stored.name)
            .unwrap_or(0)
    }

    /// Returns the refs whose name, commit or pusher contains each word, ignoring case, the newest
    /// first. No word finds nothing.
    pub(crate) fn search(&self, wanted: &str) -> Vec<&Item> {
        let words: Vec<_> = wanted
            .split_whitespace()
            .map(str::to_ascii_lowercase)
            .collect();
        if words.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<_> = self
            .refs
            .iter()
            .filter(|item| item.has_all(&words))
            .collect();
        found.sort_by_key(|item| Reverse(item.stored.set));
        found
    }
}

impl Project {
    /// Returns an element by its name.
    pub(crate) fn element(&self, name: &str) -> Option<&Element> {
        let found = self
            .elements
            .binary_search_by(|element| element.name.as_str().cmp(name));
        self.elements.get(found.ok()?)
    }
}

impl Item {
    fn new(stored: CatalogueRef, who: impl Fn(&CatalogueRef) -> Option<String>) -> Self {
        let (project_end, key_start) = match (stored.name.find('/'), stored.name.rfind('/')) {
            (Some(first), Some(last)) => (first, last + 1),
            _ => (0, 0),
        };
        let who = who(&stored);
        let mut folded = format!("{}\n{}", stored.name, who.as_deref().unwrap_or_default());
        folded.make_ascii_lowercase();
        Self {
            who,
            stored,
            project_end,
            key_start,
            folded,
        }
    }

    pub(crate) fn project(&self) -> &str {
        &self.stored.name[..self.project_end]
    }

    pub(crate) fn element(&self) -> &str {
        let between = self.project_end + 1..self.key_start.saturating_sub(1);
        self.stored.name.get(between).unwrap_or_default()
    }

    pub(crate) fn key(&self) -> &str {
        &self.stored.name[self.key_start..]
    }

    fn has_all(&self, words: &[String]) -> bool {
        words.iter().all(|word| {
            self.folded.contains(word.as_str())
                || is_digits(word) && self.stored.commit.to_hex().starts_with(word.as_str())
        })
    }
}

/// Returns whether a word may be the beginning of a commit's checksum, and is long enough to mean
/// one.
fn is_digits(word: &str) -> bool {
    word.len() >= 6 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// How many of the newest refs are kept.
const NEWEST: usize = 10;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use artifact_formats::Checksum;
    use proptest::prelude::*;

    use super::*;

    fn stored(name: &str, set: i64) -> CatalogueRef {
        CatalogueRef {
            name: name.to_owned(),
            commit: Checksum::new([0xab; 32]),
            set,
            made: None,
            size: None,
            owner: None,
        }
    }

    fn shelf(refs: &[(&str, i64)]) -> Shelf {
        let refs = refs.iter().map(|(name, set)| stored(name, *set)).collect();
        Shelf::new(refs, |stored| Some(format!("who-{}", stored.set)))
    }

    fn names<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<&'a str> {
        items
            .into_iter()
            .map(|item| item.stored.name.as_str())
            .collect()
    }

    #[test]
    fn a_name_is_project_element_and_key_however_many_parts_it_has() {
        let shelf = shelf(&[("main", 1), ("p/k", 2), ("p/e/k", 3), ("p/a/b/c", 4)]);
        let parts: Vec<_> = shelf
            .refs
            .iter()
            .map(|item| (item.project(), item.element(), item.key()))
            .collect();
        assert_eq!(
            parts,
            [
                ("", "", "main"),
                ("p", "a/b", "c"),
                ("p", "e", "k"),
                ("p", "", "k")
            ]
        );
    }

    #[test]
    fn the_last_pushed_comes_first() {
        let shelf = shelf(&[("p/e/a", 5), ("p/e/b", 9), ("p/f/c", 7), ("q/e/d", 1)]);
        assert_eq!(names(shelf.newest()), ["p/e/b", "p/f/c", "p/e/a", "q/e/d"]);
        let project = shelf.project("p").unwrap();
        assert_eq!(
            (project.refs, shelf.last_of(project).unwrap().key()),
            (3, "b")
        );
        assert_eq!(
            names(shelf.keys(project.element("e").unwrap())),
            ["p/e/b", "p/e/a"]
        );
        assert_eq!(shelf.place_of(shelf.find("p/e/a").unwrap()), 1);
    }

    #[test]
    fn a_search_finds_what_has_every_word() {
        let shelf = shelf(&[("App/gtk/k1", 1), ("app/qt/k2", 2), ("os/gtk/k3", 3)]);
        let found = |wanted: &str| names(shelf.search(wanted));
        assert_eq!(found("gtk APP"), ["App/gtk/k1"]);
        assert_eq!(found("gtk"), ["os/gtk/k3", "App/gtk/k1"]);
        assert_eq!(found("who-2"), ["app/qt/k2"]);
        assert_eq!(found("abABab").len(), 3);
        assert_eq!(found("ababa").len(), 0);
        assert_eq!(found(" ").len() + found("nothing").len(), 0);
    }

    proptest! {
        #[test]
        fn every_ref_is_on_exactly_one_page(
            names in prop::collection::btree_map("[ab]{1,2}(/[abc]){0,3}", 0..5i64, 0..40),
        ) {
            let refs: Vec<_> = names.iter().map(|(name, set)| (name.as_str(), *set)).collect();
            let shelf = shelf(&refs);
            let mut seen = Vec::new();
            for project in shelf.projects() {
                for element in &project.elements {
                    seen.extend(shelf.keys(element).map(|item| item.stored.name.clone()));
                }
                prop_assert_eq!(shelf.project(&project.name), Some(project));
            }
            prop_assert_eq!(seen.len(), names.len());
            prop_assert_eq!(shelf.len(), names.len());
            let seen: BTreeSet<_> = seen.into_iter().collect();
            prop_assert_eq!(seen, names.keys().cloned().collect());
        }
    }
}
