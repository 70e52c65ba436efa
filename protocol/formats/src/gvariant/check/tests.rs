use proptest::prelude::*;

use super::*;
use crate::gvariant::{array, tuple, variant};

/// A value of the type `kind`, made from the bytes of `seed`.
fn make(kind: &Type, seed: &mut impl Iterator<Item = u8>) -> Vec<u8> {
    let mut next = || seed.next().unwrap_or_default();
    let count = usize::from(next() % 4);
    match &kind.form {
        Form::Number => vec![next(); kind.layout.fixed.unwrap()],
        Form::Bool => vec![next() % 2],
        Form::String => [vec![b'a'; usize::from(next())], vec![0]].concat(),
        Form::ObjectPath => b"/a/b\0".to_vec(),
        Form::Signature => b"a{sv}(u)\0".to_vec(),
        Form::Variant => {
            let held = ["y", "as", "(yt)", "mx", "a{sv}", "()", "ms"][usize::from(next() % 7)];
            variant(held, &make(&Type::parse(held.as_bytes(), 0).unwrap(), seed))
        }
        Form::Maybe(_) if count == 0 => vec![],
        Form::Maybe(inner) => present(inner, make(inner, seed)),
        Form::Array(element) => {
            let values: Vec<_> = (0..count).map(|_| make(element, seed)).collect();
            array(element.layout, values)
        }
        Form::Tuple(members) => {
            let values: Vec<_> = members.iter().map(|member| make(member, seed)).collect();
            join(members, &values)
        }
    }
}

/// Splits a value and joins it again.
fn rebuild(kind: &Type, data: &[u8]) -> Vec<u8> {
    match &kind.form {
        Form::Variant => {
            let (held, value) = check_variant(data, 0).unwrap();
            let held_type = Type::parse(held, 0).unwrap();
            variant(str::from_utf8(held).unwrap(), &rebuild(&held_type, value))
        }
        Form::Maybe(_) if data.is_empty() => vec![],
        Form::Maybe(inner) if inner.layout.fixed.is_some() => rebuild(inner, data),
        Form::Maybe(inner) => present(inner, rebuild(inner, &data[..data.len() - 1])),
        Form::Array(element) => {
            let values = split_array(element.layout, data).unwrap();
            array(
                element.layout,
                values.iter().map(|value| rebuild(element, value)),
            )
        }
        Form::Tuple(members) => {
            let mut values = Vec::new();
            let layouts = members.iter().map(|member| member.layout);
            split_tuple(layouts, data, |value| {
                values.push(rebuild(&members[values.len()], value));
                Ok(())
            })
            .unwrap();
            join(members, &values)
        }
        Form::Number | Form::Bool | Form::String | Form::ObjectPath | Form::Signature => {
            data.to_vec()
        }
    }
}

fn present(inner: &Type, mut value: Vec<u8>) -> Vec<u8> {
    if inner.layout.fixed.is_none() {
        value.push(0);
    }
    value
}

fn join(members: &[Type], values: &[Vec<u8>]) -> Vec<u8> {
    let values = values.iter().map(Vec::as_slice);
    tuple(
        &members
            .iter()
            .map(|member| member.layout)
            .zip(values)
            .collect::<Vec<_>>(),
    )
}

fn any_type() -> impl Strategy<Value = String> {
    let basic = "[ybnqiuxthdsogv]";
    basic.prop_recursive(4, 12, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| format!("a{inner}")),
            inner.clone().prop_map(|inner| format!("m{inner}")),
            ("[ybnqiuxthdsog]", inner.clone()).prop_map(|(k, v)| format!("{{{k}{v}}}")),
            prop::collection::vec(inner, 0..4).prop_map(|all| format!("({})", all.concat())),
        ]
    })
}

fn accepts(kind: &str, data: &[u8]) -> bool {
    check(kind, data).is_ok()
}

proptest! {
    #[test]
    fn what_is_written_is_accepted_and_what_is_accepted_is_what_would_be_written(
        kind in any_type(),
        seed in prop::collection::vec(any::<u8>(), 0..60),
        at in any::<prop::sample::Index>(),
        change in any::<u8>(),
        how in 0..4,
    ) {
        let parsed = Type::parse(kind.as_bytes(), 0).unwrap();
        let mut data = make(&parsed, &mut seed.into_iter());
        prop_assert_eq!(check(&kind, &data), Ok(()));
        prop_assert_eq!(&rebuild(&parsed, &data), &data);
        let at = at.index(data.len() + 1);
        match how {
            0 => data.truncate(at),
            1 => data.insert(at, change),
            2 if at < data.len() => { data.remove(at); }
            _ if at < data.len() => data[at] = change,
            _ => data.push(change),
        }
        if accepts(&kind, &data) {
            prop_assert_eq!(rebuild(&parsed, &data), data);
        }
    }

    #[test]
    fn any_bytes_of_any_type_are_judged(
        kind in any_type(),
        data in prop::collection::vec(prop_oneof![Just(0u8), 1..9u8, any::<u8>()], 0..40),
    ) {
        if accepts(&kind, &data) {
            let parsed = Type::parse(kind.as_bytes(), 0).unwrap();
            prop_assert_eq!(rebuild(&parsed, &data), data);
        }
    }

    #[test]
    fn any_text_as_a_type_is_judged(kind in "[a-z(){}]{0,12}", data: Vec<u8>) {
        let _ = check(&kind, &data);
    }
}

