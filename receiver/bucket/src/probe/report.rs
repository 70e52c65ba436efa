//! What a probe found.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::settings::TagForm;

/// All that a probe found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How the server wants tags.
    pub tags: TagForm,
    /// What was tried, in order.
    pub findings: Vec<Finding>,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probed {
    /// A put and a get: the bucket is there, and the keys allow both.
    Reach,
    /// An object is read as it was stored, at once.
    ReadAfterWrite,
    /// A list has an object at once, and no longer lacks or keeps what changed.
    ListAfterWrite,
    /// A get is answered without content when nothing changed.
    GetUnlessChanged,
    /// A put of a new key takes place once.
    PutNew,
    /// A put takes place only while the key holds a given tag.
    PutIfMatch,
    /// Of eight puts of a new key at once, one takes place.
    RaceNew,
    /// Of eight puts at once that expect the same tag, one takes place.
    RaceIfMatch,
    /// An upload in parts becomes an object, or nothing when it is aborted.
    Uploads,
    /// A part of an object can be read.
    Ranges,
    /// Everybody may read objects.
    PublicRead,
    /// Everybody is told that a missing object is missing.
    PublicMissing,
    /// What others need not see is hidden from them.
    PrivateHidden,
    /// Many objects are deleted by one request.
    DeleteMany,
    /// The server's clock and ours agree.
    Clock,
}

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was tried.
    pub probed: Probed,
    /// What it means.
    pub verdict: Verdict,
    /// What happened, if it is worth saying.
    pub text: String,
}

/// What a finding means for a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// The cache works; the text says for whom it is worse.
    Worse,
    /// Refs could be lost as soon as two receivers write: the bucket is refused for several.
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

    /// Adds a finding that is good if nothing is said against it.
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

    /// Returns why the bucket cannot hold a cache that receivers write to, if it cannot.
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
