//! sshd's settings for the user whom clients log in as.

use crate::command::ReceiverCommand;
use crate::doctor::effective::{Effective, matches};
use crate::doctor::finding::{Finding, quoted, shell};
use crate::doctor::machine::{Machine, keyword_of};

/// Judges the settings. `pushers` is the number of keys that log in, and `commands` that of keys
/// with a command of their own.
pub(super) fn judge(machine: &Machine, pushers: usize, commands: usize) -> Vec<Finding> {
    let Some(sshd) = &machine.effective else {
        return Vec::new();
    };
    let mut found = Vec::new();
    found.extend(judge_command(machine, sshd, commands));
    found.extend(judge_way_in(machine, sshd));
    found.extend(judge_numbers(machine, sshd, pushers));
    found.extend(judge_powers(machine, sshd));
    found
}

/// Which program runs, and on which repository.
fn judge_command(machine: &Machine, sshd: &Effective, commands: usize) -> Vec<Finding> {
    let user = &machine.user.name;
    let mut found = Vec::new();
    let forced = sshd.get("forcecommand");
    let force = || machine.set_for_user("ForceCommand", &receiver(machine));
    match (forced, &machine.command) {
        (None, _) if commands > 0 => {}
        (None, _) => found.push(with(
            Finding::fault(
                "sshd-no-command",
                format!("sshd gives whoever logs in as {user} a shell, and no receiver"),
            ),
            force(),
        )),
        (Some(forced), None) => found.push(with(
            Finding::fault(
                "sshd-other-command",
                format!("sshd's ForceCommand for {user} runs no receiver: {forced}"),
            ),
            force(),
        )),
        (Some(_), Some(command)) if !command.is_of(&machine.repo, &machine.user.dir) => {
            found.push(with(
                Finding::fault(
                    "sshd-other-repository",
                    "sshd's ForceCommand runs the receiver on another repository",
                ),
                force(),
            ));
        }
        (Some(_), Some(_)) => {}
    }
    if forced.is_some() && machine.config.exists() && !sshd.is_yes("exposeauthinfo") {
        found.push(with(
            Finding::fault(
                "sshd-expose-auth-info",
                "the receiver is not told which key a client uses, so the configuration grants \
                 nobody anything",
            ),
            machine.set_for_user("ExposeAuthInfo", "yes"),
        ));
    }
    found
}

/// Returns the receiver's command line for sshd.
fn receiver(machine: &Machine) -> String {
    let ReceiverCommand {
        pull_url, config, ..
    } = machine.command.clone().unwrap_or_default();
    let mut line = "bst-artifact-receive".to_owned();
    if let Some(url) = machine.pull_url.clone().or(pull_url) {
        line += &format!(" --pull-url {}", quoted(&url));
    }
    if let Some(config) = config {
        line += &format!(" --config {}", shell(&config));
    }
    format!("{line} --verbose {}", shell(&machine.repo))
}

/// Who is let in, and by what.
fn judge_way_in(machine: &Machine, sshd: &Effective) -> Vec<Finding> {
    let user = &machine.user.name;
    let mut found = Vec::new();
    if sshd.get("pubkeyauthentication") == Some("no") {
        found.push(with(
            Finding::fault("sshd-no-keys", format!("sshd accepts no keys for {user}")),
            machine.set_for_user("PubkeyAuthentication", "yes"),
        ));
    }
    let methods = sshd.get("authenticationmethods").unwrap_or("any");
    let by_password =
        sshd.is_yes("passwordauthentication") || sshd.is_yes("kbdinteractiveauthentication");
    if methods == "any" && by_password {
        found.push(with(
            Finding::warning(
                "sshd-passwords",
                format!("sshd also lets {user} in by a password, which tells the receiver no key"),
            ),
            machine.set_for_user("AuthenticationMethods", "publickey"),
        ));
    }
    if let Err(keyword) = sshd.lets_in(user, &machine.groups()) {
        let finding = Finding::fault(
            "sshd-shut-out",
            format!("sshd's {keyword} keeps {user} out"),
        );
        let fixes = match keyword {
            "AllowUsers" => machine.add_for_all("AllowUsers", user),
            "AllowGroups" => machine.add_for_all("AllowGroups", &primary_group(machine)),
            _ => removed(machine, |line| {
                keyword_of(line).eq_ignore_ascii_case(keyword)
            }),
        };
        found.push(with(finding, fixes));
    }
    found
}

