//! The refusal of a pull, by a status.

use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use crate::reply::{Body, last, plain, retry_later};

/// Why a request gets no answer in frames.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    Busy(StatusCode, &'static str),
    Bad(StatusCode, &'static str),
}

impl Refusal {
    /// Returns the answer, which is the last of its connection: its request may not be read.
    pub(crate) fn response(self, head: &Parts) -> Response<Body> {
        let response = match self {
            Self::Busy(status, why) => retry_later(status, why),
            Self::Bad(status, why) => plain(status, why),
        };
        last(response, head.version)
    }
}
