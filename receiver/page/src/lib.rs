//! The web pages of a cache: its projects, elements and keys, the commands to pull them, recent
//! pushes, free space, and the cache's health.
//!
//! [`Site`] reads a repository and answers paths with whole pages of HTML; connections and requests
//! are the server's affair. [`Site::files`] writes the same pages as files. The crate changes
//! nothing, and no page contains a client's address or key, or the reason why a push failed:
//! everybody may read a page.
//!
//! All text from refs, the audit log or a client is escaped twice: once for invisible characters,
//! such as one that reverses the text's direction, and once for HTML. The pages load no other
//! resource. Their policy allows one style, one script, and nothing else; without the script,
//! everything works except the copy buttons. Start with [`Site`]; `shelf.rs` has the data about the
//! cache.

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

// The public interface:
pub use address::{AddressError, PullUrl};
pub use answer::Page;
pub use site::{Options, Site};
