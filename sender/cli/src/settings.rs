//! `artifact-cache config`: checks the user's configuration, and shows it.

use artifact_formats::counted;
use artifact_protocol::exit;
use serde_json::json;

use crate::args::{Args, Config, ConfigAction};
use crate::caches::configuration;
use crate::config::{Cache, Trust, written};
use crate::output::Output;
use crate::trouble::Trouble;

pub(crate) fn run(config: &Config, args: &Args, output: &Output) -> u8 {
    let done = match config.command {
        ConfigAction::Check => check(args, output),
        ConfigAction::Show { effective } => show(effective, args, output),
    };
    match done {
        Ok(()) => exit::DONE,
        Err(trouble) => output.trouble(&trouble),
    }
}

fn check(args: &Args, output: &Output) -> Result<(), Trouble> {
    let config = configuration(args)?;
    let file = config.file.display();
    for path in config.caches.iter().flat_map(|cache| cache.trust.files()) {
        std::fs::read(path).map_err(|error| Trouble {
            may_pass: false,
            code: exit::USAGE,
            text: format!("{file}: cannot read {}: {error}", path.display()),
            advice: None,
        })?;
    }
    let caches = config.caches.len() as u64;
    output.line(&format!("{file} is right: {}", counted(caches, "cache")));
    output.object(&json!({
        "event": "config",
        "file": file.to_string(),
        "caches": caches,
    }));
    Ok(())
}

fn show(effective: bool, args: &Args, output: &Output) -> Result<(), Trouble> {
    let mut config = configuration(args)?;
    if effective {
        for cache in &mut config.caches {
            overrule(&mut cache.trust, args);
        }
    }
    output.line(&format!("# {}", config.file.display()));
    output.line(written(&config.caches, effective).trim_end());
    for Cache {
        address,
        trust,
        push,
    } in &config.caches
    {
        output.object(&json!({
            "event": "cache",
            "file": config.file.display().to_string(),
            "url": address.to_string(),
            "push": push,
            "gpg_keys": trust.gpg_keys,
            "ed25519_keys": trust.ed25519_keys,
            "tls_ca": trust.ca,
            "tls_cert": trust.certificate,
            "tls_key": trust.key,
        }));
    }
    Ok(())
}

/// Puts the command line in the place of the file, as all commands do.
fn overrule(trust: &mut Trust, args: &Args) {
    for (own, other) in [
        (&mut trust.ca, &args.ca),
        (&mut trust.certificate, &args.client_cert),
        (&mut trust.key, &args.client_key),
    ] {
        if other.is_some() {
            own.clone_from(other);
        }
    }
}
