//! Everything that the program prints: for people, on a terminal or not, or for programs.
//!
//! Text of the other side goes through `escape`. Results go to standard output, everything else to
//! standard error. A closed pipe is not an error; a full disk is.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use artifact_protocol::{escape, escape_json, exit};
use serde_json::{Value, json};

use crate::args::Args;
use crate::trouble::Trouble;

#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// Whether a person looks at standard error.
    terminal: bool,
    /// The reason why a result could not be printed.
    unwritable: OnceLock<String>,
    /// The state that an interruption would leave now, in words.
    meanwhile: Mutex<String>,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progressing {
    /// For people at a terminal: by one line that changes.
    Bar,
    /// For people who read a log: by a line now and then.
    Lines,
    /// For programs: by an object now and then.
    Objects,
    /// Not at all.
    Nothing,
}

impl Output {
    pub(crate) fn new(args: &Args) -> Self {
        Self {
            json: args.json,
            quiet: args.quiet,
            terminal: io::stderr().is_terminal(),
            unwritable: OnceLock::new(),
            meanwhile: Mutex::new("nothing was changed".to_owned()),
        }
    }

    /// Returns how progress is shown.
    pub(crate) const fn progress(&self) -> Progressing {
        match self {
            Self { json: true, .. } => Progressing::Objects,
            Self { quiet: true, .. } => Progressing::Nothing,
            Self { terminal: true, .. } => Progressing::Bar,
            Self { .. } => Progressing::Lines,
        }
    }

    /// Sets the text to print if the user interrupts from now on.
    pub(crate) fn meanwhile(&self, text: String) {
        *self
            .meanwhile
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Prints that the user has interrupted, and what was kept.
    pub(crate) fn interrupted(&self) {
        let text = self
            .meanwhile
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let text = format!("interrupted: {text}");
        self.object(&json!({ "event": "error", "text": text, "advice": null }));
        let clear = match self.progress() {
            Progressing::Bar => "\r\x1b[K",
            Progressing::Lines | Progressing::Objects | Progressing::Nothing => "",
        };
        let _ = writeln!(io::stderr(), "{clear}artifact-cache: {text}");
    }

    /// Returns the exit code: if a result could not be printed, the command has failed. A reader
    /// that closes the pipe has read enough.
    pub(crate) fn finish(&self, code: u8) -> u8 {
        self.note_failure(io::stdout().flush());
        let Some(why) = self.unwritable.get() else {
            return code;
        };
        let _ = writeln!(io::stderr(), "artifact-cache: {}", unwritable(why));
        if code == exit::DONE {
            exit::OTHER
        } else {
            code
        }
    }

    fn print(&self, line: impl Display) {
        self.note_failure(writeln!(io::stdout(), "{line}"));
    }

    fn note_failure(&self, result: io::Result<()>) {
        if let Err(error) = result
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            let _ = self.unwritable.set(error.to_string());
        }
    }

    /// Notes whether something was printed that is neither for people nor JSON.
    pub(crate) fn printed(&self, result: io::Result<()>) {
        self.note_failure(result);
    }

    /// Prints a result for people.
    pub(crate) fn line(&self, text: &str) {
        if !self.quiet && !self.json {
            self.print(text);
        }
    }

    /// Prints a result for programs: the event first, for whoever looks no further.
    pub(crate) fn object(&self, value: &Value) {
        if self.json {
            self.print(escape_json(&event_first(value.clone())));
        }
    }

    /// Prints an error, and what to do about it.
    pub(crate) fn error(&self, text: &str, advice: Option<&str>) {
        self.object(&json!({ "event": "error", "text": text, "advice": advice }));
        let _ = writeln!(io::stderr(), "artifact-cache: {text}");
        if let Some(advice) = advice {
            let _ = writeln!(io::stderr(), "  {advice}");
        }
    }

    /// Prints a failure, and returns its exit code.
    pub(crate) fn trouble(&self, trouble: &Trouble) -> u8 {
        self.error(&trouble.text, trouble.advice.as_deref());
        trouble.code
    }

    /// Prints that a ref was refused, and what to do about it.
    pub(crate) fn refused(&self, text: &str, advice: Option<&str>) {
        let _ = writeln!(io::stderr(), "{text}");
        if let Some(advice) = advice {
            let _ = writeln!(io::stderr(), "  {advice}");
        }
    }

    /// Prints a problem that did not stop the command.
    pub(crate) fn warning(&self, text: &str) {
        self.object(&json!({ "event": "warning", "text": text }));
        if !self.quiet {
            let _ = writeln!(io::stderr(), "artifact-cache: warning: {text}");
        }
    }

    /// Prints a decision that this program took by itself, or an empty result.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "artifact-cache: {text}");
        }
    }

    /// Prints a line that `ssh` or the server wrote to standard error.
    pub(crate) fn remote_line(&self, line: &str) {
        let _ = writeln!(io::stderr(), "remote: {}", escape(line));
    }
}

fn event_first(mut value: Value) -> String {
    let event = value
        .as_object_mut()
        .and_then(|fields| fields.remove("event"));
    let (event, rest) = (event.unwrap_or_default(), value.to_string());
    match rest.strip_prefix('{') {
        Some("}") | None => format!("{{\"event\":{event}}}"),
        Some(rest) => format!("{{\"event\":{event},{rest}"),
    }
}

/// The error if standard output cannot be written.
pub(crate) fn unwritable(why: impl Display) -> String {
    format!("cannot write to standard output: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_begins_with_its_event_and_has_all_other_fields() {
        let value = json!({ "a": 1, "event": "done", "z": [] });
        assert_eq!(event_first(value), r#"{"event":"done","a":1,"z":[]}"#);
        assert_eq!(event_first(json!({ "event": "x" })), r#"{"event":"x"}"#);
    }

    #[test]
    fn json_can_be_shown_and_means_the_same() {
        let value = json!({ "text": "\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{1f600}\u{e9}\"\\ \n" });
        let shown = escape_json(&value.to_string());
        assert!(
            !shown.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{shown}"
        );
        assert!(shown.contains('\u{e9}'));
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
    }
}
