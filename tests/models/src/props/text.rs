//! Text of strangers: names are safe to use as paths, everything else is safe to print.

use std::path::{Component, Path};

use artifact_formats::limits::MAX_REF_LEN;
use artifact_formats::{RefName, RefPattern};
use artifact_protocol::escape;

/// The claims below, for bytes that need not be text. A line end separates a pattern from a name.
pub fn text_of_a_stranger_is_harmless(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    a_ref_name_is_a_safe_path(&text);
    escaped_text_is_harmless(&text);
    if let Some((pattern, name)) = text.split_once('\n') {
        a_pattern_binds_whole_components(pattern, name);
    }
}

/// The claim: a pattern matches as the plainest matcher does; one without a star matches only
/// itself.
pub fn a_pattern_binds_whole_components(text: &str, name: &str) {
    let Ok(pattern) = text.parse::<RefPattern>() else {
        return;
    };
    assert_eq!(pattern.as_str(), text);
    if !text.contains('*') {
        assert_eq!(pattern.matches(name), text == name);
        assert!(pattern.matches(text));
    }
    let mut components: Vec<&str> = text.split('/').collect();
    if components.last() == Some(&"**") {
        // At least one component must follow.
        components.insert(components.len() - 1, "*");
    }
    let names: Vec<&str> = name.split('/').collect();
    // The plainest matcher takes for ever on long names.
    if text.matches('*').count() <= 6 && name.len() <= 30 {
        let plainly = is_of_components(&components, &names);
        assert_eq!(pattern.matches(name), plainly, "{text:?} of {name:?}");
    }
}

fn is_of_components(pattern: &[&str], names: &[&str]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => {
            (0..=names.len()).any(|skipped| is_of_components(rest, &names[skipped..]))
        }
        (Some((first, rest)), Some((name, names))) => {
            is_of_component(first.as_bytes(), name.as_bytes()) && is_of_components(rest, names)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn is_of_component(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            (0..=name.len()).any(|skipped| is_of_component(rest, &name[skipped..]))
        }
        (Some((first, rest)), Some((byte, name))) => first == byte && is_of_component(rest, name),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// The claim: an accepted ref name is a path of plain components, spelled as given, in few bytes.
pub fn a_ref_name_is_a_safe_path(text: &str) {
    let Ok(name) = text.parse::<RefName>() else {
        return;
    };
    assert_eq!(name.as_str(), text, "a ref name is kept as it was given");
    assert!(text.is_ascii() && text.len() <= MAX_REF_LEN);
    let plain: Vec<&str> = Path::new(text)
        .components()
        .map(|component| match component {
            Component::Normal(part) => part.to_str().expect("it is ASCII"),
            other => unreachable!("{text:?} has the component {other:?}"),
        })
        .collect();
    assert_eq!(
        plain.join("/"),
        text,
        "a path is the same whether normalized or not"
    );
    assert!(name.components().eq(plain));
}

/// Escaped text cannot move a cursor, change a colour, or hide or reorder what stands beside it.
pub fn escaped_text_is_harmless(text: &str) {
    for character in escape(text).chars() {
        let code = u32::from(character);
        let unseen = [
            0x200b..=0x200f,
            0x2028..=0x202e,
            0x2060..=0x206f,
            0xfeff..=0xfeff,
        ];
        assert!(
            !character.is_control() && !unseen.iter().any(|range| range.contains(&code)),
            "{text:?} leaves {character:?}"
        );
    }
}
