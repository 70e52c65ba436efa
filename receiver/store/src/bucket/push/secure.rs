//! Makes sure that a push may rely on the objects that the lists of its bases name, after it has
//! read lists.

use artifact_formats::{Checksum, ObjectId};

use crate::bucket::push::history::History;
use crate::bucket::push::work::Work;
use crate::bucket::requests::ask::ask_all;
use crate::error::Error;

/// Learns the histories that the lists of the bases name. Under a lease, spares the condemned
/// objects on the lists, and loses the bases of objects that it could not spare in time. Then it
/// stores the lists that were made again.
///
/// The push has just read the lists of the commits `read`, and kept to the epoch `since` before
/// that. If it keeps to another epoch now, it loses these bases as well.
pub(super) fn secure(
    work: &Work,
    history: &mut History,
    read: &[Checksum],
    since: u64,
) -> Result<(), Error> {
    let lists: Vec<_> = work.bases.lock().lists().cloned().collect();
    for list in &lists {
        history.learn_heading(list.commit(), list.heading());
    }
    let Some(writer) = &work.writer else {
        return Ok(());
    };
    let membership = &writer.membership;
    let named = || {
        lists.iter().flat_map(|list| {
            // The commit, too: its list is deleted together with it (R5).
            let commit = std::iter::once(ObjectId::commit(list.commit()));
            commit.chain(list.objects().map(|(id, _)| id))
        })
    };
    let (spare, _) = membership.doubtful(named());
    if !spare.is_empty() {
        membership.spare(spare, |id| work.relies_on(id))?;
    }
    let (late, gone) = membership.doubtful(named());
    // R25. The epoch is read after the last judgement: when the push acknowledges a list later, it
    // spares these objects.
    let has_moved_on = membership.epoch() != since;
    let mut bases = work.bases.lock();
    bases.lose_naming(&[late, gone].concat());
    if has_moved_on {
        bases.lose_all(read);
    }
    let made = bases.take_made();
    drop(bases);
    // If this fails, the next push makes the list again.
    for failed in ask_all(&work.client, made)
        .into_iter()
        .filter_map(Result::err)
    {
        tracing::debug!(error = %failed, "a closure list that was made again is not stored");
    }
    Ok(())
}
