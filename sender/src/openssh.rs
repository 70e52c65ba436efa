//! What OpenSSH's client is told, so that the stream is ours whatever its configuration says.
//!
//! A user's `ssh_config` may be meant for a person at a terminal: it may ask for one, run another
//! command, forward ports, go into the background. What spoils a stream of bytes, or starts something
//! else, is overridden; keys, hosts, proxies, ciphers and all else stay the user's.

/// Options that every OpenSSH has.
pub(crate) const ALWAYS: [&str; 9] = [
    "-T", // no terminal, and with that no escape character
    "-a", // neither agent nor display is any business of the server's
    "-x",
    "-oEscapeChar=none",
    "-oClearAllForwardings=yes",
    "-oTunnel=no",
    "-oPermitLocalCommand=no", // what it prints would be taken for the server's words
    "-oControlMaster=no",      // one that is there is used, and none is left behind
    "-oControlPersist=no",
];

/// Returns the options that not every OpenSSH knows and that the configuration, as `ssh -G` shows
/// it, makes necessary: what is shown is known.
pub(crate) fn overrides(configuration: &str) -> Vec<&'static str> {
    let value = |key: &str| {
        let mut lines = configuration.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
    };
    let mut options = Vec::new();
    for (key, good, option) in NEWER {
        if value(key).is_some_and(|value| value != good) {
            options.push(option);
        }
    }
    // A reason that ssh does not print is one that nobody can act on.
    if value("loglevel").is_some_and(|level| ["SILENT", "QUIET", "FATAL"].contains(&level)) {
        options.push("-oLogLevel=ERROR");
    }
    options
}

/// What `ssh -G` shows, the value that does no harm, and what sets it.
const NEWER: [(&str, &str, &str); 4] = [
    ("remotecommand", "none", "-oRemoteCommand=none"),
    ("sessiontype", "default", "-oSessionType=default"),
    ("stdinnull", "no", "-oStdinNull=no"),
    (
        "forkafterauthentication",
        "no",
        "-oForkAfterAuthentication=no",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_harm_is_overridden_and_only_where_it_is_known() {
        assert!(overrides("").is_empty());
        let harmless = "host h\nsessiontype default\nstdinnull no\nloglevel DEBUG3\n\
                        forkafterauthentication no\nremotecommander x\n";
        assert!(overrides(harmless).is_empty());
        let harmful = "sessiontype none\nstdinnull yes\nforkafterauthentication yes\n\
                       remotecommand tmux new\nloglevel SILENT\n";
        let expected = [
            "-oRemoteCommand=none",
            "-oSessionType=default",
            "-oStdinNull=no",
            "-oForkAfterAuthentication=no",
            "-oLogLevel=ERROR",
        ];
        assert_eq!(overrides(harmful), expected);
    }
}
