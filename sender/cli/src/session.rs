//! One session with one remote, from the first byte to the end of `ssh`.

use artifact_protocol::frame::CloseCode;
use artifact_sender::{Connection, Connector, Error, Remote, SessionError};

use crate::args::Args;
use crate::output::Output;
use crate::trouble::Trouble;

/// Connects to `remote` and lets `talk` do what it wants; what goes wrong is put into words.
pub(crate) async fn run<T>(
    remote: &Remote,
    args: &Args,
    output: &Output,
    talk: impl AsyncFnOnce(&mut Connection) -> Result<T, Error>,
) -> Result<T, Trouble> {
    let mut connector = Connector::default();
    // A variable that is set to nothing is as good as one that is not set.
    if let Some(command) = args.ssh.as_ref().filter(|text| !text.trim().is_empty()) {
        connector = connector.ssh_command(command.clone());
    }
    let connector = connector.prefer_fast_ciphers(remote).await;
    if let (true, Some(ciphers)) = (args.verbose, connector.ciphers()) {
        output.note(&format!("ssh is told to prefer these ciphers: {ciphers}"));
    }
    let mut connection = connector
        .connect(remote)
        .map_err(|error| Trouble::new(error, remote, None, &[]))?;
    let result = talk(&mut connection).await;
    let (status, said) = match connection.finish().await {
        Ok((status, said)) => (Some(status), said),
        Err(_) => (None, Vec::new()),
    };
    if args.verbose || matches!(&result, Err(error) if is_unexplained(error)) {
        said.iter().for_each(|line| output.remote_line(line));
    }
    result.map_err(|error| Trouble::new(error, remote, status, &said))
}

/// Whether only the other side's own words can tell what happened.
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
