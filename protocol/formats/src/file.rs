//! Headers of file objects: the form that is hashed before the content, and the form that an
//! archive repository stores before the deflated content.
//!
//! Both forms are a GVariant after its length (u32, big-endian) and four zero bytes. The stored
//! form also has the unpacked size, which no checksum covers: readers must compare the content with
//! it.

use crate::attributes::{Attributes, S_IFLNK, S_IFREG, Xattrs};
use crate::error::FormatError;
use crate::gvariant::{Layout, be_u32, be_u64, split_members, string, string_bytes, tuple};
use crate::limits::{MAX_FILE_HEADER_LEN, MAX_SYMLINK_LEN};

/// The header of a regular file or symbolic link: everything but its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHeader {
    attributes: Attributes,
    symlink_target: Option<String>,
}

impl FileHeader {
    /// Combines attributes with the target of a symbolic link; nothing else has a target.
    pub fn new(
        attributes: Attributes,
        symlink_target: Option<String>,
    ) -> Result<Self, FormatError> {
        let header = Self {
            attributes,
            symlink_target,
        };
        header.check().map_err(FormatError::part(PART))?;
        Ok(header)
    }

    /// Combines attributes with the content that a bare-user repository stores for a symbolic link:
    /// its target, and a NUL so that it can be mapped (`ostree-repo-commit.c`,
    /// `write_content_object`).
    pub fn bare_user_link(attributes: Attributes, content: &[u8]) -> Result<Self, FormatError> {
        let target = content.strip_suffix(b"\0").unwrap_or(content);
        let target = str::from_utf8(target)
            .map_err(|_| FormatError::new(PART, "the target of a symbolic link is not UTF-8"))?;
        Self::new(attributes, Some(target.to_owned()))
    }

    /// Returns owner, mode and extended attributes.
    pub const fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Returns the target of a symbolic link, `None` for a regular file.
    pub fn symlink_target(&self) -> Option<&str> {
        self.symlink_target.as_deref()
    }

    /// Returns how many more bytes of a stored file object [`Self::parse_archive`] needs to parse
    /// its header; 0 if none.
    ///
    /// With fewer than 8 bytes so far, it returns how many are missing to tell.
    pub fn archive_bytes_needed(so_far: &[u8]) -> Result<usize, FormatError> {
        let Some(len) = framed_len(so_far).map_err(FormatError::part(PART))? else {
            return Ok(FRAME_LEN.saturating_sub(so_far.len()));
        };
        Ok(len.saturating_sub(so_far.len()))
    }

    /// Returns the unpacked size in the header of a stored file object; `None` if the header is
    /// incomplete, or not one.
    pub fn archive_size(stored: &[u8]) -> Option<u64> {
        let len = framed_len(stored).ok()??;
        stored.get(..len)?;
        let size = stored.get(FRAME_LEN..)?.first_chunk()?;
        Some(u64::from_be_bytes(*size))
    }

    /// Parses the header of a stored file object, which is all of `framed`, and returns it with the
    /// unpacked size of the content in bytes, which is 0 for a symbolic link.
    pub fn parse_archive(framed: &[u8]) -> Result<(Self, u64), FormatError> {
        Self::parse_archive_rule(framed).map_err(FormatError::part(PART))
    }

    /// Returns the header of a stored file object; `size` is that of the unpacked content, in
    /// bytes.
    pub fn to_archive(&self, size: u64) -> Vec<u8> {
        self.serialize(Some(size))
    }

    /// Returns the bytes to hash before the content.
    pub fn to_hashed(&self) -> Vec<u8> {
        self.serialize(None)
    }

    fn parse_archive_rule(framed: &[u8]) -> Result<(Self, u64), &'static str> {
        if framed_len(framed)? != Some(framed.len()) {
            return Err("its length differs from the stated one");
        }
        let variant = framed.get(FRAME_LEN..).unwrap_or_default();
        let layouts = [
            Layout::U64,
            Layout::U32,
            Layout::U32,
            Layout::U32,
            Layout::U32,
            Layout::BYTES,
            Layout::BYTES,
        ];
        let [size, uid, gid, mode, rdev, target, xattrs] = split_members(layouts, variant)?;
        if be_u32(rdev)? != 0 {
            return Err("the device number is not 0");
        }
        let size = be_u64(size)?;
        let target = string(target)?;
        let header = Self {
            attributes: Attributes {
                uid: be_u32(uid)?,
                gid: be_u32(gid)?,
                mode: be_u32(mode)?,
                xattrs: Xattrs::parse(xattrs)?,
            },
            symlink_target: (!target.is_empty()).then(|| target.to_owned()),
        };
        header.check()?;
        if header.attributes.is_symlink() && size != 0 {
            return Err("a symbolic link has content");
        }
        Ok((header, size))
    }

    fn serialize(&self, size: Option<u64>) -> Vec<u8> {
        let unpacked = size.unwrap_or_default().to_be_bytes();
        let target = string_bytes(self.symlink_target().unwrap_or_default());
        let hashed = [
            (Layout::U32, &self.attributes.uid.to_be_bytes()[..]),
            (Layout::U32, &self.attributes.gid.to_be_bytes()),
            (Layout::U32, &self.attributes.mode.to_be_bytes()),
            (Layout::U32, &[0; 4]),
            (Layout::BYTES, &target),
            (Layout::BYTES, &self.attributes.xattrs.serialize()),
        ];
        let variant = match size {
            Some(_) => tuple(&[&[(Layout::U64, &unpacked[..])], &hashed[..]].concat()),
            None => tuple(&hashed),
        };
        // More than any header can have: `parse_archive` accepts at most LIM-11.
        let len = u32::try_from(variant.len()).unwrap_or(u32::MAX);
        [&len.to_be_bytes(), &[0; 4], &variant[..]].concat()
    }

    fn check(&self) -> Result<(), &'static str> {
        match &self.symlink_target {
            None if self.attributes.has_type(S_IFREG) => Ok(()),
            None if self.attributes.has_type(S_IFLNK) => Err("a symbolic link has no target"),
            Some(target) if self.attributes.has_type(S_IFLNK) => check_target(target),
            Some(_) if self.attributes.has_type(S_IFREG) => Err("a regular file has a target"),
            _ => Err("the mode is not a regular file's or symbolic link's, or has unknown bits"),
        }
    }
}

