//! What the audit says of all its pushes and pulls, counted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use anyhow::Context;
use artifact_receiver::audit::{FAILURES, REFUSALS, Record};

use crate::metrics::text::Text;

/// Counts of pushes, and of pulls over ssh.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Pushes {
    outcomes: BTreeMap<String, u64>,
    failures: BTreeMap<String, u64>,
    refs: BTreeMap<String, u64>,
    refusals: BTreeMap<String, u64>,
    objects: u64,
    bytes: u64,
    /// How many took no longer than each of [`SECONDS`], and longer than the one before.
    durations: [u64; SECONDS.len()],
    duration_ms: u64,
    count: u64,
    pulls: BTreeMap<String, u64>,
    sent_objects: u64,
    sent_bytes: u64,
}

impl Pushes {
    /// Reads an audit; `None` if it is not there.
    pub(super) fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let cannot = || format!("cannot read the audit {}", path.display());
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(cannot)?,
        };
        let mut pushes = Self::default();
        for line in BufReader::new(file).split(b'\n') {
            // The last line may be one that is just being written.
            if let Ok(record) = serde_json::from_slice(&line.with_context(cannot)?) {
                pushes.take(&record);
            }
        }
        Ok(Some(pushes))
    }

    fn take(&mut self, record: &Record) {
        if record.pull {
            add(&mut self.pulls, &record.outcome, &OUTCOMES);
            self.sent_objects += record.objects;
            self.sent_bytes += record.bytes;
            return;
        }
        add(&mut self.outcomes, &record.outcome, &OUTCOMES);
        if let Some(reason) = &record.reason {
            add(&mut self.failures, reason, &FAILURES);
        } else if record.error.is_some() {
            // Of an earlier version, which did not say.
            add(&mut self.failures, OTHER, &FAILURES);
        }
        for r in &record.refs {
            add(&mut self.refs, &r.outcome, &REF_OUTCOMES);
            if r.outcome == "refused" {
                add(
                    &mut self.refusals,
                    r.reason.as_deref().unwrap_or(OTHER),
                    &REFUSALS,
                );
            }
        }
        self.objects += record.objects;
        self.bytes += record.bytes;
        let longer = |limit: &&f64| **limit * 1000.0 < record.duration_ms as f64;
        if let Some(count) = self
            .durations
            .get_mut(SECONDS.iter().take_while(longer).count())
        {
            *count += 1;
        }
        self.duration_ms += record.duration_ms;
        self.count += 1;
    }

    /// Says all of it, also what has not happened yet: what appears only with its first event seems
    /// to a monitor not to have grown.
    pub(super) fn tell(&self, text: &mut Text) {
        let by = |counts: &BTreeMap<String, u64>, all: &[&'static str]| {
            let of = |word: &&'static str| (*word, counts.get(*word).copied().unwrap_or(0));
            all.iter().map(of).collect::<Vec<_>>()
        };
        text.counter("pushes_total", "outcome", &by(&self.outcomes, &OUTCOMES));
        text.counter(
            "failed_pushes_total",
            "reason",
            &by(&self.failures, &FAILURES),
        );
        text.counter(
            "pushed_refs_total",
            "outcome",
            &by(&self.refs, &REF_OUTCOMES),
        );
        text.counter(
            "refused_refs_total",
            "reason",
            &by(&self.refusals, &REFUSALS),
        );
        text.single_counter("received_objects_total", self.objects);
        text.single_counter("received_bytes_total", self.bytes);
        text.counter("pulls_total", "outcome", &by(&self.pulls, &OUTCOMES));
        text.single_counter("sent_objects_total", self.sent_objects);
        text.single_counter("sent_bytes_total", self.sent_bytes);
        let buckets: Vec<_> = SECONDS.into_iter().zip(self.durations).collect();
        let seconds = self.duration_ms as f64 / 1000.0;
        text.histogram("push_duration_seconds", &buckets, seconds, self.count);
    }
}

fn add(counts: &mut BTreeMap<String, u64>, word: &str, known: &[&str]) {
    let word = if known.contains(&word) { word } else { OTHER };
    *counts.entry(word.to_owned()).or_default() += 1;
}

const OTHER: &str = "other";
const OUTCOMES: [&str; 5] = ["done", "refused", "withdrawn", "failed", OTHER];
const REF_OUTCOMES: [&str; 6] = [
    "updated",
    "unchanged",
    "would-update",
    "refused",
    "open",
    OTHER,
];
const SECONDS: [f64; 10] = [0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_counted_once_whatever_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        assert_eq!(Pushes::read(&path).unwrap(), None);
        let line = |outcome: &str, more: &str, ms: u64| {
            format!(
                r#"{{"time":"","session":"","identity":"","outcome":"{outcome}","objects":2,
                "bytes":30,"duration_ms":{ms},{more}}}"#
            )
            .replace('\n', "")
        };
        let refs = r#""refs":[{"name":"a","new":"b","outcome":"updated"},
            {"name":"a","new":"b","outcome":"refused","reason":"lost-race"},
            {"name":"a","new":"b","outcome":"refused","why":"of an earlier version"}]"#;
        let lines = [
            line("refused", &refs.replace('\n', ""), 100),
            line(
                "failed",
                r#""refs":[],"error":"gone","reason":"connection""#,
                101,
            ),
            line(
                "failed",
                r#""refs":[],"error":"of an earlier version""#,
                86_400_000,
            ),
            line("new\nword\"}", r#""refs":[]"#, 0).replace("\\n", ""),
            line("new", r#""refs":[],"reason":"new""#, 0),
            line("done", r#""pull":true,"refs":[]"#, 5),
            line("failed", r#""pull":true,"refs":[]"#, 5),
            "{\"time\":".to_owned(),
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let pushes = Pushes::read(&path).unwrap().unwrap();
        let mut text = Text::default();
        pushes.tell(&mut text);
        let text = text.finish();
        for expected in [
            "pushes_total{outcome=\"refused\"} 1",
            "pushes_total{outcome=\"failed\"} 2",
            "pushes_total{outcome=\"done\"} 0",
            "pushes_total{outcome=\"other\"} 1",
            "failed_pushes_total{reason=\"connection\"} 1",
            "failed_pushes_total{reason=\"other\"} 2",
            "pushed_refs_total{outcome=\"updated\"} 1",
            "refused_refs_total{reason=\"lost-race\"} 1",
            "refused_refs_total{reason=\"other\"} 1",
            "received_objects_total 8",
            "received_bytes_total 120",
            "pulls_total{outcome=\"done\"} 1",
            "pulls_total{outcome=\"failed\"} 1",
            "sent_objects_total 4",
            "sent_bytes_total 60",
            "push_duration_seconds_bucket{le=\"0.1\"} 2",
            "push_duration_seconds_bucket{le=\"0.5\"} 3",
            "push_duration_seconds_bucket{le=\"7200\"} 3",
            "push_duration_seconds_bucket{le=\"+Inf\"} 4",
            "push_duration_seconds_sum 86400.201",
            "push_duration_seconds_count 4",
        ] {
            let expected = format!("artifact_cache_{expected}");
            assert!(
                text.lines().any(|line| line == expected),
                "{expected} in {text}"
            );
        }
    }
}
