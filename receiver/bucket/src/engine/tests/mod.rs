//! Against a real server: `AWS_ENDPOINT_URL` and the keys say which, as `tests/bucket/ceph up`
//! prints them. The bucket `engine` must be there.

use std::sync::Arc;

use artifact_store::bucket::{
    Answer, Bucket, BucketError, Class, Client, Clock, Condition, Key, LIST_MAX, Outcome, Read,
    Request, SystemClock, Tag, Upload, Window,
};
use bytes::Bytes;

use super::*;
use crate::probe::{Subject, Verdict, probe};

fn settings(prefix: &str) -> Settings {
    let id = std::process::id();
    let address = format!("s3://engine/{prefix}-{id}");
    Settings::new(address.parse().unwrap())
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
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

fn remove_all(client: &Client) {
    let entries = client.list_all("").unwrap();
    let keys: Vec<Key> = entries.into_iter().map(|entry| entry.key).collect();
    client.delete(&keys).unwrap();
    assert_eq!(client.list_all("").unwrap(), []);
}

#[test]
#[ignore = "needs a server: tests/bucket/ceph up"]
fn every_request_does_on_a_server_what_it_does_in_memory() {
    let client = client("requests", TagForm::Bare);
    let put = |name: &str, content: &'static str, condition| {
        client.put(
            &key(name),
            Bytes::from_static(content.as_bytes()),
            condition,
            Class::Current,
        )
    };
    assert_eq!(client.get(&key("absent")), Ok(None));
    let Ok(Outcome::Stored(first)) = put("refs/heads/a.b/c-1", "1", Condition::New) else {
        panic!("the put of a new key was refused");
    };
    assert_eq!(
        put("refs/heads/a.b/c-1", "2", Condition::New),
        Ok(Outcome::NotMet)
    );
    assert_eq!(
        put("absent", "2", Condition::Is(first.clone())),
        Ok(Outcome::NotMet)
    );
    let Ok(Outcome::Stored(second)) = put("refs/heads/a.b/c-1", "2", Condition::Is(first.clone()))
    else {
        panic!("the put over a known tag was refused");
    };
    let stale = Condition::Is(first.clone());
    assert_eq!(put("refs/heads/a.b/c-1", "3", stale), Ok(Outcome::NotMet));
    let found = client.get(&key("refs/heads/a.b/c-1")).unwrap().unwrap();
    assert_eq!((found.content.as_ref(), &found.tag), (&b"2"[..], &second));
    assert!(found.modified.abs_diff(SystemClock.wall()) < 60);
    let read = |tag| client.read(&key("refs/heads/a.b/c-1"), Some(tag)).unwrap();
    assert_eq!(read(second), Read::Unchanged);
    assert!(matches!(read(first), Read::Found(_)));

    put("empty", "", Condition::Always).unwrap();
    assert_eq!(client.get(&key("empty")).unwrap().unwrap().content, "");
    put("refs/heads/b", "0123456789", Condition::Always).unwrap();
    let range = |from, most| client.get_range(&key("refs/heads/b"), from, most).unwrap();
    assert_eq!(range(2, 3).unwrap().content, "234");
    assert_eq!(range(8, 10).unwrap().content, "89");
    assert_eq!(range(10, 10).unwrap().content, "");
    assert_eq!(client.get_range(&key("absent"), 0, 1), Ok(None));

    let names = |prefix: &str, after: Option<&str>, most| -> (Vec<String>, bool) {
        let listed = client.list(prefix, after.map(key), most).unwrap();
        let names = listed.entries.iter().map(|entry| entry.key.to_string());
        (names.collect(), listed.more)
    };
    let (all, more) = names("", None, LIST_MAX);
    assert_eq!((all.len(), more), (3, false));
    assert_eq!(names("refs/heads/a", None, 9).0, ["refs/heads/a.b/c-1"]);
    assert_eq!(
        names("refs/", None, 1),
        (vec!["refs/heads/a.b/c-1".to_owned()], true)
    );
    assert_eq!(
        names("refs/", Some("refs/heads/a.b/c-1"), 9).0,
        ["refs/heads/b"]
    );
    remove_all(&client);
}

#[test]
#[ignore = "needs a server: tests/bucket/ceph up"]
fn an_upload_on_a_server_is_visible_only_when_complete() {
    let client = client("uploads", TagForm::Bare);
    let part = |upload: &Upload, number, content: Bytes| {
        let upload = upload.clone();
        match client
            .call(&Request::PutPart {
                upload,
                number,
                content,
            })
            .unwrap()
        {
            Answer::Part(tag) => tag,
            other => panic!("{other:?}"),
        }
    };
    let upload = client.begin_upload(&key("big"), Class::Object).unwrap();
    let first = part(&upload, 1, Bytes::from(vec![b'x'; 5 << 20]));
    let second = part(&upload, 2, Bytes::from_static(b"end"));
    assert_eq!(client.get(&key("big")), Ok(None));
    client.complete_upload(&upload, &[first, second]).unwrap();
    let found = client.get(&key("big")).unwrap().unwrap();
    assert_eq!(found.content.len(), (5 << 20) + 3);
    let upload = client.begin_upload(&key("aborted"), Class::Object).unwrap();
    part(&upload, 1, Bytes::from_static(b"x"));
    client.abort_upload(&upload).unwrap();
    client.abort_upload(&upload).unwrap();
    let late = Request::PutPart {
        upload: upload.clone(),
        number: 2,
        content: Bytes::new(),
    };
    assert_eq!(client.call(&late), Ok(Answer::Absent));
    let tags = [Tag::new("00000000000000000000000000000000")];
    assert!(client.complete_upload(&upload, &tags).is_err());
    remove_all(&client);
}

#[test]
#[ignore = "needs a server: tests/bucket/ceph up"]
fn many_puts_go_at_once_and_are_deleted_by_the_thousand() {
    let client = client("many", TagForm::Bare);
    let window = Window::new(client.clone());
    let keys: Vec<Key> = (0..1500).map(|n| key(&format!("objects/{n:04}"))).collect();
    for (number, key) in keys.iter().enumerate() {
        let content = Bytes::from(number.to_string());
        window.put(key.clone(), content, Class::Object).unwrap();
    }
    window.settle().unwrap();
    assert_eq!(client.list_all("objects/").unwrap().len(), 1500);
    let found = window.get_all(&keys[..100]).unwrap();
    for (number, found) in found.into_iter().enumerate() {
        assert_eq!(found.unwrap().content, number.to_string());
    }
    remove_all(&client);
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