/// Returns the length of a header with its frame, once the frame's 8 bytes are there.
fn framed_len(so_far: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some((frame, _)) = so_far.split_first_chunk::<FRAME_LEN>() else {
        return Ok(None);
    };
    let [a, b, c, d, padding @ ..] = *frame;
    if padding != [0; 4] {
        return Err("padding is not zero");
    }
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if len > MAX_FILE_HEADER_LEN {
        // LIM-11.
        return Err("it is longer than 256 KiB");
    }
    Ok(Some(FRAME_LEN + len))
}

fn check_target(target: &str) -> Result<(), &'static str> {
    if target.is_empty() {
        return Err("a symbolic link has no target");
    }
    if target.contains('\0') {
        return Err("the target of a symbolic link contains a NUL");
    }
    if target.len() > MAX_SYMLINK_LEN {
        // LIM-12.
        return Err("the target of a symbolic link is longer than 4095 bytes");
    }
    Ok(())
}

const PART: &str = "header of a file";

/// The header's length, and zeros that align the rest.
const FRAME_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(mode: u32, target: Option<&str>) -> Result<FileHeader, FormatError> {
        let attributes = Attributes {
            uid: 1000,
            gid: 0,
            mode,
            xattrs: Xattrs::default(),
        };
        FileHeader::new(attributes, target.map(str::to_owned))
    }

    #[test]
    fn only_regular_files_and_links_have_a_header_and_only_links_a_target() {
        assert!(header(0o100_644, None).is_ok());
        assert!(header(0o107_777, None).is_ok());
        assert!(header(0o120_777, Some("x")).is_ok());
        for (mode, target) in [
            (0o100_644, Some("x")),
            (0o100_644, Some("")),
            (0o120_777, None),
            (0o120_777, Some("")),
            (0o120_777, Some("a\0b")),
            (0o040_755, None),
            (0o060_644, None),
            (0o020_644, None),
            (0o010_644, None),
            (0o140_644, None),
            (0o644, None),
            (0o300_644, None),
        ] {
            assert!(header(mode, target).is_err(), "{mode:o} {target:?}");
        }
    }

    #[test]
    fn stored_header_round_trips_and_says_how_much_of_it_is_missing() {
        let header = header(0o120_777, Some("../x")).unwrap();
        let stored = header.to_archive(0);
        assert_eq!(FileHeader::parse_archive(&stored), Ok((header, 0)));
        for cut in 0..stored.len() {
            let missing = FileHeader::archive_bytes_needed(&stored[..cut]).unwrap();
            let told = if cut < 8 { 8 } else { stored.len() };
            assert_eq!(missing, told - cut);
            assert!(FileHeader::parse_archive(&stored[..cut]).is_err());
        }
        assert_eq!(FileHeader::archive_bytes_needed(&stored), Ok(0));
    }

    #[test]
    fn every_changed_bit_of_a_stored_header_is_refused_or_means_something_else() {
        let header = header(0o100_644, None).unwrap();
        let stored = header.to_archive(77);
        for bit in 0..stored.len() * 8 {
            let mut changed = stored.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok((other, size)) = FileHeader::parse_archive(&changed) {
                assert_eq!(other.to_archive(size), changed);
                assert!(other != header || size != 77);
            }
        }
    }

    #[test]
    fn a_link_has_no_content() {
        let header = header(0o120_777, Some("x")).unwrap();
        assert!(FileHeader::parse_archive(&header.to_archive(1)).is_err());
    }

    #[test]
    fn target_length_limit_holds_at_n_and_fails_at_n_plus_one() {
        assert!(header(0o120_777, Some(&"t".repeat(MAX_SYMLINK_LEN))).is_ok());
        assert!(header(0o120_777, Some(&"t".repeat(MAX_SYMLINK_LEN + 1))).is_err());
    }

    #[test]
    fn header_length_limit_holds_at_n_and_fails_at_n_plus_one() {
        let stored = |value_len| {
            let xattrs = vec![(b"user.x".to_vec(), vec![0; value_len])];
            let attributes = Attributes {
                uid: 0,
                gid: 0,
                mode: 0o100_644,
                xattrs: Xattrs::new(xattrs).unwrap(),
            };
            FileHeader::new(attributes, None).unwrap().to_archive(0)
        };
        let overhead = stored(MAX_FILE_HEADER_LEN).len() - MAX_FILE_HEADER_LEN - FRAME_LEN;
        let longest = stored(MAX_FILE_HEADER_LEN - overhead);
        assert_eq!(longest.len(), MAX_FILE_HEADER_LEN + FRAME_LEN);
        assert!(FileHeader::parse_archive(&longest).is_ok());
        assert!(FileHeader::parse_archive(&stored(MAX_FILE_HEADER_LEN - overhead + 1)).is_err());
    }
}
