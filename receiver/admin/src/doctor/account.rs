//! The user whom clients log in as: shell, lock, home, and the receiver on the PATH.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::command::ReceiverCommand;
use crate::doctor::finding::{Finding, quoted, shell};
use crate::doctor::look::{self, Ran};
use crate::doctor::machine::Machine;

/// What is known of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Account {
    /// The field of the password in /etc/shadow, and the day on which the account expires.
    shadow: Option<(String, Option<u64>)>,
    today: u64,
    uses_pam: bool,
    shell: Shell,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Shell {
    /// The doctor may not run it.
    #[default]
    Unseen,
    /// There is no such program.
    Missing,
    /// `nologin`, `false`: it runs no command.
    Refuses,
    /// How a command went that prints its umask between two marks.
    Ran(Ran),
}

pub(super) fn check(machine: &Machine) -> Vec<Finding> {
    let account = look(machine);
    let mut found = judge(&account, &machine.user.name, &machine.user.shell);
    let home = &machine.user.dir;
    let (user, group) = (&machine.user.name, machine.user.gid);
    if !home.is_dir() {
        found.push(
            Finding::fault(
                "home-missing",
                format!("{user} has no home: {}", home.display()),
            )
            .fix(format!("install -d -o {user} -g {group} {}", shell(home))),
        );
    }
    if !machine.can_be_user() {
        let what = format!("cannot look with the eyes of {user}: only root can");
        found.push(Finding::unseen("account-unseen", what));
        return found;
    }
    if account.runs_commands() {
        found.extend(check_receiver(machine));
    }
    found.extend(check_reach(machine));
    found
}

fn look(machine: &Machine) -> Account {
    let user = &machine.user;
    let shadow = std::fs::read_to_string("/etc/shadow").unwrap_or_default();
    let line = shadow.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        (fields.first() == Some(&user.name.as_str())).then_some(fields)
    });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Account {
        shadow: line.map(|fields| {
            let field = |index: usize| (*fields.get(index).unwrap_or(&"")).to_owned();
            (field(1), field(7).parse().ok())
        }),
        today: now.unwrap_or_default().as_secs() / (24 * 60 * 60),
        uses_pam: machine
            .effective
            .as_ref()
            .is_none_or(|e| e.is_yes("usepam")),
        shell: look_at_shell(machine),
    }
}

fn look_at_shell(machine: &Machine) -> Shell {
    let shell = &machine.user.shell;
    let name = shell.file_name().unwrap_or_default();
    if name == "nologin" || name == "false" {
        return Shell::Refuses;
    }
    if !machine.can_be_user() {
        return Shell::Unseen;
    }
    if !is_executable(shell) {
        return Shell::Missing;
    }
    let script = format!("echo {MARK}; umask; echo {MARK}");
    in_shell(machine, &script).map_or(Shell::Missing, Shell::Ran)
}

