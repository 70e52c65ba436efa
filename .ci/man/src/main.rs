//! `artifact-man`: writes the manual pages into a directory.
//!
//! Pages of programs come from the definitions of their command lines, all others from Markdown. It
//! is no part of a release: only the pages are.

mod command;
mod page;
mod roff;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::page::Page;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let (Some(out), Some(date), None) = (args.next(), args.next(), args.next()) else {
        bail!("usage: artifact-man DIRECTORY DATE, such as: artifact-man target/man 2026-01-31");
    };
    let out = PathBuf::from(out);
    let date = date.to_string_lossy();
    for page in pages()? {
        let dir = out.join(format!("man{}", page.section));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let path = dir.join(format!("{}.{}", page.name, page.section));
        fs::write(&path, page.render(&date))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn pages() -> anyhow::Result<Vec<Page>> {
    let mut pages = Vec::new();
    let client = [
        "artifact-cache.yaml(5)",
        "artifact-cache-protocol(7)",
        "ostree(1)",
        "ssh(1)",
    ];
    let server = [
        "artifact-cache-admin(8)",
        "artifact-cache-serve(8)",
        "artifact-cache.toml(5)",
        "artifact-cache-protocol(7)",
        "bst-artifact-receive(8)",
        "sshd_config(5)",
    ];
    command::pages(artifact_cache::command(), '1', &client, &mut pages)?;
    command::pages(artifact_cache_admin::command(), '8', &server, &mut pages)?;
    command::pages(artifact_cache_serve::command(), '8', &server, &mut pages)?;
    command::pages(bst_artifact_receive::command(), '8', &server, &mut pages)?;
    pages.push(text(
        "sender/artifact-cache.yaml.md",
        ("artifact-cache.yaml", '5'),
        "the caches that artifact-cache pushes to and pulls from",
    )?);
    pages.push(text(
        "receiver/artifact-cache.toml.md",
        ("artifact-cache.toml", '5'),
        "who may do what in an artifact cache, and its limits",
    )?);
    pages.push(text(
        "protocol/SPEC.md",
        ("artifact-cache-protocol", '7'),
        "what travels between sender and receiver of an artifact cache",
    )?);
    Ok(pages)
}

/// Makes a page from a file of this workspace.
fn text(file: &str, (name, section): (&str, char), about: &str) -> anyhow::Result<Page> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
    Ok(Page {
        name: name.to_owned(),
        section,
        about: about.to_owned(),
        body: roff::from_markdown(&text),
        see_also: Vec::new(),
    })
}
