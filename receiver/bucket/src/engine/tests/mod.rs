//! Tests of the [`claims`] that every bucket meets, and of the engine against a real server.
//!
//! `tests/bucket/ceph up` starts a server, and prints the variables that the tests against it need:
//! `AWS_ENDPOINT_URL` and the keys. The bucket `engine` must exist.

mod claims;

use std::sync::Arc;

use artifact_store::bucket::{
    Bucket, BucketError, Class, Client, Clock, Condition, ManualClock, Memory, Quirks, SystemClock,
};
use bytes::Bytes;

use super::*;
use crate::engine::tests::claims::{key, remove_all};
use crate::probe::{Subject, Verdict, probe};

fn settings(prefix: &str) -> Settings {
    let id = std::process::id();
    let address = format!("s3://engine/{prefix}-{id}");
    Settings::new(address.parse().unwrap())
}

/// Asks a server with the given form of tags.
fn client(prefix: &str, tags: TagForm) -> Client {
    let settings = Settings {
        tags,
        ..settings(prefix)
    };
    let engine = Engine::new(&settings).unwrap();
    Client::new(Arc::new(engine), Arc::new(SystemClock))
}

#[test]
fn a_bucket_in_memory_does_what_every_bucket_does() {
    for claim in claims::ALL {
        let memory = Memory::new();
        memory.set_now(SystemClock.wall());
        memory.set_quirks(Quirks {
            part_min: 5 << 20,
            ..Quirks::default()
        });
        let clock = Arc::new(ManualClock::default());
        claim(&Client::new(Arc::new(memory.clone()), clock));
        assert_eq!(memory.open_uploads(), 0);
    }
}

#[test]
#[ignore = "needs a server: tests/bucket/ceph up"]
fn a_server_does_what_every_bucket_does() {
    for (number, claim) in claims::ALL.into_iter().enumerate() {
        let client = client(&format!("claim-{number}"), TagForm::Bare);
        claim(&client);
        remove_all(&client);
    }
}

#[test]
#[ignore = "needs a server: tests/bucket/ceph up"]
fn wrong_keys_and_a_missing_bucket_are_told_apart_from_a_missing_key() {
    let nowhere = Settings::new("s3://no-such-bucket-here/x".parse().unwrap());
    let missing = Client::new(
        Arc::new(Engine::new(&nowhere).unwrap()),
        Arc::new(SystemClock),
    );
    let error = missing.get(&key("config")).unwrap_err();
    assert!(
        matches!(&error, BucketError::Refused(text) if text.contains("bucket")),
        "{error}"
    );
    let anonymous = Settings {
        anonymous: true,
        ..settings("anonymous")
    };
    let engine = Engine::new(&anonymous).unwrap();
    let anonymous = Client::new(Arc::new(engine), Arc::new(SystemClock));
    let put = anonymous.put(&key("k"), Bytes::new(), Condition::Always, Class::Object);
    assert!(matches!(put, Err(BucketError::Refused(_))), "{put:?}");
}

#[test]
#[ignore = "needs a server: tests/bucket/ceph up"]
fn a_server_that_is_not_there_is_busy_and_one_that_hangs_up_is_unclear() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = settings("none");
    settings.reach.endpoint = Some(format!("http://{address}"));
    let client = Client::new(
        Arc::new(Engine::new(&settings).unwrap()),
        Arc::new(SystemClock),
    );
    let client = client.with_patience(std::time::Duration::ZERO);
    let hangs_up = thread::spawn(move || {
        for _ in 0..1 {
            let (stream, _) = listener.accept().unwrap();
            let mut begin = [0; 1];
            let _ = std::io::Read::read(&mut &stream, &mut begin);
        }
    });
    let error = client.get(&key("k")).unwrap_err();
    assert!(matches!(error, BucketError::Unclear(_)), "{error:?}");
    hangs_up.join().unwrap();
    let error = client.get(&key("k")).unwrap_err();
    assert!(matches!(error, BucketError::Busy(_)), "{error:?}");
}

/// A server to probe.
struct Real(Settings);

impl Subject for Real {
    fn bucket(&self, tags: TagForm) -> Arc<dyn Bucket> {
        let settings = Settings {
            tags,
            ..self.0.clone()
        };
        Arc::new(Engine::new(&settings).unwrap())
    }

    fn anonymous(&self) -> Option<Arc<dyn Bucket>> {
        let settings = Settings {
            anonymous: true,
            ..self.0.clone()
        };
        Some(Arc::new(Engine::new(&settings).unwrap()))
    }

    fn server_time(&self) -> Option<u64> {
        Some(SystemClock.wall())
    }
}

#[test]
#[ignore = "needs a server: tests/bucket/ceph up"]
fn a_server_with_conditional_writes_is_good_for_several_writers() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let report = probe(&Real(settings("probe")), &clock, "p");
    for finding in &report.findings {
        println!("{finding:?}");
    }
    println!("{:?}", report.tags);
    assert_eq!(report.refusal(), None);
    assert_ne!(report.worst(), Verdict::Unusable);
}
