//! The walk through the tree of a pushed commit, in whatever store: it looks at each directory
//! once, finishes everything below a directory before the directory, and refuses a tree that nests
//! too deep (LIM-21).

pub(crate) mod descent;
pub(crate) mod id_map;
pub(crate) mod id_set;

use artifact_formats::limits::MAX_TREE_DEPTH;
use artifact_formats::{Commit, Dirtree, FormatError, ObjectId, ObjectKind};

use crate::error::Error;
use crate::tree::descent::{Descent, Levels, Next, TooMuch};

/// Returns the objects that an object names: a commit's tree, or a dirtree's entries.
pub(crate) fn children(id: ObjectId, content: &[u8]) -> Result<Vec<ObjectId>, FormatError> {
    match id.kind {
        ObjectKind::Commit => {
            let commit = Commit::parse(content)?;
            Ok(vec![
                ObjectId::new(ObjectKind::Dirtree, commit.tree),
                ObjectId::new(ObjectKind::Dirmeta, commit.meta),
            ])
        }
        ObjectKind::Dirtree => Ok(Dirtree::parse(content)?.children().collect()),
        ObjectKind::File | ObjectKind::Dirmeta => Ok(Vec::new()),
    }
}

/// The state of an object when it is named.
pub(crate) enum Look {
    /// It is here with everything below it, or missing.
    Settled(Levels),
    /// It is here, and the walk must look at the objects below it.
    Enter,
}

/// The objects of a push, as the store finds them.
pub(crate) trait Objects {
    /// Decides about a named object.
    fn look(&mut self, id: ObjectId) -> Result<Look, Error>;

    /// Returns the objects that a commit or directory names.
    fn children(&self, id: ObjectId) -> Result<Vec<ObjectId>, Error>;

    /// Notes that the walk has finished an object, with these levels of directories below it.
    fn reach(&mut self, id: &ObjectId, levels: Levels);

    /// Returns whether the push will report no more missing objects to the client.
    fn is_over(&self) -> bool;
}

/// Looks at a directory and everything below it.
pub(crate) fn walk(objects: &mut impl Objects, root: ObjectId) -> Result<(), Error> {
    let mut descent = Descent::new(MAX_TREE_DEPTH);
    let mut next = Some(Next::Look(root));
    while let Some(step) = next {
        match step {
            _ if objects.is_over() => return Ok(()),
            Next::Look(id) => match objects.look(id)? {
                Look::Settled(levels) if levels.are_too_many() => return Err(too_deep(id)),
                Look::Settled(levels) => descent.settle(levels),
                Look::Enter => enter(objects, &mut descent, id)?,
            },
            Next::Done(id, levels) if levels.are_too_many() => return Err(too_deep(id)),
            Next::Done(id, levels) => objects.reach(&id, levels),
        }
        next = descent.next();
    }
    Ok(())
}

/// Looks at every child of a directory except directories, which it queues.
fn enter(objects: &mut impl Objects, descent: &mut Descent, id: ObjectId) -> Result<(), Error> {
    let children = objects.children(id)?;
    for &child in &children {
        if child.kind != ObjectKind::Dirtree {
            objects.look(child)?;
        }
    }
    match descent.enter(id, children) {
        Ok(()) => Ok(()),
        Err(TooMuch::Deep) => Err(too_deep(id)),
        Err(TooMuch::Wide) => Err(Error::TooWide { id }),
    }
}

const fn too_deep(id: ObjectId) -> Error {
    // REQ-44.
    Error::TooDeep {
        id,
        limit: MAX_TREE_DEPTH,
    }
}
