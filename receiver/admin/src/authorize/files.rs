//! The two files that say who is let in and may do what: changed together, or neither.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use artifact_protocol::escape_line;
use artifact_receiver::config::Config;
use artifact_sandbox::privilege;
use nix::unistd::{User, geteuid};
use serde_json::json;

use crate::authorize::replace::{self, Replacement, lock_dir_of, read_if_there};
use crate::output::{say, tell};

/// The files, and whether they may be written.
#[derive(Debug, clap::Args)]
pub(super) struct Files {
    /// Show what would change, and write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Configuration with the identities
    #[arg(long, value_name = "FILE", default_value = Config::DEFAULT_PATH)]
    pub(super) config: PathBuf,
    /// User that clients log in as
    #[arg(long, default_value = "artifacts")]
    user: String,
    /// File of the keys that log in [default: .ssh/authorized_keys in the user's home]
    #[arg(long, value_name = "FILE")]
    authorized_keys: Option<PathBuf>,
}

impl Files {
    /// Changes both texts, and shows what changes.
    pub(super) fn change(
        &self,
        edit_config: impl FnOnce(&str) -> anyhow::Result<String>,
        edit_keys: impl FnOnce(&str) -> String,
    ) -> anyhow::Result<()> {
        let user = User::from_name(&self.user)?;
        let keys_path = match (&self.authorized_keys, &user) {
            (Some(path), _) => path.clone(),
            (None, Some(user)) => user.dir.join(".ssh/authorized_keys"),
            (None, None) => bail!(
                "there is no user {}: name an existing one with --user",
                self.user
            ),
        };
        // Holds off other runs of this command from before we read until we have written.
        let locked = (!self.dry_run)
            .then(|| lock_dir_of(&self.config))
            .transpose()?;
        let old = read_if_there(&self.config)?;
        let new = edit_config(&old)?;
        let config = Change::of(&self.config, old, new);
        config.show(self);
        let config = (!self.dry_run).then(|| config.prepare(0o644)).transpose()?;
        let change_keys = |mode| {
            if !self.dry_run {
                replace::make_dir_of(&keys_path, mode | 0o100 | (mode & 0o044) >> 2)?;
            }
            let is_locked = locked.as_ref().is_some_and(|lock| lock.is_of(&keys_path));
            let _locked = (!self.dry_run && !is_locked)
                .then(|| lock_dir_of(&keys_path))
                .transpose()?;
            let old = read_if_there(&keys_path)?;
            let new = edit_keys(&old);
            let keys = Change::of(&keys_path, old, new);
            keys.show(self);
            if !self.dry_run {
                keys.prepare(mode)?.put()?;
            }
            anyhow::Ok(())
        };
        let of_user = user.as_ref().filter(|_| self.authorized_keys.is_none());
        match owner_of_place(&keys_path, of_user)? {
            Some((uid, gid)) => {
                privilege::act_as(uid, gid, || change_keys(0o600)).with_context(|| {
                    format!(
                        "cannot become user {uid}, whose place {} is",
                        keys_path.display()
                    )
                })??;
            }
            // sshd reads files that root owns as the user, so the user must be able to read them.
            None if geteuid().is_root() && !user.is_some_and(|user| user.uid.is_root()) => {
                change_keys(0o644)?;
            }
            None => change_keys(0o600)?,
        }
        // The keys are changed already: an identity without a key lets nobody in, so failing
        // between the two does no harm.
        match config {
            Some(config) => config.put()?,
            None if self.json => {}
            None => say("nothing is written"),
        }
        Ok(())
    }
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

/// A file's old and new text.
struct Change<'a> {
    path: &'a Path,
    new: String,
    changed: bool,
    added: Vec<String>,
    removed: Vec<String>,
}

impl<'a> Change<'a> {
    fn of(path: &'a Path, old: String, new: String) -> Self {
        let only_in = |text: &str, other: &str| {
            let known: Vec<_> = other.lines().collect();
            let lines = text.lines();
            let lines = lines.filter(|line| !known.contains(line) && !line.is_empty());
            lines.map(str::to_owned).collect()
        };
        Self {
            path,
            added: only_in(&new, &old),
            removed: only_in(&old, &new),
            changed: old != new,
            new,
        }
    }

    /// Shows the lines that change.
    fn show(&self, files: &Files) {
        let shown = self.path.display();
        if files.json {
            let fields = json!({
                "file": shown.to_string(),
                "removed": self.removed,
                "added": self.added,
                "dry_run": files.dry_run,
            });
            return tell(true, "change", &fields, "");
        }
        if !self.changed {
            say(&format!("{shown}: nothing to change"));
            return;
        }
        say(&format!("{shown}:"));
        for line in &self.removed {
            say(&escape_line(&format!("- {line}")));
        }
        for line in &self.added {
            say(&escape_line(&format!("+ {line}")));
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
