//! Claims about every bucket, whether in memory or on a server. Each claim begins with an empty
//! bucket.

use std::thread;

use artifact_store::bucket::{
    Answer, BucketError, Class, Client, Clock, Condition, Key, LIST_MAX, Outcome, Read, Request,
    SystemClock, Tag, Upload, Window,
};
use bytes::Bytes;

pub(super) const ALL: [fn(&Client); 7] = [
    a_put_takes_place_on_its_condition_alone,
    of_many_puts_of_a_new_key_one_takes_place,
    a_list_moved_by_compare_and_swap_loses_nothing,
    a_read_gives_what_was_put_or_the_part_asked_for,
    a_list_is_in_order_and_by_pages,
    an_upload_becomes_an_object_once_and_only_when_complete,
    many_puts_go_at_once_and_are_deleted_by_the_thousand,
];

fn a_put_takes_place_on_its_condition_alone(client: &Client) {
    let name = "refs/heads/a.b/c-1";
    let content = |name: &str| client.get(&key(name)).unwrap().unwrap().content;
    let Outcome::Stored(first) = put(client, name, "1", Condition::New) else {
        panic!("the put of a new key was refused");
    };
    assert_eq!(put(client, name, "2", Condition::New), Outcome::NotMet);
    let known = || Condition::Is(first.clone());
    assert_eq!(put(client, "absent", "2", known()), Outcome::NotMet);
    assert_eq!(put(client, name, "2", unknown()), Outcome::NotMet);
    assert_eq!(put(client, "absent", "2", unknown()), Outcome::NotMet);
    assert_eq!(content(name), "1");
    let Outcome::Stored(second) = put(client, name, "2", known()) else {
        panic!("the put over a known tag was refused");
    };
    assert_eq!(put(client, name, "3", known()), Outcome::NotMet);
    let found = client.get(&key(name)).unwrap().unwrap();
    assert_eq!((found.content.as_ref(), &found.tag), (&b"2"[..], &second));
    assert!(found.modified.abs_diff(SystemClock.wall()) < 60);
    let read = |tag| client.read(&key(name), Some(tag)).unwrap();
    assert_eq!(read(second), Read::Unchanged);
    assert!(matches!(read(first.clone()), Read::Found(_)));
}

fn of_many_puts_of_a_new_key_one_takes_place(client: &Client) {
    for round in 0..20 {
        let name = format!("key-{round}");
        let outcomes: Vec<_> = thread::scope(|scope| {
            let name = &name;
            let racers: Vec<_> = (0..8)
                .map(|racer: u32| scope.spawn(move || try_put(client, name, racer, Condition::New)))
                .collect();
            let outcomes = racers.into_iter().map(|racer| racer.join().unwrap());
            outcomes.collect()
        });
        let held = client.get(&key(&name)).unwrap().unwrap().content;
        for (racer, outcome) in outcomes.into_iter().enumerate() {
            let has_won = held == racer.to_string();
            match outcome {
                Ok(Outcome::Stored(_)) => assert!(has_won, "{racer} of {held:?}"),
                Ok(Outcome::NotMet) => assert!(!has_won, "{racer}"),
                // Ceph's gateway answers with 500 to some.
                Err(error) => assert!(matches!(error, BucketError::Unclear(_)), "{error}"),
            }
        }
    }
}

