//! Translates the library's errors into errors of the store's seam.

use std::error::Error as StdError;

use artifact_store::bucket::BucketError;
use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use crate::engine::http::{NO_BUCKET, Refusal};

/// Sorts an error by whether the server executed the request, and by the party at fault.
pub(super) fn error_of(error: &Error) -> BucketError {
    let Some(refusal) = find::<Refusal>(error) else {
        let text = innermost(error);
        return match find::<HttpError>(error).map(HttpError::kind) {
            Some(HttpErrorKind::Connect) => BucketError::Busy(format!("no connection: {text}")),
            Some(_) => BucketError::Unclear(text),
            None => match error {
                Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                    BucketError::Refused(text)
                }
                _ => BucketError::Broken(text),
            },
        };
    };
    let text = refusal.to_string();
    match (refusal.status, refusal.code.as_str()) {
        (429, _) | (_, "SlowDown" | "ServiceUnavailable") => BucketError::Busy(text),
        (_, "RequestTimeTooSkewed") => BucketError::Refused(format!(
            "{text}: the clocks of this machine and the server differ"
        )),
        (_, "RequestTimeout" | "InternalError") | (408 | 500..=599, _) => {
            BucketError::Unclear(text)
        }
        (401 | 403, _) | (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            BucketError::Refused(text)
        }
        (_, NO_BUCKET) => BucketError::Refused("there is no such bucket".to_owned()),
        _ => BucketError::Broken(text),
    }
}

/// Returns the status of the server's refusal.
pub(super) fn status_of(error: &Error) -> Option<u16> {
    find::<Refusal>(error).map(|refusal| refusal.status)
}

/// Returns the code of the server's refusal.
pub(super) fn code_of(error: &Error) -> Option<&str> {
    find::<Refusal>(error).map(|refusal| refusal.code.as_str())
}

pub(super) fn is_missing_bucket(error: &Error) -> bool {
    code_of(error) == Some(NO_BUCKET)
}

/// Returns the first cause of this type.
fn find<T: StdError + 'static>(error: &Error) -> Option<&T> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Returns the text of the last cause: the outer errors repeat it, with names from the library.
fn innermost(error: &Error) -> String {
    let mut last: &dyn StdError = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
