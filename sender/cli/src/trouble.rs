//! What went wrong, in one line; what to do about it, in another; and the exit code.

use std::process::ExitStatus;

use artifact_protocol::exit;
use artifact_protocol::frame::{CloseCode, DecodeError};
use artifact_sender::{Error, Remote, SessionError, SshRemote};

/// A failure, fit to be shown.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) code: u8,
    pub(crate) text: String,
    pub(crate) advice: Option<String>,
    /// Whether the same again may go well.
    pub(crate) may_pass: bool,
}

/// What is known of the other side when a session has failed.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// How the receiver or `ssh` ended.
    pub(crate) status: Option<ExitStatus>,
    /// What it wrote to standard error.
    pub(crate) said: Vec<String>,
    /// Whether any byte came from it.
    pub(crate) was_heard: bool,
}

impl Witness {
    fn heard(&self, text: &str) -> bool {
        self.said.iter().any(|line| line.contains(text))
    }

    /// Whether sshd, or what is before it, hung up before it asked for a key: too many others were
    /// about to connect (`MaxStartups`), or it is being started.
    fn was_dropped(&self) -> bool {
        let dropped = [
            "kex_exchange_identification:",
            "ssh_exchange_identification:",
            "banner exchange:",
            "Connection reset by",
            "Not allowed at this time",
        ];
        // These stay as they are: another try only fills the log of the server.
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
                "push the same again: what is done already is found to be, and the rest is done"
                    .to_owned(),
            ),
            _ if is_older => Some(
                "the receiver there is an older one, of BuildStream 1.x or ostree-push: install \
                 this project's in its place"
                    .to_owned(),
            ),
            Error::Session(session) => advise(session, remote, witness),
            Error::Start { .. } => Some(
                "is it installed? `--ssh` names another program for hosts, and a local path needs \
                 bst-artifact-receive beside artifact-cache or on PATH"
                    .to_owned(),
            ),
            _ => None,
        };
        let may_pass = !is_older && may_pass(&error, witness);
        let text = match error {
            Error::Session(SessionError::Truncated) => ended_early(remote, witness.status),
            // A server that says what went wrong is believed until it is asked again.
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

/// Returns whether the same again may go well. A server that has never answered will not either
/// then, but for one that was too busy to.
fn may_pass(error: &Error, witness: &Witness) -> bool {
    let passing = [CloseCode::BUSY, CloseCode::TIMEOUT, CloseCode::INTERRUPTED];
    match error {
        Error::Session(SessionError::Truncated) => witness.was_heard || witness.was_dropped(),
        Error::Session(SessionError::PeerClosed(close))
        | Error::Unsettled(SessionError::PeerClosed(close)) => passing.contains(&close.code),
        // Asking again tells what became of it.
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

/// What to do about a server's key that ssh does not take.
fn advise_on_host_key(remote: &SshRemote, witness: &Witness) -> Option<String> {
    let known = match remote.port {
        None | Some(22) => remote.host.clone(),
        Some(port) => format!("[{}]:{port}", remote.host),
    };
    let is_revoked = |line: &String| line.to_ascii_lowercase().contains("revoked");
    if witness.said.iter().any(is_revoked) {
        return Some(format!(
            "the server's key was revoked, since somebody else may have it: do not accept it, and \
             do not connect by hand either. Ask the operator for the server's new key; whoever \
             revoked the old one did so in known_hosts (`ssh-keygen -F '{known}'` shows the line) \
             or in RevokedHostKeys"
        ));
    }
    if witness.heard("HOST IDENTIFICATION HAS CHANGED") {
        return Some(format!(
            "the server's key is another than before: ask its operator whether that is right, and \
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
             {user}{}`, and compare what it shows with what the operator says",
            remote.host
        ));
    }
    None
}

/// What to do, from what is known of the other side.
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
            "ssh offers more keys than the server lets: name the one, with --ssh 'ssh -o \
             IdentitiesOnly=yes -i KEY'"
        }
        SessionError::Truncated if heard("Permission denied") => {
            "the server knows no key of yours for this user: have it added to authorized_keys, or \
             name it with --ssh 'ssh -i KEY'"
        }
        SessionError::Truncated if heard("Unable to negotiate with") => {
            "ssh and the server have no way in common, of those that ssh names: one of the two is \
             too old, or is told to be strict"
        }
        SessionError::Truncated if witness.was_dropped() && heard("UNKNOWN port") => {
            "what leads to the server (ProxyJump or ProxyCommand of ssh's configuration) fails, or the \
             server takes no more connections at the moment (MaxStartups of its sshd)"
        }
        SessionError::Truncated if witness.was_dropped() => {
            "the server takes no more connections at the moment (MaxStartups of its sshd): try \
             again in a while"
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

/// Whether a receiver of BuildStream 1.x gave up on what it does not know.
pub(crate) fn is_refused_by_version_1(said: &[String]) -> bool {
    let text = "PushException: Unrecognized message byteorder";
    said.iter().any(|line| line.contains(text))
}
