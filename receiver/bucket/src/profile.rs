//! The files in `~/.aws` that programs for object storage share.
//!
//! `credentials` has a section with keys for each profile. `config` has sections called
//! `profile NAME` with a region and an endpoint. A missing file is not an error unless the
//! configuration names it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::settings::{Settings, SettingsError};

/// The values of one profile.
#[derive(Default)]
pub(crate) struct Profile {
    pub(crate) key_id: Option<String>,
    pub(crate) secret: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
}

/// The values of each section.
type Sections = BTreeMap<String, BTreeMap<String, String>>;

impl Profile {
    /// Reads the profile that the settings or the environment name. Keys in the environment take
    /// precedence over the default profile, and then no file is needed.
    pub(crate) fn find(settings: &Settings) -> Result<Self, SettingsError> {
        let var = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let name = settings
            .reach
            .profile
            .clone()
            .or_else(|| var("AWS_PROFILE"));
        let has_keys = var("AWS_ACCESS_KEY_ID").is_some();
        let home = env::var_os("HOME").map(PathBuf::from);
        let of_home = |file| Some(home.as_ref()?.join(".aws").join(file));
        let of_var = |var| env::var_os(var).map(PathBuf::from);

        let named = settings.reach.credentials.clone();
        let is_asked_for = named.is_some() || name.is_some();
        let section = name.as_deref().unwrap_or("default");
        let path = named.or_else(|| of_var("AWS_SHARED_CREDENTIALS_FILE"));
        let path = path.or_else(|| of_home("credentials"));
        let mut profile = Self::default();
        if let Some(path) = path.filter(|_| is_asked_for || !has_keys) {
            let sections = read(&path, settings.reach.credentials.is_some())?;
            let values = sections.as_ref().and_then(|sections| sections.get(section));
            let value = |name| values?.get(name).cloned();
            profile.key_id = value("aws_access_key_id");
            profile.secret = value("aws_secret_access_key");
            profile.token = value("aws_session_token");
            let has_both = profile.key_id.is_some() && profile.secret.is_some();
            if has_both {
                refuse_exposed(&path)?;
            } else if is_asked_for && sections.is_some() {
                let profile = section.to_owned();
                return Err(SettingsError::NoKeys { path, profile });
            }
        }
        let config = of_var("AWS_CONFIG_FILE").or_else(|| of_home("config"));
        if let Some(sections) = config.map(|path| read(&path, false)).transpose()?.flatten() {
            let values = sections
                .get(&format!("profile {section}"))
                .or_else(|| sections.get(section));
            let value = |name| values?.get(name).cloned();
            profile.region = value("region");
            profile.endpoint = value("endpoint_url");
        }
        Ok(profile)
    }
}

/// Reads a file, which may be missing unless `must_be` is set.
fn read(path: &Path, must_be: bool) -> Result<Option<Sections>, SettingsError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_be => return Ok(None),
        // The receiver may run with the HOME of another user.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !must_be => {
            return Ok(None);
        }
        Err(source) => {
            let path = path.to_owned();
            return Err(SettingsError::Read { path, source });
        }
    };
    parse(&text)
        .map(Some)
        .map_err(|line| SettingsError::Malformed {
            path: path.to_owned(),
            line,
        })
}

/// Parses sections of values; fails with the number of a malformed line. Skips indented lines,
/// which belong to nested values of other programs.
fn parse(text: &str) -> Result<Sections, usize> {
    let mut sections = Sections::new();
    let mut current: Option<String> = None;
    for (number, line) in (1_usize..).zip(text.lines()) {
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) || is_nested {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').ok_or(number)?.trim().to_owned();
            sections.entry(name.clone()).or_default();
            current = Some(name);
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(number)?;
        let section = current.as_ref().and_then(|name| sections.get_mut(name));
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        section.ok_or(number)?.insert(name, value);
    }
    Ok(sections)
}

/// Fails if other users may read a file with keys.
fn refuse_exposed(path: &Path) -> Result<(), SettingsError> {
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode());
    let mode = mode.map_err(|source| SettingsError::Read {
        path: path.to_owned(),
        source,
    })?;
    if mode & 0o004 != 0 {
        let path = path.to_owned();
        return Err(SettingsError::Exposed { path });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use artifact_store::bucket::Reach;

    use super::*;

    #[test]
    fn a_file_is_sections_of_values_and_other_lines_are_named() {
        let text = "# c\n[default]\naws_access_key_id = A\nAWS_SECRET_ACCESS_KEY=b=c\n\
                    s3 =\n  x = y\n\n[profile p]\nregion = r\n";
        let sections = parse(text).unwrap();
        assert_eq!(sections["default"]["aws_access_key_id"], "A");
        assert_eq!(sections["default"]["aws_secret_access_key"], "b=c");
        assert_eq!(sections["profile p"]["region"], "r");
        assert_eq!(parse("a = b"), Err(1));
        assert_eq!(parse("[x]\n\nword"), Err(3));
        assert_eq!(parse("[x"), Err(1));
    }

    #[test]
    fn a_named_file_must_be_there_be_closed_to_others_and_have_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let settings = |profile: &str| Settings {
            reach: Reach {
                credentials: Some(path.clone()),
                profile: Some(profile.to_owned()),
                ..Reach::default()
            },
            ..Settings::new("s3://abc".parse().unwrap())
        };
        assert!(matches!(
            Profile::find(&settings("p")),
            Err(SettingsError::Read { .. })
        ));
        let keys = "[p]\naws_access_key_id = A\naws_secret_access_key = B\n[q]\n";
        fs::write(&path, keys).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Profile::find(&settings("p")),
            Err(SettingsError::Exposed { .. })
        ));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let found = Profile::find(&settings("p")).unwrap();
        assert_eq!(found.key_id.as_deref(), Some("A"));
        for without in ["q", "absent"] {
            let error = Profile::find(&settings(without));
            assert!(
                matches!(error, Err(SettingsError::NoKeys { .. })),
                "{without}"
            );
        }
    }
}
