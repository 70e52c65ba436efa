//! What all checks need to know: the repository, its owner, and how sshd runs the receiver.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use nix::unistd::{Gid, Group, User, geteuid};

use crate::command::ReceiverCommand;
use crate::doctor::effective::Effective;
use crate::doctor::finding::{Finding, quoted, shell};
use crate::doctor::look;

/// The machine, as all checks see it.
#[derive(Debug)]
pub(super) struct Machine {
    /// The repository, without links in its path.
    pub(super) repo: PathBuf,
    /// The user who owns the repository.
    pub(super) owner: User,
    /// The user whom clients log in as.
    pub(super) user: User,
    pub(super) is_root: bool,
    /// sshd's main configuration file.
    pub(super) sshd_config: PathBuf,
    /// sshd's settings for the user, unless they could not be read.
    pub(super) effective: Option<Effective>,
    /// The command of `ForceCommand`, if it runs a receiver.
    pub(super) command: Option<ReceiverCommand>,
    /// The receiver's configuration file.
    pub(super) config: PathBuf,
    /// Whether the receiver insists on that file.
    pub(super) config_is_named: bool,
    /// The address to pull from, as the operator or the receiver says it.
    pub(super) pull_url: Option<String>,
}

/// What the operator says about the machine.
#[derive(Debug, clap::Args)]
pub(super) struct Told {
    /// User that clients log in as [default: the owner of the repository]
    #[arg(long)]
    user: Option<String>,
    /// The receiver's configuration file [default: that of its command, or
    /// /etc/artifact-cache.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to pull from [default: the one that the receiver tells clients]
    #[arg(long, value_name = "URL")]
    pull_url: Option<String>,
    /// Configuration file of sshd
    #[arg(long, value_name = "FILE", default_value = "/etc/ssh/sshd_config")]
    sshd_config: PathBuf,
    /// Address that clients come from, for `Match Address` in sshd's configuration
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    from: std::net::IpAddr,
}

impl Told {
    /// Returns the configuration file that was named.
    #[cfg(feature = "bucket")]
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

impl Machine {
    /// Looks at the repository's owner and at sshd's configuration.
    pub(super) fn look(repo: &Path, told: &Told, found: &mut Vec<Finding>) -> anyhow::Result<Self> {
        let shown = repo.display();
        let cannot = || format!("cannot look at {shown}");
        let repo = repo.canonicalize().with_context(cannot)?;
        let metadata = repo.metadata().with_context(cannot)?;
        let owner = owner_of(&metadata)?;
        let user = match &told.user {
            None => owner.clone(),
            Some(name) => {
                User::from_name(name)?.with_context(|| format!("there is no user {name}"))?
            }
        };
        let effective = effective(told, &user).map_err(|finding| found.push(finding));
        let effective = effective.ok();
        let forced = effective.as_ref().and_then(|e| e.get("forcecommand"));
        let command = forced.and_then(ReceiverCommand::parse);
        let of_command = command.as_ref().and_then(|command| command.config.clone());
        let config_is_named = told.config.is_some() || of_command.is_some();
        let config = told
            .config
            .clone()
            .or(of_command.map(|path| user.dir.join(path)));
        Ok(Self {
            is_root: geteuid().is_root(),
            sshd_config: told.sshd_config.clone(),
            pull_url: told.pull_url.clone(),
            config: config.unwrap_or_else(|| "/etc/artifact-cache.toml".into()),
            config_is_named,
            repo,
            owner,
            user,
            effective,
            command,
        })
    }

    /// Returns a command that the repository's owner runs.
    pub(super) fn as_owner(&self, command: &str) -> String {
        match self.owner.uid.is_root() {
            true => command.to_owned(),
            // `find` refuses to work from a directory that it cannot enter again.
            false => format!("(cd / && runuser -u {} -- {command})", self.owner.name),
        }
    }

    /// Returns `artifact-cache-admin SUBCOMMAND REPO`.
    pub(super) fn admin(&self, subcommand: &str) -> String {
        let config = match self.config_is_named {
            true => format!(" --config {}", shell(&self.config)),
            false => String::new(),
        };
        let takes_it = ["summary", "prune", "remove"];
        let takes_it = takes_it.iter().any(|name| subcommand.starts_with(name));
        let config = if takes_it { config } else { String::new() };
        format!(
            "artifact-cache-admin {subcommand}{config} {}",
            shell(&self.repo)
        )
    }

