//! Quantities of bytes, parsed from and formatted for people.

use std::fmt;

use bytesize::ByteSize;
use serde::Deserialize;
use serde::de::Error as _;

/// A number of bytes: `1048576`, `"1MiB"` or `"64 GB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// A share of a disk: a number of bytes, or a percentage such as `"3%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// A number of bytes.
    Bytes(u64),
    /// A percentage of the total, from 0 to 99.
    Percent(u8),
}

impl Share {
    /// Returns the share's bytes of a disk of `total` bytes.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

/// A number of bytes, such as `31.8 MB`, in powers of 1,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` keeps a requested width.
        f.pad(&ByteSize::b(self.0).display().si().to_string())
    }
}

/// Formats a number of things, such as `1 ref` or `10,959 objects`.
pub fn counted(count: u64, thing: &str) -> String {
    let count_text = grouped(count);
    if count == 1 {
        return format!("{count_text} {thing}");
    }
    let ends = |ends: &[&str]| ends.iter().any(|end| thing.ends_with(end));
    match thing.strip_suffix('y') {
        Some(stem) if !ends(&["ay", "ey", "oy", "uy"]) => format!("{count_text} {stem}ies"),
        _ if ends(&["s", "x", "ch", "sh"]) => format!("{count_text} {thing}es"),
        _ => format!("{count_text} {thing}s"),
    }
}

/// Writes a number such as `10,959`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Parses a number and a unit.
fn parse(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start_matches(' ');
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1000 * 1000),
    ("MiB", 1 << 20),
    ("GB", 1000 * 1000 * 1000),
    ("GiB", 1 << 30),
    ("TB", 1000 * 1000 * 1000 * 1000),
    ("TiB", 1 << 40),
];
const EXPECTED: &str = "expected a number of bytes, such as 1048576, \"64MiB\" or \"1GB\"";

/// The TOML types of a quantity.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl Written {
    fn bytes(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => parse(text),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer);
        let bytes = written.ok().and_then(|written| written.bytes());
        bytes.map(Self).ok_or_else(|| D::Error::custom(EXPECTED))
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refuse = || D::Error::custom(format!("{EXPECTED}; or a percentage such as \"3%\""));
        let written = Written::deserialize(deserializer).map_err(|_| refuse())?;
        if let Written::Text(text) = &written
            && let Some(percent) = text.strip_suffix('%')
        {
            let percent = percent.parse().ok().filter(|percent| *percent < 100);
            return percent.map(Self::Percent).ok_or_else(refuse);
        }
        written.bytes().map(Self::Bytes).ok_or_else(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_numbers_with_or_without_a_unit() {
        for (text, bytes) in [
            ("7", Some(7)),
            ("7B", Some(7)),
            ("3kB", Some(3000)),
            ("1 GiB", Some(1 << 30)),
            ("64GB", Some(64_000_000_000)),
            ("16777216TiB", None),
            ("", None),
            ("GB", None),
            ("1.5GB", None),
            ("-1", None),
            ("1gb", None),
            ("1GB ", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }

    #[test]
    fn a_share_is_of_a_whole() {
        assert_eq!(Share::Percent(3).of(1000), 30);
        assert_eq!(Share::Percent(99).of(u64::MAX), u64::MAX / 100 * 99);
        assert_eq!(Share::Bytes(5).of(1), 5);
    }

    #[test]
    fn sizes_are_short_and_numbers_can_be_read() {
        let sizes = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (31_766_543, "31.8 MB"),
            (82_337_435_648, "82.3 GB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!(format!("{:>8}", Size(999)), "   999 B");
        let counts = [
            (0, "0 refs"),
            (1, "1 ref"),
            (999, "999 refs"),
            (1000, "1,000 refs"),
        ];
        for (count, text) in counts {
            assert_eq!(counted(count, "ref"), text);
        }
        assert_eq!(counted(1_234_567, "object"), "1,234,567 objects");
        for (thing, plural) in [
            ("identity", "2 identities"),
            ("key", "2 keys"),
            ("interrupted push", "2 interrupted pushes"),
        ] {
            assert_eq!(counted(2, thing), plural);
            assert_eq!(counted(1, thing), format!("1 {thing}"));
        }
    }
}
