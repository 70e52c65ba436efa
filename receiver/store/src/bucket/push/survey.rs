//! Makes a missing closure list of a commit from the commit's directories.

use std::collections::BTreeSet;

use artifact_formats::{Checksum, Commit, ObjectId, ObjectKind};
use bytes::Bytes;

use crate::bucket::push::closure::{Closure, Ground, Nothing, walk};
use crate::bucket::push::known::Known;
use crate::bucket::records::closures::{ClosureList, Heading, INCOMPLETE};
use crate::bucket::records::layout;
use crate::bucket::requests::ask::get_all;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::{Class, Condition, Request};
use crate::error::Error;
use crate::tree::children;

/// Makes and returns the exact list of a commit, with the request that stores it; `None` if the
/// commit is marked as incomplete, or if it or one of its directories is missing or damaged. Only a
/// push that may rely on the objects on the list may store it: otherwise a collection could have
/// deleted them in the meantime.
pub(crate) fn list(
    client: &Client,
    commit: Checksum,
) -> Result<Option<(ClosureList, Request)>, Error> {
    let key = layout::closure(commit);
    let old = client.get(&key).map_err(Error::bucket("reading", &key))?;
    // Only a push or a check of everything may remove the mark.
    if old.as_ref().is_some_and(|old| old.content == INCOMPLETE) {
        return Ok(None);
    }
    let mut known = Known::default();
    let root = ObjectId::commit(commit);
    let Some(content) = read(client, &[root])?.pop().flatten() else {
        return Ok(None);
    };
    let Ok(parsed) = Commit::parse(&content) else {
        return Ok(None);
    };
    let Some(mut dirs) = take(&mut known, root, &content) else {
        return Ok(None);
    };
    while !dirs.is_empty() {
        let mut below = BTreeSet::new();
        for some in dirs.chunks(AT_ONCE) {
            for (id, content) in some.iter().zip(read(client, some)?) {
                let named = content.and_then(|content| take(&mut known, *id, &content));
                let Some(named) = named else {
                    tracing::warn!(%commit, %id, "a commit in the bucket is incomplete");
                    return Ok(None);
                };
                below.extend(named.into_iter().filter(|id| !known.holds(id)));
            }
        }
        dirs = below.into_iter().collect();
    }
    let ground = Ground {
        known: &mut known,
        bases: &mut Nothing,
        parent: &mut |_| Ok(None),
        read: &|id| {
            let content = read(client, &[id])?.pop().flatten().unwrap_or_default();
            Ok(children(id, &content).unwrap_or_default())
        },
    };
    let Ok(Closure::Complete(_)) = walk(ground, &[commit], 0) else {
        return Ok(None);
    };
    let heading = Heading::exact(parsed.parent.into_iter().collect());
    let content = ClosureList::encode(commit, &heading, known.all_reached());
    let put = Request::Put {
        key,
        content: content.clone(),
        condition: old.map_or(Condition::New, |old| Condition::Is(old.tag)),
        class: Class::Private,
    };
    Ok(ClosureList::decode(commit, &content).map(|list| (list, put)))
}

/// Notes a directory or commit and its children; returns the directories among these. Trusts that
/// files and dirmetas exist.
fn take(known: &mut Known, id: ObjectId, content: &[u8]) -> Option<Vec<ObjectId>> {
    let below = children(id, content).ok()?;
    known.take(id, &below);
    let (dirs, others): (Vec<_>, Vec<_>) = below
        .into_iter()
        .partition(|child| child.kind == ObjectKind::Dirtree);
    for other in others {
        known.take(other, &[]);
    }
    Some(dirs)
}

/// Reads dirtrees or commits, in order; `None` for each that is missing or damaged.
fn read(client: &Client, ids: &[ObjectId]) -> Result<Vec<Option<Bytes>>, Error> {
    let keys: Vec<_> = ids.iter().map(layout::object).collect();
    let found = get_all(client, &keys)?.into_iter().zip(ids);
    let good = found.map(|(found, id)| {
        let content = found?.content;
        (Checksum::of(&content) == id.checksum).then_some(content)
    });
    Ok(good.collect())
}

/// Directories in memory at once.
const AT_ONCE: usize = 64;
