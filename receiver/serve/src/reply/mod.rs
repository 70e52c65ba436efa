//! What every answer is made of: a body, and short texts for those that have nothing else to say.

mod body;
mod part;
mod read;
mod short;

pub(crate) use self::body::Body;
pub(crate) use self::part::Readers;
pub(crate) use self::read::read_now;
pub(crate) use self::short::{
    NO_CACHE, last, no_cache, not_found, plain, retry_later, set, status,
};
