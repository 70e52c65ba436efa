//! Keeps an operator from removing all refs of a project, or most refs, by mistake.

use std::collections::BTreeMap;

use artifact_formats::{RefName, counted};

/// Returns why the operator must confirm that the refs `going` are removed from `refs`; `None` if
/// nobody need confirm it.
pub fn too_much<'a>(
    refs: impl Iterator<Item = &'a RefName>,
    going: impl Iterator<Item = &'a RefName>,
) -> Option<String> {
    let project = |name: &'a RefName| name.components().next().unwrap_or_default();
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut all, mut removed) = (0, 0);
    for name in refs {
        *left.entry(project(name)).or_default() += 1;
        all += 1;
    }
    for name in going {
        let count = left.entry(project(name)).or_default();
        *count = count.saturating_sub(1);
        removed += 1;
    }
    if let Some((emptied, _)) = left.iter().find(|(_, left)| **left == 0) {
        return Some(format!("it would leave no ref of project {emptied}"));
    }
    (removed * 2 > all).then(|| format!("it would remove {removed} of {}", counted(all, "ref")))
}
