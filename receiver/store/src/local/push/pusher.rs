//! Whose push it is.

use crate::local::repository::account::Account;
use crate::policy::Policy;

/// The pushing identity, and its rights.
#[derive(Debug)]
pub(crate) struct Pusher<'a> {
    pub(crate) identity: &'a str,
    pub(crate) policy: &'a Policy,
    pub(crate) account: Option<Account>,
}
