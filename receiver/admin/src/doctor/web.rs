//! The address to pull from: whether it can be reached, and serves this repository.

use std::io::Read;
use std::time::{Duration, SystemTime};

use artifact_formats::{RepoConfig, counted};
use artifact_protocol::escape;
use artifact_receiver::config::Config;
use artifact_store::StoredRef;
use ureq::tls::{RootCerts, TlsConfig};

use crate::doctor::certificate;
use crate::doctor::finding::{Finding, quoted, shell};
use crate::doctor::machine::Machine;

pub(super) fn check(machine: &Machine, config: Option<&Config>) -> Vec<Finding> {
    let of_command = machine
        .command
        .as_ref()
        .and_then(|command| command.pull_url.clone());
    let announced = of_command.or_else(|| config.and_then(|config| config.pull_url.clone()));
    let Some(url) = machine.pull_url.clone().or_else(|| announced.clone()) else {
        let what = "no address to pull from is known: --pull-url names it";
        return vec![Finding::unseen("pull-url-unseen", what)];
    };
    let url = url.trim_end_matches('/').to_owned();
    let mut found = check_address(machine, &url);
    let differs = announced
        .as_ref()
        .is_some_and(|said| said.trim_end_matches('/') != url);
    if let Some(announced) = announced.filter(|_| differs && found.is_empty()) {
        let finding = Finding::fault(
            "pull-url-announced",
            format!(
                "clients are told to pull from {}, and not from {url}",
                escape(&announced)
            ),
        );
        let line = format!(
            "bst-artifact-receive --pull-url {} --verbose {}",
            quoted(&url),
            shell(&machine.repo)
        );
        let fixes = machine.set_for_user("ForceCommand", &line);
        found.push(fixes.into_iter().fold(finding, Finding::fix));
    }
    found
}

fn check_address(machine: &Machine, url: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(finding) = check_certificate(url) {
        let is_fault = finding.severity == crate::doctor::finding::Severity::Fault;
        found.push(finding);
        if is_fault {
            return found;
        }
    }
    let shown = escape(url);
    let agent = agent();
    let restart = "systemctl restart artifact-cache-serve.service";
    let config = match get(&agent, &format!("{url}/config")) {
        Ok(answer) => answer,
        Err(why) => {
            let what = format!("{shown} cannot be reached from here: {why}");
            found.push(Finding::fault("pull-url-unreachable", what).fix(restart));
            return found;
        }
    };
    let Answer { status, body } = config;
    if status != 200 {
        let what = format!("{shown} serves no repository: it answers {status} for its config");
        found.push(Finding::fault("pull-url-empty", what).fix(opened(machine, restart)));
        return found;
    }
    if RepoConfig::parse(&String::from_utf8_lossy(&body)).is_err() {
        let what = format!("{shown} serves no repository: its config is none of OSTree's");
        found.push(Finding::fault("pull-url-empty", what).fix(restart));
        return found;
    }
    found.extend(check_sameness(machine, url, &agent));
    found
}

/// Compares what is served with the refs of the repository.
fn check_sameness(machine: &Machine, url: &str, agent: &ureq::Agent) -> Option<Finding> {
    let mut refs = artifact_store::list_refs(&machine.repo).unwrap_or_default();
    refs.sort_by_key(|r| std::cmp::Reverse(r.set));
    refs.truncate(REFS_COMPARED);
    let is_served = |r: &StoredRef| {
        let answer = get(agent, &format!("{url}/refs/heads/{}", r.name));
        answer.is_ok_and(|Answer { status, body }| {
            status == 200 && String::from_utf8_lossy(&body).trim() == r.commit.to_hex()
        })
    };
    if refs.is_empty() || refs.iter().any(is_served) {
        return None;
    }
    let what = format!(
        "{} serves another repository, or an old state of this one: it does not have {}",
        escape(url),
        refs[0].name
    );
    let unit = "/etc/systemd/system/artifact-cache-serve.service";
    let script = format!(
        "s|^\\(ExecStart=[^ ]*artifact-cache-serve\\) [^ ]*|\\1 {}|",
        machine.repo.display()
    );
    Some(
        Finding::fault("pull-url-other", what)
            .fix(format!("sed -i {} {unit}", quoted(&script)))
            .fix("systemctl daemon-reload && systemctl restart artifact-cache-serve.service"),
    )
}

fn check_certificate(url: &str) -> Option<Finding> {
    let uri: ureq::http::Uri = url.parse().ok()?;
    if uri.scheme_str() != Some("https") {
        return None;
    }
    let (host, port) = (uri.host()?, uri.port_u16().unwrap_or(443));
    let host = host.trim_matches(['[', ']']);
    // Whether the server can be reached at all is told by the request that follows.
    let expiry = certificate::expiry(host, port).ok()?;
    judge_expiry(&escape(host), expiry, SystemTime::now())
}

fn judge_expiry(host: &str, expiry: SystemTime, now: SystemTime) -> Option<Finding> {
    let finding = match expiry.duration_since(now) {
        Err(_) => Finding::fault(
            "certificate-expired",
            format!("the certificate of {host} has expired, so nobody can pull"),
        ),
        Ok(left) if left < EXPIRY_WARNING => Finding::warning(
            "certificate-expires",
            format!(
                "the certificate of {host} expires in {}",
                counted(left.as_secs() / (24 * 60 * 60), "day")
            ),
        ),
        Ok(_) => return None,
    };
    Some(finding.fix("certbot renew && systemctl reload artifact-cache-serve.service"))
}

/// Returns the command that opens the way to the repository, if that is what is missing.
fn opened(machine: &Machine, otherwise: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let closed = machine.repo.ancestors().find(|dir| {
        dir.metadata()
            .is_ok_and(|m| m.permissions().mode() & 0o001 == 0)
    });
    match closed {
        Some(dir) => format!("chmod o+rx {}", shell(dir)),
        None => otherwise.to_owned(),
    }
}

/// An answer, as far as the checks need it.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

fn agent() -> ureq::Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .tls_config(tls)
        .build();
    config.into()
}

fn get(agent: &ureq::Agent, url: &str) -> Result<Answer, String> {
    let failed = |error: ureq::Error| escape(&error.to_string());
    let mut answer = agent.get(url).call().map_err(failed)?;
    let mut body = Vec::new();
    let reader = answer.body_mut().as_reader();
    let read = reader.take(BODY_MAX).read_to_end(&mut body);
    read.map_err(|error| escape(&error.to_string()))?;
    Ok(Answer {
        status: answer.status().as_u16(),
        body,
    })
}

const PATIENCE: Duration = Duration::from_secs(5);
const BODY_MAX: u64 = 64 * 1024;
/// Some refs may have changed within the last moments.
const REFS_COMPARED: usize = 3;
const EXPIRY_WARNING: Duration = Duration::from_secs(21 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_to_be_renewed_three_weeks_before_it_expires() {
        let now = SystemTime::now();
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        let id = |expiry| judge_expiry("h", expiry, now).map(|finding| finding.id);
        assert_eq!(id(now - days(1)), Some("certificate-expired"));
        assert_eq!(id(now + days(20)), Some("certificate-expires"));
        assert_eq!(id(now + days(22)), None);
    }
}
