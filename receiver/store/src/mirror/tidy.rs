//! Removes refs from the bucket that the repository no longer has, and frees their names.

use artifact_formats::RefName;

use crate::bucket::records::layout;
use crate::bucket::upkeep::free;
use crate::error::Error;
use crate::local::disk::Fs;
use crate::mirror::heads::Heads;
use crate::mirror::record::Record;
use crate::mirror::source::Refs;
use crate::mirror::turn::{MirrorEvent, Mirrored, Turn};
use crate::upkeep::rails::too_much;

/// Removes the bucket's refs that the repository does not have, unless these are too many.
pub(crate) fn refs<F: Fs>(
    turn: &Turn<'_, F>,
    refs: &Refs,
    heads: &Heads,
    record: &mut Record,
    done: &mut Mirrored,
) -> Result<(), Error> {
    let gone: Vec<&RefName> = heads
        .names()
        .filter(|name| !refs.heads.contains_key(*name))
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    if let Some(why) = too_much(heads.names(), gone.iter().copied())
        && !turn.options.allow_remove_all
    {
        (turn.report)(MirrorEvent::Refused { why });
        return Ok(());
    }
    let (mut keys, mut removed) = (Vec::new(), Vec::new());
    for name in gone {
        // A push may have set it in the meantime.
        if turn.source.head(name)?.is_some() {
            continue;
        }
        keys.extend(layout::head(name));
        removed.push(name);
        record.heads.remove(name);
        done.refs_removed += 1;
        (turn.report)(MirrorEvent::Removed {
            name: name.clone(),
            commit: heads.commit(name),
        });
    }
    if turn.options.dry_run {
        return Ok(());
    }
    let deleted = turn.client.delete(&keys);
    deleted.map_err(Error::bucket("removing", &"refs"))?;
    free(turn.client, &removed)
}
