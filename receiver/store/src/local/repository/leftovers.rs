//! What another program's interrupted pull has left: the objects of commits marked partial.

use artifact_formats::{Checksum, ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, list_dir};
use crate::local::repository::{Repo, objects};
use crate::tree;
use crate::tree::id_set::IdSet;

/// Adds the existing objects below partial commits to `all`, up to `most`; `found` are those in it.
pub(crate) fn add_partial<F: Fs>(
    repo: &Repo<F>,
    most: usize,
    found: &mut IdSet,
    all: &mut Vec<ObjectId>,
) -> Result<(), Error> {
    let mut looked = IdSet::default();
    for (name, _) in list_dir(&*repo.fs, &RepoPath::state())? {
        let commit = name.strip_suffix(RepoPath::PARTIAL);
        let Some(Ok(commit)) = commit.map(str::parse::<Checksum>) else {
            continue;
        };
        let mut stack = vec![ObjectId::new(ObjectKind::Commit, commit)];
        while let Some(id) = stack.pop() {
            if all.len() >= most {
                return Ok(());
            }
            if !looked.insert(id) || !repo.has(&id)? {
                continue;
            }
            if found.insert(id) {
                all.push(id);
            }
            if id.kind.has_children()
                && let Some(content) = objects::read_metadata(&*repo.fs, id)?
            {
                stack.extend(tree::children(id, &content).unwrap_or_default());
            }
        }
    }
    Ok(())
}
