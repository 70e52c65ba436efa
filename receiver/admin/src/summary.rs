//! `artifact-cache-admin summary`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use artifact_formats::{Size, counted};
use artifact_protocol::{escape, exit};
use artifact_receiver::config::Config;
use artifact_sandbox::privilege;
use artifact_store::bucket::upkeep;
use artifact_store::{LocalStore, MadeSummary, StoreConfig, SummaryKey, SummaryMode};
use ostree::{gio, glib};
use serde_json::json;

use crate::bucket;
use crate::output;
use crate::output::tell;

/// Make the summary of a repository again, and sign it.
///
/// The receiver keeps the summary up to date by itself, as the table `[summary]` of the
/// configuration says. This command makes it from the repository alone: run it after other programs
/// have changed refs, or to find out whether the summary was right. It leaves a summary alone that
/// says the same already.
///
/// It also signs with GPG, which the receiver cannot do: each push removes that signature, and
/// clients that require one refuse the summary until this command has run again. Let systemd run it
/// whenever the summary changes; a run that changes nothing does not trigger another:
///
///     [Path]
///     PathChanged=/srv/artifacts/summary
///     Unit=artifact-cache-summary.service
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MakeSummary {
    /// Also sign with this GPG key; may be given more than once
    #[arg(long, value_name = "KEYID")]
    gpg_sign: Vec<String>,
    /// Directory of GPG's keys, readable by the owner of the repository
    #[arg(long, value_name = "DIR", requires = "gpg_sign")]
    gpg_homedir: Option<String>,
    /// File of the ed25519 key to sign with, instead of the configured one
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    /// Configuration file [default: /etc/artifact-cache.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// The repository, or s3://bucket/prefix
    repo: PathBuf,
}

pub(crate) fn run(args: &MakeSummary) -> anyhow::Result<u8> {
    let config = Config::read(args.config.as_deref())?.unwrap_or_default();
    let mut summary = config.summary.load()?;
    if let Some(path) = &args.sign_key {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let key =
            SummaryKey::parse(&text).with_context(|| format!("cannot use the key in {shown}"))?;
        summary.sign_key = Some(key);
    }
    let is_none = summary.mode == SummaryMode::None;
    if bucket::is_meant_by(&args.repo) {
        if !args.gpg_sign.is_empty() {
            bail!("--gpg-sign is for repositories on this machine: sign there, and mirror");
        }
        let client = bucket::open(&args.repo, args.config.as_deref())?;
        show(args, is_none, upkeep::rebuild_summary(&client, &summary)?);
        return Ok(exit::DONE);
    }
    privilege::become_owner_of(&args.repo).context("cannot switch to the repository's owner")?;
    let store = LocalStore::open(
        &args.repo,
        StoreConfig {
            identity: "artifact-cache-admin".to_owned(),
            limits: config.limits.of_wire(),
            summary,
            ..StoreConfig::default()
        },
    )?;
    let signed = store.rebuild_summary(|made| -> anyhow::Result<MadeSummary> {
        if !is_none && !args.gpg_sign.is_empty() {
            sign_with_gpg(args).context("cannot sign with GPG")?;
        }
        Ok(*made)
    })?;
    show(args, is_none, signed?);
    Ok(exit::DONE)
}

fn show(args: &MakeSummary, is_none: bool, made: MadeSummary) {
    let MadeSummary {
        refs,
        len,
        left_out,
        replaced,
    } = made;
    let says = format!("{}, {}", counted(refs as u64, "ref"), Size(len as u64));
    let text = match (is_none, replaced) {
        (true, true) => "removed the summary, as the configuration says".to_owned(),
        (true, false) => "there is no summary, as the configuration says".to_owned(),
        (false, true) => format!("made the summary: {says}"),
        (false, false) => format!("the summary is right: {says}"),
    };
    let fields = json!({
        "refs": refs,
        "bytes": len,
        "left_out": left_out,
        "replaced": replaced,
    });
    tell(args.json, "summary", &fields, &text);
    if left_out > 0 {
        output::complain(&format!(
            "artifact-cache-admin: the summary has no room for {left_out} more refs, which stock \
             clients \
             cannot pull: remove refs (`artifact-cache-admin prune {}`)",
            args.repo.display()
        ));
    }
}

/// Adds signatures beside the summary, unless it has some: each push removes them.
fn sign_with_gpg(args: &MakeSummary) -> anyhow::Result<()> {
    if has_gpg_signature(&args.repo) {
        return Ok(());
    }
    let paths = [args.repo.join("summary"), args.repo.join("summary.sig")];
    let dated = |path: &PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let [summary_dated, signature_dated] = paths.each_ref().map(dated);
    let repo = ostree::Repo::new_for_path(&args.repo);
    repo.open(gio::Cancellable::NONE)?;
    let keys: Vec<_> = args.gpg_sign.iter().map(String::as_str).collect();
    let homedir = args.gpg_homedir.as_deref();
    repo.add_gpg_signature_summary(&keys, homedir, gio::Cancellable::NONE)
        .with_context(|| format!("with {}", escape(&keys.join(", "))))?;
    // Give the signature the date of the summary, since each new summary has a later one, but a
    // later date than a previous signature of the same summary.
    let mut date = summary_dated?;
    if let Ok(before) = signature_dated {
        date = date.max(before + Duration::from_secs(1));
    }
    let [_, signature] = paths;
    let file = std::fs::File::options().write(true).open(signature)?;
    Ok(file.set_modified(date)?)
}

fn has_gpg_signature(repo: &Path) -> bool {
    let Ok(content) = std::fs::read(repo.join("summary.sig")) else {
        return false;
    };
    let signatures = glib::Variant::from_data::<glib::VariantDict, _>(content);
    glib::VariantDict::new(Some(&signatures)).contains("ostree.gpgsigs")
}
