//! Tests whether a server keeps the promises that the store relies on, before anything is entrusted
//! to it.
//!
//! A server that ignores the condition of a put answers 200 like any other, and refs would be lost
//! silently. The probe therefore tries everything under a prefix of its own, and then deletes its
//! objects. Its result is a list of [`Finding`]s, and the form in which the server wants tags.
//! [`Report::refusal`] decides whether receivers may write.

mod race;
mod report;
mod tries;

use std::sync::Arc;
use std::time::Duration;

use artifact_store::bucket::{Bucket, Client, Clock};

use crate::settings::TagForm;

pub use self::report::{Finding, Probed, Report, Verdict};

/// A server to probe: a connection to the bucket for each form of tags, and one without keys.
pub trait Subject {
    /// Returns a connection that sends tags in this form.
    fn bucket(&self, tags: TagForm) -> Arc<dyn Bucket>;

    /// Returns a connection without keys, if one is possible: it sees the bucket as everybody does.
    fn anonymous(&self) -> Option<Arc<dyn Bucket>>;

    /// Returns the server's clock at its last answer, in seconds since 1970.
    fn server_time(&self) -> Option<u64>;
}

/// Tries everything that the store relies on, with objects under a prefix of its own, and removes
/// these.
///
/// `name` must differ from the names of other probes at the same time.
pub fn probe(subject: &dyn Subject, clock: &Arc<dyn Clock>, name: &str) -> Report {
    let client =
        |tags| Client::new(subject.bucket(tags), Arc::clone(clock)).with_patience(PATIENCE);
    let quoted = client(TagForm::Quoted);
    let mut report = Report::default();
    let place = tries::Place::new(name);
    tries::basics(&quoted, &place, &mut report);
    if report.is_reachable() {
        tries::puts_of_new(&quoted, &place, &mut report);
        let bare = client(TagForm::Bare);
        tries::swaps(&quoted, &bare, &place, &mut report);
        let swapping = match report.tags {
            TagForm::Quoted => &quoted,
            TagForm::Bare => &bare,
        };
        race::news(&quoted, &place, &mut report);
        race::swaps(swapping, &place, &mut report);
        tries::uploads(&quoted, &place, &mut report);
        if let Some(anonymous) = subject.anonymous() {
            let anonymous = Client::new(anonymous, Arc::clone(clock)).with_patience(PATIENCE);
            tries::anonymous(&anonymous, &place, &mut report);
        }
        tries::deletion(&quoted, &place, &mut report);
        tries::clock(subject.server_time(), clock.wall(), &mut report);
    }
    report
}

