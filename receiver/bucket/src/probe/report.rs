//! The report of a probe.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::settings::TagForm;

/// The findings of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The form in which the server wants tags.
    pub tags: TagForm,
    /// The findings, in the order of the tries.
    pub findings: Vec<Finding>,
}

/// A promise of the server that the probe tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probed {
    /// The bucket exists, and the keys allow puts.
    Reach,
    /// A get returns the content of the last put at once.
    ReadAfterWrite,
    /// A list shows every put and deletion at once.
    ListAfterWrite,
    /// A conditional get of an unchanged object is answered without content.
    GetUnlessChanged,
    /// A put that expects a new key takes place only once.
    PutNew,
    /// A put takes place only while the key holds a given tag.
    PutIfMatch,
    /// Exactly one of many simultaneous puts that expect a new key takes place.
    RaceNew,
    /// Exactly one of many simultaneous puts that expect the same tag takes place.
    RaceIfMatch,
    /// An upload in parts becomes an object only when it is completed.
    Uploads,
    /// A part of an object can be read.
    Ranges,
    /// Everybody may read objects.
    PublicRead,
    /// The server answers 404 to anybody who asks for a missing object.
    PublicMissing,
    /// The cache's own records are hidden from everybody.
    PrivateHidden,
    /// One request deletes many objects.
    DeleteMany,
    /// The clocks of the server and this machine agree.
    Clock,
}

/// The result of one try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The promise that was tried.
    pub probed: Probed,
    /// The verdict.
    pub verdict: Verdict,
    /// An explanation, or empty.
    pub text: String,
}

/// The meaning of a finding for a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The server keeps the promise.
    Good,
    /// The cache works, but less well; the text says for whom.
    Worse,
    /// Refs could be lost as soon as two receivers write.
    UnsafeForSeveral,
    /// The cache would not work.
    Unusable,
}

impl Report {
    pub(super) fn add(&mut self, probed: Probed, verdict: Verdict, text: impl Into<String>) {
        self.findings.push(Finding {
            probed,
            verdict,
            text: text.into(),
        });
    }

    /// Adds a finding: `verdict` if there is an objection, otherwise good.
    pub(super) fn judge(&mut self, probed: Probed, verdict: Verdict, against: Option<String>) {
        match against {
            None => self.add(probed, Verdict::Good, ""),
            Some(text) => self.add(probed, verdict, text),
        }
    }

    pub(crate) fn is_reachable(&self) -> bool {
        let mut findings = self.findings.iter();
        findings.any(|finding| finding.probed == Probed::Reach && finding.verdict == Verdict::Good)
    }

    /// Returns the worst verdict.
    pub fn worst(&self) -> Verdict {
        let rank = |verdict: &Verdict| *verdict as u8;
        let verdicts = self.findings.iter().map(|finding| finding.verdict);
        verdicts.max_by_key(rank).unwrap_or(Verdict::Unusable)
    }

    /// Returns why receivers must not write to the bucket, if they must not.
    pub fn refusal(&self) -> Option<String> {
        let refused = |finding: &&Finding| match finding.verdict {
            Verdict::Good | Verdict::Worse => false,
            Verdict::UnsafeForSeveral | Verdict::Unusable => true,
        };
        let mut texts = self.findings.iter().filter(refused);
        let first = texts.next()?;
        let more = texts.fold(String::new(), |more, finding| {
            format!("{more}; {}: {}", finding.probed, finding.text)
        });
        Some(format!("{}: {}{more}", first.probed, first.text))
    }
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reach => "bucket and keys",
            Self::ReadAfterWrite => "read after write",
            Self::ListAfterWrite => "list after write",
            Self::GetUnlessChanged => "get unless unchanged (If-None-Match)",
            Self::PutNew => "put of a new key (If-None-Match: *)",
            Self::PutIfMatch => "put over a known tag (If-Match)",
            Self::RaceNew => "race of 8 puts of a new key",
            Self::RaceIfMatch => "race of 8 puts over one tag",
            Self::Uploads => "upload in parts",
            Self::Ranges => "read of a range",
            Self::PublicRead => "read by everybody",
            Self::PublicMissing => "answer to everybody about a missing key",
            Self::PrivateHidden => "private keys",
            Self::DeleteMany => "deletion of many",
            Self::Clock => "clock",
        })
    }
}
