//! `artifact-cache-admin config`.

use std::path::{Path, PathBuf};

use artifact_formats::{Share, counted};
use artifact_protocol::exit;
use artifact_receiver::config::{Config, ConfigError, Confinement, Identity, LimitsSection};
use artifact_store::bucket::Reach;
use artifact_store::policy::Rule;
use artifact_store::{Allowance, SummaryMode};
use serde_json::json;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

use crate::output::{complain, tell};

/// Check the server's configuration, or show it
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check a configuration as the receiver does at each push; exits with 2 if it has a mistake
    Check {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// The file [default: /etc/artifact-cache.toml]
        file: Option<PathBuf>,
    },
    /// Print the settings in one form, keys as fingerprints
    Show {
        /// Also print the defaults of what the file does not set
        #[arg(long)]
        effective: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// The file [default: /etc/artifact-cache.toml]
        file: Option<PathBuf>,
    },
}

pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<u8> {
    let (Action::Check { file, .. } | Action::Show { file, .. }) = &args.command;
    let shown = file.as_deref().unwrap_or(Path::new(Config::DEFAULT_PATH));
    let config = match read(file.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            let error = anyhow::Error::new(error);
            complain(&format!("artifact-cache-admin: {error:#}"));
            return Ok(exit::USAGE);
        }
    };
    match (&args.command, config) {
        (
            Action::Show {
                effective, json, ..
            },
            config,
        ) => {
            let text = print(&config.unwrap_or_default(), *effective);
            let settings = match json {
                true => toml::from_str(&text)?,
                false => serde_json::Value::Null,
            };
            let fields = json!({ "file": shown.display().to_string(), "settings": settings });
            tell(*json, "settings", &fields, text.trim_end());
        }
        (Action::Check { json, .. }, None) => {
            let shown = shown.display().to_string();
            let text = format!(
                "there is no {shown}: everybody whom sshd lets in may push, replace and sign \
                 everything"
            );
            tell(*json, "no-config", &json!({"file": shown}), &text);
        }
        (Action::Check { json, .. }, Some(config)) => {
            let (shown, n) = (shown.display().to_string(), config.identities.len());
            let people = counted(n as u64, "identity");
            let text = format!("{shown} is right: {people}");
            tell(
                *json,
                "config",
                &json!({"file": shown, "identities": n}),
                &text,
            );
        }
    }
    Ok(exit::DONE)
}

/// Reads a configuration, and the key that it names.
fn read(file: Option<&Path>) -> Result<Option<Config>, ConfigError> {
    let config = Config::read(file)?;
    if let Some(config) = &config {
        config.summary.load()?;
    }
    Ok(config)
}

/// Writes a configuration that means the same.
fn print(config: &Config, effective: bool) -> String {
    let mut document = DocumentMut::new();
    let root = document.as_table_mut();
    put(root, "pull-url", config.pull_url.as_deref());
    let oldest = config.protocol_min.or(effective.then_some(0));
    put(root, "protocol-min", oldest.map(i64::from));
    let sandbox = match config.sandbox {
        Confinement::BestEffort => effective.then_some("best-effort"),
        Confinement::Required => Some("required"),
    };
    put(root, "sandbox", sandbox);
    add(root, "limits", limits(&config.limits, effective));
    let mut audit = Table::new();
    put(&mut audit, "file", config.audit.file.as_deref().map(path));
    add(root, "audit", audit);
    let mut summary = Table::new();
    let mode = match &config.summary.mode {
        SummaryMode::Full => effective.then_some("full"),
        SummaryMode::WithoutTimestamps => Some("without-timestamps"),
        SummaryMode::Matching(_) => Some("matching"),
        SummaryMode::None => Some("none"),
    };
    put(&mut summary, "mode", mode);
    if let SummaryMode::Matching(patterns) = &config.summary.mode {
        summary.insert("patterns", list(patterns.iter().map(|p| p.as_str())));
    }
    put(
        &mut summary,
        "sign-key",
        config.summary.sign_key.as_deref().map(path),
    );
    add(root, "summary", summary);
    add(root, "bucket", bucket(&config.bucket, effective));
    let mut identities = ArrayOfTables::new();
    for known in &config.identities {
        identities.push(identity(known, &config.limits, effective));
    }
    if !identities.is_empty() {
        root.insert("identity", Item::ArrayOfTables(identities));
    }
    document.to_string()
}

fn bucket(reach: &Reach, effective: bool) -> Table {
    let mut table = Table::new();
    let text = |text: &Option<String>| text.clone();
    let switch = |is_on: bool| (is_on || effective).then_some(is_on);
    put(&mut table, "endpoint", text(&reach.endpoint));
    put(&mut table, "region", text(&reach.region));
    put(&mut table, "virtual-host", switch(reach.virtual_host));
    put(&mut table, "allow-http", switch(reach.allow_http));
    put(&mut table, "profile", text(&reach.profile));
    put(
        &mut table,
        "credentials",
        reach.credentials.as_deref().map(path),
    );
    table
}

