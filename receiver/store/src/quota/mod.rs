//! The quotas of an identity: how much its refs, and the objects that its pushes have brought, may
//! take. Each store keeps the account of what they take.

pub(crate) mod load;
pub(crate) mod refs;
