//! Chooses the caches of a command: those of the command line, or the configured ones.

use artifact_protocol::exit;
use artifact_sender::Remote;

use crate::address::Address;
use crate::args::Args;
use crate::config::{Cache, Config, Directories, load};
use crate::trouble::Trouble;

#[derive(Debug)]
pub(crate) struct Targets {
    /// At least one.
    pub(crate) remotes: Vec<Remote>,
    /// Whether the user named them all on the command line.
    pub(crate) named: bool,
}

/// Returns the caches to push to: those named, or all configured ones that have `push: true`.
pub(crate) fn to_push(named: &[Remote], args: &Args) -> Result<Targets, Trouble> {
    if !named.is_empty() {
        return Ok(Targets {
            remotes: named.to_vec(),
            named: true,
        });
    }
    let config = configuration(args)?;
    let pushed = config.caches.into_iter().filter(|cache| cache.push);
    let remotes: Vec<Remote> = pushed
        .filter_map(|cache| match cache.address {
            Address::Receiver(remote) => Some(remote),
            Address::Web(_) => None,
        })
        .collect();
    if remotes.is_empty() {
        return Err(Trouble {
            may_pass: false,
            code: exit::USAGE,
            text: format!("{} names no cache to push to", config.file.display()),
            advice: Some(
                "add `push: true` to a cache with an ssh:// url, or give --remote URL".into(),
            ),
        });
    }
    Ok(Targets {
        remotes,
        named: false,
    })
}

/// Returns the caches to read, the preferred one first: those named, or all configured ones.
pub(crate) fn to_read(named: &[Address], args: &Args) -> Result<Vec<Cache>, Trouble> {
    if !named.is_empty() {
        return Ok(named.iter().cloned().map(Cache::named).collect());
    }
    Ok(configuration(args)?.caches)
}

/// Reads the configuration, which must name a cache.
pub(crate) fn configuration(args: &Args) -> Result<Config, Trouble> {
    let directories = Directories::of_environment();
    match load(args.config.as_deref(), &directories) {
        Ok(Some(config)) => Ok(config),
        Ok(None) => Err(Trouble {
            may_pass: false,
            code: exit::USAGE,
            text: "no cache is named".into(),
            advice: Some(format!(
                "give --remote URL, or write this to {}:\n    artifacts:\n      \
                 url: ssh://artifacts@cache.example.com/artifacts",
                directories.users_file().display()
            )),
        }),
        Err(error) => Err(Trouble {
            may_pass: false,
            code: exit::USAGE,
            text: error.to_string(),
            advice: None,
        }),
    }
}