fn limits(limits: &LimitsSection, effective: bool) -> Table {
    let mut table = Table::new();
    let wire = limits.of_wire();
    let of_wire = |set: bool, limit: u64| (set || effective).then(|| number(limit));
    let objects = limits.push_objects_max.is_some();
    put(
        &mut table,
        "object-len-max",
        of_wire(limits.object_len_max.is_some(), wire.object_len_max),
    );
    put(
        &mut table,
        "push-len-max",
        of_wire(limits.push_len_max.is_some(), wire.push_len_max),
    );
    put(
        &mut table,
        "push-objects-max",
        of_wire(objects, wire.push_objects_max),
    );
    put(
        &mut table,
        "sessions-max",
        limits.sessions_max.map(i64::from),
    );
    put(
        &mut table,
        "sessions-max-each",
        limits.sessions_max_each.map(i64::from),
    );
    let quotas = match effective {
        true => limits.complete(&Allowance::default()),
        false => Allowance {
            refs_max: limits.refs_max,
            objects_max: limits.objects_max,
            bytes_max: limits.bytes_max,
        },
    };
    put_allowance(&mut table, &quotas);
    put(
        &mut table,
        "min-free-space",
        limits.min_free_space.map(share),
    );
    put(
        &mut table,
        "min-free-inodes",
        limits.min_free_inodes.map(number),
    );
    table
}

fn identity(identity: &Identity, limits: &LimitsSection, effective: bool) -> Table {
    let mut table = Table::new();
    put(&mut table, "name", Some(identity.name.as_str()));
    let any = identity.any_key.then(|| "*".to_owned());
    let keys: Vec<_> = identity
        .keys
        .iter()
        .map(ToString::to_string)
        .chain(any)
        .collect();
    table.insert("keys", list(keys.iter().map(String::as_str)));
    let grants = &identity.grants;
    for (right, patterns) in [
        ("push", &grants.push),
        ("replace", &grants.replace),
        ("sign", &grants.sign),
    ] {
        if effective || !patterns.is_empty() {
            table.insert(right, list(patterns.iter().map(|p| p.as_str())));
        }
    }
    // Without a list, whoever has another right may pull everything.
    let all = (effective && grants.permit_changes()).then_some("**");
    let pull = grants.pull.as_ref();
    if effective || pull.is_some() {
        let patterns = pull.into_iter().flatten().map(|p| p.as_str());
        table.insert("pull", list(patterns.chain(all.filter(|_| pull.is_none()))));
    }
    let rule = match grants.rule {
        Rule::FastForward => effective.then_some("fast-forward"),
        Rule::Any => Some("any"),
    };
    put(&mut table, "rule", rule);
    match effective {
        true => put_allowance(&mut table, &limits.complete(&identity.allowance)),
        false => put_allowance(&mut table, &identity.allowance),
    }
    table
}

fn put_allowance(table: &mut Table, allowance: &Allowance) {
    put(table, "refs-max", allowance.refs_max.map(number));
    put(table, "objects-max", allowance.objects_max.map(number));
    put(table, "bytes-max", allowance.bytes_max.map(share));
}

fn put(table: &mut Table, key: &str, set: Option<impl Into<Value>>) {
    if let Some(set) = set {
        table.insert(key, value(set));
    }
}

fn add(root: &mut Table, key: &str, table: Table) {
    if !table.is_empty() {
        root.insert(key, Item::Table(table));
    }
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> Item {
    value(texts.collect::<Array>())
}

fn share(share: Share) -> Value {
    match share {
        Share::Bytes(bytes) => number(bytes).into(),
        Share::Percent(percent) => format!("{percent}%").into(),
    }
}

/// TOML has no larger numbers.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        pull-url = "https://h/c"
        sandbox = "required"
        [limits]
        push-len-max = "2GB"
        bytes-max = "10%"
        sessions-max = 9
        min-free-space = "3%"
        [audit]
        file = "/var/log/a"
        [summary]
        mode = "matching"
        patterns = ["a/**"]
        [[identity]]
        name = "ci"
        keys = ["SHA256:SGSjj7CXhT0ZiYy8JBupcoovTPLzBZi1u3JWCpLUWIY"]
        replace = ["a/*"]
        rule = "any"
        refs-max = 7
        [[identity]]
        name = "rest"
        keys = ["*"]
    "#;

    #[test]
    fn what_is_shown_means_what_the_file_means() {
        let parse = |text: &str| Config::parse(text, Path::new("x")).unwrap();
        for text in ["", TEXT] {
            let config = parse(text);
            assert_eq!(parse(&print(&config, false)), config);
            let shown = parse(&print(&config, true));
            assert_eq!(shown.limits.of_wire(), config.limits.of_wire());
            assert_eq!(print(&shown, true), print(&config, true));
            for (shown, known) in shown.identities.iter().zip(&config.identities) {
                assert_eq!(shown.allowance, config.limits.complete(&known.allowance));
                let all = known.grants.permit_changes().then(|| "**".parse().unwrap());
                let mut grants = known.grants.clone();
                grants.pull = Some(all.into_iter().collect());
                assert_eq!((&shown.grants, &shown.keys), (&grants, &known.keys));
            }
        }
        let shown = print(&parse(""), true);
        assert!(
            shown.contains("refs-max = 10000") && shown.contains("mode = \"full\""),
            "{shown}"
        );
    }
}
