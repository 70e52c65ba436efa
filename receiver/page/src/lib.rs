//! The page that shows people a cache: its projects, elements and keys, how to pull them, who
//! pushed, how much room there is, and whether all is well.
//!
//! [`Site`] reads a repository and answers paths with whole pages of HTML; who asks and how is the
//! server's affair. The same pages can be had as files ([`Site::files`]). It changes nothing, and
//! never says what a client's address or key is, or why a push failed: everybody may read a page.
//!
//! Whatever comes from refs, the audit or a client is escaped twice: once for what no reader could
//! see, such as a character that turns the text round, and once for HTML. The pages load nothing.
//! Their policy allows one style, one script, and nothing else; without the script all works but
//! the buttons that copy. Start with [`Site`]; what is known of the cache is in `shelf.rs`.

mod address;
mod answer;
mod health;
mod links;
mod pages;
mod policy;
mod shelf;
mod site;
mod snapshot;
mod trail;
mod view;
mod words;

// The public interface is:
pub use address::{AddressError, PullUrl};
pub use answer::Page;
pub use site::{Options, Site};
