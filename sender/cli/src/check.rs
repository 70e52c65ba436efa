//! `artifact-cache check`.

use artifact_formats::counted;
use artifact_protocol::exit;
use artifact_puller::Origin;
use artifact_sender::{Dialect, RefName, Remote, Text, Welcome, greet, inquire};
use serde_json::json;

use crate::address::Address;
use crate::args::{self, Args};
use crate::config::Cache;
use crate::output::Output;
use crate::trouble::Trouble;
use crate::{caches, origin, session};

/// Checks each cache in turn, and returns the first exit code that is not 0.
pub(crate) async fn run(check: &args::Check, args: &Args, output: &Output) -> u8 {
    let caches = match caches::to_read(&check.remote, args) {
        Ok(caches) => caches,
        Err(trouble) => return output.trouble(&trouble),
    };
    let mut code = exit::DONE;
    for cache in &caches {
        output.line(&format!("cache         {}", cache.address));
        if let Err(trouble) = look_at(cache, args, output).await {
            output.trouble(&trouble);
            if code == exit::DONE {
                code = trouble.code;
            }
        }
    }
    code
}

/// Connects to the cache's receiver, if it has one, and reads the repository. Problems that affect
/// everybody are reported before those of this user.
async fn look_at(cache: &Cache, args: &Args, output: &Output) -> Result<(), Trouble> {
    let Address::Receiver(remote) = &cache.address else {
        let origin = origin::of(cache, args, output).await?;
        return read(&origin, output).await;
    };
    let server = session::run(remote, args, output, async |c, dialect| {
        greet(c, session::AGENT, dialect).await
    })
    .await?;
    show(&server, remote, output);
    let Remote::Ssh(_) = remote else {
        return read(&origin::of(cache, args, output).await?, output).await;
    };
    let origin = origin::announced(remote, server.pull_url.as_ref(), cache, args)?;
    read(&origin, output).await?;
    match server.rights() {
        // Such a server does not tell this client what refs hold, either, so there is nothing to
        // compare.
        Some(rights) if rights.is_empty() => Err(Trouble {
            may_pass: false,
            code: exit::REFUSED_REF,
            text: format!("your key may change nothing at {remote}"),
            advice: Some(
                "its operator grants rights with `artifact-cache-admin authorize`; pulling needs \
                 none"
                    .to_owned(),
            ),
        }),
        // Servers of old versions do not tell, either.
        _ if Dialect::of_version(server.version).is_some() => Ok(()),
        _ => must_agree(remote, &origin, args, output).await,
    }
}

/// Compares one ref at the web server and at the receiver: do both serve the same repository?
async fn must_agree(
    remote: &Remote,
    origin: &Origin,
    args: &Args,
    output: &Output,
) -> Result<(), Trouble> {
    let mut attempts = 0;
    loop {
        let summary = origin.summary().await;
        let refs = summary
            .map_err(|error| Trouble::of_reading(&error))?
            .map(|summary| summary.refs)
            .unwrap_or_default();
        let mut refs = refs
            .iter()
            .filter_map(|(name, entry)| Some((name.parse().ok()?, entry)));
        let Some((name, entry)): Option<(RefName, _)> = refs.next() else {
            return Ok(());
        };
        let served = entry.commit;
        let held = session::run(remote, args, output, async |connection, _| {
            inquire(connection, session::AGENT, &name, served).await
        });
        let held = held.await?;
        if held == Some(served) {
            output.line("              the same as the receiver writes");
            output.object(&json!({
                "event": "agreed",
                "name": name.as_str(),
                "commit": served.to_hex(),
            }));
            return Ok(());
        }
        attempts += 1;
        // Somebody may have pushed in between.
        if attempts < ATTEMPTS {
            continue;
        }
        let held = held.map_or_else(|| "not there".to_owned(), |held| held.to_hex());
        return Err(Trouble {
            may_pass: false,
            code: exit::STORAGE,
            text: format!(
                "{origin} serves another repository, or an old copy: {name} is {served} there, \
                 but {held} at {remote}"
            ),
            advice: Some(
                "make the web server serve the repository that the receiver writes, and let no \
                 proxy cache the summary"
                    .to_owned(),
            ),
        });
    }
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

/// Reads the files that every puller reads first.
async fn read(origin: &Origin, output: &Output) -> Result<(), Trouble> {
    let told = |error| Trouble::of_reading(&error);
    let config = origin.config().await.map_err(told)?;
    let summary = origin.summary().await.map_err(told)?;
    let refs = summary.as_ref().map(|summary| summary.refs.len());
    let listed = refs.map_or("no summary".to_owned(), |refs| counted(refs as u64, "ref"));
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

const ATTEMPTS: u32 = 3;
