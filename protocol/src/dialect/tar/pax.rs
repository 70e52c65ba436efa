//! Extended headers: records `LENGTH KEY=VALUE\n` that override fields of the next header.

use crate::dialect::error::DialectError;

/// The fields that an extended header overrides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Overrides {
    pub(super) name: Option<Vec<u8>>,
    pub(super) len: Option<u64>,
}

impl Overrides {
    /// Reads the records of an extended header.
    pub(super) fn parse(mut data: &[u8]) -> Result<Self, DialectError> {
        let mut overrides = Self::default();
        while !data.is_empty() {
            let (record, rest) = split_record(data).ok_or(MALFORMED)?;
            data = rest;
            let at = record
                .iter()
                .position(|byte| *byte == b'=')
                .ok_or(MALFORMED)?;
            let (key, value) = record.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            match key {
                b"path" => overrides.name = Some(value.to_vec()),
                b"size" => {
                    let len = std::str::from_utf8(value).ok().and_then(decimal);
                    overrides.len = Some(len.ok_or(MALFORMED)?);
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(DialectError::Tar("a file is sparse"));
                }
                // Times, owners and the like, which an object does not have.
                _ => {}
            }
        }
        Ok(overrides)
    }

    pub(super) const fn is_nothing(&self) -> bool {
        self.name.is_none() && self.len.is_none()
    }
}

const MALFORMED: DialectError = DialectError::Tar("an extended header is malformed");

/// Splits off the first record, and returns the bytes between its length and its line end.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let digits = data.iter().position(|byte| *byte == b' ')?;
    let len = decimal(std::str::from_utf8(data.get(..digits)?).ok()?)?;
    let (record, rest) = data.split_at_checked(usize::try_from(len).ok()?)?;
    let record = record.get(digits + 1..)?.strip_suffix(b"\n")?;
    Some((record, rest))
}

fn decimal(text: &str) -> Option<u64> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_lengths_are_overruled_and_all_else_is_passed_over() {
        let parse = |text: &str| Overrides::parse(text.as_bytes());
        assert!(parse("").unwrap().is_nothing());
        assert!(parse("28 mtime=1795359170.8097985\n").unwrap().is_nothing());
        let both = parse("10 path=a\n9 size=7\n12 atime=1\n\n").unwrap();
        assert_eq!((both.name.as_deref(), both.len), (Some(&b"a"[..]), Some(7)));
        for text in [
            "x",
            "5",
            "0 a=b\n",
            "3 a\n",
            "6 a=b\n\n",
            "7 a=b\n",
            "99999999999999999999 a=b\n",
            "-6 a=b\n",
            "9 size=x\n",
            "10 size=-1\n",
            "22 GNU.sparse.major=1\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
