//! The paths that pullers request, and no others.
//!
//! A path is compared with the shapes of an archive repository's files (libostree:
//! `ostree_get_relative_object_path`, `_ostree_get_relative_static_delta_path`). The only decoded
//! character is the one in these shapes that some clients encode; so a path that matches a shape
//! has no `..`, no empty component and no byte with another meaning to a file system.

use std::borrow::Cow;

use artifact_formats::RefName;

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A file of the repository.
    File(Wanted),
    /// The settings of the repository's configuration that pullers need.
    Config,
    /// The summary.
    Summary,
    /// The signature of the summary.
    Signature,
    /// Whether the process is alive.
    Live,
    /// Whether it serves.
    Ready,
    /// Another path: perhaps a page's.
    Other,
}

/// A file of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The path from the root of the repository.
    pub(crate) path: String,
    pub(crate) kind: Kind,
}

/// The kind of a file to a puller, which determines how long caches may keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An object named by its checksum, other than a commit.
    Object,
    /// A commit, which exists once everything it reaches does.
    Commit,
    /// A file beside a commit that may change: its detached metadata, its tombstone.
    Beside,
    /// A ref of this repository.
    Ref,
    /// A ref of another collection.
    Mirror,
    /// A static delta, or an index of them.
    Delta,
    /// An index of summaries, or its signature.
    Index,
    /// A summary, or a part of one, named by its checksum.
    Part,
}

impl Kind {
    /// Returns whether a file of this kind never changes.
    pub(crate) const fn is_immutable(self) -> bool {
        matches!(self, Self::Object | Self::Commit | Self::Part)
    }

    /// Returns its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Commit => "commit",
            Self::Beside => "commitmeta",
            Self::Ref | Self::Mirror => "ref",
            Self::Delta => "delta",
            Self::Index | Self::Part => "summary",
        }
    }
}

impl Asked {
    /// Parses the path of a request to a repository served below `at`, which is empty, or begins
    /// with a slash and does not end with one.
    pub(crate) fn parse(at: &str, path: &str) -> Self {
        match path {
            "/livez" => return Self::Live,
            "/readyz" => return Self::Ready,
            _ => {}
        }
        let below = path
            .strip_prefix(at)
            .and_then(|rest| rest.strip_prefix('/'));
        let Some(below) = below.and_then(decode) else {
            return Self::Other;
        };
        match &*below {
            "config" => Self::Config,
            "summary" => Self::Summary,
            "summary.sig" => Self::Signature,
            path => match kind(path) {
                Some(kind) => Self::File(Wanted {
                    path: below.into_owned(),
                    kind,
                }),
                None => Self::Other,
            },
        }
    }
}

impl Wanted {
    /// Returns the path of the mark for a commit that is incomplete here.
    pub(crate) fn partial_mark(&self) -> Option<String> {
        let (first, rest) = self.path.strip_prefix("objects/")?.split_once('/')?;
        let rest = rest.strip_suffix(".commit")?;
        Some(format!("state/{first}{rest}.commitpartial"))
    }
}

/// Some clients encode the `+` of a delta's name. No other character of these paths needs encoding,
/// so any other encoded character is meant to mislead.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let decoded = path.replace("%2B", "+").replace("%2b", "+");
    (!decoded.contains('%')).then_some(Cow::Owned(decoded))
}

fn kind(path: &str) -> Option<Kind> {
    if matches!(path, "summary.idx" | "summary.idx.sig") {
        return Some(Kind::Index);
    }
    let (dir, rest) = path.split_once('/')?;
    match dir {
        "objects" => object(rest),
        "refs" => reference(rest),
        "deltas" => delta(rest),
        "delta-indexes" => delta_index(rest),
        "summaries" => summary(rest),
        _ => None,
    }
}

fn object(path: &str) -> Option<Kind> {
    let (first, name) = path.split_once('/')?;
    let (rest, extension) = name.split_once('.')?;
    if !is_hex(first, 2) || !is_hex(rest, 62) {
        return None;
    }
    match extension {
        "filez" | "dirtree" | "dirmeta" => Some(Kind::Object),
        "commit" => Some(Kind::Commit),
        "commitmeta" | "tombstone-commit" => Some(Kind::Beside),
        _ => None,
    }
}

fn reference(path: &str) -> Option<Kind> {
    if let Some(name) = path.strip_prefix("heads/") {
        return RefName::parse_stored(name).is_ok().then_some(Kind::Ref);
    }
    let (collection, name) = path.strip_prefix("mirrors/")?.split_once('/')?;
    let known = is_collection(collection) && RefName::parse_stored(name).is_ok();
    known.then_some(Kind::Mirror)
}

