//! Objects as an archive repository stores them.

use std::io::Write;

use artifact_formats::{Attributes, Checksum, Dirmeta, FileHeader, ObjectId, ObjectKind, Xattrs};
use flate2::Compression;
use flate2::write::DeflateEncoder;

/// Returns a regular file.
pub(crate) fn file(content: &[u8]) -> (ObjectId, Vec<u8>) {
    let header = FileHeader::new(attributes(0o100_644), None).unwrap();
    let len = content.len() as u64;
    let mut deflate = DeflateEncoder::new(header.to_archive(len), Compression::default());
    deflate.write_all(content).unwrap();
    let hashed = [&header.to_hashed(), content].concat();
    let id = ObjectId::new(ObjectKind::File, Checksum::of(&hashed));
    (id, deflate.finish().unwrap())
}

/// Returns the dirmeta of a directory.
pub(crate) fn directory() -> Vec<u8> {
    let meta = Dirmeta::new(attributes(0o040_755)).unwrap();
    meta.serialize()
}

fn attributes(mode: u32) -> Attributes {
    Attributes {
        uid: 0,
        gid: 0,
        mode,
        xattrs: Xattrs::default(),
    }
}
