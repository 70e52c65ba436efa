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
use artifact_sandbox::privilege;
use nix::unistd::{User, geteuid};

use self::edit::Identity;
use self::replace::{Replacement, lock_dir_of, read_if_there};
use crate::say;

/// Let a key in, and grant it rights.
///
/// Adds two entries and shows them: the identity, with its key and rights, in the configuration,
/// and the key in the user's authorized_keys. If the name exists already, adds keys and rights to
/// it. Never takes any away, and leaves a file alone if nothing is missing.
///
/// A PATTERN matches refs: `*` stands for any part of a name between slashes, `**` for any number
/// of whole parts, so 'alpha/**' covers everything below alpha.
#[derive(Debug, clap::Args)]
pub(crate) struct Authorize {
    /// File with the public key, such as id_ed25519.pub; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Name of the key's owner, for messages and logs
    #[arg(long)]
    name: String,
    /// Refs that the key may create
    #[arg(long, value_name = "PATTERN")]
    push: Vec<RefPattern>,
    /// Refs that the key may create, and move to other commits
    #[arg(long, value_name = "PATTERN")]
    replace: Vec<RefPattern>,
    /// Refs whose existing commits' signatures the key may replace
    #[arg(long, value_name = "PATTERN")]
    sign: Vec<RefPattern>,
    /// Show what would be added, and write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Has no effect: writing is the default. Older manuals use it
    #[arg(long, hide = true, conflicts_with = "dry_run")]
    write: bool,
    /// Configuration to add the identity to
    #[arg(long, value_name = "FILE", default_value = Config::DEFAULT_PATH)]
    config: PathBuf,
    /// User that clients log in as
    #[arg(long, default_value = "artifacts")]
    user: String,
    /// File to add the key to [default: .ssh/authorized_keys in the user's home]
    #[arg(long, value_name = "FILE")]
    authorized_keys: Option<PathBuf>,
}

pub(crate) fn run(args: &Authorize) -> anyhow::Result<u8> {
    if !config::is_name(&args.name) {
        bail!(
            "--name may contain letters, digits and ._@+- only, and must begin with a letter or \
             digit"
        );
    }
    let key = read_key(&args.key)?;
    let user = User::from_name(&args.user)?;
    let keys_path = match (&args.authorized_keys, &user) {
        (Some(path), _) => path.clone(),
        (None, Some(user)) => user.dir.join(".ssh/authorized_keys"),
        (None, None) => bail!(
            "there is no user {}: name an existing one with --user",
            args.user
        ),
    };
    let identity = Identity {
        name: &args.name,
        key: format!("{} {}", key.to_text(), args.name),
        fingerprint: key.fingerprint(),
        push: &args.push,
        replace: &args.replace,
        sign: &args.sign,
    };
    // Holds off other runs of this command from before we read until we have written.
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
        // sshd reads files that root owns as the user, so the user must be able to read them.
        None if geteuid().is_root() && !user.is_some_and(|user| user.uid.is_root()) => {
            add_key(0o644)?;
        }
        None => add_key(0o600)?,
    }
    // The key is already in place: an identity without a key lets nobody in, so failing between the
    // two does no harm.
    match config {
        Some(config) => config.put()?,
        None => say("nothing is written"),
    }
    Ok(exit::DONE)
}

/// Returns the user and group to become before root writes to `path`: a directory's owner could
/// lead root astray there, so we enter it as its owner. The default path lies in the directory of
/// `user`.
fn owner_of_place(path: &Path, user: Option<&User>) -> anyhow::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    if let Some(user) = user {
        let other = !user.uid.is_root();
        return Ok(other.then(|| (user.uid.as_raw(), user.gid.as_raw())));
    }
    let path = std::path::absolute(path)?;
    // The last component may not exist yet.
    let mut dirs = path.ancestors().skip(1);
    let dir = dirs.find(|dir| dir.exists()).unwrap_or(&path);
    // Check the path as given and the path it resolves to: either may belong to another user.
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
        bail!("{shown} is the private key: keep it where it is, and give the .pub file beside it");
    }
    text.trim()
        .parse()
        .with_context(|| format!("{shown} does not contain a public key"))
}

/// A file's old and new text.
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

    /// Shows the added lines.
    fn show(&self) {
        let shown = self.path.display();
        if !self.changed {
            say(&format!("{shown}: nothing to add"));
            return;
        }
        say(&format!("{shown}:"));
        for line in &self.added {
            say(&format!("  {line}"));
        }
    }

    /// Writes the replacement beside the file, if the text changes.
    fn prepare(&self, mode: u32) -> anyhow::Result<Replacement> {
        match self.changed {
            true => Replacement::prepare(self.path, &self.new, mode),
            false => Ok(Replacement::nothing(self.path)),
        }
    }
}
