//! What must hold of every input, whoever makes it up.
//!
//! The property tests of this package and the fuzz targets of `fuzz/` call the same functions, so a
//! finding of one is a regression test of the other. Each panics when its claim is false.

use std::path::{Component, Path};

use artifact_protocol::RefName;

/// A ref name that is accepted is a path of plain components, spelled as given, in few bytes.
pub fn ref_name_is_a_safe_path(text: &str) {
    let Ok(name) = text.parse::<RefName>() else {
        return;
    };
    assert_eq!(name.as_str(), text, "a ref name is kept as it was given");
    assert!(text.is_ascii() && text.len() <= artifact_protocol::limits::MAX_REF_LEN);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, proptest};

    proptest! {
        #[test]
        fn any_accepted_ref_name_is_a_safe_path(
            text in prop::string::string_regex("([a-c_.0/-]{0,3}(tmp|\\.|/|\\.\\.)?){0,6}").unwrap(),
            wild in ".{0,40}",
        ) {
            ref_name_is_a_safe_path(&text);
            ref_name_is_a_safe_path(&wild);
        }
    }
}
