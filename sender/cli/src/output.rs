//! All that is printed: for people, on a terminal or not, or for programs.
//!
//! Text of the other side goes through `escape`. Results go to standard output, everything else to
//! standard error; a closed pipe is no error.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use artifact_protocol::{escape, escape_json};
use artifact_sender::SenderEvent;
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::args::Args;
use crate::trouble::Trouble;

#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    bar: bool,
}

impl Output {
    pub(crate) fn new(args: &Args) -> Self {
        let bar = !args.quiet && !args.json && io::stderr().is_terminal();
        Self {
            json: args.json,
            quiet: args.quiet,
            bar,
        }
    }

    /// Prints a result for people.
    pub(crate) fn line(&self, text: &str) {
        if !self.quiet && !self.json {
            let _ = writeln!(io::stdout(), "{text}");
        }
    }

    /// Prints a result for programs.
    pub(crate) fn object(&self, value: &Value) {
        if self.json {
            let _ = writeln!(io::stdout(), "{}", escape_json(&value.to_string()));
        }
    }

    /// Prints what went wrong, and what to do about it.
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

    /// Prints what went wrong without being in the way.
    pub(crate) fn warning(&self, text: &str) {
        self.object(&json!({ "event": "warning", "text": text }));
        let _ = writeln!(io::stderr(), "artifact-cache: warning: {text}");
    }

    /// Prints what this program does of its own accord.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr(), "artifact-cache: {text}");
    }

    /// Prints a line that `ssh` or the server wrote to standard error.
    pub(crate) fn remote_line(&self, line: &str) {
        let _ = writeln!(io::stderr(), "remote: {}", escape(line));
    }

    #[cfg(feature = "pull")]
    pub(crate) fn pull_progress(&self) -> PullProgress {
        let bar = hidden_bar();
        if self.bar {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
        }
        PullProgress {
            bar,
            started: Instant::now(),
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress {
            bar: hidden_bar(),
            visible: self.bar,
            started: Instant::now(),
            wanted: 0,
            had: 0,
            sent: 0,
            bytes: 0,
        }
    }
}

/// The line that moves while a pull is under way; only on a terminal.
#[cfg(feature = "pull")]
#[derive(Clone, Debug)]
pub(crate) struct PullProgress {
    bar: ProgressBar,
    started: Instant,
}

#[cfg(feature = "pull")]
impl PullProgress {
    pub(crate) fn show(&self, fetched: u64, requested: u64, bytes: u64) {
        let rate = bytes as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        self.bar.set_message(format!(
            "{} of {} objects, {}, {}/s",
            HumanCount(fetched),
            HumanCount(requested),
            DecimalBytes(bytes),
            DecimalBytes(rate as u64),
        ));
    }

    pub(crate) fn finish(&self) -> Duration {
        self.bar.finish_and_clear();
        self.started.elapsed()
    }
}

/// The line that moves while a push is under way; only on a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    visible: bool,
    started: Instant,
    wanted: u64,
    had: u64,
    sent: u64,
    bytes: u64,
}

impl Progress {
    pub(crate) fn show(&mut self, event: &SenderEvent) {
        match event {
            SenderEvent::Welcomed(_) => self.begin(),
            SenderEvent::RefStatus(_) => self.bar.set_message("comparing"),
            SenderEvent::Answered { wanted, had } => {
                self.wanted += wanted;
                self.had += had;
                self.draw();
            }
            SenderEvent::Sent { objects, bytes } => {
                self.sent += objects;
                self.bytes += bytes;
                self.draw();
            }
            SenderEvent::Missing(count) => self.wanted += count,
            SenderEvent::Staged(staged) if staged.objects == self.wanted => {
                self.bar.set_message("the server makes it durable");
            }
            SenderEvent::Staged(_) => {}
            SenderEvent::Finalized(_) => self.bar.set_message("the server updates its summary"),
            SenderEvent::Summary(_) => self.bar.finish_and_clear(),
        }
    }

    pub(crate) fn finish(&self) -> Duration {
        self.bar.finish_and_clear();
        self.started.elapsed()
    }

    /// Until the server answers, the terminal is for the questions of `ssh`.
    fn begin(&mut self) {
        self.started = Instant::now();
        if self.visible {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(TICK);
        }
    }

    fn draw(&self) {
        let rate = self.bytes as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        self.bar.set_message(format!(
            "{} of {} objects, {}, {}/s, {} already there",
            HumanCount(self.sent),
            HumanCount(self.wanted),
            DecimalBytes(self.bytes),
            DecimalBytes(rate as u64),
            HumanCount(self.had),
        ));
    }
}

fn hidden_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar
}

const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

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
