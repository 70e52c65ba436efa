//! Failures, as the user sees them: a line that says what went wrong, a line of advice, and the
//! exit code.

use std::process::ExitStatus;

use artifact_protocol::exit;
use artifact_protocol::frame::{CloseCode, DecodeError};
use artifact_sender::{Error, Remote, SessionError, SshRemote};

/// A failure, ready to be printed.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) code: u8,
    pub(crate) text: String,
    pub(crate) advice: Option<String>,
    /// Whether a retry may succeed.
    pub(crate) may_pass: bool,
}

/// What the client knows about the other side when a session has failed.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// The exit status of the receiver or of `ssh`.
    pub(crate) status: Option<ExitStatus>,
    /// The lines it wrote to standard error.
    pub(crate) said: Vec<String>,
    /// Whether it sent any byte.
    pub(crate) was_heard: bool,
}

impl Witness {
    fn heard(&self, text: &str) -> bool {
        self.said.iter().any(|line| line.contains(text))
    }

    /// Returns whether sshd, or a host on the way to it, hung up before it asked for a key: too
    /// many others were about to connect (`MaxStartups`), or it is just starting.
    fn was_dropped(&self) -> bool {
        let dropped = [
            "kex_exchange_identification:",
            "ssh_exchange_identification:",
            "banner exchange:",
            "Connection reset by",
            "Not allowed at this time",
        ];
        // A retry cannot help with these, and would only fill the server's log.
        let lasting = [
            "Permission denied",
            "Too many authentication failures",
            "Host key verification failed",
            "HOST IDENTIFICATION HAS CHANGED",
            "Connection refused",
            "not resolve hostname",
        ];
        dropped.iter().any(|text| self.heard(text)) && !lasting.iter().any(|text| self.heard(text))
    }
}

impl Trouble {
    pub(crate) fn new(error: Error, remote: &Remote, witness: &Witness) -> Self {
        let is_older = is_answered_by_an_older_receiver(&error, &witness.said);
        let code = match is_older {
            true => exit::NOT_THE_PROTOCOL,
            false => exit_code(&error),
        };
        let advice = match &error {
            Error::Unsettled(session @ SessionError::PeerClosed(_)) => {
                advise(session, remote, witness)
            }
            Error::Unsettled(_) => Some(
                "push the same again: that completes the push, and skips whatever is done already"
                    .to_owned(),
            ),
            _ if is_older => Some(
                "the receiver there is an older one, that of BuildStream 1.x or ostree-push: \
                 install \
                 this project's in its place"
                    .to_owned(),
            ),
            Error::Session(session) => advise(session, remote, witness),
            Error::Start { .. } => Some(
                "install it, or name another program for hosts with `--ssh`; a local path needs \
                 bst-artifact-receive beside artifact-cache or on PATH"
                    .to_owned(),
            ),
            _ => None,
        };
        let may_pass = !is_older && may_pass(&error, witness);
        let text = match error {
            Error::Session(SessionError::Truncated) => ended_early(remote, witness.status),
            // Believe a server that says what went wrong, until we ask again.
            Error::Session(session) | Error::Unsettled(session @ SessionError::PeerClosed(_)) => {
                format!("{:#}", anyhow::Error::new(session))
            }
            error => format!("{:#}", anyhow::Error::new(error)),
        };
        Self {
            code,
            text,
            advice,
            may_pass,
        }
    }
}

/// Returns whether a retry may succeed. If the server has never answered, it will not answer a
/// retry either, unless it was only too busy.
fn may_pass(error: &Error, witness: &Witness) -> bool {
    let passing = [CloseCode::BUSY, CloseCode::TIMEOUT, CloseCode::INTERRUPTED];
    match error {
        Error::Session(SessionError::Truncated) => witness.was_heard || witness.was_dropped(),
        Error::Session(SessionError::PeerClosed(close))
        | Error::Unsettled(SessionError::PeerClosed(close)) => passing.contains(&close.code),
        // Asking again tells the outcome.
        Error::Unsettled(_) => true,
        Error::Session(SessionError::Fault(fault)) => {
            witness.was_heard && passing.contains(&fault.code)
        }
        _ => false,
    }
}

fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Start { .. } => exit::CONNECTION,
        Error::Session(session) | Error::Unsettled(session) => match session {
            SessionError::Truncated => exit::CONNECTION,
            SessionError::Decode(_) | SessionError::Violation(_) => exit::NOT_THE_PROTOCOL,
            // A server that says DONE too early has not finished anything.
            SessionError::PeerClosed(close) if close.code == CloseCode::DONE => {
                exit::NOT_THE_PROTOCOL
            }
            SessionError::PeerClosed(close) => exit::of_close(close.code),
            SessionError::Fault(fault) => exit::of_close(fault.code),
            _ => exit::OTHER,
        },
        Error::Internal(_) => exit::OTHER,
        // All other errors concern the local repository.
        _ => exit::SOURCE,
    }
}

