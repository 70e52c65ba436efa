//! Dirtree objects: the names in a directory, and the objects that they name.
//!
//! Stricter than libostree, which accepts names that are empty, unsorted, repeated, or both a
//! file's and a directory's. Its own writers make none of these. Control characters are legitimate.

use std::cmp::Ordering;

use crate::error::FormatError;
use crate::gvariant::{
    Array, Layout, array, split_array, split_members, string, string_bytes, tuple,
};
use crate::limits::MAX_FILE_NAME_LEN;
use crate::object::{Checksum, ObjectId, ObjectKind};

/// A dirtree object, `(a(say)a(sayay))`, parsed in place.
#[derive(Clone, Copy, Debug)]
pub struct Dirtree<'a> {
    files: Array<'a>,
    dirs: Array<'a>,
}

impl<'a> Dirtree<'a> {
    /// Parses a dirtree object.
    pub fn parse(data: &'a [u8]) -> Result<Self, FormatError> {
        Self::parse_rule(data).map_err(FormatError::part("dirtree"))
    }

    /// Serializes a dirtree. Names must be unique among both lists, and each list sorted by name.
    pub fn serialize<'n>(
        files: impl IntoIterator<Item = (&'n str, Checksum)>,
        dirs: impl IntoIterator<Item = (&'n str, Checksum, Checksum)>,
    ) -> Vec<u8> {
        let file = |(name, checksum): (&str, Checksum)| {
            tuple(&[
                (Layout::BYTES, &string_bytes(name)),
                (Layout::BYTES, checksum.as_bytes()),
            ])
        };
        let dir = |(name, tree, meta): (&str, Checksum, Checksum)| {
            tuple(&[
                (Layout::BYTES, &string_bytes(name)),
                (Layout::BYTES, tree.as_bytes()),
                (Layout::BYTES, meta.as_bytes()),
            ])
        };
        tuple(&[
            (
                Layout::BYTES,
                &array(Layout::BYTES, files.into_iter().map(file)),
            ),
            (
                Layout::BYTES,
                &array(Layout::BYTES, dirs.into_iter().map(dir)),
            ),
        ])
    }

    /// Returns the name and checksum of each file, sorted by name.
    pub fn files(&self) -> impl Iterator<Item = (&'a str, Checksum)> + use<'a> {
        // `parse` has read every element, so this drops none; nor does `dirs`.
        self.files
            .iter()
            .filter_map(|element| parse_file(element).ok())
    }

    /// Returns the name, dirtree and dirmeta of each directory, sorted by name.
    pub fn dirs(&self) -> impl Iterator<Item = (&'a str, Checksum, Checksum)> + use<'a> {
        self.dirs
            .iter()
            .filter_map(|element| parse_dir(element).ok())
    }

    /// Returns every object that the dirtree names, as often as it is named.
    pub fn children(&self) -> impl Iterator<Item = ObjectId> + use<'a> {
        let files = self
            .files()
            .map(|(_, checksum)| ObjectId::new(ObjectKind::File, checksum));
        let dirs = self.dirs().flat_map(|(_, tree, meta)| {
            [
                ObjectId::new(ObjectKind::Dirtree, tree),
                ObjectId::new(ObjectKind::Dirmeta, meta),
            ]
        });
        files.chain(dirs)
    }

    /// Returns the number of files and directories.
    pub const fn len(&self) -> usize {
        self.files.len() + self.dirs.len()
    }

    /// Returns whether the directory is empty.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn parse_rule(data: &'a [u8]) -> Result<Self, &'static str> {
        let [files, dirs] = split_members([Layout::BYTES, Layout::BYTES], data)?;
        let tree = Self {
            files: split_array(Layout::BYTES, files)?,
            dirs: split_array(Layout::BYTES, dirs)?,
        };
        let file_name = |element| parse_file(element).map(|(name, _)| name);
        let dir_name = |element| parse_dir(element).map(|(name, _, _)| name);
        check_sorted(tree.files.iter().map(file_name))?;
        check_sorted(tree.dirs.iter().map(dir_name))?;
        check_disjoint(
            tree.files().map(|(name, _)| name),
            tree.dirs().map(|(name, _, _)| name),
        )?;
        Ok(tree)
    }
}

fn parse_file(element: &[u8]) -> Result<(&str, Checksum), &'static str> {
    let [name, checksum] = split_members([Layout::BYTES; 2], element)?;
    Ok((file_name(name)?, parse_checksum(checksum)?))
}

