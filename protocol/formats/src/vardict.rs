//! Dictionaries of the type `a{sv}`, which the two old protocols send as messages.
//!
//! Parsed strictly, like every GVariant here: one serialization of each value, no key twice.
//! Numbers are returned as bytes, because the message determines their byte order.

use crate::error::FormatError;
use crate::gvariant::{
    Layout, array, entry, for_each_entry, split_array, split_members, string, string_bytes, tuple,
};

/// A parsed dictionary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vardict<'a> {
    entries: Vec<(&'a str, Value<'a>)>,
}

/// A value of a [`Vardict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    kind: &'a [u8],
    data: &'a [u8],
}

impl<'a> Vardict<'a> {
    /// Reads a dictionary.
    ///
    /// # Errors
    ///
    /// Whoever wrote the dictionary is at fault: it is not in normal form, or a key occurs twice.
    pub fn parse(data: &'a [u8]) -> Result<Self, FormatError> {
        let part = FormatError::part("dictionary");
        let mut entries = Vec::new();
        for_each_entry(data, |key, kind, data| {
            entries.push((key, Value { kind, data }));
            Ok(())
        })
        .map_err(&part)?;
        let mut keys: Vec<_> = entries.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(part("a key occurs twice"));
        }
        Ok(Self { entries })
    }

    /// Returns the value of a key, if the dictionary has it.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        let mut entries = self.entries.iter();
        entries.find(|(k, _)| *k == key).map(|(_, value)| *value)
    }

    /// Returns all entries, in their order in the dictionary.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.entries.iter().copied()
    }
}

impl<'a> Value<'a> {
    /// Reads a `s`.
    ///
    /// # Errors
    ///
    /// The value has another type.
    pub fn string(self) -> Result<&'a str, FormatError> {
        self.of("s")
            .and_then(string)
            .map_err(FormatError::part("value"))
    }

    /// Reads a `b`.
    ///
    /// # Errors
    ///
    /// The value has another type.
    pub fn boolean(self) -> Result<bool, FormatError> {
        let data = self.of("b").map_err(FormatError::part("value"))?;
        Ok(data == [1])
    }

    /// Returns the bytes of an `i` or `t`; `kind` is its type and `N` its length.
    ///
    /// # Errors
    ///
    /// The value has another type.
    pub fn number<const N: usize>(self, kind: &str) -> Result<[u8; N], FormatError> {
        self.of(kind)
            .and_then(|data| data.try_into().map_err(|_| OTHER_TYPE))
            .map_err(FormatError::part("value"))
    }

    /// Reads a `(ss)`.
    ///
    /// # Errors
    ///
    /// The value has another type.
    pub fn string_pair(self) -> Result<(&'a str, &'a str), FormatError> {
        self.of("(ss)")
            .and_then(string_pair)
            .map_err(FormatError::part("value"))
    }

    /// Reads an `a{ss}`.
    ///
    /// # Errors
    ///
    /// The value has another type.
    pub fn string_map(self) -> Result<Vec<(&'a str, &'a str)>, FormatError> {
        self.of("a{ss}")
            .and_then(|data| {
                split_array(Layout::BYTES, data)?
                    .iter()
                    .map(string_pair)
                    .collect()
            })
            .map_err(FormatError::part("value"))
    }

    fn of(self, kind: &str) -> Result<&'a [u8], &'static str> {
        if self.kind == kind.as_bytes() {
            Ok(self.data)
        } else {
            Err(OTHER_TYPE)
        }
    }
}

const OTHER_TYPE: &str = "it has another type than its key requires";

fn string_pair(data: &[u8]) -> Result<(&str, &str), &'static str> {
    let [first, second] = split_members([Layout::BYTES, Layout::BYTES], data)?;
    Ok((string(first)?, string(second)?))
}

/// A dictionary under construction. No text may contain a NUL.
#[derive(Clone, Debug, Default)]
pub struct VardictWriter {
    entries: Vec<Vec<u8>>,
}

impl VardictWriter {
    /// Adds a `s`.
    pub fn string(&mut self, key: &str, text: &str) {
        self.add(key, "s", &string_bytes(text));
    }

    /// Adds a `b`.
    pub fn boolean(&mut self, key: &str, value: bool) {
        self.add(key, "b", &[u8::from(value)]);
    }

    /// Adds an `i` or `t`, given as bytes.
    pub fn number(&mut self, key: &str, kind: &str, bytes: &[u8]) {
        self.add(key, kind, bytes);
    }

    /// Adds a `(ss)`.
    pub fn string_pair(&mut self, key: &str, first: &str, second: &str) {
        self.add(key, "(ss)", &pair_bytes(first, second));
    }

    /// Adds an `a{ss}`.
    pub fn string_map<'a>(
        &mut self,
        key: &str,
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let pairs = entries
            .into_iter()
            .map(|(key, value)| pair_bytes(key, value));
        self.add(key, "a{ss}", &array(Layout::BYTES, pairs));
    }

    /// Serializes the added entries, in order.
    pub fn finish(self) -> Vec<u8> {
        array(Layout::ALIGNED, self.entries)
    }

    fn add(&mut self, key: &str, kind: &str, value: &[u8]) {
        self.entries.push(entry(key, kind, value));
    }
}

fn pair_bytes(first: &str, second: &str) -> Vec<u8> {
    let (first, second) = (string_bytes(first), string_bytes(second));
    tuple(&[(Layout::BYTES, &first), (Layout::BYTES, &second)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = VardictWriter::default();
        writer.number("mode", "i", &1i32.to_le_bytes());
        writer.string_map("refs", [("a/b", "1"), ("c", "")]);
        writer.string("pull_url", "http://x");
        writer.boolean("result", true);
        writer.string_pair("a/b", "0", "1");
        let bytes = writer.finish();
        let read = Vardict::parse(&bytes).unwrap();
        let get = |key| read.get(key).unwrap();
        assert_eq!(get("mode").number("i"), Ok([1, 0, 0, 0]));
        let refs = vec![("a/b", "1"), ("c", "")];
        assert_eq!(get("refs").string_map(), Ok(refs));
        assert_eq!(get("pull_url").string(), Ok("http://x"));
        assert_eq!(get("result").boolean(), Ok(true));
        assert_eq!(get("a/b").string_pair(), Ok(("0", "1")));
        assert!(get("a/b").string().is_err(), "another type");
        assert!(read.get("b").is_none());
        assert_eq!(read.entries().count(), 5);
    }

    #[test]
    fn an_empty_dictionary_has_no_bytes() {
        assert!(VardictWriter::default().finish().is_empty());
        assert_eq!(Vardict::parse(&[]), Ok(Vardict::default()));
    }

    #[test]
    fn a_key_twice_is_refused() {
        let mut writer = VardictWriter::default();
        writer.string("a", "1");
        writer.string("b", "1");
        writer.string("a", "2");
        assert!(Vardict::parse(&writer.finish()).is_err());
    }
}