fn a_list_moved_by_compare_and_swap_loses_nothing(client: &Client) {
    put(client, "list", "", Condition::New);
    let read = || {
        let found = client.get(&key("list")).unwrap().unwrap();
        let list = std::str::from_utf8(&found.content).unwrap().to_owned();
        (list, found.tag)
    };
    let items = |racer: u32| (0..25).map(move |item| format!("{racer}-{item} "));
    thread::scope(|scope| {
        for racer in 0..8 {
            scope.spawn(move || {
                for item in items(racer) {
                    loop {
                        let (list, tag) = read();
                        // A put whose answer is unclear may have taken place.
                        if list.contains(&item) {
                            break;
                        }
                        let moved = try_put(client, "list", list + &item, Condition::Is(tag));
                        match moved {
                            Ok(Outcome::Stored(_)) => break,
                            Ok(Outcome::NotMet) | Err(BucketError::Unclear(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
    });
    let (list, _) = read();
    let mut found: Vec<_> = list.split_inclusive(' ').collect();
    let mut all: Vec<_> = (0..8).flat_map(items).collect();
    found.sort_unstable();
    all.sort_unstable();
    assert_eq!(found, all);
}

fn a_read_gives_what_was_put_or_the_part_asked_for(client: &Client) {
    assert_eq!(client.get(&key("absent")), Ok(None));
    put(client, "empty", "", Condition::Always);
    assert_eq!(client.get(&key("empty")).unwrap().unwrap().content, "");
    put(client, "digits", "0123456789", Condition::Always);
    let range = |from, most| client.get_range(&key("digits"), from, most).unwrap();
    assert_eq!(range(2, 3).unwrap().content, "234");
    assert_eq!(range(8, 10).unwrap().content, "89");
    assert_eq!(range(10, 10).unwrap().content, "");
    assert_eq!(client.get_range(&key("absent"), 0, 1), Ok(None));
}

fn a_list_is_in_order_and_by_pages(client: &Client) {
    for name in ["a/3", "a/1", "b", "a/2", "a.b/c-1", "a/10"] {
        put(client, name, name, Condition::Always);
    }
    let names = |prefix: &str, after: Option<&str>, most| -> (Vec<String>, bool) {
        let listed = client.list(prefix, after.map(key), most).unwrap();
        let names = listed.entries.iter().map(|entry| entry.key.to_string());
        (names.collect(), listed.more)
    };
    let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    let below = owned(&["a/1", "a/10", "a/2", "a/3"]);
    assert_eq!(names("a/", None, LIST_MAX), (below, false));
    assert_eq!(names("a.", None, 9), (owned(&["a.b/c-1"]), false));
    let (all, more) = names("", None, LIST_MAX);
    assert_eq!((all.len(), more), (6, false));
    assert_eq!(names("a", None, 1), (owned(&["a.b/c-1"]), true));
    let rest = owned(&["a/2", "a/3"]);
    assert_eq!(names("a", Some("a/10"), LIST_MAX), (rest, false));
    let found = client.list_all("a").unwrap();
    assert_eq!(found.len(), 5);
}

fn an_upload_becomes_an_object_once_and_only_when_complete(client: &Client) {
    let part = |upload: &Upload, number, content: Bytes| {
        let upload = upload.clone();
        let request = Request::PutPart {
            upload,
            number,
            content,
        };
        client.call(&request)
    };
    let put_part = |upload: &Upload, number, content| match part(upload, number, content) {
        Ok(Answer::Part(tag)) => tag,
        other => panic!("{other:?}"),
    };
    let upload = client.begin_upload(&key("big"), Class::Object).unwrap();
    let second = put_part(&upload, 2, Bytes::from_static(b"end"));
    let first = put_part(&upload, 1, Bytes::from(vec![b'x'; PART_LEN]));
    assert_eq!(client.get(&key("big")), Ok(None));
    let turned = [second.clone(), first.clone()];
    assert!(client.complete_upload(&upload, &turned).is_err());
    client.complete_upload(&upload, &[first, second]).unwrap();
    let found = client.get(&key("big")).unwrap().unwrap();
    assert_eq!(found.content.len(), PART_LEN + 3);
    let end = client.get_range(&key("big"), PART_LEN as u64 - 1, 9);
    assert_eq!(end.unwrap().unwrap().content, "xend");

    let small = client.begin_upload(&key("small"), Class::Object).unwrap();
    let tags = [1, 2].map(|number| put_part(&small, number, Bytes::from_static(b"x")));
    let refused = client.complete_upload(&small, &tags);
    assert!(
        matches!(refused, Err(BucketError::Broken(_))),
        "{refused:?}"
    );
    client.abort_upload(&small).unwrap();
    client.abort_upload(&small).unwrap();
    assert_eq!(part(&small, 3, Bytes::new()), Ok(Answer::Absent));
    let tags = [Tag::new("00000000000000000000000000000000")];
    assert!(client.complete_upload(&small, &tags).is_err());
    assert_eq!(client.list_all("").unwrap().len(), 1);
}

fn many_puts_go_at_once_and_are_deleted_by_the_thousand(client: &Client) {
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
    remove_all(client);
}

pub(super) fn remove_all(client: &Client) {
    let entries = client.list_all("").unwrap();
    let keys: Vec<Key> = entries.into_iter().map(|entry| entry.key).collect();
    client.delete(&keys).unwrap();
    assert_eq!(client.list_all("").unwrap(), []);
}

pub(super) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn put(client: &Client, name: &str, content: &str, condition: Condition) -> Outcome {
    try_put(client, name, content, condition).unwrap()
}

fn try_put(
    client: &Client,
    name: &str,
    content: impl ToString,
    condition: Condition,
) -> Result<Outcome, BucketError> {
    let content = Bytes::from(content.to_string());
    client.put(&key(name), content, condition, Class::Current)
}

fn unknown() -> Condition {
    Condition::Is(Tag::new("00000000000000000000000000000000"))
}

/// The least length of a part that is not the last.
const PART_LEN: usize = 5 << 20;