fn parse_dir(element: &[u8]) -> Result<(&str, Checksum, Checksum), &'static str> {
    let [name, tree, meta] = split_members([Layout::BYTES; 3], element)?;
    Ok((
        file_name(name)?,
        parse_checksum(tree)?,
        parse_checksum(meta)?,
    ))
}

fn parse_checksum(bytes: &[u8]) -> Result<Checksum, &'static str> {
    Checksum::from_slice(bytes).ok_or("a checksum is not 32 bytes long")
}

fn file_name(data: &[u8]) -> Result<&str, &'static str> {
    match string(data)? {
        "" => Err("a name is empty"),
        "." | ".." => Err("a name is '.' or '..'"),
        name if name.contains('/') => Err("a name contains a slash"),
        // LIM-13.
        name if name.len() > MAX_FILE_NAME_LEN => Err("a name is longer than 255 bytes"),
        name => Ok(name),
    }
}

fn check_sorted<'a>(
    names: impl Iterator<Item = Result<&'a str, &'static str>>,
) -> Result<(), &'static str> {
    let mut before = "";
    for name in names {
        let name = name?;
        if name <= before {
            return Err("names are not sorted, or one occurs twice");
        }
        before = name;
    }
    Ok(())
}

/// Checks that two sorted lists have no name in common.
fn check_disjoint<'a>(
    mut files: impl Iterator<Item = &'a str>,
    mut dirs: impl Iterator<Item = &'a str>,
) -> Result<(), &'static str> {
    let (mut file, mut dir) = (files.next(), dirs.next());
    while let (Some(a), Some(b)) = (file, dir) {
        match a.cmp(b) {
            Ordering::Less => file = files.next(),
            Ordering::Greater => dir = dirs.next(),
            Ordering::Equal => return Err("a name is both a file and a directory"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: Checksum = Checksum::new([7; 32]);

    fn accepts(files: &[&str], dirs: &[&str]) -> bool {
        let bytes = Dirtree::serialize(
            files.iter().map(|name| (*name, SUM)),
            dirs.iter().map(|name| (*name, SUM, SUM)),
        );
        Dirtree::parse(&bytes).is_ok()
    }

    #[test]
    fn accepts_every_name_a_user_may_have() {
        assert!(accepts(&[], &[]));
        let names = [
            "\u{1}", "\n", " ", "...", "a", "a b", "a-b", "a.b", "ab", "\u{e9}",
        ];
        assert!(accepts(&names, &[]));
        assert!(accepts(&[], &names));
        assert!(accepts(&["a", "c"], &["b", "d"]));
    }

    #[test]
    fn refuses_names_that_are_paths_or_none() {
        for name in ["", ".", "..", "/", "a/b", "/a", "a\0", "\0"] {
            assert!(!accepts(&[name], &[]), "{name:?}");
            assert!(!accepts(&[], &[name]), "{name:?}");
        }
    }

    #[test]
    fn refuses_names_that_are_unsorted_or_twice_there() {
        assert!(!accepts(&["b", "a"], &[]));
        assert!(!accepts(&[], &["b", "a"]));
        assert!(!accepts(&["a", "a"], &[]));
        assert!(!accepts(&[], &["a", "a"]));
        assert!(!accepts(&["a", "b"], &["0", "b"]));
    }

    #[test]
    fn name_length_limit_holds_at_n_and_fails_at_n_plus_one() {
        assert!(accepts(&[&"n".repeat(MAX_FILE_NAME_LEN)], &[]));
        assert!(!accepts(&[&"n".repeat(MAX_FILE_NAME_LEN + 1)], &[]));
    }

    #[test]
    fn refuses_checksums_of_another_length_and_names_that_are_not_utf8() {
        let entry = |name: &[u8], checksum: &[u8]| {
            let file = tuple(&[(Layout::BYTES, name), (Layout::BYTES, checksum)]);
            let files = array(Layout::BYTES, [file]);
            tuple(&[(Layout::BYTES, &files), (Layout::BYTES, &[])])
        };
        assert!(Dirtree::parse(&entry(b"a\0", &[7; 32])).is_ok());
        assert!(Dirtree::parse(&entry(b"a\0", &[7; 31])).is_err());
        assert!(Dirtree::parse(&entry(b"a\0", &[7; 33])).is_err());
        assert!(Dirtree::parse(&entry(b"\xff\0", &[7; 32])).is_err());
    }
}
