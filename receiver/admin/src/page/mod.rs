//! `artifact-cache-admin page`.

mod place;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use artifact_formats::counted;
use artifact_page::{Options, PullUrl, Site};
use artifact_protocol::exit;
use serde_json::json;

use crate::output::{complain, tell};
use crate::page::place::Place;
use crate::server::Server;

/// Write the cache's pages as files, for a web server or CDN to serve.
///
/// `artifact-cache-serve` serves the same pages itself, always up to date; the files show the cache
/// as it was when they were written. The pages link to each other by relative links, so DIR may be
/// served under any path. The command writes a new directory beside DIR and then exchanges the two
/// at once: no reader sees a half-written site.
///
/// DIR must not exist, or be empty, or contain only files that this command wrote. The command
/// never removes anything else.
#[derive(Debug, clap::Args)]
pub(crate) struct WritePage {
    #[command(flatten)]
    server: Server,
    /// The directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The URL that the pages tell users to pull from [default: `pull-url` of the configuration]
    #[arg(long, value_name = "URL")]
    pull_url: Option<PullUrl>,
    /// The name of the cache [default: the host of the pull URL]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// The repository
    repo: PathBuf,
}

pub(crate) fn run(args: &WritePage) -> anyhow::Result<u8> {
    let config = args.server.read()?;
    let pull_url = match (&args.pull_url, &config.pull_url) {
        (Some(url), _) => Some(url.clone()),
        (None, Some(url)) => Some(url.parse().context("`pull-url` of the configuration")?),
        (None, None) => None,
    };
    let options = Options {
        title: args.title.clone(),
        pull_url,
        audit: config.audit.file,
        ..Options::default()
    };
    let site = Site::open(&args.repo, options)?;
    site.count();
    let mut place = match Place::prepare(&args.out)? {
        Ok(place) => place,
        Err(refusal) => {
            complain(&format!("artifact-cache-admin: {refusal}"));
            return Ok(exit::USAGE);
        }
    };
    let written = site.files(|path, content| {
        let mut file = File::create_new(place.take(path)?)?;
        file.write_all(content)
    });
    let count = written.with_context(|| format!("cannot write {}", place.shown()))?;
    place.publish()?;
    let dir = args.out.display();
    let text = format!("wrote {} to {dir}", counted(count as u64, "page"));
    let fields = json!({"pages": count, "dir": dir.to_string()});
    tell(args.json, "page", &fields, &text);
    Ok(exit::DONE)
}
