//! The variables that sshd sets. The program reads them here, once, before anything else, and
//! nowhere else.

use std::env;
use std::path::PathBuf;

#[derive(Debug)]
pub(crate) struct SshVariables {
    /// The file in which sshd lists the keys that let the client in.
    pub(crate) user_auth: Option<PathBuf>,
    /// Addresses and ports of both ends of the connection.
    pub(crate) connection: Option<String>,
    /// The client's command, if sshd runs another in its place. Only for the log.
    pub(crate) original_command: Option<String>,
}

impl SshVariables {
    pub(crate) fn read() -> Self {
        let text = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            user_auth: env::var_os("SSH_USER_AUTH")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            connection: text("SSH_CONNECTION"),
            original_command: text("SSH_ORIGINAL_COMMAND"),
        }
    }
}
