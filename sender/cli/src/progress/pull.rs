//! The progress of a pull.

use std::time::{Duration, Instant};

use artifact_puller::Event;
use serde_json::json;

use crate::output::Output;
use crate::progress::{Amount, Shown};

pub(crate) struct PullProgress<'a> {
    shown: Shown<'a>,
    started: Instant,
    amount: Amount,
}

impl<'a> PullProgress<'a> {
    pub(crate) fn new(output: &'a Output) -> Self {
        output.meanwhile(
            "only the refs named above were set, and all fetched objects are kept: run the same \
             command again to fetch the rest"
                .to_owned(),
        );
        let mut shown = Shown::new(output);
        shown.begin();
        Self {
            shown,
            started: Instant::now(),
            amount: Amount::default(),
        }
    }

    pub(crate) fn show(&mut self, event: Event) {
        match event {
            Event::Wanted { objects } => self.amount.objects_all = objects,
            Event::Extent { objects, bytes } => {
                self.amount.objects_all = objects;
                self.amount.bytes_all = bytes;
            }
            Event::Fetched { objects, bytes } => {
                self.amount.objects = objects;
                self.amount.bytes = bytes;
                self.draw();
            }
            Event::Publishing => self.shown.say("writing to the disk".to_owned()),
            _ => {}
        }
    }

    fn draw(&mut self) {
        let (took, amount) = (self.started.elapsed(), self.amount);
        self.shown.tell(took, || {
            json!({
                "event": "progress",
                "objects_fetched": amount.objects,
                "objects_wanted": amount.objects_all.max(amount.objects),
                "bytes_fetched": amount.bytes,
                "seconds": took.as_secs_f64(),
            })
        });
        self.shown.say(amount.text(took));
    }

    pub(crate) fn finish(&mut self) -> Duration {
        self.shown.end();
        self.started.elapsed()
    }
}
