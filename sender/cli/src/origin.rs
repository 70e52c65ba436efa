//! Finds the place to read a cache from: the address itself, or the one that its receiver names.

use artifact_protocol::exit;
use artifact_puller::{Origin, WebIdentity, WebOptions, WebUrl};
use artifact_sender::{Remote, Text, greet};

use crate::address::Address;
use crate::args::Args;
use crate::config::Cache;
use crate::output::Output;
use crate::session;
use crate::trouble::Trouble;

/// Finds the place to read a cache from, and asks its receiver if the address is one of ssh.
pub(crate) async fn of(cache: &Cache, args: &Args, output: &Output) -> Result<Origin, Trouble> {
    let remote = match &cache.address {
        Address::Web(url) => return web(url.clone(), cache, args),
        Address::Receiver(Remote::Local(path)) => return Ok(Origin::path(path)),
        Address::Receiver(remote) => remote,
    };
    let server = session::run(remote, args, output, async |c, dialect| {
        greet(c, session::AGENT, dialect).await
    })
    .await?;
    announced(remote, server.pull_url.as_ref(), cache, args)
}

/// Returns the place to pull from that a server has announced.
pub(crate) fn announced(
    remote: &Remote,
    pull_url: Option<&Text>,
    cache: &Cache,
    args: &Args,
) -> Result<Origin, Trouble> {
    let trouble = |text| Trouble {
        may_pass: false,
        code: exit::STORAGE,
        text,
        advice: Some(
            "name the web address yourself, with --remote https://...; the operator can set it \
             with --pull-url in the server's ForceCommand"
                .to_owned(),
        ),
    };
    let Some(announced) = pull_url else {
        return Err(trouble(format!(
            "{remote} does not announce a place to pull from"
        )));
    };
    // Only the web: no server may make us read files of this machine.
    let url = announced.as_raw().parse::<WebUrl>().map_err(|_| {
        let announced = announced.escaped();
        trouble(format!(
            "{remote} says to pull from {announced:?}, which is not a web address"
        ))
    })?;
    web(url, cache, args)
}

fn web(url: WebUrl, cache: &Cache, args: &Args) -> Result<Origin, Trouble> {
    let trust = &cache.trust;
    let ca = args.ca.as_ref().or(trust.ca.as_ref());
    let certificate = args.client_cert.as_ref().or(trust.certificate.as_ref());
    let identity = certificate.map(|certificate| WebIdentity {
        certificate: certificate.clone(),
        key: (args.client_key.as_ref().or(trust.key.as_ref()))
            .unwrap_or(certificate)
            .clone(),
    });
    let options = WebOptions {
        agent: session::AGENT.to_owned(),
        authorities: ca.cloned().into_iter().collect(),
        identity,
        ..WebOptions::default()
    };
    Origin::web(url, &options).map_err(|error| Trouble::of_web(&error))
}