#[test]
fn types_that_are_none_are_refused() {
    for kind in [
        "", "a", "m", "(", ")", "(y", "{", "{s", "{sv", "{}", "{s}", "{svv}", "{vs}", "{(s)s}",
        "ss", "r", "*", "?", "a{?s}", "e", "()()",
    ] {
        assert!(!accepts(kind, &[]), "{kind}");
    }
}

#[test]
fn booleans_strings_paths_and_signatures_are_checked() {
    for (kind, good, bad) in [
        (
            "b",
            &[&b"\0"[..], b"\x01"][..],
            &[&b"\x02"[..], b"", b"\0\0"][..],
        ),
        ("ab", &[b"", b"\0\x01"], &[b"\0\x02"]),
        (
            "s",
            &[b"\0", "\u{e9}\0".as_bytes()],
            &[b"", b"a", b"\0\0", b"\xff\0"],
        ),
        (
            "o",
            &[b"/\0", b"/a/B_9\0"],
            &[b"\0", b"a\0", b"/a/\0", b"//\0", b"/-\0"],
        ),
        (
            "g",
            &[b"\0", b"sa{sv}\0"],
            &[b"a\0", b"m\0", b"ms\0", b"(\0", b"amy\0"],
        ),
        (
            "v",
            &[b"\0\0y", b"\0\0()"],
            &[b"", b"\0", b"\0y", b"\0\0", b"\0\0yy", b"\x01\0()"],
        ),
        ("()", &[b"\0"], &[b"", b"\x01", b"\0\0"]),
        ("my", &[b"", b"\x07"], &[b"\x07\0"]),
        ("ms", &[b"", b"\0\0"], &[b"\0", b"a\0"]),
    ] {
        for data in good {
            assert!(accepts(kind, data), "{kind} {data:?}");
        }
        for data in bad {
            assert!(!accepts(kind, data), "{kind} {data:?}");
        }
    }
}

#[test]
fn framing_offsets_are_of_the_least_width() {
    // 200 bytes of body and 40 offsets fit one-byte offsets. With two-byte offsets, the
    // container is 280 bytes long and could be read as well.
    let element = [b"aaaa", &b"\0"[..]].concat();
    let narrow = array(Layout::BYTES, vec![&element; 40]);
    assert_eq!(narrow.len(), 240);
    assert!(accepts("as", &narrow));
    let mut wide = element.repeat(40);
    wide.extend((1..=40u16).flat_map(|end| (end * 5).to_le_bytes()));
    assert!(!accepts("as", &wide));
    for len in [
        250, 251, 252, 253, 254, 255, 256, 257, 65_530, 65_533, 65_534, 65_536,
    ] {
        let text = [vec![b'x'; len], vec![0]].concat();
        assert!(accepts("as", &array(Layout::BYTES, [&text])));
        let pair = tuple(&[(Layout::BYTES, &text), (Layout::BYTES, &text)]);
        assert!(accepts("(ss)", &pair));
    }
}

#[test]
fn a_tuple_has_one_form() {
    let text = [vec![b'x'; 252], vec![0]].concat();
    // 254 bytes of body and one offset of one byte, or of two.
    assert!(accepts("(ss)", &[&text[..], b"\0\xfd"].concat()));
    assert!(!accepts("(ss)", &[&text[..], b"\0\xfd\0"].concat()));
    assert!(accepts("(sy)", b"a\0\x07\x02"));
    assert!(
        !accepts("(sy)", b"a\0\x07\0\x02"),
        "a byte before the offsets"
    );
    assert!(accepts("(yu)", b"\x01\0\0\0abcd"));
    assert!(
        !accepts("(yu)", b"\x01\0\x01\0abcd"),
        "padding between members"
    );
    assert!(
        !accepts("(uy)", b"abcd\x01\0\0\x01"),
        "padding after the last"
    );
}

#[test]
fn framing_offsets_rise_and_stay_inside() {
    assert!(accepts("aay", b"ab\x01\x02"));
    assert!(accepts("aay", b"ab\0\x02"));
    for bad in [
        &b"ab\x02\x01"[..],
        b"ab\x02\x01\x02",
        b"ab\x03\x02",
        b"ab\x05",
        b"ab\x03",
    ] {
        assert!(!accepts("aay", bad), "{bad:?}");
    }
    assert!(accepts("(ayayay)", b"ab\x02\x01"));
    assert!(!accepts("(ayayay)", b"ab\x01\x02"));
    assert!(!accepts("(ayayay)", b"ab\x03\x01"));
}

#[test]
fn a_type_of_a_variant_is_at_most_255_bytes_long() {
    let with_type = |len: usize| {
        let kind = format!("({})", "y".repeat(len - 2));
        variant(&kind, &vec![7; len - 2])
    };
    assert!(accepts("v", &with_type(MAX_TYPE_LEN)));
    assert!(!accepts("v", &with_type(MAX_TYPE_LEN + 1)));
}

#[test]
fn checking_takes_time_linear_in_the_length() {
    // Empty elements of a long type; each costs one byte.
    let kind = format!("aa(m({}))", "y".repeat(240));
    let data = array(Layout::variable(1), vec![[0u8; 0]; 200_000]);
    let empty = data.len();
    assert!(empty > 200_000);
    assert!(accepts(&kind, &data));
}
