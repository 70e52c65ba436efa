//! One session with one remote, from the first byte to the end of `ssh`.

use artifact_protocol::frame::{CloseCode, DecodeError};
use artifact_sender::{Connection, Connector, Dialect, Error, Remote, SessionError};

use crate::args::Args;
use crate::output::Output;
use crate::trouble::{self, Trouble, Witness};

/// Connects to `remote`, runs `talk`, and describes a failure.
///
/// If the server turns out to know only an old version, connects again in that version.
pub(crate) async fn run<T>(
    remote: &Remote,
    args: &Args,
    output: &Output,
    talk: impl AsyncFnMut(&mut Connection, Option<Dialect>) -> Result<T, Error>,
) -> Result<T, Trouble> {
    run_in(args.dialect(), remote, args, output, talk).await
}

/// Like `run`, if the server's old version may be known already.
pub(crate) async fn run_in<T>(
    known: Option<Dialect>,
    remote: &Remote,
    args: &Args,
    output: &Output,
    mut talk: impl AsyncFnMut(&mut Connection, Option<Dialect>) -> Result<T, Error>,
) -> Result<T, Trouble> {
    let mut connector = Connector::default();
    if let Some(command) = args.ssh.as_ref().filter(|text| !text.trim().is_empty()) {
        connector = connector.ssh_command(command.clone());
    }
    let connector = connector.adapt_to(remote).await;
    if let (true, Some(ciphers)) = (args.verbose, connector.ciphers()) {
        output.note(&format!("telling ssh to prefer these ciphers: {ciphers}"));
    }
    let mut attempt = async |dialect| {
        let connector = connector.clone().dialect(dialect);
        let mut connection = connector.connect(remote).map_err(Failed::to_start)?;
        let result = talk(&mut connection, dialect).await;
        let was_heard = connection.was_heard();
        let (status, said) = match connection.finish().await {
            Ok((status, said)) => (Some(status), said),
            Err(_) => (None, Vec::new()),
        };
        if args.verbose {
            said.iter().for_each(|line| output.remote_line(line));
        }
        // In version 0, only the exit code tells the outcome of a push.
        let is_well = dialect != Some(Dialect::V0) || status.is_some_and(|s| s.success());
        let error = match result {
            Ok(done) if is_well => return Ok(done),
            Ok(_) => Error::Session(SessionError::Truncated),
            Err(error) => error,
        };
        let witness = Witness {
            status,
            said,
            was_heard,
        };
        Err(Failed { error, witness })
    };
    let mut failed = match attempt(known).await {
        Ok(done) => return Ok(done),
        Err(failed) => failed,
    };
    let older = failed
        .older()
        .filter(|_| args.protocol.is_none() && known.is_none());
    if let Some((dialect, is_certain)) = older {
        output.note(&format!(
            "the server speaks only version {} of the protocol, that of {}",
            dialect.version(),
            match dialect {
                Dialect::V0 => "ostree-push before 0.1",
                Dialect::V1 => "BuildStream 1.x",
            }
        ));
        match attempt(Some(dialect)).await {
            Ok(done) => return Ok(done),
            Err(again) if is_certain => failed = again,
            Err(_) => {}
        }
    }
    let Failed { error, witness } = failed;
    if !args.verbose && is_unexplained(&error) {
        let said = &witness.said;
        said.iter().for_each(|line| output.remote_line(line));
    }
    Err(Trouble::new(error, remote, &witness))
}

/// A session that failed, and the evidence about the other side.
struct Failed {
    error: Error,
    witness: Witness,
}

impl Failed {
    fn to_start(error: Error) -> Self {
        Self {
            error,
            witness: Witness::default(),
        }
    }

    /// Returns the old version that the server may speak, and whether that is certain.
    fn older(&self) -> Option<(Dialect, bool)> {
        let Witness { status, said, .. } = &self.witness;
        match &self.error {
            // Servers of version 0 speak first, whatever the client sends.
            Error::Session(SessionError::Decode(DecodeError::Preamble { got }))
                if got.starts_with("l\0") || got.starts_with("B\0") =>
            {
                Some((Dialect::V0, true))
            }
            Error::Session(SessionError::Truncated) if trouble::is_refused_by_version_1(said) => {
                Some((Dialect::V1, true))
            }
            // The server may have a receiver of another name.
            Error::Session(SessionError::Truncated)
                if status.and_then(|status| status.code()) == Some(127) =>
            {
                Some((Dialect::V0, false))
            }
            _ => None,
        }
    }
}

/// Returns whether only the other side's own messages can explain the failure.
fn is_unexplained(error: &Error) -> bool {
    let (Error::Session(session) | Error::Unsettled(session)) = error else {
        return false;
    };
    match session {
        SessionError::Truncated | SessionError::Decode(_) => true,
        SessionError::PeerClosed(close) => {
            matches!(close.code, CloseCode::STORAGE_FAILED | CloseCode::INTERNAL)
        }
        _ => false,
    }
}

/// The agent that this program sends to servers.
pub(crate) const AGENT: &str = concat!("artifact-cache ", env!("CARGO_PKG_VERSION"));
