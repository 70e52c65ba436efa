//! The receiver's configuration file, and the files that it names.

use std::path::Path;

use artifact_receiver::config::{Config, ConfigError};

use crate::doctor::finding::{Finding, shell};
use crate::doctor::machine::{Machine, comment_out};

/// Reads the configuration; `None` if there is none, or it cannot be used.
pub(super) fn read(machine: &Machine, found: &mut Vec<Finding>) -> Option<Config> {
    let path = &machine.config;
    if !path.exists() && !path.is_symlink() && !machine.config_is_named {
        return None;
    }
    if machine.can_be_user() && path.exists() && !machine.user_can("test -r \"$1\"", path) {
        let what = format!("{} cannot read {}", machine.user.name, path.display());
        let fix = format!("chmod a+r {}", shell(path));
        found.push(Finding::fault("config-unreadable", what).fix(fix));
    }
    match Config::read(Some(path)) {
        Ok(config) => config,
        Err(error) => {
            found.push(judge_error(machine, path, &error));
            None
        }
    }
}

fn judge_error(machine: &Machine, path: &Path, error: &ConfigError) -> Finding {
    match error {
        ConfigError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            let what = format!("every push is refused: there is no {}", path.display());
            Finding::fault("config-missing", what).fix(format!(
                "artifact-cache-admin authorize --key KEY.pub --name NAME --push '**' --user {} \
                 --config {}",
                machine.user.name,
                shell(path)
            ))
        }
        ConfigError::Read { source, .. } if !machine.is_root => Finding::unseen(
            "config-unseen",
            format!("cannot read {}: {source}", path.display()),
        ),
        ConfigError::Untrusted(untrusted) => {
            let said = untrusted.to_string();
            let fix = said.split('`').nth(1).unwrap_or_default().to_owned();
            let what = said.split("; `").next().unwrap_or_default();
            Finding::fault("config-untrusted", format!("every push is refused: {what}")).fix(fix)
        }
        ConfigError::Invalid { line, .. } => {
            let what = format!("every push is refused: {error}");
            Finding::fault("config-invalid", what).fix(comment_out(path, &[&line.to_string()]))
        }
        _ => Finding::fault("config-invalid", format!("every push is refused: {error}"))
            .fix(format!("artifact-cache-admin config check {}", shell(path))),
    }
}

/// Judges the files that the configuration names.
pub(super) fn check(machine: &Machine, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let user = &machine.user.name;
    let can = |script, path| !machine.can_be_user() || machine.user_can(script, path);
    if let Some(path) = &config.audit.file {
        let shown = path.display();
        if !path.is_file() {
            let what = format!("pushes leave no trace: there is no {shown}");
            let fix = format!("install -o {user} -g adm -m 640 /dev/null {}", shell(path));
            found.push(Finding::fault("audit-missing", what).fix(fix));
        } else if !can("test -w \"$1\"", path) {
            let what = format!("pushes leave no trace: {user} cannot write {shown}");
            let fix = format!("chown {user} {}", shell(path));
            found.push(Finding::fault("audit-unwritable", what).fix(fix));
        }
    }
    if let Some(path) = &config.summary.sign_key {
        let shown = path.display();
        if path.exists() && !can("test -r \"$1\"", path) {
            let what = format!("every push is refused: {user} cannot read the key {shown}");
            let fix = format!("chown {user} {}", shell(path));
            found.push(Finding::fault("sign-key-unreadable", what).fix(fix));
        } else if let (Err(error), true) = (config.summary.load(), machine.is_root) {
            let what = format!("every push is refused: {error}");
            let fix = format!(
                "sed -i 's/^[[:space:]]*sign-key/# &/' {}",
                shell(&machine.config)
            );
            found.push(Finding::fault("sign-key-unusable", what).fix(fix));
        }
    }
    found
}
