//! Owner, mode and extended attributes, as files and directories have them.

use crate::error::FormatError;
use crate::gvariant::{Layout, array, be_u32, split_array, split_members, tuple};

/// Owner, mode and extended attributes: `(uuua(ayay))`, the numbers big-endian.
///
/// A dirmeta has this form, and so has the `user.ostreemeta` of a bare-user repository.
/// [`crate::dirmeta::Dirmeta`] and [`crate::file::FileHeader`] check the mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Attributes {
    /// Parses `(uuua(ayay))`.
    pub fn parse(data: &[u8]) -> Result<Self, FormatError> {
        Self::parse_rule(data).map_err(FormatError::part("attributes"))
    }

    /// Serializes `(uuua(ayay))`.
    pub fn serialize(&self) -> Vec<u8> {
        tuple(&[
            (Layout::U32, &self.uid.to_be_bytes()),
            (Layout::U32, &self.gid.to_be_bytes()),
            (Layout::U32, &self.mode.to_be_bytes()),
            (Layout::BYTES, &self.xattrs.serialize()),
        ])
    }

    /// Returns whether these attributes belong to a symbolic link.
    pub const fn is_symlink(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }

    pub(crate) fn parse_rule(data: &[u8]) -> Result<Self, &'static str> {
        let layouts = [Layout::U32, Layout::U32, Layout::U32, Layout::BYTES];
        let [uid, gid, mode, xattrs] = split_members(layouts, data)?;
        Ok(Self {
            uid: be_u32(uid)?,
            gid: be_u32(gid)?,
            mode: be_u32(mode)?,
            xattrs: Xattrs::parse(xattrs)?,
        })
    }

    /// Returns whether the type is `kind` and the mode has no bits but type and permissions.
    pub(crate) const fn has_type(&self, kind: u32) -> bool {
        self.mode & !PERMISSIONS == kind
    }
}

/// Extended attributes, sorted by name; names are unique, not empty, and contain no NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xattrs(Vec<(Vec<u8>, Vec<u8>)>);

impl Xattrs {
    /// Sorts names and values, as the file system returns them; the names come without NUL.
    pub fn new(mut pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Self, FormatError> {
        pairs.sort_unstable();
        let xattrs = Self(pairs);
        xattrs
            .check()
            .map_err(FormatError::part("extended attributes"))?;
        Ok(xattrs)
    }

    /// Returns names and values, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// Parses `a(ayay)`.
    pub(crate) fn parse(data: &[u8]) -> Result<Self, &'static str> {
        let pair = |element| {
            let [name, value] = split_members([Layout::BYTES, Layout::BYTES], element)?;
            match name.split_last() {
                Some((0, name)) => Ok((name.to_vec(), value.to_vec())),
                _ => Err("an extended attribute's name does not end with NUL"),
            }
        };
        let pairs = split_array(Layout::BYTES, data)?.iter().map(pair);
        let xattrs = Self(pairs.collect::<Result<_, _>>()?);
        xattrs.check()?;
        Ok(xattrs)
    }

    /// Serializes `a(ayay)`.
    pub(crate) fn serialize(&self) -> Vec<u8> {
        let pair = |(name, value): (&[u8], &[u8])| {
            let name = [name, b"\0"].concat();
            tuple(&[(Layout::BYTES, &name), (Layout::BYTES, value)])
        };
        array(Layout::BYTES, self.iter().map(pair))
    }

    fn check(&self) -> Result<(), &'static str> {
        if !self.0.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err("extended attributes are not sorted by name, or one occurs twice");
        }
        if self.0.first().is_some_and(|(name, _)| name.is_empty()) {
            return Err("an extended attribute's name is empty");
        }
        if self.0.iter().any(|(name, _)| name.contains(&0)) {
            return Err("an extended attribute's name contains a NUL");
        }
        Ok(())
    }
}

pub(crate) const S_IFMT: u32 = 0o170_000;
pub(crate) const S_IFDIR: u32 = 0o040_000;
pub(crate) const S_IFREG: u32 = 0o100_000;
pub(crate) const S_IFLNK: u32 = 0o120_000;
const PERMISSIONS: u32 = 0o7777;

#[cfg(test)]
mod tests {
    use super::*;

    fn xattrs(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
        let pair = |(name, value): &(&[u8], &[u8])| {
            tuple(&[(Layout::BYTES, name), (Layout::BYTES, value)])
        };
        array(Layout::BYTES, pairs.iter().map(pair))
    }

    #[test]
    fn xattrs_are_sorted_unique_and_named() {
        assert!(Xattrs::parse(&xattrs(&[(b"a\0", b""), (b"aa\0", b"x")])).is_ok());
        for bad in [
            &[(b"b\0".as_slice(), b"".as_slice()), (b"a\0", b"")][..],
            &[(b"a\0", b"1"), (b"a\0", b"2")],
            &[(b"\0", b"")],
            &[(b"", b"")],
            &[(b"a", b"")],
            &[(b"a\0b\0", b"")],
        ] {
            assert!(Xattrs::parse(&xattrs(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn xattrs_of_a_file_system_are_put_in_order() {
        let xattrs = Xattrs::new(vec![
            (b"user.b".to_vec(), b"2".to_vec()),
            (b"user.a".to_vec(), b"1".to_vec()),
        ]);
        let names: Vec<_> = xattrs
            .as_ref()
            .unwrap()
            .iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, [b"user.a", b"user.b"]);
        assert!(Xattrs::new(vec![(vec![], vec![])]).is_err());
    }
}
