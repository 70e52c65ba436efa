//! `artifact-cache-admin authorize`, and its opposite in `revoke.rs`.

mod edit;
mod files;
mod replace;
pub(crate) mod revoke;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use artifact_formats::RefPattern;
use artifact_protocol::exit;
use artifact_receiver::access::PublicKey;
use artifact_receiver::config;

use self::edit::Identity;
use self::files::Files;

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
    /// Refs that the key may pull over ssh [default: all, for a key with another right]
    #[arg(long, value_name = "PATTERN")]
    pull: Vec<RefPattern>,
    /// Has no effect: writing is the default. Older manuals use it
    #[arg(long, hide = true, conflicts_with = "dry_run")]
    write: bool,
    #[command(flatten)]
    files: Files,
}

pub(crate) fn run(args: &Authorize) -> anyhow::Result<u8> {
    if !config::is_name(&args.name) {
        bail!(
            "--name may contain letters, digits and ._@+- only, and must begin with a letter or \
             digit"
        );
    }
    let key = read_key(&args.key)?;
    let identity = Identity {
        name: &args.name,
        key: format!("{} {}", key.to_text(), args.name),
        fingerprint: key.fingerprint(),
        push: &args.push,
        replace: &args.replace,
        sign: &args.sign,
        pull: &args.pull,
    };
    args.files.change(
        |text| edit::add_identity(text, &identity, &args.files.config),
        |text| edit::add_line(text, &key, &args.name),
    )?;
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
        bail!("{shown} is the private key: keep it where it is, and give the .pub file beside it");
    }
    text.trim()
        .parse()
        .with_context(|| format!("{shown} does not contain a public key"))
}