fn is_executable(path: &Path) -> bool {
    let metadata = path.metadata();
    metadata.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Runs a command as sshd runs the receiver: by the user's shell.
fn in_shell(machine: &Machine, script: &str) -> std::io::Result<Ran> {
    let user = &machine.user;
    let path = match &machine.effective {
        Some(sshd) => {
            let environment = std::fs::read_to_string("/etc/environment").unwrap_or_default();
            sshd.path(&environment, user.uid.is_root())
        }
        None => "/usr/local/bin:/usr/bin:/bin:/usr/games".to_owned(),
    };
    let mut command = look::as_user(user, &user.shell.to_string_lossy());
    command.env("PATH", path);
    // Debian's bash reads its start files if sshd has started it.
    command.env("SSH_CLIENT", "127.0.0.1 1 22");
    command.env("SSH_CONNECTION", "127.0.0.1 1 127.0.0.1 22");
    look::run(command.args(["-c", script]))
}

impl Account {
    fn runs_commands(&self) -> bool {
        matches!(&self.shell, Shell::Ran(ran) if ran.succeeded)
    }
}

fn judge(account: &Account, user: &str, shell: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    let shown = shell.display();
    let plain = || format!("usermod --shell /bin/sh {user}");
    let mut fault = |id, what: String| found.push(Finding::fault(id, what).fix(plain()));
    match &account.shell {
        Shell::Unseen => {}
        Shell::Missing => fault(
            "shell-missing",
            format!("{user}'s shell cannot be run: {shown}"),
        ),
        Shell::Refuses => fault(
            "shell-refuses",
            format!("{user}'s shell runs no command, and so no receiver: {shown}"),
        ),
        Shell::Ran(ran) if ran.timed_out => {
            fault(
                "shell-slow",
                format!("{user}'s shell takes long to start: {shown}"),
            );
        }
        Shell::Ran(ran) => {
            let mark = format!("{MARK}\n");
            let mut parts = ran.stdout.split(&mark);
            let (before, umask) = (parts.next().unwrap_or(""), parts.next());
            if !ran.succeeded {
                fault("shell-fails", format!("{user}'s shell fails: {shown}"));
            } else if !before.is_empty() || parts.next() != Some("") {
                let what = format!(
                    "{user}'s shell prints something before or after the receiver: a start file of \
                     {shown} does"
                );
                fault("shell-prints", what);
            }
            let umask = umask.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
            if let Some(umask) = umask.filter(|umask| umask & 0o022 != 0o022) {
                let what = format!(
                    "with umask {umask:03o}, others can change what {user} writes, by ostree for \
                     example"
                );
                fault("shell-umask", what);
            }
        }
    }
    if let Some((password, expires)) = &account.shadow {
        if password.starts_with('!') && !account.uses_pam {
            let what = format!("{user} is locked, and sshd lets it in by no key (UsePAM no)");
            let fix = format!("usermod -p '*' {user}");
            found.push(Finding::fault("account-locked", what).fix(fix));
        }
        if expires.is_some_and(|day| day <= account.today) {
            let what = format!("the account of {user} has expired");
            let fix = format!("chage --expiredate -1 {user}");
            found.push(Finding::fault("account-expired", what).fix(fix));
        }
    }
    found
}

/// Whether sshd finds the receiver, and which one.
fn check_receiver(machine: &Machine) -> Vec<Finding> {
    let default = ReceiverCommand {
        program: "bst-artifact-receive".to_owned(),
        ..ReceiverCommand::default()
    };
    let ReceiverCommand { program, .. } = machine.command.clone().unwrap_or(default);
    let user = &machine.user.name;
    let found = in_shell(
        machine,
        &format!("command -v {0} && {0} --version", quoted(&program)),
    );
    let said = found.map(|ran| ran.stdout).unwrap_or_default();
    let version = said
        .lines()
        .find_map(|line| line.strip_prefix("bst-artifact-receive "));
    let ours = env!("CARGO_PKG_VERSION");
    let target = match Path::new(&program).is_absolute() {
        true => PathBuf::from(&program),
        false => Path::new("/usr/local/bin").join(&program),
    };
    let install = |finding: Finding| match elsewhere(&program, &target) {
        _ if target.is_file() && !is_executable(&target) => {
            finding.fix(format!("chmod 755 {}", shell(&target)))
        }
        Some(path) => finding.fix(format!(
            "install -m 755 {} {}",
            shell(&path),
            shell(&target)
        )),
        None => finding.fix("apt-get install --yes artifact-cache-receiver"),
    };
    match version {
        None => {
            let what = format!("sshd cannot run {program} as {user}");
            vec![install(Finding::fault("receiver-missing", what))]
        }
        Some(version) if version != ours => {
            let what = format!("the receiver is of version {version}, and this program of {ours}");
            vec![install(Finding::warning("receiver-version", what))]
        }
        Some(_) => Vec::new(),
    }
}

/// Finds a receiver where sshd does not look.
fn elsewhere(program: &str, target: &Path) -> Option<PathBuf> {
    let name = Path::new(program).file_name()?;
    let own = std::env::current_exe().ok();
    let own = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin"));
    let dirs = own
        .into_iter()
        .chain(home)
        .chain(["/usr/local/bin".into(), "/usr/bin".into()]);
    dirs.map(|dir| dir.join(name))
        .find(|path| path.is_file() && path != target)
}

/// Whether the user can reach and write the repository.
fn check_reach(machine: &Machine) -> Vec<Finding> {
    let (user, repo) = (&machine.user.name, &machine.repo);
    let shown = repo.display();
    let is_read_only = rustix::fs::statvfs(repo.as_path())
        .is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    if is_read_only || machine.user_can("test -w \"$1\"", repo) {
        return Vec::new();
    }
    let dirs: Vec<_> = repo.ancestors().skip(1).collect();
    let mut closed = dirs.into_iter().rev();
    // Only the outermost is certain: what is behind it cannot be seen.
    let closed = closed.find(|dir| !machine.user_can("test -x \"$1\"", dir));
    let finding = Finding::fault(
        "repository-out-of-reach",
        match closed {
            Some(dir) => format!(
                "{user} cannot enter {}, on the way to {shown}",
                dir.display()
            ),
            None => format!("{user} cannot write {shown}"),
        },
    );
    vec![match closed {
        Some(dir) => finding.fix(format!("chmod o+x {}", shell(dir))),
        None => finding.fix(format!(
            "find {} ! -user {user} -exec chown -h {user}: {{}} +",
            shell(repo)
        )),
    }]
}

const MARK: &str = "artifact-cache-doctor";

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(account: &Account) -> Vec<&'static str> {
        let found = judge(account, "artifacts", Path::new("/bin/bash"));
        found.iter().map(|finding| finding.id).collect()
    }

    fn said(stdout: &str) -> Account {
        Account {
            shell: Shell::Ran(Ran {
                succeeded: true,
                stdout: stdout.to_owned(),
                ..Ran::default()
            }),
            ..Account::default()
        }
    }

    #[test]
    fn a_shell_says_nothing_but_what_it_was_told_to() {
        let good = format!("{MARK}\n0022\n{MARK}\n");
        assert!(ids(&said(&good)).is_empty());
        assert_eq!(ids(&said(&format!("hello\n{good}"))), ["shell-prints"]);
        assert_eq!(ids(&said(&format!("{good}bye"))), ["shell-prints"]);
        assert_eq!(ids(&said(&good.replace("0022", "0002"))), ["shell-umask"]);
        assert!(ids(&said(&good.replace("0022", "0077"))).is_empty());
    }

    #[test]
    fn a_lock_matters_without_pam_only_and_an_expired_account_always() {
        let locked = |uses_pam, expires| Account {
            shadow: Some(("!".to_owned(), expires)),
            today: 100,
            uses_pam,
            shell: Shell::Unseen,
        };
        assert!(ids(&locked(true, None)).is_empty());
        assert_eq!(ids(&locked(false, Some(101))), ["account-locked"]);
        assert_eq!(ids(&locked(true, Some(100))), ["account-expired"]);
    }
}
