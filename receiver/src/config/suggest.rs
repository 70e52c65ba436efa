//! Names what a misspelt key or value was meant to be.

use artifact_formats::nearest;

/// Replaces the list of all that was expected by the one that is nearest to what was written.
pub(super) fn suggest(message: &str) -> String {
    let begins = ["unknown field `", "unknown variant `"];
    if !begins.iter().any(|begin| message.starts_with(begin)) {
        return message.to_owned();
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let written = names.next().unwrap_or_default();
    match (nearest(written, names), message.split_once(',')) {
        (Some(name), Some((unknown, _))) => format!("{unknown}: did you mean `{name}`?"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_name_is_suggested() {
        let list = "expected one of `limits`, `audit`, `summary`";
        assert_eq!(
            suggest(&format!("unknown field `limit`, {list}")),
            "unknown field `limit`: did you mean `limits`?"
        );
        assert_eq!(
            suggest(&format!("unknown variant `adit`, {list}")),
            "unknown variant `adit`: did you mean `audit`?"
        );
        for message in [
            format!("unknown field `colour`, {list}"),
            "missing field `name`".to_owned(),
            "unknown field `x`".to_owned(),
        ] {
            assert_eq!(suggest(&message), message);
        }
    }
}
