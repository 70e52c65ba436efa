//! `artifact-cache check`.

use artifact_protocol::exit;
use artifact_sender::{Remote, Text, Welcome, greet};
use serde_json::json;

use crate::AGENT;
use crate::address::Address;
use crate::args;
use crate::args::Args;
use crate::caches;
use crate::origin::Origin;
use crate::output::Output;
use crate::session;
use crate::trouble::Trouble;

/// Looks at each cache in turn, and returns the exit code: the first that is not 0.
pub(crate) async fn run(check: &args::Check, args: &Args, output: &Output) -> u8 {
    let caches = match caches::to_read(&check.remote, args) {
        Ok(caches) => caches,
        Err(trouble) => return output.trouble(&trouble),
    };
    let mut code = exit::DONE;
    for cache in &caches {
        output.line(&format!("cache         {cache}"));
        if let Err(trouble) = look_at(cache, args, output).await {
            output.trouble(&trouble);
            if code == exit::DONE {
                code = trouble.code;
            }
        }
    }
    code
}

/// Talks to the cache's receiver, if it has one, and reads from where it is to be read.
async fn look_at(cache: &Address, args: &Args, output: &Output) -> Result<(), Trouble> {
    let Address::Receiver(remote) = cache else {
        let origin = Origin::of(cache, args, output).await?;
        return read(&origin, output);
    };
    let server = session::run(remote, args, output, async |c| greet(c, AGENT).await).await?;
    show(&server, remote, output);
    let origin = match remote {
        Remote::Local(path) => Origin::Path(path.clone()),
        Remote::Ssh(_) => Origin::announced(remote, &server)?,
    };
    read(&origin, output)
}

fn show(server: &Welcome, remote: &Remote, output: &Output) {
    let said = |text: &Option<Text>| text.as_ref().map(Text::escaped);
    output.line(&format!("server        {}", server.agent.escaped()));
    output.line(&format!("protocol      version {}", server.version));
    let identity = said(&server.identity).unwrap_or_else(|| "nothing".into());
    output.line(&format!("it calls you  {identity}"));
    let rights = server.rights();
    if let Some(rights) = &rights {
        let rights: Vec<_> = rights.iter().map(Text::escaped).collect();
        let rights = if rights.is_empty() {
            "do nothing".into()
        } else {
            rights.join(", ")
        };
        output.line(&format!("you may       {rights}"));
    }
    let pull_url = said(&server.pull_url).unwrap_or_else(|| "(the server does not say)".into());
    output.line(&format!("pull from     {pull_url}"));
    output.object(&json!({
        "event": "server",
        "remote": remote.to_string(),
        "agent": server.agent.as_raw(),
        "version": server.version.0,
        "identity": server.identity.as_ref().map(Text::as_raw),
        "rights": rights.map(|rights| {
            rights.iter().map(|right| right.as_raw().to_owned()).collect::<Vec<_>>()
        }),
        "pull_url": server.pull_url.as_ref().map(Text::as_raw),
    }));
}

/// Reads what every puller reads first.
fn read(origin: &Origin, output: &Output) -> Result<(), Trouble> {
    let config = origin.config()?;
    let summary = origin.summary()?;
    let refs = summary.as_ref().map(|summary| summary.refs.len());
    let listed = refs.map_or("no summary".to_owned(), |refs| format!("{refs} refs"));
    output.line(&format!("repository    {}, {listed}", config.mode.as_str()));
    output.object(&json!({
        "event": "repository",
        "origin": origin.to_string(),
        "mode": config.mode.as_str(),
        "refs": refs,
        "summary_modified": summary.and_then(|summary| summary.last_modified),
    }));
    Ok(())
}
