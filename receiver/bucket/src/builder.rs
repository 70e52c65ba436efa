//! Combines the settings of a bucket with the environment and the profile, for the library.

use std::env;
use std::net::IpAddr;
use std::time::Duration;

use http::Uri;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use crate::profile::Profile;
use crate::settings::{Settings, SettingsError};

impl Settings {
    /// Combines the settings with the environment and the profile, for the library.
    pub(crate) fn builder(&self) -> Result<AmazonS3Builder, SettingsError> {
        let profile = if self.anonymous {
            Profile::default()
        } else {
            Profile::find(self)?
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(self.address.bucket())
            .with_skip_signature(self.anonymous);
        if let (Some(key), Some(secret)) = (&profile.key_id, &profile.secret) {
            builder = builder
                .with_access_key_id(key)
                .with_secret_access_key(secret);
            if let Some(token) = &profile.token {
                builder = builder.with_token(token);
            }
        }
        let known = |key| builder.get_config_value(&key);
        let endpoint = self.reach.endpoint.clone();
        let endpoint = endpoint.or_else(|| known(AmazonS3ConfigKey::S3Endpoint));
        let endpoint = endpoint.or_else(|| known(AmazonS3ConfigKey::Endpoint));
        let endpoint = endpoint.or(profile.endpoint);
        let region = self.reach.region.clone();
        let region = region.or_else(|| known(AmazonS3ConfigKey::Region));
        let region = region.or(profile.region);
        if let Some(region) = region {
            builder = builder.with_region(region);
        }
        let is_plain = match &endpoint {
            None => false,
            Some(endpoint) => self.is_plain(endpoint)?,
        };
        if let Some(endpoint) = endpoint {
            let endpoint = endpoint.trim_end_matches('/').to_owned();
            let endpoint = match endpoint.split_once("://") {
                Some((scheme, host)) if self.reach.virtual_host => {
                    format!("{scheme}://{}.{host}", self.address.bucket())
                }
                _ => endpoint,
            };
            // The library prefers this key to `Endpoint`, and the environment may have set it.
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, &endpoint);
        }
        let options = ClientOptions::new()
            .with_allow_http(is_plain)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT);
        Ok(builder
            .with_client_options(options)
            .with_virtual_hosted_style_request(self.reach.virtual_host))
    }

    /// Returns whether an endpoint has no TLS; fails if it must have TLS.
    fn is_plain(&self, endpoint: &str) -> Result<bool, SettingsError> {
        let bad = || SettingsError::Endpoint {
            endpoint: endpoint.to_owned(),
        };
        let uri: Uri = endpoint.parse().map_err(|_| bad())?;
        let host = uri.host().ok_or_else(bad)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad());
        }
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let is_here = address == "localhost"
            || address
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => Ok(false),
            Some("http") if self.reach.allow_http || is_here || allowed_by_environment() => {
                Ok(true)
            }
            Some("http") => Err(SettingsError::Plain {
                endpoint: endpoint.to_owned(),
            }),
            _ => Err(bad()),
        }
    }
}

/// Reads the variable that other programs with this library use, too.
fn allowed_by_environment() -> bool {
    env::var("AWS_ALLOW_HTTP").is_ok_and(|value| value == "true" || value == "1")
}

/// The longest wait for a connection. A server that needs longer would hardly answer in time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time for a request, including the upload of 7 MiB. Leases depend on this limit.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use artifact_store::bucket::Reach;

    use super::*;

    fn settings(endpoint: &str) -> Settings {
        Settings {
            reach: Reach {
                endpoint: Some(endpoint.to_owned()),
                ..Reach::default()
            },
            ..Settings::new("s3://abc/x".parse().unwrap())
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_unless_it_is_allowed() {
        for here in [
            "http://127.0.0.1:7480",
            "http://localhost",
            "http://[::1]:80/",
        ] {
            assert!(settings(here).is_plain(here).unwrap(), "{here}");
        }
        let away = "http://storage.example.com";
        assert!(matches!(
            settings(away).is_plain(away),
            Err(SettingsError::Plain { .. })
        ));
        let mut allowed = settings(away);
        allowed.reach.allow_http = true;
        assert!(allowed.is_plain(away).unwrap());
        assert!(
            !settings("")
                .is_plain("https://storage.example.com:9000")
                .unwrap()
        );
        for bad in [
            "storage.example.com",
            "ftp://host",
            "https://",
            "https://host/path",
            "https://h?q",
        ] {
            let error = settings(bad).is_plain(bad);
            assert!(
                matches!(error, Err(SettingsError::Endpoint { .. })),
                "{bad}"
            );
        }
    }
}