/// Checks the id of a collection as libostree does (`ostree_validate_collection_id`): a reversed
/// D-Bus name, at least two elements separated by dots.
fn is_collection(id: &str) -> bool {
    let element = |element: &str| {
        let mut bytes = element.bytes();
        let first = bytes.next();
        first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    id.len() <= 255 && id.contains('.') && id.split('.').all(element)
}

/// `deltas/Xx/REST/PART` and `deltas/Xx/REST-TO/PART`, with checksums in base64.
fn delta(path: &str) -> Option<Kind> {
    let (first, rest) = path.split_once('/')?;
    let (name, part) = rest.split_once('/')?;
    let (from, to) = match name.split_once('-') {
        Some((from, to)) => (from, Some(to)),
        None => (name, None),
    };
    let named = is_base64(first, 2)
        && is_base64(from, 41)
        && to.is_none_or(|to| is_base64(to, 43))
        && (matches!(part, "superblock" | "meta") || is_number(part));
    named.then_some(Kind::Delta)
}

/// `delta-indexes/Xx/REST.index`.
fn delta_index(path: &str) -> Option<Kind> {
    let (first, name) = path.split_once('/')?;
    let rest = name.strip_suffix(".index")?;
    (is_base64(first, 2) && is_base64(rest, 41)).then_some(Kind::Delta)
}

/// Flatpak's: `summaries/SHA256.gz`, `summaries/SHA256-SHA256.delta`, `summaries/SHA256.idx.sig`.
fn summary(name: &str) -> Option<Kind> {
    let (stem, extension) = name.split_once('.')?;
    let named = match extension {
        "gz" => is_hex(stem, 64),
        "delta" => stem
            .split_once('-')
            .is_some_and(|(from, to)| is_hex(from, 64) && is_hex(to, 64)),
        "idx.sig" if is_hex(stem, 64) => return Some(Kind::Index),
        _ => false,
    };
    named.then_some(Kind::Part)
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// libostree's base64 in paths: `_` for `/`, without padding.
fn is_base64(text: &str, len: usize) -> bool {
    text.len() == len
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'_'))
}

fn is_number(text: &str) -> bool {
    matches!(text.len(), 1..=9) && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd";

    fn kind_of(path: &str) -> Option<Kind> {
        match Asked::parse("/artifacts", path) {
            Asked::File(wanted) => {
                assert_eq!(format!("/artifacts/{}", wanted.path), path);
                Some(wanted.kind)
            }
            _ => None,
        }
    }

    #[test]
    fn what_a_puller_asks_for_is_known_by_its_shape() {
        let delta = "a".repeat(41);
        let sha = format!("ab{HEX}");
        let shapes = [
            (format!("objects/ab/{HEX}.filez"), Kind::Object),
            (format!("objects/ab/{HEX}.dirtree"), Kind::Object),
            (format!("objects/ab/{HEX}.dirmeta"), Kind::Object),
            (format!("objects/ab/{HEX}.commit"), Kind::Commit),
            (format!("objects/ab/{HEX}.commitmeta"), Kind::Beside),
            (format!("objects/ab/{HEX}.tombstone-commit"), Kind::Beside),
            ("refs/heads/alpha/greeting/1".to_owned(), Kind::Ref),
            ("refs/mirrors/org.example.Os/a/b".to_owned(), Kind::Mirror),
            (format!("deltas/Xx/{delta}/superblock"), Kind::Delta),
            (
                format!("deltas/+_/{delta}-{}/12", "b".repeat(43)),
                Kind::Delta,
            ),
            (format!("delta-indexes/Xx/{delta}.index"), Kind::Delta),
            ("summary.idx".to_owned(), Kind::Index),
            ("summary.idx.sig".to_owned(), Kind::Index),
            (format!("summaries/{sha}.gz"), Kind::Part),
            (format!("summaries/{sha}-{sha}.delta"), Kind::Part),
            (format!("summaries/{sha}.idx.sig"), Kind::Index),
        ];
        for (path, kind) in shapes {
            assert_eq!(kind_of(&format!("/artifacts/{path}")), Some(kind), "{path}");
        }
        let asked = |path| Asked::parse("", path);
        assert_eq!(asked("/config"), Asked::Config);
        assert_eq!(asked("/summary"), Asked::Summary);
        assert_eq!(asked("/summary.sig"), Asked::Signature);
        assert_eq!(asked("/livez"), Asked::Live);
        assert_eq!(asked("/"), Asked::Other);
    }

    #[test]
    fn an_encoded_plus_of_a_delta_is_the_only_thing_that_is_decoded() {
        let rest = "a".repeat(40);
        let asked = Asked::parse("", &format!("/deltas/Xx/%2B{rest}/0"));
        let Asked::File(wanted) = asked else {
            panic!("{asked:?}");
        };
        assert_eq!(wanted.path, format!("deltas/Xx/+{rest}/0"));
        for path in [
            "/%73ummary",
            "/summary%00",
            "/refs/heads/a%2Fb",
            "/%2e%2e/x",
        ] {
            assert_eq!(Asked::parse("", path), Asked::Other, "{path}");
        }
    }

    #[test]
    fn the_mark_of_a_partial_commit_is_named_by_its_checksum() {
        let wanted = |extension: &str| Wanted {
            path: format!("objects/ab/{HEX}.{extension}"),
            kind: Kind::Commit,
        };
        let mark = format!("state/ab{HEX}.commitpartial");
        assert_eq!(wanted("commit").partial_mark(), Some(mark));
        assert_eq!(wanted("commitmeta").partial_mark(), None);
    }
}
