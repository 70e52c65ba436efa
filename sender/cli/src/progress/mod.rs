//! How far a push or pull has come: on a terminal a line that changes, in a log a line every ten
//! seconds, for programs an object every second.
//!
//! `push` and `pull` turn events into an [`Amount`]; `lines` prints for logs.

mod lines;
mod pull;
mod push;

use std::time::Duration;

use artifact_formats::{Size, grouped};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::output::{Output, Progressing};
use crate::progress::lines::Lines;

pub(crate) use pull::PullProgress;
pub(crate) use push::PushProgress;

/// Where a line of text about the progress appears.
struct Shown<'a> {
    output: &'a Output,
    bar: ProgressBar,
    lines: Option<Lines>,
    /// How long it had taken when a program was last told.
    told: Duration,
}

impl<'a> Shown<'a> {
    /// Shows nothing until it [begins](Self::begin).
    fn new(output: &'a Output) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self {
            output,
            bar,
            lines: None,
            told: Duration::ZERO,
        }
    }

    fn begin(&mut self) {
        match self.output.progress() {
            Progressing::Bar => {
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
                self.bar.enable_steady_tick(TICK);
            }
            Progressing::Lines => {
                self.lines = Some(Lines::start(LINE_EVERY, |text| {
                    let _ = std::io::Write::write_fmt(
                        &mut std::io::stderr(),
                        format_args!("artifact-cache: {text}\n"),
                    );
                }));
            }
            Progressing::Objects | Progressing::Nothing => {}
        }
    }

    /// Sets the text for people.
    fn say(&self, text: String) {
        if let Some(lines) = &self.lines {
            lines.set(text);
        } else {
            self.bar.set_message(text);
        }
    }

    /// Tells programs, but not all the time.
    fn tell(&mut self, took: Duration, object: impl FnOnce() -> Value) {
        if self.output.progress() == Progressing::Objects && took >= self.told + TELL_EVERY {
            self.told = took;
            self.output.object(&object());
        }
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
        self.lines = None;
    }
}

/// How much is done, and how much there is to do as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    objects: u64,
    objects_all: u64,
    bytes: u64,
    /// 0 if nobody knows.
    bytes_all: u64,
    /// Whether fewer bytes may suffice, because they are compressed on their way.
    at_most: bool,
}

impl Amount {
    /// Describes it for people.
    fn text(&self, took: Duration) -> String {
        let seconds = took.as_secs_f64().max(0.001);
        let objects_all = self.objects_all.max(self.objects);
        let bytes_all = self.bytes_all.max(self.bytes);
        let (of, about) = match self.at_most {
            true => ("of at most", "at most"),
            false => ("of", "about"),
        };
        let mut text = format!(
            "{} of {} objects, {}",
            grouped(self.objects),
            grouped(objects_all),
            Size(self.bytes)
        );
        if self.bytes_all > 0 {
            text += &format!(" {of} {}", Size(bytes_all));
        }
        text += &format!(", {}/s", Size((self.bytes as f64 / seconds) as u64));
        let (done, all) = match self.bytes_all {
            0 => (self.objects, objects_all),
            _ => (self.bytes, bytes_all),
        };
        if took > FORETELL_AFTER && done > 0 && done < all {
            let left = seconds * (all - done) as f64 / done as f64;
            text += &format!(", {about} {} left", duration(left));
        }
        text
    }
}

/// Writes a time that is only known roughly.
fn duration(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

const TICK: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);
const TELL_EVERY: Duration = Duration::from_secs(1);
const FORETELL_AFTER: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_how_much_of_what_is_done_and_how_long_the_rest_takes() {
        let amount = Amount {
            objects: 1_234,
            objects_all: 5_000,
            bytes: 20_000_000,
            bytes_all: 80_000_000,
            at_most: false,
        };
        let took = Duration::from_secs(10);
        assert_eq!(
            amount.text(took),
            "1,234 of 5,000 objects, 20.0 MB of 80.0 MB, 2.0 MB/s, about 30 s left"
        );
        // Too early to tell.
        assert!(!amount.text(Duration::from_secs(2)).contains("left"));
        let bare = Amount {
            at_most: true,
            bytes_all: 2_020_000_000,
            ..amount
        };
        assert!(
            bare.text(took).ends_with("MB/s, at most 17 min left"),
            "{}",
            bare.text(took)
        );
        assert!(bare.text(took).contains("of at most 2.0 GB"));
        // Without a length, objects tell.
        let unknown = Amount {
            objects: 2_500,
            bytes_all: 0,
            ..amount
        };
        assert_eq!(
            unknown.text(took),
            "2,500 of 5,000 objects, 20.0 MB, 2.0 MB/s, about 10 s left"
        );
        let done = Amount {
            objects: 6_000,
            bytes: 90_000_000,
            ..amount
        };
        assert_eq!(
            done.text(took),
            "6,000 of 6,000 objects, 90.0 MB of 90.0 MB, 9.0 MB/s"
        );
    }
}
