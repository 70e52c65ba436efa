//! What the doctor finds, and how it can be mended.

use std::path::Path;

use serde::Serialize;

/// How bad a finding is, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Severity {
    /// The doctor could not look: it lacks a right or a program.
    Unseen,
    /// The cache works, but something will hurt it or does already.
    Warning,
    /// The cache does not work, or does not keep its promises.
    Fault,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Names the check; it stays the same from release to release.
    pub(crate) id: &'static str,
    pub(crate) severity: Severity,
    /// One sentence, without a stop at its end.
    pub(crate) what: String,
    /// Commands for root's shell that mend it, in this order.
    pub(crate) fix: Vec<String>,
}

impl Finding {
    pub(crate) fn fault(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(id, Severity::Fault, what)
    }

    pub(crate) fn warning(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(id, Severity::Warning, what)
    }

    pub(crate) fn unseen(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(id, Severity::Unseen, what)
    }

    fn new(id: &'static str, severity: Severity, what: impl Into<String>) -> Self {
        Self {
            id,
            severity,
            what: what.into(),
            fix: Vec::new(),
        }
    }

    /// Adds a command that mends it.
    #[must_use]
    pub(crate) fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix.push(command.into());
        self
    }
}

/// Writes a word so that a shell reads it as one word.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Writes a path so that a shell reads it as one word.
pub(crate) fn shell(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_survives_the_shell_whatever_is_in_it() {
        for word in ["/srv/a b", "it's", "", "$(x)", "/plain/path-1.2", "a*"] {
            let said = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), word);
        }
        assert_eq!(quoted("/srv/artifacts"), "/srv/artifacts");
    }
}