    /// Returns commands that set a keyword of sshd's for the user, whatever else sets it: sshd
    /// takes the first value that it finds.
    pub(super) fn set_for_user(&self, keyword: &str, value: &str) -> Vec<String> {
        let lines = format!(
            "{} {}",
            quoted(&format!("Match User {}", self.user.name)),
            quoted(&format!("    {keyword} {value}"))
        );
        self.drop_in(keyword, &lines)
    }

    /// Returns commands that set a keyword of sshd's for everybody.
    pub(super) fn set_for_all(&self, keyword: &str, value: &str) -> Vec<String> {
        // A line before the `Include` would win.
        let mut commands = self.without_lines(|line| keyword_of(line) == keyword);
        commands.extend(self.add_for_all(keyword, value));
        commands
    }

    /// Returns commands that add a value to a keyword of sshd's that takes several.
    pub(super) fn add_for_all(&self, keyword: &str, value: &str) -> Vec<String> {
        self.drop_in(keyword, &quoted(&format!("{keyword} {value}")))
    }

    /// Returns commands that make comments of lines in sshd's files.
    pub(super) fn without_lines(&self, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines: Vec<(PathBuf, Vec<String>)> = Vec::new();
        for (file, number) in self.sshd_lines(is_meant) {
            match lines.last_mut() {
                Some((last, numbers)) if *last == file => numbers.push(number.to_string()),
                _ => lines.push((file, vec![number.to_string()])),
            }
        }
        let commands = lines.iter().map(|(file, numbers)| {
            comment_out(
                file,
                &numbers.iter().map(String::as_str).collect::<Vec<_>>(),
            )
        });
        commands.collect()
    }

    fn drop_in(&self, keyword: &str, lines: &str) -> Vec<String> {
        let dir = self.sshd_config.with_extension("d");
        let keyword = keyword.to_ascii_lowercase();
        let file = dir.join(format!("00-artifact-cache-{keyword}.conf"));
        let mut commands = Vec::new();
        let text = std::fs::read_to_string(&self.sshd_config).unwrap_or_default();
        if !includes(&text, &dir) {
            let include = format!("1i Include {}/*.conf", dir.display());
            commands.push(format!(
                "mkdir -p {} && sed -i {} {}",
                shell(&dir),
                quoted(&include),
                shell(&self.sshd_config)
            ));
        }
        commands.push(format!("printf '%s\\n' {lines} >{}", shell(&file)));
        commands.push(self.reload());
        commands
    }

    /// Returns the command that makes sshd read its files again, if they are right.
    pub(super) fn reload(&self) -> String {
        let file = match self.sshd_config == Path::new("/etc/ssh/sshd_config") {
            true => String::new(),
            false => format!(" -f {}", shell(&self.sshd_config)),
        };
        format!("sshd -t{file} && systemctl reload ssh")
    }

    /// Returns the lines of sshd's files that satisfy a condition, each as a file and its number.
    fn sshd_lines(&self, is_meant: impl Fn(&str) -> bool) -> Vec<(PathBuf, usize)> {
        let dir = self.sshd_config.with_extension("d");
        let more = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let more = more.map(|entry| entry.path());
        let more = more.filter(|path| path.extension().is_some_and(|e| e == "conf"));
        let mut lines = Vec::new();
        for file in std::iter::once(self.sshd_config.clone()).chain(more) {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let numbers = text.lines().zip(1..).filter(|(line, _)| is_meant(line));
            lines.extend(numbers.map(|(_, number)| (file.clone(), number)));
        }
        lines
    }

    /// Returns the names of the user's groups.
    pub(super) fn groups(&self) -> Vec<String> {
        let name = std::ffi::CString::new(self.user.name.clone()).unwrap_or_default();
        let ids = nix::unistd::getgrouplist(&name, self.user.gid).unwrap_or_default();
        let names = ids.into_iter().filter_map(|id| Group::from_gid(id).ok()?);
        names.map(|group| group.name).collect()
    }

