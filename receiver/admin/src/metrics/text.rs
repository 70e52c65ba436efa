//! The text form of Prometheus, as node_exporter reads it from a file, and all series there are.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Text that grows by one series after the other. A name is one of [`SERIES`].
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn gauge(&mut self, name: &'static str, value: u64) {
        self.head(name, "gauge");
        self.line(name, "", value);
    }

    pub(super) fn single_counter(&mut self, name: &'static str, value: u64) {
        self.head(name, "counter");
        self.line(name, "", value);
    }

    /// Adds a counter for each of these words.
    pub(super) fn counter(
        &mut self,
        name: &'static str,
        label: &str,
        values: &[(&'static str, u64)],
    ) {
        self.head(name, "counter");
        for (word, value) in values {
            self.line(name, &format!("{{{label}=\"{word}\"}}"), value);
        }
    }

    /// Adds a histogram; `buckets` say how many lie between each limit and the one before it.
    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        buckets: &[(f64, u64)],
        sum: f64,
        count: u64,
    ) {
        self.head(name, "histogram");
        let mut below = 0;
        for (limit, within) in buckets {
            below += within;
            self.line(name, &format!("_bucket{{le=\"{limit}\"}}"), below);
        }
        self.line(name, "_bucket{le=\"+Inf\"}", count);
        self.line(name, "_sum", sum);
        self.line(name, "_count", count);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    /// Returns all numbers, each with its name and labels.
    pub(super) fn samples(&self) -> impl Iterator<Item = (&str, BTreeMap<&str, &str>, f64)> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            // Our labels are words: they contain neither commas nor quotes.
            let labels = labels.trim_end_matches('}').split(',');
            let labels = labels.filter_map(|label| {
                let (key, word) = label.split_once('=')?;
                Some((key, word.trim_matches('"')))
            });
            Some((name, labels.collect(), value.parse().ok()?))
        })
    }

    fn head(&mut self, name: &str, kind: &str) {
        let help = SERIES.iter().find(|(known, _)| *known == name);
        let help = help.map_or("", |(_, help)| *help);
        self.push(format_args!(
            "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"
        ));
    }

    fn line(&mut self, name: &str, rest: &str, value: impl std::fmt::Display) {
        self.push(format_args!("{PREFIX}{name}{rest} {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(text);
    }
}

const PREFIX: &str = "artifact_cache_";
/// All series, and what each is.
const SERIES: [(&str, &str); 20] = [
    ("pushes_total", "Pushes in the audit, by how they ended"),
    (
        "failed_pushes_total",
        "Pushes that failed or were turned away, by reason",
    ),
    (
        "pushed_refs_total",
        "Refs of these pushes, by what became of them",
    ),
    (
        "refused_refs_total",
        "Refs that the rules did not let be set, by reason",
    ),
    ("received_objects_total", "Objects that pushes brought"),
    (
        "pulls_total",
        "Pulls over ssh in the audit, by how they ended",
    ),
    ("sent_objects_total", "Objects that these pulls took"),
    ("sent_bytes_total", "Stored bytes of these objects"),
    ("received_bytes_total", "Stored bytes of these objects"),
    ("push_duration_seconds", "How long pushes took"),
    (
        "audit_readable",
        "Whether there is an audit that pushes were counted from",
    ),
    ("refs", "Refs in the repository"),
    (
        "broken_refs",
        "What has the place of a ref and leads to no commit",
    ),
    (
        "last_ref_set_timestamp_seconds",
        "When a ref was set last, 0 for never",
    ),
    (
        "summary_bytes",
        "Length of the summary, 0 where there is none",
    ),
    (
        "summary_written_timestamp_seconds",
        "When the summary was written, 0 for never",
    ),
    (
        "disk_used_bytes",
        "What is used of the disk that the repository is on",
    ),
    ("disk_free_bytes", "What is free of it"),
    (
        "disk_free_inodes",
        "Files that can be made on it, where that has a bound",
    ),
    ("collected_timestamp_seconds", "When all this was looked at"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_its_help_and_its_type_once() {
        let mut text = Text::default();
        text.gauge("refs", 3);
        text.counter("pushes_total", "outcome", &[("done", 1), ("failed", 0)]);
        assert_eq!(
            text.finish(),
            "# HELP artifact_cache_refs Refs in the repository\n\
             # TYPE artifact_cache_refs gauge\n\
             artifact_cache_refs 3\n\
             # HELP artifact_cache_pushes_total Pushes in the audit, by how they ended\n\
             # TYPE artifact_cache_pushes_total counter\n\
             artifact_cache_pushes_total{outcome=\"done\"} 1\n\
             artifact_cache_pushes_total{outcome=\"failed\"} 0\n"
        );
    }
}
