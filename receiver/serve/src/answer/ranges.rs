//! Decides which part of a file to send: conditions and single ranges (RFC 9110, 13 and 14).
//!
//! Pure functions of headers. A request for several ranges gets the whole file, which the RFC
//! allows: no puller sends one, and such requests have been used to make servers work for nothing.

use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use hyper::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};

use crate::repository::Validators;

/// The kind of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 200: the whole file.
    Whole,
    /// 206: from the first of these bytes to the last, both included.
    Part(u64, u64),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416: the range contains no byte of the file.
    Unsatisfiable,
}

/// Decides on the answer; `ranges` tells whether the method may request a part.
pub(crate) fn decide(
    headers: &HeaderMap,
    file: &Validators,
    ranges: bool,
    now: SystemTime,
) -> Outcome {
    if let Some(tags) = list(headers, &IF_MATCH) {
        if !matches(&tags, &file.tag, true) {
            return Outcome::PreconditionFailed;
        }
    } else if date(headers, &IF_UNMODIFIED_SINCE).is_some_and(|since| file.modified > since) {
        return Outcome::PreconditionFailed;
    }
    if let Some(tags) = list(headers, &IF_NONE_MATCH) {
        if matches(&tags, &file.tag, false) {
            return Outcome::NotModified;
        }
    } else if date(headers, &IF_MODIFIED_SINCE).is_some_and(|since| file.modified <= since) {
        return Outcome::NotModified;
    }
    match range(headers) {
        Some(range) if ranges && is_the_same(headers, file, now) => range.within(file.len),
        _ => Outcome::Whole,
    }
}

/// A requested range.
#[derive(Clone, Copy)]
enum Range {
    From(u64),
    Between(u64, u64),
    Last(u64),
}

impl Range {
    fn within(self, len: u64) -> Outcome {
        let Some(end) = len.checked_sub(1) else {
            return Outcome::Unsatisfiable;
        };
        match self {
            Self::From(first) if first <= end => Outcome::Part(first, end),
            Self::Between(first, last) if first <= end => Outcome::Part(first, last.min(end)),
            Self::Last(count) if count > 0 => Outcome::Part(len.saturating_sub(count), end),
            Self::From(_) | Self::Between(..) | Self::Last(_) => Outcome::Unsatisfiable,
        }
    }
}

/// Reads the single range of a request; a malformed one, or several, count as none.
fn range(headers: &HeaderMap) -> Option<Range> {
    let (unit, range) = single(headers, &RANGE)?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match range.trim().split_once('-')? {
        ("", count) => Some(Range::Last(number(count)?)),
        (first, "") => Some(Range::From(number(first)?)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Range::Between(first, last))
        }
    }
}

/// A number with too many digits is beyond the end of every file.
fn number(digits: &str) -> Option<u64> {
    let digits_only = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits_only.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Returns whether the range applies to this file: `If-Range` is absent, or matches it.
fn is_the_same(headers: &HeaderMap, file: &Validators, now: SystemTime) -> bool {
    if !headers.contains_key(&IF_RANGE) {
        return true;
    }
    let Some(value) = single(headers, &IF_RANGE) else {
        return false;
    };
    if value.starts_with('"') {
        return value == file.tag;
    }
    // A date is as good as a tag once the file cannot have changed again within its second.
    let old = now.duration_since(file.modified).unwrap_or_default() > Duration::from_secs(1);
    old && httpdate::parse_http_date(value).is_ok_and(|date| date == file.modified)
}

/// Returns the value of a header that occurs once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.trim())
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(single(headers, name)?).ok()
}

/// Returns the members of a list, over all headers of this name.
fn list(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    let values = values.filter_map(|value| value.to_str().ok());
    // No tag of ours contains a comma: a tag that is cut in two matches nothing, as it should.
    let members = values.flat_map(|value| value.split(','));
    Some(members.map(|member| member.trim().to_owned()).collect())
}