/// Returns whether the other side is a receiver of BuildStream 1.x, which ends at messages it does
/// not know, or of ostree-push before 0.1, which speaks first.
fn is_answered_by_an_older_receiver(error: &Error, said: &[String]) -> bool {
    match error {
        Error::Session(SessionError::Truncated) => is_refused_by_version_1(said),
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

/// Returns what to do about a server's key that ssh does not accept.
fn advise_on_host_key(remote: &SshRemote, witness: &Witness) -> Option<String> {
    let known = match remote.port {
        None | Some(22) => remote.host.clone(),
        Some(port) => format!("[{}]:{port}", remote.host),
    };
    let is_revoked = |line: &String| line.to_ascii_lowercase().contains("revoked");
    if witness.said.iter().any(is_revoked) {
        return Some(format!(
            "the server's key was revoked, because somebody else may have it: do not accept it, \
             and \
             do not connect by hand either. Ask the operator for the server's new key; whoever \
             revoked the old one did so in known_hosts (`ssh-keygen -F '{known}'` shows the line) \
             or in RevokedHostKeys"
        ));
    }
    if witness.heard("HOST IDENTIFICATION HAS CHANGED") {
        return Some(format!(
            "the server's key is not the same as before: ask its operator whether that is right, \
             and \
             only then remove the old one with `ssh-keygen -R '{known}'`"
        ));
    }
    if witness.heard("Host key verification failed") || witness.heard("host key is known for") {
        let port = remote
            .port
            .map_or(String::new(), |port| format!(" -p {port}"));
        let user = remote
            .user
            .as_ref()
            .map_or(String::new(), |user| format!("{user}@"));
        return Some(format!(
            "ssh does not know the server's key yet: connect once by hand with `ssh{port} \
             {user}{}`, and compare the fingerprint with the one that the operator gave you",
            remote.host
        ));
    }
    None
}

/// Returns what to do, from the evidence about the other side.
fn advise(error: &SessionError, remote: &Remote, witness: &Witness) -> Option<String> {
    let heard = |text: &str| witness.heard(text);
    let code = witness.status.and_then(|status| status.code());
    if let (SessionError::Truncated, Remote::Ssh(host)) = (error, remote)
        && let Some(advice) = advise_on_host_key(host, witness)
    {
        return Some(advice);
    }
    let advice = match error {
        SessionError::Decode(DecodeError::Preamble { .. }) => {
            "something on the server prints before the receiver speaks: silence the login shell's \
             start files, or set ForceCommand bst-artifact-receive for this user"
        }
        SessionError::Truncated if heard("Too many authentication failures") => {
            "ssh offers more keys than the server accepts: name the right one with --ssh 'ssh -o \
             IdentitiesOnly=yes -i KEY'"
        }
        SessionError::Truncated if heard("Permission denied") => {
            "the server knows no key of yours for this user: have it added to authorized_keys, or \
             name it with --ssh 'ssh -i KEY'"
        }
        SessionError::Truncated if heard("Unable to negotiate with") => {
            "ssh and the server have no algorithm in common, of those that ssh lists: one of the \
             two is too old, or is configured to be strict"
        }
        SessionError::Truncated if witness.was_dropped() && heard("UNKNOWN port") => {
            "the way to the server (ProxyJump or ProxyCommand of ssh's configuration) fails, or \
             the server accepts no more connections at the moment (MaxStartups of its sshd)"
        }
        SessionError::Truncated if witness.was_dropped() => {
            "the server accepts no more connections at the moment (MaxStartups of its sshd): try \
             again in a while"
        }
        SessionError::Truncated if heard("Could not resolve hostname") => {
            "the host's name is unknown: check its spelling"
        }
        SessionError::Truncated if heard("Connection refused") => {
            "no server listens there: check the port, and that sshd is running"
        }
        SessionError::Truncated if heard("timed out") || heard("No route to host") => {
            "the host does not answer: check that it is up, and that no firewall blocks ssh"
        }
        SessionError::Truncated if code == Some(127) => {
            "either bst-artifact-receive is not on the PATH that sshd gives (install it below \
             /usr/local, or write its full path into ForceCommand), or --ssh names a program that \
             does not exist"
        }
        SessionError::Truncated if code == Some(2) => {
            "the receiver rejects its arguments: put the path of the repository into the URL, or \
             into the server's ForceCommand"
        }
        SessionError::Truncated if matches!(remote, Remote::Ssh(_)) && code == Some(255) => {
            "run `ssh -v` to the same host by hand to see why"
        }
        SessionError::Truncated => {
            "push again: the cache holds only complete pushes, and keeps the objects that it has \
             verified"
        }
        SessionError::PeerClosed(close) => match close.code {
            CloseCode::BUSY => {
                "another program has locked the cache, or too many sessions are running: push \
                 again later"
            }
            CloseCode::STORAGE_FULL => "the operator must free space on the server",
            CloseCode::STORAGE_FAILED => {
                "check that the path is that of an archive repository which the server's user may \
                 write; the receiver's messages are above, or in the server's log"
            }
            CloseCode::TIMEOUT | CloseCode::INTERRUPTED => "push again",
            CloseCode::NOT_PERMITTED => {
                "the server's operator grants rights with `artifact-cache-admin authorize`; \
                 pulling \
                 needs none"
            }
            CloseCode::UNSUPPORTED => "update the older of the two programs",
            CloseCode::OBJECT_REFUSED => {
                "`ostree fsck` shows whether the local repository is intact"
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(advice.to_owned())
}

/// Returns whether a receiver of BuildStream 1.x ended at a message that it does not know.
pub(crate) fn is_refused_by_version_1(said: &[String]) -> bool {
    let text = "PushException: Unrecognized message byteorder";
    said.iter().any(|line| line.contains(text))
}