/// How many may come at once.
fn judge_numbers(machine: &Machine, sshd: &Effective, pushers: usize) -> Vec<Finding> {
    let mut found = Vec::new();
    let startups = sshd.get("maxstartups").unwrap_or("10:30:100");
    let begin = startups
        .split(':')
        .next()
        .and_then(|n| n.parse::<usize>().ok());
    if let Some(begin) = begin.filter(|begin| *begin < pushers) {
        found.push(with(
            Finding::warning(
                "sshd-max-startups",
                format!(
                    "{pushers} keys may push, but sshd begins to drop connections when {begin} are \
                     logging in (MaxStartups {startups})"
                ),
            ),
            machine.set_for_all(
                "MaxStartups",
                &format!("{0}:30:{1}", 2 * pushers, 10 * pushers),
            ),
        ));
    }
    let of_source = sshd
        .get("persourcemaxstartups")
        .and_then(|n| n.parse::<usize>().ok());
    if let Some(most) = of_source.filter(|most| *most < pushers.min(PUSHERS_OF_ONE_PLACE)) {
        found.push(with(
            Finding::warning(
                "sshd-max-startups-of-a-source",
                format!("sshd lets {most} log in at once from one address, as behind a firewall"),
            ),
            machine.set_for_all("PerSourceMaxStartups", "none"),
        ));
    }
    if sshd.get("maxsessions") == Some("0") {
        found.push(with(
            Finding::fault("sshd-max-sessions", "sshd's MaxSessions 0 allows no push"),
            machine.set_for_user("MaxSessions", "1"),
        ));
    }
    found
}

/// What whoever logs in may do beside pushing.
fn judge_powers(machine: &Machine, sshd: &Effective) -> Vec<Finding> {
    let user = &machine.user.name;
    let mut found = Vec::new();
    let forwards = [
        "allowtcpforwarding",
        "allowstreamlocalforwarding",
        "allowagentforwarding",
    ];
    let forwards = forwards
        .iter()
        .any(|keyword| sshd.get(keyword) != Some("no"));
    if forwards && !sshd.is_yes("disableforwarding") {
        found.push(with(
            Finding::warning(
                "sshd-forwarding",
                format!("sshd lets {user} forward ports, and so reach this machine's network"),
            ),
            machine.set_for_user("DisableForwarding", "yes"),
        ));
    }
    if sshd.is_yes("permittty") {
        found.push(with(
            Finding::warning(
                "sshd-tty",
                format!("sshd gives {user} a terminal, which no push needs"),
            ),
            machine.set_for_user("PermitTTY", "no"),
        ));
    }
    let rc = machine.user.dir.join(".ssh/rc");
    if sshd.is_yes("permituserrc") && rc.exists() {
        found.push(with(
            Finding::fault(
                "sshd-user-rc",
                format!("sshd runs {} before the receiver", rc.display()),
            ),
            machine.set_for_user("PermitUserRC", "no"),
        ));
    }
    if sshd
        .get("permituserenvironment")
        .is_some_and(|value| value != "no")
    {
        found.push(with(
            Finding::fault(
                "sshd-user-environment",
                "sshd takes variables from a file of the user, such as LD_PRELOAD \
                 (PermitUserEnvironment)",
            ),
            machine.set_for_all("PermitUserEnvironment", "no"),
        ));
    }
    let dangerous = |pattern: &str| DANGEROUS.iter().any(|name| matches(pattern, name));
    if let Some(pattern) = sshd.words("acceptenv").find(|pattern| dangerous(pattern)) {
        let fixes = removed(machine, |line| {
            let mut words = line.split_ascii_whitespace();
            words
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case("acceptenv"))
                && words.any(dangerous)
        });
        found.push(with(
            Finding::fault(
                "sshd-accept-env",
                format!(
                    "sshd lets clients set variables that change programs: AcceptEnv {pattern}"
                ),
            ),
            fixes,
        ));
    }
    found
}

/// Returns commands that take lines out of sshd's files.
fn removed(machine: &Machine, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let mut commands = machine.without_lines(is_meant);
    commands.push(machine.reload());
    commands
}

fn primary_group(machine: &Machine) -> String {
    let name = &machine.user.name;
    machine
        .groups()
        .into_iter()
        .next()
        .unwrap_or_else(|| name.clone())
}

fn with(finding: Finding, commands: Vec<String>) -> Finding {
    commands.into_iter().fold(finding, Finding::fix)
}

/// Variables that change what a program does before it can look (T15).
const DANGEROUS: [&str; 4] = ["LD_PRELOAD", "LD_LIBRARY_PATH", "RUST_MIN_STACK", "PATH"];
/// Clients that may be behind one address.
const PUSHERS_OF_ONE_PLACE: usize = 10;
