//! Collection beside pushes: what no ref reaches is deleted while sessions push.
//!
//! There is no lock. Collectors and sessions find each other through a few small keys, and two
//! machines without I/O decide everything: [`Member`], a session's part, and [`Collector`]. The
//! model in `tests/models` runs these machines in every order of their requests.
//!
//! **The idea.** A collector writes a list of objects that it is about to delete: it *condemns*
//! them. It waits until each session that was there either *acknowledges* the list or is *fenced*,
//! having not renewed its lease. Then it looks once more at what is reached, and *sweeps* the rest.
//! A session that keeps to a list counts what is on it as absent, unless it has *spared* the object
//! in time. So **any list is safe**: one that names too much costs requests, never an object. Age
//! (the grace) decides only what is worth condemning.
//!
//! | key | content | written by |
//! |---|---|---|
//! | `gc` | [`Gc`]: epoch, phase, the list's name | collectors; a session that ends a dead sweep |
//! | `sessions/ID` | [`Lease`]: beat, last list acknowledged, whether fenced | its session; a collector to fence it |
//! | `condemned/EPOCH-JUDGE`, `spared/EPOCH/ID-N` | objects (`lists.rs`) | a collector; a session |
//!
//! # Rules of sessions
//!
//! - **R1** A session stores its lease, and only then reads the refs on which it relies.
//! - **R2** It reads `gc` after its lease is stored, and if a list is condemned or being swept,
//!   that list, before it relies on anything or puts anything.
//! - **R3** A lease moves by compare-and-swap. A session whose renewal fails because the lease is
//!   fenced or gone publishes nothing.
//! - **R4** From its acknowledgement until the sweep is over, a session counts condemned objects as
//!   absent, beneath bases and in journals too, and puts none of them, but for those that it has
//!   spared. An object that was counted as absent stays so when the sweep is over: it must be put.
//! - **R5** Before it acknowledges a list, it writes which of its objects it relies on: a base's
//!   commit (for its closure list) and what is beneath it, what it took from a journal, and what it
//!   has begun to put, answered or not.
//! - **R6** It may spare more later: it writes the list, then reads `gc`. Only if the phase is
//!   still *condemned* was that in time.
//! - **R7** Each list of spared objects has a key of its own: a late put replaces none.
//! - **R8** Right before it sends the put of a commit or of a ref, less than half of the lease's
//!   life has passed since it *sent* its last successful renewal. Otherwise it renews first.
//! - **R9** It removes its lease when it is over, unless the answer to a put of a commit or ref was
//!   lost: then the lease stays until it ends.
//! - **R10** A journal states the epoch that its session keeps to. What it names counts if that is
//!   the epoch of the reader, or the one before and the reader's list does not name the object.
//! - **R11** A journal names only puts that were answered.
//!
//! # Rules of collectors
//!
//! - **R12** `gc` moves by compare-and-swap.
//! - **R13** No two lists of condemned objects have the same name, and a name has one content.
//! - **R14** A collector lists the leases after `gc` says *condemned*, and waits for each: until it
//!   has acknowledged, is fenced, or is gone. Later leases know of the list (R2).
//! - **R15** A lease that is older than its life, by the server's clock, is fenced, not ignored.
//! - **R16** `gc` says *sweeping* before refs and spared objects are read.
//! - **R17** All refs are read again then, and the summary, and what they reach stays.
//! - **R18** What any list of this epoch spares stays, and what a spared commit reaches.
//! - **R19** What a commit reaches stays if the commit is there and not on the list.
//! - **R20** Commits are deleted first, then directories, then files.
//! - **R21** A request to delete is sent only while less than half of the claim's life has passed
//!   since this collector sent its last successful move of `gc`.
//! - **R22** Another collector goes on with a sweep, or a session ends it, only when `gc` has
//!   stayed the same for longer than a claim lives.
//! - **R23** `gc` says *idle* only when each request to delete was answered or can take no effect
//!   any more.
//! - **R24** No two versions of `gc` or of a lease are the same bytes: servers compare hashes.
//!
//! A session needs no pins on its bases: it spares what it needs of them (R5), and until then
//! nothing is deleted (R14). It needs no second look at the refs either: it reads them once, under
//! its lease (R1).
//!
//! # What shows that they are enough, and needed
//!
//! `tests/models/src/collection` visits all states of small models (one or two sessions, one or two
//! collectors, a retry by journal, a base whose ref is removed, a lost answer, a late request, a
//! pause beyond a lease, a death): no ref or commit loses anything, and everybody ends with no
//! garbage left. Breaking any one rule gives a counter-example, 12 to 29 steps long. The grace is
//! no rule: the models have none. `tests.rs` runs the store itself beside collectors, each request
//! in an order drawn from a seed.
//!
//! # Assumptions
//!
//! A request takes effect within [`REQUEST_LIFE`] after it was sent, or never. Reads and lists
//! show every write that was answered before. The monotonic clocks of the machines run equally
//! fast.

mod collector;
mod lists;
mod member;
mod reach;
mod record;
mod run;
#[cfg(test)]
mod tests;

pub use self::collector::{
    Ask as CollectorAsk, Collector, Doomed, End, Heard as CollectorHeard, Rank,
};
#[allow(unused_imports, reason = "those who need all of it come one by one")]
pub(crate) use self::lists::{condemned_key, decode_ids, encode_ids, spared_key};
pub use self::member::{Ask, Fate, Heard, Member};
pub use self::record::{Gc, Lease, ListName, Nonce, Phase};
pub use self::run::{CollectEvent, CollectOptions, Collected, collect, would_collect};

use std::time::Duration;

/// How long a session counts as alive after its lease was stored, by the server's clock.
pub const LEASE_LIFE: Duration = Duration::from_secs(30 * 60);
/// How often a session renews its lease.
pub const LEASE_RENEWAL: Duration = Duration::from_secs(5 * 60);
/// How long a collector's claim counts after `gc` was stored, by the server's clock.
pub const CLAIM_LIFE: Duration = Duration::from_secs(10 * 60);
/// How long after it was sent a request may still take effect.
pub const REQUEST_LIFE: Duration = Duration::from_secs(4 * 60);

const _: () = assert!(LEASE_LIFE.as_secs() / 2 > REQUEST_LIFE.as_secs());
const _: () = assert!(CLAIM_LIFE.as_secs() / 2 > REQUEST_LIFE.as_secs());
