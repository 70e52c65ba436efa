//! Collection beside pushes: deletes the objects that no ref reaches, while sessions push.
//!
//! Nobody takes a lock. Collectors and sessions find each other through a few small keys, and two
//! machines without I/O decide everything: [`Member`], a session's part, and [`Collector`]. The
//! model in `tests/models` runs these machines in every order of their requests.
//!
//! **The idea.** A collector writes a list of the objects that it is about to delete: it *condemns*
//! them. It waits until each running session has either *acknowledged* the list or been *fenced*
//! because it did not renew its lease. Then the collector checks once more which objects are
//! reached, and *sweeps* the rest. A session that keeps to a list counts the objects on it as
//! absent, unless it has *spared* them in time. So **any list is safe**: a list that names too much
//! costs requests, but never an object. Age (the grace) decides only which objects are worth
//! condemning.
//!
//! | key | content | written by |
//! |---|---|---|
//! | `gc` | [`Gc`]: epoch, phase, the list's name | collectors; a session that ends a dead sweep |
//! | `sessions/ID` | [`Lease`]: beat, last list, whether fenced | its session; a collector |
//! | `condemned/EPOCH-JUDGE`, `spared/EPOCH/ID-N` | objects (`lists.rs`) | a collector; a session |
//!
//! # Rules of sessions
//!
//! - **R1** A session stores its lease, and only then reads the refs that it relies on.
//! - **R2** A session reads `gc` after its lease is stored. If a list is condemned or being swept,
//!   it also reads that list before it relies on anything or puts anything.
//! - **R3** A lease moves by compare-and-swap. A session publishes nothing after its renewal has
//!   failed because the lease is fenced or gone.
//! - **R4** A session counts condemned objects as absent from its acknowledgement until the sweep
//!   is over, also beneath bases and in journals, and does not put them. Objects that it has spared
//!   are the exception. An object once counted as absent stays absent after the sweep: the session
//!   must put it.
//! - **R5** Before a session acknowledges a list, it writes the objects of the list that it relies
//!   on: the commits of bases (for their closure lists) and the objects beneath them, the objects
//!   that it took from a journal, and those that it has begun to put, answered or not.
//! - **R6** A session may spare more objects later: it writes a list of them, and then reads `gc`.
//!   The list was in time only if the phase is still *condemned*.
//! - **R7** Each list of spared objects has a key of its own: a late put replaces no other list.
//! - **R8** A session sends the put of a commit or a ref only while less than half of the lease's
//!   life has passed since it *sent* its last successful renewal. Otherwise it renews first.
//! - **R9** A session removes its lease when it ends, unless the answer to a put of a commit or a
//!   ref was lost: then the lease stays until it expires.
//! - **R10** A journal states the epoch that its session keeps to. The objects that it names count
//!   if that is the reader's epoch, or if it is the epoch before and the reader's list does not
//!   name them.
//! - **R11** A journal names only objects whose puts were acknowledged.
//! - **R25** A session notes its epoch, then reads the closure lists of bases, and then judges the
//!   objects on them. If its epoch has changed by then, it does not rely on these bases: the
//!   earlier list may have named an object that the session did not know to spare, and after that
//!   sweep the later list does not name the object.
//!
//! # Rules of collectors
//!
//! - **R12** `gc` moves by compare-and-swap.
//! - **R13** No two lists of condemned objects have the same name, and a name has one content.
//! - **R14** A collector lists the leases after `gc` says *condemned*. It waits until each of them
//!   has acknowledged the list, is fenced, or is gone. Later sessions read the list (R2).
//! - **R15** A collector fences a lease older than its life by the server's clock; it does not
//!   ignore it.
//! - **R16** `gc` says *sweeping* before the collector reads refs and spared objects.
//! - **R17** The collector then reads all refs and the summary again, and keeps what they reach.
//! - **R18** The collector keeps the objects that any list of this epoch spares, and everything
//!   that a spared commit reaches.
//! - **R19** The collector keeps everything that a commit reaches if that commit exists and is not
//!   on the list.
//! - **R20** The collector deletes commits first, then directories, then files.
//! - **R21** A collector sends a request to delete only while less than half of the claim's life
//!   has passed since it sent its last successful move of `gc`.
//! - **R22** Another collector continues a sweep, or a session ends it, only when `gc` has stayed
//!   the same for longer than a claim lives.
//! - **R23** `gc` says *idle* only when each request to delete was answered or can no longer take
//!   effect.
//! - **R24** No two versions of `gc` or of a lease are the same bytes: servers compare hashes.
//!
//! A session needs no pins on its bases: it spares the objects that it needs from them (R5), and
//! until then nothing is deleted (R14). It need not read the refs twice either: it reads them once,
//! under its lease (R1).
//!
//! # Evidence that the rules suffice and are necessary
//!
//! `tests/models/src/collection` visits all states of small models: one or two sessions, one or two
//! collectors, a retry by journal, a base whose ref is removed, a lost answer, a late request, a
//! pause beyond a lease, a death. No ref or commit loses anything, and every run ends without
//! garbage. Breaking any one rule gives a counter-example. The grace is not a rule: the models have
//! none. `tests.rs` runs the store itself beside collectors, each request in an order drawn from a
//! seed.
//!
//! # Assumptions
//!
//! A request takes effect within [`REQUEST_LIFE`] after it was sent, or never. Reads and lists
//! show every write that was acknowledged before. The monotonic clocks of all machines run at the
//! same speed.

mod collector;
mod garbage;
mod lists;
mod lives;
mod mark;
mod member;
mod reach;
mod record;
mod recount;
mod run;
mod server_clock;
#[cfg(test)]
mod tests;
mod tidy;

pub use self::collector::{
    Ask as CollectorAsk, Collector, Doomed, End, Heard as CollectorHeard, Rank,
};
pub(crate) use self::lists::{condemned_key, decode_ids, encode_ids, spared_key};
pub use self::lives::{CLAIM_LIFE, LEASE_LIFE, LEASE_RENEWAL, REQUEST_LIFE};
pub use self::member::judge::Fate;
pub use self::member::{Ask, Heard, Member};
pub use self::record::{Gc, Lease, ListName, Nonce, Phase};
pub use self::run::{CollectEvent, CollectOptions, Collected, collect, would_collect};
