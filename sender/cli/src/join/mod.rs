//! `artifact-cache join`: makes this machine a client of a cache.
//!
//! `host` makes ssh know the cache's host; this file writes the configuration, and then checks the
//! cache as `check` does. Everything that is there already stays as it is.

mod host;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use artifact_protocol::exit;
use artifact_sender::Remote;

use crate::address::Address;
use crate::args::{self, Args, Check};
use crate::check;
use crate::config::{Directories, load, quoted};
use crate::output::Output;
use crate::trouble::Trouble;

pub(crate) async fn run(join: &args::Join, args: &Args, output: &Output) -> u8 {
    if let Err(trouble) = prepare(join, args, output) {
        return output.trouble(&trouble);
    }
    let check = Check {
        remote: vec![join.cache.clone()],
    };
    check::run(&check, args, output).await
}

fn prepare(join: &args::Join, args: &Args, output: &Output) -> Result<(), Trouble> {
    let directories = Directories::of_environment();
    let file = args.config.clone();
    let file = file.unwrap_or_else(|| directories.users_file());
    let must_write = !is_configured(&join.cache, &file)?;
    if let Address::Receiver(Remote::Ssh(remote)) = &join.cache {
        host::make_known(remote, join, args, output)?;
    }
    if must_write {
        write(&file, &text(&join.cache)).map_err(|error| {
            let file = file.display();
            usage(format!("cannot write {file}: {error}"), None)
        })?;
        output.line(&format!("wrote {}", file.display()));
    }
    Ok(())
}

/// Returns whether the configuration names this cache. One that names other caches is the user's
/// to change: what they are for, and in which order, only the user knows.
fn is_configured(cache: &Address, file: &Path) -> Result<bool, Trouble> {
    if !file.exists() {
        return Ok(false);
    }
    let shown = file.display();
    match load(Some(file), &Directories::of_environment()) {
        Ok(Some(config)) if config.caches.iter().any(|known| known.address == *cache) => Ok(true),
        Ok(_) => Err(usage(
            format!("{shown} names other caches already"),
            Some(format!(
                "add this one to its list, where it belongs:\n    - url: {cache}{}",
                if cache.can_push() {
                    "\n      push: true"
                } else {
                    ""
                }
            )),
        )),
        Err(error) => Err(usage(error.to_string(), None)),
    }
}

fn text(cache: &Address) -> String {
    format!("artifacts:\n  url: {}\n", quoted(&cache.to_string()))
}

/// Writes a file that gets its name when it is whole.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let temporary = file.with_extension(format!("new.{}", std::process::id()));
    let written = fs::File::create_new(&temporary)
        .and_then(|mut new| new.write_all(text.as_bytes()).and_then(|()| new.sync_all()))
        // Fails if somebody else has written the file meanwhile.
        .and_then(|()| fs::hard_link(&temporary, file));
    let removed = fs::remove_file(&temporary);
    written.and(removed)
}

fn usage(text: String, advice: Option<String>) -> Trouble {
    Trouble {
        may_pass: false,
        code: exit::USAGE,
        text,
        advice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same_cache() {
        let dir = tempfile::tempdir().unwrap();
        for (n, address) in [
            "ssh://artifacts@cache.example.com/artifacts",
            "ssh://a@[::1]:2222/~/x%20y",
            "https://cache.example.com/artifacts",
            "a@b:c",
            "/srv/it's # a: cache",
        ]
        .iter()
        .enumerate()
        {
            let cache: Address = address.parse().unwrap();
            let file = dir.path().join(format!("{n}/artifact-cache.yaml"));
            assert!(!is_configured(&cache, &file).unwrap());
            write(&file, &text(&cache)).unwrap();
            assert!(is_configured(&cache, &file).unwrap(), "{address}");
            let other: Address = "https://other".parse().unwrap();
            let refused = is_configured(&other, &file).unwrap_err();
            assert!(
                refused.text.contains("names other caches"),
                "{}",
                refused.text
            );
            assert!(write(&file, "x").is_err(), "overwrote {address}");
            assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        }
    }
}
