//! `artifact-cache-admin authorize`.

mod edit;
mod replace;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use artifact_formats::RefPattern;
use artifact_protocol::exit;
use artifact_receiver::access::PublicKey;
use artifact_receiver::config::{self, Config};
use artifact_receiver::privilege;
use nix::unistd::{User, geteuid};

use self::edit::Identity;
use self::replace::{read_if_there, replace};
use crate::say;

/// Let a key in, and say what it may do.
///
/// Makes two entries: the identity with its key and rights in the configuration, and the key in the
/// user's authorized_keys. Shows them, and with --write makes them. Said again of a name that is
/// there, it adds keys and rights; it takes none away, and changes nothing that is as wanted.
///
/// A PATTERN is a ref, with `*` for any part of a name between slashes and `**` for any number of
/// whole names: 'alpha/**' is all below alpha.
#[derive(Debug, clap::Args)]
pub(crate) struct Authorize {
    /// The file with the public key, such as id_ed25519.pub; `-` is standard input
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What its owner is called, in refusals and logs
    #[arg(long)]
    name: String,
    /// Refs that may be created
    #[arg(long, value_name = "PATTERN")]
    push: Vec<RefPattern>,
    /// Refs that may be moved to other commits, and created
    #[arg(long, value_name = "PATTERN")]
    replace: Vec<RefPattern>,
    /// Refs by which signatures of commits that are there may be changed
    #[arg(long, value_name = "PATTERN")]
    sign: Vec<RefPattern>,
    /// Write, and not only show
    #[arg(long)]
    write: bool,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = Config::DEFAULT_PATH)]
    config: PathBuf,
    /// The user whom pushes come in as
    #[arg(long, default_value = "artifacts")]
    user: String,
    /// [default: .ssh/authorized_keys of the user]
    #[arg(long, value_name = "FILE")]
    authorized_keys: Option<PathBuf>,
}

pub(crate) fn run(args: &Authorize) -> anyhow::Result<u8> {
    if !config::is_name(&args.name) {
        bail!("--name is made of letters, digits and ._@+- and begins with a letter or digit");
    }
    let key = read_key(&args.key)?;
    let user = User::from_name(&args.user)?;
    let keys_path = match (&args.authorized_keys, &user) {
        (Some(path), _) => path.clone(),
        (None, Some(user)) => user.dir.join(".ssh/authorized_keys"),
        (None, None) => bail!("there is no user {}: --user names another", args.user),
    };
    let identity = Identity {
        name: &args.name,
        key: format!("{} {}", key.to_text(), args.name),
        fingerprint: key.fingerprint(),
        push: &args.push,
        replace: &args.replace,
        sign: &args.sign,
    };
    let old = read_if_there(&args.config)?;
    let new = edit::add_identity(&old, &identity, &args.config)?;
    let change = Change::of(&args.config, old, new);
    // The user's own directory is not a place to be root in.
    change.show_and(args.write, 0o644)?;
    if let Some(user) = user.filter(|user| geteuid().is_root() && !user.uid.is_root()) {
        privilege::become_user(user.uid.as_raw(), user.gid.as_raw())
            .with_context(|| format!("cannot become {}", user.name))?;
    }
    let old = read_if_there(&keys_path)?;
    let new = edit::add_line(&old, &key, &args.name);
    if args.write {
        replace::make_ssh_dir(&keys_path)?;
    }
    Change::of(&keys_path, old, new).show_and(args.write, 0o600)?;
    if !args.write {
        say("nothing is written: add --write for that");
    }
    Ok(exit::DONE)
}

fn read_key(path: &Path) -> anyhow::Result<PublicKey> {
    let shown = path.display();
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read the key {shown}"))?;
    if text.contains("PRIVATE KEY") {
        bail!("{shown} is the private key: it stays where it is, and its .pub is wanted");
    }
    text.trim()
        .parse()
        .with_context(|| format!("{shown} does not hold a key"))
}

/// A file, as it is and as it is to be.
struct Change<'a> {
    path: &'a Path,
    new: String,
    changed: bool,
    added: Vec<String>,
}

impl<'a> Change<'a> {
    fn of(path: &'a Path, old: String, new: String) -> Self {
        let lines: Vec<_> = old.lines().collect();
        let added = new
            .lines()
            .filter(|line| !lines.contains(line) && !line.is_empty());
        Self {
            path,
            added: added.map(str::to_owned).collect(),
            changed: old != new,
            new,
        }
    }

    /// Shows the lines that are new, and writes the file if that is wanted.
    fn show_and(&self, write: bool, mode: u32) -> anyhow::Result<()> {
        let shown = self.path.display();
        if !self.changed {
            say(&format!("{shown}: all of it is there already"));
            return Ok(());
        }
        say(&format!("{shown}:"));
        for line in &self.added {
            say(&format!("  {line}"));
        }
        if write {
            replace(self.path, &self.new, mode)?;
        }
        Ok(())
    }
}