/// How long a probe repeats a request: it must be short, because a person waits for the probe.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use artifact_store::bucket::{
        BucketError, Condition, Fate, Faulty, ManualClock, Memory, Quirks, Request, Tag, Then,
    };

    use super::*;

    /// A server in memory that wants tags in one form, with a connection that plants faults.
    struct Server {
        memory: Memory,
        way: Faulty,
        wants: TagForm,
        shows_all: bool,
        skew: u64,
    }

    /// Sends tags in a form that the server does not understand.
    #[derive(Debug)]
    struct WrongForm(Faulty);

    /// The bucket without keys: it refuses everything, or everything except reads of objects that
    /// exist.
    #[derive(Debug)]
    struct Everybody(Option<Memory>);

    impl Bucket for WrongForm {
        fn start(&self, mut request: Request, then: Then) {
            if let Request::Put {
                condition: Condition::Is(tag),
                ..
            } = &mut request
            {
                *tag = Tag::new(&format!("x{}", tag.as_str()));
            }
            self.0.start(request, then);
        }
    }

    impl Bucket for Everybody {
        fn start(&self, request: Request, then: Then) {
            let refuse = || Err(BucketError::Refused("403".to_owned()));
            let Some(memory) = &self.0 else {
                return then(refuse());
            };
            match &request {
                Request::Get { key, .. }
                    if memory.objects().contains_key(key) && !key.as_str().starts_with("ext") =>
                {
                    memory.start(request, then);
                }
                _ => then(refuse()),
            }
        }
    }

    impl Server {
        fn new() -> Self {
            let memory = Memory::new();
            let way = Faulty::new(Arc::new(memory.clone()));
            Self {
                memory,
                way,
                wants: TagForm::Quoted,
                shows_all: true,
                skew: 0,
            }
        }

        fn report(&self) -> Report {
            let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
            probe(self, &clock, "test")
        }

        /// Returns the verdict of a probe's report about one promise.
        fn verdict(&self, of: Probed) -> Verdict {
            let report = self.report();
            let mut findings = report.findings.iter();
            findings
                .find(|finding| finding.probed == of)
                .unwrap()
                .verdict
        }
    }

    impl Subject for Server {
        fn bucket(&self, tags: TagForm) -> Arc<dyn Bucket> {
            if tags == self.wants {
                Arc::new(self.way.clone())
            } else {
                Arc::new(WrongForm(self.way.clone()))
            }
        }

        fn anonymous(&self) -> Option<Arc<dyn Bucket>> {
            if self.shows_all {
                return Some(Arc::new(self.memory.clone()));
            }
            let config = artifact_store::bucket::Key::new("config").unwrap();
            let memory = self
                .memory
                .objects()
                .contains_key(&config)
                .then(|| self.memory.clone());
            Some(Arc::new(Everybody(memory)))
        }

        fn server_time(&self) -> Option<u64> {
            Some(self.memory.now() + self.skew)
        }
    }

    #[test]
    fn a_server_that_keeps_everything_is_good_and_nothing_of_the_probe_is_left() {
        for wants in [TagForm::Quoted, TagForm::Bare] {
            let server = Server {
                wants,
                ..Server::new()
            };
            let report = server.report();
            assert_eq!(report.tags, wants);
            assert_eq!(report.refusal(), None, "{report:?}");
            assert_eq!(report.findings.len(), 15);
            assert!(server.memory.objects().is_empty());
            assert_eq!(server.memory.open_uploads(), 0);
        }
    }

    #[test]
    fn a_server_that_ignores_conditions_is_refused_for_several_writers() {
        let server = Server::new();
        server.memory.set_quirks(Quirks {
            ignores_new: true,
            ..Quirks::default()
        });
        let report = server.report();
        assert_eq!(report.worst(), Verdict::UnsafeForSeveral);
        assert!(
            report
                .refusal()
                .unwrap()
                .contains("the condition is ignored")
        );
        assert_eq!(server.verdict(Probed::RaceNew), Verdict::UnsafeForSeveral);
        assert_eq!(server.verdict(Probed::PutIfMatch), Verdict::Good);
        server.memory.set_quirks(Quirks {
            ignores_is: true,
            ..Quirks::default()
        });
        assert_eq!(
            server.verdict(Probed::PutIfMatch),
            Verdict::UnsafeForSeveral
        );
        assert_eq!(
            server.verdict(Probed::RaceIfMatch),
            Verdict::UnsafeForSeveral
        );
        assert_eq!(server.verdict(Probed::PutNew), Verdict::Good);
    }

    #[test]
    fn a_server_whose_lists_lag_is_refused_for_several_writers() {
        let server = Server::new();
        server.memory.set_quirks(Quirks {
            list_lag: 1,
            ..Quirks::default()
        });
        assert_eq!(
            server.verdict(Probed::ListAfterWrite),
            Verdict::UnsafeForSeveral
        );
        assert!(server.report().refusal().is_some());
    }

    #[test]
    fn keys_that_may_not_write_are_named_and_nothing_more_is_tried() {
        let server = Server::new();
        server.way.choose(|_, _| Some(Fate::DieBefore));
        let report = server.report();
        assert_eq!(
            (report.findings.len(), report.worst()),
            (1, Verdict::Unusable)
        );
        assert!(report.refusal().unwrap().starts_with("bucket and keys: "));
    }

    #[test]
    fn what_everybody_sees_is_judged_and_never_a_reason_to_refuse() {
        let private = Server {
            shows_all: false,
            ..Server::new()
        };
        assert_eq!(private.verdict(Probed::PublicRead), Verdict::Worse);
        assert_eq!(private.report().refusal(), None);

        let config = artifact_store::bucket::Key::new("config").unwrap();
        private.memory.damage(&config, Some(bytes::Bytes::new()));
        assert_eq!(private.verdict(Probed::PublicRead), Verdict::Good);
        assert_eq!(private.verdict(Probed::PublicMissing), Verdict::Worse);
        assert_eq!(private.verdict(Probed::PrivateHidden), Verdict::Good);

        let open = Server::new();
        assert_eq!(open.verdict(Probed::PublicMissing), Verdict::Good);
        assert_eq!(open.verdict(Probed::PrivateHidden), Verdict::Worse);
    }

    #[test]
    fn a_clock_that_is_off_is_named() {
        let server = Server {
            skew: 61,
            ..Server::new()
        };
        assert_eq!(server.verdict(Probed::Clock), Verdict::Worse);
        assert_eq!(
            Server {
                skew: 60,
                ..Server::new()
            }
            .verdict(Probed::Clock),
            Verdict::Good
        );
    }

    #[test]
    fn a_refused_upload_and_a_missing_deletion_make_the_server_unusable() {
        let server = Server::new();
        server.way.choose(|_, request| {
            matches!(request, Request::BeginUpload { .. }).then_some(Fate::Unsent)
        });
        assert_eq!(server.verdict(Probed::Uploads), Verdict::Unusable);
        assert!(server.report().refusal().is_some());
    }
}
