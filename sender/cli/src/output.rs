//! Everything that the program prints: for people, on a terminal or not, or for programs.
//!
//! Text of the other side goes through `escape`. Results go to standard output, everything else to
//! standard error. A closed pipe is not an error; a full disk is.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use artifact_protocol::{escape, escape_json, exit};
use artifact_puller::Event;
use artifact_sender::{Remote, SenderEvent};
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::args::Args;
use crate::trouble::Trouble;

#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    bar: bool,
    /// The reason why a result could not be printed.
    unwritable: OnceLock<String>,
    /// The state that an interruption would leave now, in words.
    meanwhile: Mutex<String>,
}

impl Output {
    pub(crate) fn new(args: &Args) -> Self {
        let bar = !args.quiet && !args.json && io::stderr().is_terminal();
        Self {
            json: args.json,
            quiet: args.quiet,
            bar,
            unwritable: OnceLock::new(),
            meanwhile: Mutex::new("nothing was changed".to_owned()),
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
        let clear = if self.bar { "\r\x1b[K" } else { "" };
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

    /// Prints a result for programs.
    pub(crate) fn object(&self, value: &Value) {
        if self.json {
            self.print(escape_json(&value.to_string()));
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

    pub(crate) fn pull_progress(&self) -> PullProgress<'_> {
        self.meanwhile(
            "only the refs named above were set, and all fetched objects are kept: run the same \
             command again to fetch the rest"
                .to_owned(),
        );
        let bar = hidden_bar();
        if self.bar {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
        }
        PullProgress {
            output: self,
            bar,
            started: Instant::now(),
            wanted: 0,
            extent: 0,
            told: Duration::ZERO,
        }
    }

    pub(crate) fn progress<'a>(&'a self, remote: &'a Remote) -> Progress<'a> {
        Progress {
            output: self,
            remote,
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

/// The progress of a pull: a line on a terminal, or an object now and then for programs.
pub(crate) struct PullProgress<'a> {
    output: &'a Output,
    bar: ProgressBar,
    started: Instant,
    wanted: u64,
    // All bytes to come, if they are known.
    extent: u64,
    // How long the pull had taken when a program was last told.
    told: Duration,
}

impl PullProgress<'_> {
    pub(crate) fn show(&mut self, event: Event) {
        match event {
            Event::Wanted { objects } => self.wanted = objects,
            Event::Extent { objects, bytes } => {
                self.wanted = objects;
                self.extent = bytes;
            }
            Event::Fetched { objects, bytes } => self.draw(objects, bytes),
            Event::Publishing => self.bar.set_message("writing to the disk"),
            _ => {}
        }
    }

    fn draw(&mut self, fetched: u64, bytes: u64) {
        let took = self.started.elapsed();
        let wanted = self.wanted.max(fetched);
        if self.output.json && took >= self.told + TELL_EVERY {
            self.told = took;
            self.output.object(&json!({
                "event": "progress",
                "objects_fetched": fetched,
                "objects_wanted": wanted,
                "bytes_fetched": bytes,
                "seconds": took.as_secs_f64(),
            }));
        }
        let seconds = took.as_secs_f64().max(0.001);
        let mut text = format!(
            "{} of {} objects, {}, {}/s",
            HumanCount(fetched),
            HumanCount(wanted),
            DecimalBytes(bytes),
            DecimalBytes((bytes as f64 / seconds) as u64),
        );
        if took > FORETELL_AFTER {
            let (done, all) = match self.extent {
                0 => (fetched, wanted),
                extent => (bytes, extent),
            };
            let left = seconds * all.saturating_sub(done) as f64 / done.max(1) as f64;
            text.push_str(&format!(", about {left:.0} s left"));
        }
        self.bar.set_message(text);
    }

    pub(crate) fn finish(&self) -> Duration {
        self.bar.finish_and_clear();
        self.started.elapsed()
    }
}

/// The progress line of a push; only on a terminal.
pub(crate) struct Progress<'a> {
    output: &'a Output,
    remote: &'a Remote,
    bar: ProgressBar,
    visible: bool,
    started: Instant,
    wanted: u64,
    had: u64,
    sent: u64,
    bytes: u64,
}

impl Progress<'_> {
    pub(crate) fn show(&mut self, event: &SenderEvent) {
        self.foresee(event);
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
                self.bar.set_message("the server syncs to disk");
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

    /// Sets the text to print if the user interrupts.
    fn foresee(&self, event: &SenderEvent) {
        let remote = self.remote;
        let text = match event {
            SenderEvent::Welcomed(_) => format!("nothing was changed at {remote}"),
            SenderEvent::Staged(staged) if staged.objects == self.wanted => format!(
                "{remote} has all objects, and may have set the refs by now: run the same command \
                 again to make sure"
            ),
            SenderEvent::Staged(staged) => format!(
                "no ref was changed at {remote}, which keeps the {} that it has verified: run \
                 the same command again to send the rest",
                counted(staged.objects, "object")
            ),
            SenderEvent::Finalized(_) => format!("{remote} has set the refs"),
            SenderEvent::RefStatus(_)
            | SenderEvent::Answered { .. }
            | SenderEvent::Sent { .. }
            | SenderEvent::Missing(_)
            | SenderEvent::Summary(_) => return,
        };
        self.output.meanwhile(text);
    }

    /// Until the server answers, the terminal belongs to the questions of `ssh`.
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

/// Formats a number with its noun.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", HumanCount(number))
}

/// The error if standard output cannot be written.
pub(crate) fn unwritable(why: impl Display) -> String {
    format!("cannot write to standard output: {why}")
}

fn hidden_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar
}

const TICK: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(1);
const FORETELL_AFTER: Duration = Duration::from_secs(3);

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
