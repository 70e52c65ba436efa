//! `artifact-cache-admin revoke`.

use artifact_protocol::exit;
use artifact_receiver::config::Config;

use crate::authorize::edit;
use crate::authorize::files::Files;

/// Take away all rights and keys of a name.
///
/// Removes the identity from the configuration, and its keys from the user's authorized_keys, and
/// shows what it removes. Sessions that are running end by themselves. Refs that were pushed stay.
#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    files: Files,
    /// Name of an identity, as given to authorize
    name: String,
}

pub(crate) fn run(args: &Revoke) -> anyhow::Result<u8> {
    let path = &args.files.config;
    // The keys are known once the configuration was read, under its lock.
    let keys = std::cell::OnceCell::new();
    args.files.change(
        |text| {
            let config = Config::parse(text, path)?;
            let known = config.identities.iter().find(|i| i.name == args.name);
            let _ = keys.set(known.map_or_else(Vec::new, |known| known.keys.clone()));
            edit::remove_identity(text, &args.name, path)
        },
        |text| edit::remove_lines(text, keys.get().map_or(&[], Vec::as_slice), &args.name),
    )?;
    Ok(exit::DONE)
}