    /// Returns whether a command of `/bin/sh` succeeds when the user runs it.
    pub(super) fn user_can(&self, script: &str, path: &Path) -> bool {
        let mut command = look::as_user(&self.user, "/bin/sh");
        command.args(["-c", script, "sh"]).arg(path);
        look::run(&mut command).is_ok_and(|ran| ran.succeeded)
    }

    /// Returns whether this process may look with the user's eyes.
    pub(super) fn can_be_user(&self) -> bool {
        self.is_root || geteuid() == self.user.uid
    }
}

fn owner_of(metadata: &Metadata) -> anyhow::Result<User> {
    let uid = metadata.uid();
    Ok(User::from_uid(uid.into())?.unwrap_or(User {
        name: uid.to_string(),
        passwd: std::ffi::CString::default(),
        uid: uid.into(),
        gid: Gid::from_raw(metadata.gid()),
        gecos: std::ffi::CString::default(),
        dir: "/nonexistent".into(),
        shell: "/bin/sh".into(),
    }))
}

/// Asks sshd for its settings for a user.
fn effective(told: &Told, user: &User) -> Result<Effective, Finding> {
    let (name, from) = (&user.name, told.from);
    let mut sshd = Command::new(sshd_program());
    sshd.arg("-T").arg("-f").arg(&told.sshd_config);
    sshd.arg("-C").arg(format!(
        "user={name},host={from},addr={from},laddr=127.0.0.1"
    ));
    let unseen = |why: String| {
        Finding::unseen(
            "sshd-unseen",
            format!("cannot ask sshd for its settings: {why}"),
        )
    };
    let ran = look::run(&mut sshd).map_err(|error| unseen(error.to_string()))?;
    if ran.succeeded {
        return Ok(Effective::parse(&ran.stdout));
    }
    let said = ran.stderr.trim();
    if !geteuid().is_root() {
        return Err(unseen(format!("only root can ({said})")));
    }
    Err(invalid(&told.sshd_config, said))
}

/// Finds the line of which sshd complains, so that it can be taken out.
fn invalid(config: &Path, said: &str) -> Finding {
    let what = format!(
        "sshd does not start with its configuration: {}",
        said.replace('\n', "; ")
    );
    let finding = Finding::fault("sshd-config-invalid", what);
    let place = said.lines().find_map(|line| {
        let (before, number) = line
            .split_once(" line ")
            .or_else(|| line.split_once(": line "))?;
        let number: String = number.chars().take_while(char::is_ascii_digit).collect();
        let file = before.rsplit(' ').next()?.trim_end_matches(':');
        (!number.is_empty() && Path::new(file).exists()).then(|| (file.to_owned(), number))
    });
    match place {
        Some((file, number)) => finding.fix(comment_out(Path::new(&file), &[&number])),
        None => finding.fix(format!("sshd -t -f {}", shell(config))),
    }
}

/// Returns the command that makes comments of lines.
pub(super) fn comment_out(file: &Path, numbers: &[&str]) -> String {
    let script: Vec<_> = numbers.iter().map(|n| format!("{n}s/^/# /")).collect();
    format!("sed -i '{}' {}", script.join(";"), shell(file))
}

/// Returns the keyword of a line of sshd's.
pub(super) fn keyword_of(line: &str) -> &str {
    line.split_ascii_whitespace().next().unwrap_or_default()
}

fn includes(text: &str, dir: &Path) -> bool {
    let wanted = format!("{}/*.conf", dir.display());
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'));
    lines.any(|line| {
        let mut words = line.split_ascii_whitespace();
        words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("include"))
            && words.any(|word| word.trim_matches('"') == wanted)
    })
}

fn sshd_program() -> &'static str {
    let places = ["/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"];
    let found = places.into_iter().find(|path| Path::new(path).is_file());
    found.unwrap_or("sshd")
}

/// Lets a running https server, which keeps the repository's directory open, open it anew. A
/// pattern matches running units only, and it is no error if there is none.
pub(super) const SERVE_AGAIN: &str = "systemctl try-restart 'artifact-cache-serve*.service'";
