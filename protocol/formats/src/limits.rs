//! The limits on OSTree names and formats, and what each one bounds.
//!
//! Parsers compare a size with its limit before they reserve anything. The numbers carry the
//! `LIM-n` of SPEC "Limits"; no other file repeats them. The limits of the wire are in
//! `artifact-protocol`.

/// LIM-9: a dirtree, dirmeta or commit, in bytes. libostree 2022.7 refuses to pull larger ones
/// (`ostree-core.h`, `OSTREE_MAX_METADATA_SIZE` before 2023.4).
pub const MAX_METADATA_LEN: usize = 10 * 1024 * 1024;

/// LIM-10: the detached metadata of one commit, in bytes.
pub const MAX_DETACHED_LEN: usize = 1024 * 1024;

/// LIM-11: the header of a file object, in bytes, with its extended attributes.
pub const MAX_FILE_HEADER_LEN: usize = 256 * 1024;

/// LIM-12: the target of a symbolic link, in bytes. Linux allows less than `PATH_MAX`, which counts
/// the NUL.
pub const MAX_SYMLINK_LEN: usize = 4_095;

/// LIM-13: one name in a dirtree, in bytes (`NAME_MAX`).
pub const MAX_FILE_NAME_LEN: usize = 255;

/// LIM-14: nested containers inside one variant of a commit's metadata.
pub const MAX_VARIANT_DEPTH: usize = 16;

/// LIM-15: the name of a ref, in bytes.
pub const MAX_REF_LEN: usize = 1_024;

/// LIM-16: one component of a ref's name, in bytes. Leaves space below `NAME_MAX` for temporary
/// names.
pub const MAX_REF_COMPONENT_LEN: usize = 200;

/// LIM-24: components of a ref's name. All but the last are directories, and listing these costs
/// more than listing refs.
pub const MAX_REF_COMPONENTS: usize = 16;

/// LIM-21: levels of directories in a commit; the root is the first. libostree walks them by
/// recursion.
pub const MAX_TREE_DEPTH: usize = 255;

/// LIM-22: commits to follow from a new commit to the one it replaces.
pub const MAX_HISTORY_LEN: usize = 10_000;

/// LIM-25: the longest deflate stream of `content_len` bytes of content, in bytes. At worst a
/// compressor spends nine bits on each byte (zlib's `deflateBound` for the level that only uses the
/// fixed code), and a little for the ends of blocks. A longer stream contains padding.
pub const fn max_deflated_len(content_len: u64) -> u64 {
    content_len.saturating_add(content_len / 8 + content_len / 64 + 64)
}
