//! `artifact-cache-admin check`.

use std::path::PathBuf;

/// Check whether a bucket of object storage can hold a cache.
///
/// A server that ignores the conditions of writes answers like any other, and refs would be lost in
/// silence. This command tries everything that a cache relies on, with objects of its own that it
/// deletes again: reads and lists after writes, conditional writes and races of them, uploads in
/// parts, deletion of many, what everybody may see, the clock. It leaves what it found in the
/// bucket, where receivers look for it: they write to no bucket that was not checked.
///
/// Exits with 11 if the bucket cannot hold a cache, and with 10 if something is worse than it
/// should be. Keys come from the file that the configuration names, from ~/.aws, the environment,
/// or the instance that the program runs on.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CheckArgs {
    /// Configuration file [default: /etc/artifact-cache.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// The bucket: s3://bucket/prefix
    repo: PathBuf,
}

#[cfg(feature = "bucket")]
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<u8> {
    use artifact_bucket::TagForm;
    use artifact_bucket::probe::Verdict;
    use artifact_protocol::{escape, exit};
    use serde_json::json;

    use crate::bucket;
    use crate::output::tell;

    let settings = bucket::settings(&args.repo, args.config.as_deref())?;
    let report = artifact_bucket::check(&settings)?;
    for finding in &report.findings {
        let word = match finding.verdict {
            Verdict::Good => "good",
            Verdict::Worse => "worse",
            Verdict::UnsafeForSeveral | Verdict::Unusable => "fault",
        };
        let detail = match finding.text.as_str() {
            "" => String::new(),
            text => format!(": {text}"),
        };
        let text = escape(&format!("{word:5}  {}{detail}", finding.probed));
        tell(args.json, "finding", &json!(finding), &text);
    }
    let address = settings.address.to_string();
    let worst = report.worst();
    let (code, text) = match worst {
        Verdict::Good | Verdict::Worse => {
            let tags = match report.tags {
                TagForm::Quoted => "",
                TagForm::Bare => ", with tags without quotes",
            };
            let code = if worst == Verdict::Good {
                exit::DONE
            } else {
                exit::WARNINGS
            };
            (
                code,
                format!("{address} can hold a cache that several receivers write{tags}"),
            )
        }
        Verdict::UnsafeForSeveral | Verdict::Unusable => {
            let why = report.refusal().unwrap_or_default();
            (
                exit::FAULTS,
                format!("{address} cannot hold a cache: {why}"),
            )
        }
    };
    let fields = json!({"bucket": address, "verdict": worst, "tags": report.tags});
    tell(args.json, "check", &fields, &escape(&text));
    Ok(code)
}

#[cfg(not(feature = "bucket"))]
pub(crate) fn run(_: &CheckArgs) -> anyhow::Result<u8> {
    anyhow::bail!(crate::bucket::LACKS)
}
