//! Races: the server must execute exactly one of many simultaneous conditional puts, every time.

use std::sync::mpsc;

use artifact_store::bucket::{
    Answer, BucketError, Class, Client, Condition, Outcome, Request, Tag,
};
use bytes::Bytes;

use crate::probe::report::{Probed, Report, Verdict};
use crate::probe::tries::{Place, judged, text};

/// Runs rounds of puts that all expect a new key.
pub(super) fn news(client: &Client, place: &Place, report: &mut Report) {
    let race = || {
        for round in 0..ROUNDS {
            let key = place.key(&format!("race/{round}"))?;
            let winners = run(client, |content| Request::Put {
                key: key.clone(),
                content,
                condition: Condition::New,
                class: Class::Private,
            })?;
            if !winners.is_one() {
                return Ok(Some(winners.text()));
            }
        }
        Ok(None)
    };
    judged(report, Probed::RaceNew, Verdict::UnsafeForSeveral, race());
}

/// Runs rounds of puts that all expect the same tag.
pub(super) fn swaps(client: &Client, place: &Place, report: &mut Report) {
    let race = || {
        let key = place.key("race/swap")?;
        let begun = client.put(&key, text("begin"), Condition::Always, Class::Private)?;
        let Outcome::Stored(mut tag) = begun else {
            return Ok(Some("an unconditional put was refused".to_owned()));
        };
        for round in 0..ROUNDS {
            let winners = run(client, |content| Request::Put {
                key: key.clone(),
                content: [content, Bytes::from(format!(" {round}"))].concat().into(),
                condition: Condition::Is(tag.clone()),
                class: Class::Private,
            })?;
            if !winners.is_one() {
                return Ok(Some(winners.text()));
            }
            let Some(found) = client.get(&key)? else {
                return Ok(Some("the object is gone".to_owned()));
            };
            if winners.unclear == 0 && winners.tags != [found.tag.clone()] {
                return Ok(Some(
                    "the content is not that of the put that took place".to_owned(),
                ));
            }
            tag = found.tag;
        }
        Ok(None)
    };
    judged(
        report,
        Probed::RaceIfMatch,
        Verdict::UnsafeForSeveral,
        race(),
    );
}

/// The puts of one race that took place.
struct Winners {
    tags: Vec<Tag>,
    /// The number of puts with an unclear outcome: servers fail a few of so many puts.
    unclear: usize,
}

impl Winners {
    fn is_one(&self) -> bool {
        self.tags.len() == 1 || (self.tags.is_empty() && self.unclear > 0)
    }

    fn text(&self) -> String {
        format!(
            "{} of {RACERS} puts at once took place instead of one",
            self.tags.len()
        )
    }
}

/// Sends all racers at once, and waits for the answers.
fn run(client: &Client, racer: impl Fn(Bytes) -> Request) -> Result<Winners, BucketError> {
    let (sender, answers) = mpsc::channel();
    for number in 0..RACERS {
        let sender = sender.clone();
        let then = move |answer| {
            // The receiver waits for all answers.
            let _ = sender.send(answer);
        };
        let request = racer(Bytes::from(format!("racer {number}")));
        client.bucket().start(request, Box::new(then));
    }
    drop(sender);
    let mut winners = Winners {
        tags: Vec::new(),
        unclear: 0,
    };
    for answer in answers {
        match answer {
            Ok(Answer::Stored(tag)) => winners.tags.push(tag),
            Ok(Answer::NotMet) | Err(BucketError::Busy(_)) => {}
            Err(BucketError::Unclear(_)) => winners.unclear += 1,
            Err(error) => return Err(error),
            Ok(other) => return Err(BucketError::misfit("a put", &other)),
        }
    }
    Ok(winners)
}

const RACERS: usize = 8;
const ROUNDS: usize = 10;
