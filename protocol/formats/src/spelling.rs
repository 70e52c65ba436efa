//! Finds what a misspelt word was meant to be.

/// Returns the name that is nearest to what somebody wrote, if one is near.
pub fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &&str| strsim::damerau_levenshtein(written, name);
    let nearest = names.into_iter().min_by_key(distance);
    // One mistake in three letters: beyond that, another word was meant.
    nearest.filter(|name| distance(name) <= written.chars().count().div_ceil(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_name_is_found() {
        let names = ["limits", "audit", "summary"];
        assert_eq!(nearest("limit", names), Some("limits"));
        assert_eq!(nearest("adit", names), Some("audit"));
        assert_eq!(nearest("colour", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest("limit", []), None);
    }
}