/// Returns whether a list contains a tag; `strong` ignores weak ones.
fn matches(members: &[String], tag: &str, strong: bool) -> bool {
    members.iter().any(|member| {
        let plain = member.strip_prefix("W/").filter(|_| !strong);
        member == "*" || plain.unwrap_or(member) == tag
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const DATE: &str = "Thu, 26 Nov 2026 12:00:00 GMT";
    const EARLIER: &str = "Thu, 26 Nov 2026 11:59:59 GMT";

    fn file(len: u64) -> Validators {
        Validators {
            tag: "\"a-1\"".to_owned(),
            modified: httpdate::parse_http_date(DATE).unwrap(),
            len,
        }
    }

    fn decided(len: u64, lines: &[(&HeaderName, &str)]) -> Outcome {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let file = file(len);
        let now = file.modified + Duration::from_secs(60);
        decide(&headers, &file, true, now)
    }

    #[test]
    fn conditions_are_judged_in_the_order_of_the_rfc() {
        let cases: &[(&[(&HeaderName, &str)], Outcome)] = &[
            (&[(&IF_NONE_MATCH, "\"a-1\"")], Outcome::NotModified),
            (
                &[(&IF_NONE_MATCH, "\"x\", W/\"a-1\"")],
                Outcome::NotModified,
            ),
            (&[(&IF_NONE_MATCH, "*")], Outcome::NotModified),
            (&[(&IF_NONE_MATCH, "\"b\"")], Outcome::Whole),
            (
                &[(&IF_NONE_MATCH, "\"b\""), (&IF_MODIFIED_SINCE, DATE)],
                Outcome::Whole,
            ),
            (&[(&IF_MODIFIED_SINCE, DATE)], Outcome::NotModified),
            (&[(&IF_MODIFIED_SINCE, EARLIER)], Outcome::Whole),
            (&[(&IF_MODIFIED_SINCE, "yesterday")], Outcome::Whole),
            (&[(&IF_MATCH, "\"a-1\"")], Outcome::Whole),
            (&[(&IF_MATCH, "W/\"a-1\"")], Outcome::PreconditionFailed),
            (&[(&IF_MATCH, "\"b\"")], Outcome::PreconditionFailed),
            (
                &[(&IF_UNMODIFIED_SINCE, EARLIER)],
                Outcome::PreconditionFailed,
            ),
            (&[(&IF_UNMODIFIED_SINCE, DATE)], Outcome::Whole),
            (
                &[(&RANGE, "bytes=2-3"), (&IF_RANGE, "\"a-1\"")],
                Outcome::Part(2, 3),
            ),
            (
                &[(&RANGE, "bytes=2-3"), (&IF_RANGE, "W/\"a-1\"")],
                Outcome::Whole,
            ),
            (
                &[(&RANGE, "bytes=2-3"), (&IF_RANGE, "\"b\"")],
                Outcome::Whole,
            ),
            (
                &[(&RANGE, "bytes=2-3"), (&IF_RANGE, DATE)],
                Outcome::Part(2, 3),
            ),
            (
                &[(&RANGE, "bytes=2-3"), (&IF_RANGE, EARLIER)],
                Outcome::Whole,
            ),
        ];
        for (lines, outcome) in cases {
            assert_eq!(decided(10, lines), *outcome, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_single_range_of_bytes_is_answered_with_all() {
        for value in [
            "bytes=0-1,3-4",
            "bytes=",
            "bytes=-",
            "bytes=4-2",
            "bytes=a-b",
            "lines=1-2",
            "bytes 1-2",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=0x1-2",
            "bytes=--1",
            "",
        ] {
            assert_eq!(decided(10, &[(&RANGE, value)]), Outcome::Whole, "{value}");
        }
        let twice = [(&RANGE, "bytes=0-1"), (&RANGE, "bytes=0-1")];
        assert_eq!(decided(10, &twice), Outcome::Whole);
        let file = file(10);
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=2-3"));
        let head = decide(&headers, &file, false, UNIX_EPOCH);
        assert_eq!(head, Outcome::Whole, "only GET has ranges");
    }

    /// The meaning of a range, byte by byte.
    fn model(len: u64, wants: impl Fn(u64) -> bool) -> Outcome {
        let wanted: Vec<u64> = (0..len).filter(|at| wants(*at)).collect();
        match (wanted.first(), wanted.last()) {
            (Some(first), Some(last)) => Outcome::Part(*first, *last),
            _ => Outcome::Unsatisfiable,
        }
    }

    proptest! {
        #[test]
        fn a_range_has_the_bytes_that_it_names_and_that_are_there(
            len in 0u64..40, first in 0u64..50, more in 0u64..50,
        ) {
            let last = first + more;
            let range = |text: String| decided(len, &[(&RANGE, &text)]);
            prop_assert_eq!(
                range(format!("bytes={first}-{last}")),
                model(len, |at| at >= first && at <= last)
            );
            prop_assert_eq!(range(format!("bytes={first}-")), model(len, |at| at >= first));
            prop_assert_eq!(range(format!("bytes=-{more}")), model(len, |at| at + more >= len));
            let huge = format!("bytes={first}-{}", "9".repeat(30));
            prop_assert_eq!(range(huge), model(len, |at| at >= first));
        }

        #[test]
        fn any_header_is_judged_without_a_panic_and_within_the_file(
            len: u64, value in "[ -~]{0,24}", range in "bytes=[0-9-]{0,24}",
        ) {
            for name in [&RANGE, &IF_RANGE, &IF_MATCH, &IF_NONE_MATCH, &IF_MODIFIED_SINCE] {
                for value in [&value, &range] {
                    if let Outcome::Part(first, last) = decided(len, &[(name, value)]) {
                        prop_assert!(first <= last && last < len);
                    }
                }
            }
        }
    }
}
