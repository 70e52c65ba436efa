//! `artifact-cache check`.

use artifact_protocol::exit;
use artifact_sender::{Text, greet};
use serde_json::json;

use crate::args;
use crate::args::Args;
use crate::output::Output;
use crate::session;

/// Says hello to a server, and prints its answer.
pub(crate) async fn run(check: &args::Check, args: &Args, output: &Output) -> u8 {
    let remote = &check.remote;
    let agent = concat!("artifact-cache ", env!("CARGO_PKG_VERSION"));
    let greeting = session::run(remote, args, output, async |c| greet(c, agent).await).await;
    let server = match greeting {
        Ok(server) => server,
        Err(trouble) => {
            output.error(&trouble.text, trouble.advice.as_deref());
            return trouble.code;
        }
    };
    let shown = |text: &Option<Text>, none: &str| match text {
        Some(text) => text.escaped(),
        None => none.to_owned(),
    };
    output.line(&format!("cache         {remote}"));
    output.line(&format!("server        {}", server.agent.escaped()));
    output.line(&format!("protocol      version {}", server.version));
    output.line(&format!(
        "it calls you  {}",
        shown(&server.identity, "nothing")
    ));
    output.line(&format!(
        "pull from     {}",
        shown(&server.pull_url, "(the server does not say)")
    ));
    output.object(&json!({
        "event": "server",
        "remote": remote.to_string(),
        "agent": server.agent.as_raw(),
        "version": server.version.0,
        "identity": server.identity.as_ref().map(|text| text.as_raw()),
        "pull_url": server.pull_url.as_ref().map(|text| text.as_raw()),
    }));
    exit::DONE
}
