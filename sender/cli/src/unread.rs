//! The failures of reading a cache and of pulling, as the user sees them.

use std::error::Error as _;
use std::fmt::Display;

use artifact_formats::with_causes;
use artifact_protocol::exit;
use artifact_puller::{Cause, Error, Fault, Reason, Unverified, WebError};

use crate::trouble::Trouble;

impl Trouble {
    /// Describes a pull that failed.
    pub(crate) fn of_pull(error: &Error, place: &dyn Display) -> Self {
        let told = Self::of_reading(error);
        match error {
            // These say where they come from.
            Error::Web(_)
            | Error::NotARepository { .. }
            | Error::NotAnArchive { .. }
            | Error::NoSummary { .. }
            | Error::Config { .. }
            | Error::BadFile { .. }
            | Error::Local { .. }
            | Error::LocalConfig { .. }
            | Error::Io { .. } => told,
            Error::Store(_) => Self {
                text: format!("cannot store the objects of {place}: {}", causes(error)),
                ..told
            },
            _ => Self {
                text: format!("cannot pull from {place}: {}", told.text),
                ..told
            },
        }
    }

    /// Describes a cache that cannot be read.
    pub(crate) fn of_reading(error: &Error) -> Self {
        let may_pass = error.may_pass();
        if let Error::Web(error) = error {
            return Self::of_web(error);
        }
        Self {
            may_pass,
            code: match error.fault() {
                Fault::Connection => exit::CONNECTION,
                Fault::Cache => exit::STORAGE,
                Fault::Signature => exit::REFUSED_OBJECT,
                Fault::Local => exit::SOURCE,
                Fault::Bug => exit::OTHER,
            },
            text: match causes(error) {
                more if more.is_empty() => error.to_string(),
                more => format!("{error}: {more}"),
            },
            advice: advice(error).map(str::to_owned),
        }
    }

    /// Describes a local repository that cannot be opened or created.
    pub(crate) fn of_local(error: Error) -> Self {
        Self::of_reading(&error)
    }

    /// Describes a file that a web server does not send.
    pub(crate) fn of_web(error: &WebError) -> Self {
        let advice = match &error.cause {
            Cause::UnknownHost(_) => Some("the host's name is unknown: check its spelling"),
            Cause::NotListening(_) => Some("no server listens there: check the port"),
            Cause::Untrusted(_) => Some(
                "add its authority to those that this machine trusts, below /etc/ssl/certs, or \
                 name it with --ca FILE",
            ),
            Cause::Certificates(_) => Some("give PEM files with --ca, --client-cert, --client-key"),
            Cause::Status {
                code: 401 | 403, ..
            } => Some("the web server must let everybody read it, or give --client-cert FILE"),
            Cause::Status {
                code: 429 | 500.., ..
            } => Some("the web server has failed: try again later"),
            Cause::Connection(_) | Cause::CutOff | Cause::TooSlow => {
                Some("pull again: objects that are here already are not fetched twice")
            }
            _ => None,
        };
        Self {
            may_pass: error.may_pass(),
            code: match (&error.cause, error.is_of_connection()) {
                (Cause::Certificates(_), _) => exit::USAGE,
                (_, true) => exit::CONNECTION,
                (_, false) => exit::STORAGE,
            },
            text: match error.source() {
                Some(source) => format!("{error}: {}", with_causes(source)),
                None => error.to_string(),
            },
            advice: advice.map(str::to_owned),
        }
    }
}

/// Returns what the user can do.
fn advice(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NotARepository { .. } => "give the address of the repository's own directory",
        Error::NoSummary { .. } => {
            "the first push creates it; until then you can pull a ref by its name"
        }
        Error::Lacking { .. } => {
            "the cache lacks an object that one of its commits needs: tell its operator"
        }
        Error::Damaged { .. } | Error::BadFile { .. } | Error::BadCommit { .. } => {
            "the cache is damaged, and no ref was set here: tell its operator"
        }
        Error::StillMissing { .. } => "pull again: the cache is changing at the moment",
        Error::Binding { .. } => {
            "tell the operator of the cache: somebody has given a commit a name that is not its own"
        }
        Error::Unverified(Unverified { reason, .. }) => match reason {
            Reason::NoKeys { .. } | Reason::BadKeys { .. } | Reason::Gpgv(_) => return None,
            Reason::Unsigned { .. } | Reason::NoSummary => {
                "ask the publisher to sign it, or say in the repository's config that the remote \
                 needs no signatures (`ostree config set 'remote \"NAME\".gpg-verify' false`)"
            }
            _ => "somebody else may have made it: ask the publisher which key signs now",
        },
        Error::Store(artifact_store::Error::Busy { .. }) => {
            "another program has locked the repository: pull again later"
        }
        Error::Store(artifact_store::Error::Full { .. } | artifact_store::Error::NoRoom { .. }) => {
            "free space where the local repository is, and pull again"
        }
        _ => return None,
    })
}

/// Joins the causes of an error.
fn causes(error: &Error) -> String {
    error.source().map(with_causes).unwrap_or_default()
}
