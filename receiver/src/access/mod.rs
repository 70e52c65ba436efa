//! Identifies the client by what sshd says, never by what the client says.
//!
//! `key` parses public keys, `auth_info` the file in which sshd lists the keys that were used, and
//! `identity` maps them to an identity.

mod auth_info;
mod identity;
pub(crate) mod key;

pub use crate::access::auth_info::{AuthInfo, AuthInfoError};
pub use crate::access::identity::{Client, IdentityError, identify};
pub use crate::access::key::{Fingerprint, KeyError, PublicKey};
