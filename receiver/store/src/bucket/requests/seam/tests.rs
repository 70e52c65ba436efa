use super::*;

#[test]
fn a_key_is_a_clean_path_of_printable_ascii() {
    let longest = "k".repeat(Key::LEN_MAX);
    for good in [
        "config",
        "refs/heads/a/b.c",
        "objects/00/11.filez",
        &longest,
    ] {
        assert_eq!(Key::new(good).unwrap().as_str(), good);
    }
    let too_long = "k".repeat(Key::LEN_MAX + 1);
    for bad in [
        "", "/", "/a", "a/", "a//b", ".", "a/./b", "..", "a/..", "a b", "a\n", "\u{e4}", &too_long,
    ] {
        assert!(Key::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn only_requests_whose_second_execution_changes_nothing_are_repeatable() {
    let key = Key::new("k").unwrap();
    let put = |condition| Request::Put {
        key: key.clone(),
        content: Bytes::new(),
        condition,
        class: Class::Object,
    };
    assert!(put(Condition::Always).is_repeatable());
    assert!(!put(Condition::New).is_repeatable());
    assert!(!put(Condition::Is(Tag::new("\"t\""))).is_repeatable());
    assert_eq!(Tag::new("\"t\"").as_str(), "t");
}
