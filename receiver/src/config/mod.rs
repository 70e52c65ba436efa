//! The server's configuration file: who may do what, and within which limits.
//!
//! Unknown keys are errors, with their line: a misspelt right merely grants nothing, but a misspelt
//! limit would silently be no limit. The file is read once, before the receiver confines itself;
//! start at [`Config::read`].

mod absolute;
mod error;
mod schema;
mod sections;
mod suggest;
mod trust;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use artifact_store::bucket::Reach;

use crate::config::schema::{Fault, RawConfig, gather, summarize};
use crate::config::suggest::suggest;

pub use crate::config::error::ConfigError;
pub use crate::config::schema::is_name;
pub use crate::config::sections::{
    AuditSection, Confinement, Identity, LimitsSection, SummarySection,
};
pub use crate::config::trust::Untrusted;

/// The content of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The address to pull from.
    pub pull_url: Option<String>,
    /// The oldest version of the protocol that may push.
    pub protocol_min: Option<u16>,
    /// What the receiver does if it cannot confine itself.
    pub sandbox: Confinement,
    /// Limits on pushes.
    pub limits: LimitsSection,
    /// Where audit lines go.
    pub audit: AuditSection,
    /// What the summary contains.
    pub summary: SummarySection,
    /// How to reach the server of a cache in object storage.
    pub bucket: Reach,
    /// The identities, with their keys and rights.
    pub identities: Vec<Identity>,
}

impl Config {
    /// The configuration's default path.
    pub const DEFAULT_PATH: &str = "/etc/artifact-cache.toml";

    /// Reads the file at `path`, which must exist; without a path, reads
    /// [`DEFAULT_PATH`](Self::DEFAULT_PATH) if it exists.
    pub fn read(path: Option<&Path>) -> Result<Option<Self>, ConfigError> {
        match path {
            Some(path) => Self::parse(&read_text(path)?, path).map(Some),
            None => Self::read_if_there(Path::new(Self::DEFAULT_PATH)),
        }
    }

    fn read_if_there(path: &Path) -> Result<Option<Self>, ConfigError> {
        match read_text(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            // A dangling symlink is an error, not a missing file: a missing file would let
            // everybody push.
            Err(ConfigError::Read { source, .. })
                if source.kind() == io::ErrorKind::NotFound && !path.is_symlink() =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Parses the text of a configuration; `path` is for errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let invalid = |span: Option<Range<usize>>, why: String| {
            let before = span.and_then(|span| text.get(..span.start));
            ConfigError::Invalid {
                path: path.to_owned(),
                line: before.map_or(1, |before| before.matches('\n').count() + 1),
                why,
            }
        };
        let raw: RawConfig = toml::from_str(text)
            .map_err(|error| invalid(error.span(), suggest(&error.message().replace('\n', " "))))?;
        let identities =
            gather(raw.identity).map_err(|Fault(span, why)| invalid(Some(span), why))?;
        Ok(Self {
            pull_url: raw.pull_url,
            protocol_min: raw.protocol_min,
            sandbox: raw.sandbox,
            limits: raw.limits,
            audit: raw.audit,
            summary: summarize(raw.summary).map_err(|Fault(span, why)| invalid(Some(span), why))?,
            bucket: raw.bucket,
            identities,
        })
    }
}

/// Reads a file that no untrusted user can write.
fn read_text(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    // Checking after opening is enough: users who are not trusted now could not have changed the
    // file since then.
    trust::check(path).map_err(failed)??;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
