//! `artifact-cache-admin authorize`.

mod edit;
mod replace;

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use artifact_formats::RefPattern;
use artifact_protocol::exit;
use artifact_receiver::access::PublicKey;
use artifact_receiver::config::{self, Config};
use artifact_receiver::privilege;
use nix::unistd::{User, geteuid};

use self::edit::Identity;
use self::replace::{Replacement, lock_dir_of, read_if_there};
use crate::say;

/// Let a key in, and say what it may do.
///
/// Makes two entries: the identity with its key and rights in the configuration, and the key in the
/// user's authorized_keys, and shows what it adds. Said again of a name that is
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
    /// Write nothing; show what would be added
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// What is done anyway. Older manuals say it
    #[arg(long, hide = true, conflicts_with = "dry_run")]
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
    // Whoever authorizes at the same time waits, from before this reads until it has written.
    let locked = (!args.dry_run)
        .then(|| lock_dir_of(&args.config))
        .transpose()?;
    let old = read_if_there(&args.config)?;
    let new = edit::add_identity(&old, &identity, &args.config)?;
    let config = Change::of(&args.config, old, new);
    config.show();
    let config = (!args.dry_run).then(|| config.prepare(0o644)).transpose()?;
    let add_key = |mode| {
        if !args.dry_run {
            replace::make_dir_of(&keys_path, mode | 0o100 | (mode & 0o044) >> 2)?;
        }
        let is_locked = locked.as_ref().is_some_and(|lock| lock.is_of(&keys_path));
        let _locked = (!args.dry_run && !is_locked)
            .then(|| lock_dir_of(&keys_path))
            .transpose()?;
        let old = read_if_there(&keys_path)?;
        let new = edit::add_line(&old, &key, &args.name);
        let keys = Change::of(&keys_path, old, new);
        keys.show();
        if !args.dry_run {
            keys.prepare(mode)?.put()?;
        }
        anyhow::Ok(())
    };
    match owner_of_place(
        &keys_path,
        user.as_ref().filter(|_| args.authorized_keys.is_none()),
    )? {
        Some((uid, gid)) => {
            privilege::act_as(uid, gid, || add_key(0o600)).with_context(|| {
                format!(
                    "cannot become user {uid}, whose place {} is",
                    keys_path.display()
                )
            })??
        }
        // sshd reads root's files as the user.
        None if geteuid().is_root() && !user.is_some_and(|user| user.uid.is_root()) => {
            add_key(0o644)?;
        }
        None => add_key(0o600)?,
    }
    // After the key: what lets nobody in harms nobody, and is all there when this fails.
    match config {
        Some(config) => config.put()?,
        None => say("nothing is written"),
    }
    Ok(exit::DONE)
}

/// Returns whom to act as, being root, where `path` is: a place of somebody else's, who could lead root
/// astray there, is entered as its owner. The default is in the directory of `user`.
fn owner_of_place(path: &Path, user: Option<&User>) -> anyhow::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    if let Some(user) = user {
        let other = !user.uid.is_root();
        return Ok(other.then(|| (user.uid.as_raw(), user.gid.as_raw())));
    }
    let path = std::path::absolute(path)?;
    // The last may be still to be made.
    let mut dirs = path.ancestors().skip(1);
    let dir = dirs.find(|dir| dir.exists()).unwrap_or(&path);
    // Where it says to be, and where it is.
    let real = dir.canonicalize();
    let real = real.with_context(|| format!("cannot look at {}", dir.display()))?;
    for place in [dir, &real] {
        let above: Vec<_> = place.ancestors().collect();
        for place in above.iter().rev() {
            let found = place.symlink_metadata()?;
            if found.uid() != 0 {
                return Ok(Some((found.uid(), found.gid())));
            }
        }
    }
    Ok(None)
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

    /// Shows the lines that are new.
    fn show(&self) {
        let shown = self.path.display();
        if !self.changed {
            say(&format!("{shown}: all of it is there already"));
            return;
        }
        say(&format!("{shown}:"));
        for line in &self.added {
            say(&format!("  {line}"));
        }
    }

    /// Writes what will replace the file, if it is to change.
    fn prepare(&self, mode: u32) -> anyhow::Result<Replacement> {
        match self.changed {
            true => Replacement::prepare(self.path, &self.new, mode),
            false => Ok(Replacement::nothing(self.path)),
        }
    }
}
