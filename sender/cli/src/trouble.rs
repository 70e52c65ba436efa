//! What went wrong, in one line; what to do about it, in another; and the exit code.

use std::process::ExitStatus;

use artifact_protocol::exit;
use artifact_protocol::frame::{CloseCode, DecodeError};
use artifact_sender::{Error, Remote, SessionError};

use crate::session;

/// A failure, fit to be shown.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) code: u8,
    pub(crate) text: String,
    pub(crate) advice: Option<String>,
}

impl Trouble {
    pub(crate) fn new(
        error: Error,
        remote: &Remote,
        status: Option<ExitStatus>,
        said: &[String],
    ) -> Self {
        let code = match is_answered_by_an_older_receiver(&error, said) {
            true => exit::NOT_THE_PROTOCOL,
            false => exit_code(&error),
        };
        let advice = match &error {
            Error::Unsettled(session @ SessionError::PeerClosed(_)) => {
                advise(session, remote, status, said)
            }
            Error::Unsettled(_) => Some(
                "push the same again: what is done already is found to be, and the rest is done"
                    .to_owned(),
            ),
            error if is_answered_by_an_older_receiver(error, said) => Some(
                "the receiver there is an older one, of BuildStream 1.x or ostree-push: install \
                 this project's in its place"
                    .to_owned(),
            ),
            Error::Session(session) => advise(session, remote, status, said),
            Error::Start { .. } => Some(
                "is it installed? `--ssh` names another program for hosts, and a local path needs \
                 bst-artifact-receive beside artifact-cache or on PATH"
                    .to_owned(),
            ),
            _ => None,
        };
        let text = match error {
            Error::Session(SessionError::Truncated) => ended_early(remote, status),
            // A server that says what went wrong is believed until it is asked again.
            Error::Session(session) | Error::Unsettled(session @ SessionError::PeerClosed(_)) => {
                format!("{:#}", anyhow::Error::new(session))
            }
            error => format!("{:#}", anyhow::Error::new(error)),
        };
        Self { code, text, advice }
    }
}

/// Returns whether the same again may go well.
pub(crate) fn may_pass(error: &Error) -> bool {
    let passing = [CloseCode::BUSY, CloseCode::TIMEOUT, CloseCode::INTERRUPTED];
    match error {
        Error::Session(SessionError::Truncated) => true,
        Error::Session(SessionError::PeerClosed(close))
        | Error::Unsettled(SessionError::PeerClosed(close)) => passing.contains(&close.code),
        // Asking again tells what became of it.
        Error::Unsettled(_) => true,
        Error::Session(SessionError::Fault(fault)) => passing.contains(&fault.code),
        _ => false,
    }
}

fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Start { .. } => exit::CONNECTION,
        Error::Session(session) | Error::Unsettled(session) => match session {
            SessionError::Truncated => exit::CONNECTION,
            SessionError::Decode(_) | SessionError::Violation(_) => exit::NOT_THE_PROTOCOL,
            // Whatever a server calls done before it is, is not.
            SessionError::PeerClosed(close) if close.code == CloseCode::DONE => {
                exit::NOT_THE_PROTOCOL
            }
            SessionError::PeerClosed(close) => exit::of_close(close.code),
            SessionError::Fault(fault) => exit::of_close(fault.code),
            _ => exit::OTHER,
        },
        Error::Internal(_) => exit::OTHER,
        // All others are of the local repository.
        _ => exit::SOURCE,
    }
}

/// Whether the other side is a receiver of BuildStream 1.x, which gives up on what it does not
/// know, or of ostree-push before 0.1, which speaks first.
fn is_answered_by_an_older_receiver(error: &Error, said: &[String]) -> bool {
    match error {
        Error::Session(SessionError::Truncated) => session::is_refused_by_version_1(said),
        Error::Session(SessionError::Decode(DecodeError::Preamble { got })) => {
            got.starts_with("l\0") || got.starts_with("B\0")
        }
        _ => false,
    }
}

fn ended_early(remote: &Remote, status: Option<ExitStatus>) -> String {
    let code = status.and_then(|status| status.code());
    match (remote, code) {
        (Remote::Ssh(_), Some(255)) => format!("ssh could not connect to {remote}"),
        (_, Some(127)) => format!("the receiver could not be started on {remote}"),
        _ => format!("the connection to {remote} ended too early"),
    }
}

/// What to do, from what is known of the other side.
fn advise(
    error: &SessionError,
    remote: &Remote,
    status: Option<ExitStatus>,
    said: &[String],
) -> Option<String> {
    let heard = |text: &str| said.iter().any(|line| line.contains(text));
    let code = status.and_then(|status| status.code());
    let advice = match error {
        SessionError::Decode(DecodeError::Preamble { .. }) => {
            "something on the server prints before the receiver speaks: silence the login shell's \
             start files, or set ForceCommand bst-artifact-receive for this user"
        }
        SessionError::Truncated if heard("Permission denied") => {
            "the server knows no key of yours for this user: have it added to authorized_keys, or \
             name it with --ssh 'ssh -i KEY'"
        }
        SessionError::Truncated if heard("REMOTE HOST IDENTIFICATION HAS CHANGED") => {
            "the server's key is another than before: ask its operator whether that is right, and \
             only then remove the old one with `ssh-keygen -R HOST`"
        }
        SessionError::Truncated if heard("Host key verification failed") => {
            "ssh does not know the server's key yet: connect once by hand with `ssh`, and look at it"
        }
        SessionError::Truncated if heard("Could not resolve hostname") => {
            "the host's name is not known: is it spelled right?"
        }
        SessionError::Truncated if heard("Connection refused") => {
            "nobody listens there: is the port right, and does sshd run?"
        }
        SessionError::Truncated if heard("timed out") || heard("No route to host") => {
            "nothing answers there: is the host up, and does a firewall let ssh pass?"
        }
        SessionError::Truncated if code == Some(127) => {
            "either bst-artifact-receive is not on the PATH that sshd gives (install it below \
             /usr/local, or write its full path into ForceCommand), or --ssh names a program that \
             is not there"
        }
        SessionError::Truncated if code == Some(2) => {
            "the receiver does not like its arguments: a path to the repository has to be in the \
             URL, or in the server's ForceCommand"
        }
        SessionError::Truncated if matches!(remote, Remote::Ssh(_)) && code == Some(255) => {
            "try `ssh` to the same host by hand, with -v"
        }
        SessionError::Truncated => "push again: what was not finished is not in the cache",
        SessionError::PeerClosed(close) => match close.code {
            CloseCode::BUSY => "another program has the cache locked: push again later",
            CloseCode::STORAGE_FULL => "the operator has to make room on the server",
            CloseCode::STORAGE_FAILED => {
                "is it the path of an archive repository that the server's user may write? what the \
                 receiver said is above, or in the server's log"
            }
            CloseCode::TIMEOUT | CloseCode::INTERRUPTED => "push again",
            CloseCode::NOT_PERMITTED => {
                "the server's operator grants rights with `artifact-cache-admin authorize`; pulling \
                 needs none"
            }
            CloseCode::UNSUPPORTED => "one of the two programs is too old for the other",
            CloseCode::OBJECT_REFUSED => {
                "`ostree fsck` shows whether the local repository is sound"
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(advice.to_owned())
}
