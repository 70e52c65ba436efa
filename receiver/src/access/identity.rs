//! Identifies the client by what sshd says, never by what the client says.
//!
//! There are two ways, one for each way to run the receiver. With `ForceCommand`, the file that
//! `$SSH_USER_AUTH` names lists the key (`ExposeAuthInfo yes` in sshd_config). With a
//! `command="..."` for each key in `authorized_keys`, that line says `--identity NAME`. If both are
//! present, sshd ignores the second.

use artifact_store::Allowance;
use artifact_store::policy::{Grants, Policy};

use crate::access::auth_info::AuthInfo;
use crate::access::key::Fingerprint;
use crate::config::{Config, Identity};

/// A client and its rights.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its identity's name: told to the client, used in logs and for its staging.
    pub name: String,
    /// The keys it has used, if sshd tells.
    pub keys: Vec<Fingerprint>,
    /// Its rights.
    pub policy: Policy,
    /// Its quotas, if limited.
    pub allowance: Allowance,
}

/// The reason why a server with a configuration cannot identify a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// sshd tells neither a key nor a name.
    #[error(
        "the server cannot tell who its clients are: its sshd_config needs `ExposeAuthInfo yes`, \
         or \
         its authorized_keys `--identity NAME` in each key's command=\"...\""
    )]
    NoKey,
    /// The client used several keys, and they belong to several identities.
    #[error("the keys used belong to several identities: {0}")]
    Ambiguous(String),
}

/// Identifies the client by the name on the command line, or by the keys it has used.
///
/// Without a configuration everybody may do everything; with one, only what it grants.
pub fn identify(
    config: Option<&Config>,
    told: Option<&str>,
    auth: Option<&AuthInfo>,
) -> Result<Client, IdentityError> {
    let mut client = match config {
        Some(config) => find(config, told, auth)?,
        None => Client {
            name: told.unwrap_or(ANYONE).to_owned(),
            keys: Vec::new(),
            policy: Policy::default(),
            allowance: Allowance::default(),
        },
    };
    if let Some(config) = config {
        client.allowance = config.limits.complete(&client.allowance);
    }
    client.keys = auth.map_or_else(Vec::new, |auth| auth.keys.clone());
    Ok(client)
}

fn find(
    config: &Config,
    told: Option<&str>,
    auth: Option<&AuthInfo>,
) -> Result<Client, IdentityError> {
    if let Some(name) = told {
        let found = config.identities.iter().find(|i| i.name == name);
        return Ok(found.map_or_else(|| nobody(name, name), known));
    }
    let fallback = config.identities.iter().find(|i| i.any_key);
    let keys = match auth {
        Some(auth) if !auth.keys.is_empty() => &auth.keys,
        // No key can make a difference.
        _ if config.identities.iter().all(|i| i.keys.is_empty()) => {
            return fallback.map(known).ok_or(IdentityError::NoKey);
        }
        _ => return Err(IdentityError::NoKey),
    };
    let owners = config
        .identities
        .iter()
        .filter(|identity| identity.keys.iter().any(|key| keys.contains(key)));
    match owners.collect::<Vec<_>>()[..] {
        [] => Ok(fallback.map_or_else(|| nobody_with(keys), known)),
        [owner] => Ok(known(owner)),
        ref several => {
            let names: Vec<_> = several.iter().map(|i| i.name.as_str()).collect();
            Err(IdentityError::Ambiguous(names.join(", ")))
        }
    }
}

fn known(identity: &Identity) -> Client {
    let name = identity.name.clone();
    Client {
        policy: Policy::limited(name.clone(), identity.grants.clone()),
        keys: Vec::new(),
        allowance: identity.allowance,
        name,
    }
}

fn nobody_with(keys: &[Fingerprint]) -> Client {
    let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    let keys = keys.join(" and ");
    nobody(&keys, &format!("the key {keys}"))
}

/// A client that sshd lets in and the configuration does not know.
fn nobody(name: &str, called: &str) -> Client {
    let who = format!("{called}, which the server's configuration does not name,");
    Client {
        name: name.to_owned(),
        keys: Vec::new(),
        policy: Policy::limited(who, Grants::default()),
        allowance: Allowance::default(),
    }
}

/// Everybody's name if there is no configuration.
const ANYONE: &str = "anyone";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const KEYS: &str = include_str!("testdata/keys.txt");

    fn key(number: usize) -> &'static str {
        KEYS.lines().nth(4 * number).unwrap()
    }

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("x")).unwrap()
    }

    fn two() -> String {
        format!(
            "[[identity]]\nname='ci'\nkeys=['{}']\n[[identity]]\nname='dev'\nkeys=['{}', '{}']\n",
            key(0),
            key(1),
            key(2)
        )
    }

    fn with(keys: &[usize]) -> AuthInfo {
        let keys = keys.iter().map(|&k| key(k).parse().unwrap()).collect();
        AuthInfo { keys }
    }

    fn name(config: &Config, told: Option<&str>, auth: Option<&AuthInfo>) -> String {
        match identify(Some(config), told, auth) {
            Ok(client) => client.name,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_client_is_who_its_key_or_its_command_line_says() {
        let config = config(&two());
        assert_eq!(name(&config, None, Some(&with(&[0]))), "ci");
        assert_eq!(name(&config, None, Some(&with(&[2]))), "dev");
        assert_eq!(name(&config, None, Some(&with(&[1, 2, 4]))), "dev");
        assert_eq!(name(&config, Some("ci"), None), "ci");
        // sshd chose the command line by the key.
        assert_eq!(name(&config, Some("ci"), Some(&with(&[1]))), "ci");
        assert!(name(&config, None, Some(&with(&[0, 1]))).contains("ci, dev"));
    }

    #[test]
    fn somebody_the_configuration_does_not_name_may_do_nothing() {
        let config = config(&two());
        let nobody = |told, auth: Option<&AuthInfo>| {
            let client = identify(Some(&config), told, auth).unwrap();
            assert_eq!(client.policy.rights().as_deref(), Some(""));
            client.name
        };
        assert!(nobody(None, Some(&with(&[3]))).starts_with("SHA256:"));
        assert_eq!(nobody(Some("CI"), None), "CI");
        assert_eq!(nobody(Some(""), Some(&with(&[0]))), "");
    }

    #[test]
    fn a_server_that_is_not_told_the_key_says_what_it_needs() {
        let config = config(&two());
        for auth in [None, Some(AuthInfo::default())] {
            let said = name(&config, None, auth.as_ref());
            assert!(said.contains("ExposeAuthInfo yes"), "{said}");
            assert!(said.contains("--identity NAME"), "{said}");
        }
    }

    #[test]
    fn an_identity_of_any_key_is_everybody_else() {
        let anybody = "[[identity]]\nname='rest'\nkeys=['*']\n";
        let both = config(&format!("{}{anybody}", two()));
        assert_eq!(name(&both, None, Some(&with(&[0]))), "ci");
        assert_eq!(name(&both, None, Some(&with(&[3]))), "rest");
        assert!(name(&both, None, None).contains("ExposeAuthInfo"));
        assert_eq!(name(&config(anybody), None, None), "rest");
    }

    #[test]
    fn without_a_configuration_everybody_may_push() {
        let client = identify(None, None, None).unwrap();
        assert_eq!(
            (client.name.as_str(), client.policy.rights()),
            ("anyone", None)
        );
        assert_eq!(identify(None, Some("ci"), None).unwrap().name, "ci");
    }
}
