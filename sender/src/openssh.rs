//! The options for OpenSSH's client that keep the stream clean, whatever its configuration says.
//!
//! A user's `ssh_config` may be meant for a person at a terminal: it may request one, run another
//! command, forward ports, or go into the background. We override settings that spoil a byte stream
//! or start something else; keys, hosts, proxies, ciphers and everything else stay the user's.

/// Options that every OpenSSH has.
pub(crate) const ALWAYS: [&str; 9] = [
    "-T", // no terminal, and hence no escape character
    "-a", // forward neither the agent nor the display
    "-x",
    "-oEscapeChar=none",
    "-oClearAllForwardings=yes",
    "-oTunnel=no",
    "-oPermitLocalCommand=no", // its output would mix with the server's
    "-oControlMaster=no",      // uses an existing master, leaves none behind
    "-oControlPersist=no",
];

/// Returns further options that the configuration, as `ssh -G` shows it, makes necessary. Not every
/// OpenSSH knows them, but one that shows a setting does.
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
    // If ssh does not print a reason, nobody can act on it.
    if value("loglevel").is_some_and(|level| ["SILENT", "QUIET", "FATAL"].contains(&level)) {
        options.push("-oLogLevel=ERROR");
    }
    options
}

/// A setting that `ssh -G` shows, its harmless value, and the option that sets that.
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
