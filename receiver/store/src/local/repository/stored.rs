//! Classifies names in a directory of objects by the rules of libostree, which ignores names that
//! are not its own (`ostree-repo.c`, `list_loose_objects_at`).

use artifact_formats::{Checksum, ObjectId, ObjectKind, RepoMode};

use crate::local::disk::FileKind;
use crate::local::disk::path::{DETACHED, RepoPath, TOMBSTONE};
use crate::local::repository::form;

/// The kind of an entry in one of the 256 directories of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// An object.
    Object(ObjectId),
    /// The name of an object, or of a commit's detached metadata, but not a regular file.
    Misshapen(ObjectId),
    /// The detached metadata of a commit.
    Detached(Checksum),
    /// Another file of libostree's: the mark of a deleted commit, a link from a payload to its
    /// file, or separate attributes or sizes.
    Companion,
    /// A file of another program, such as a temporary file of rsync. libostree ignores it.
    Foreign,
}

/// Classifies a name in the directory of this number, in a repository of this mode.
pub(crate) fn look(mode: RepoMode, first: u8, name: &str, kind: FileKind) -> Stored {
    let Some((digits, extension)) = name.split_once('.') else {
        return Stored::Foreign;
    };
    let Ok(checksum) = format!("{first:02x}{digits}").parse::<Checksum>() else {
        return Stored::Foreign;
    };
    let object = ObjectKind::ALL
        .into_iter()
        .find(|object| RepoPath::extension(mode, *object) == extension)
        .map(|object| ObjectId::new(object, checksum));
    match (object, kind) {
        (Some(id), FileKind::File) => Stored::Object(id),
        (Some(id), FileKind::Symlink) if id.kind == ObjectKind::File && form::has_links(mode) => {
            Stored::Object(id)
        }
        (Some(id), FileKind::Dir | FileKind::Symlink | FileKind::Other) => Stored::Misshapen(id),
        (None, FileKind::File) if extension == DETACHED => Stored::Detached(checksum),
        (None, _) if extension == DETACHED => {
            Stored::Misshapen(ObjectId::new(ObjectKind::Commit, checksum))
        }
        (None, FileKind::Symlink) if LINKS.contains(&extension) => Stored::Companion,
        (None, FileKind::File) if FILES.contains(&extension) => Stored::Companion,
        (None, _) => Stored::Foreign,
    }
}

/// Extensions of libostree's links (`ostree-core.c`, `ostree_object_type_to_string`).
const LINKS: [&str; 2] = ["payload-link", "file-xattrs-link"];
/// Extensions of libostree's other files; the last is of old versions.
const FILES: [&str; 3] = [TOMBSTONE, "file-xattrs", "sizes2"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_libostree_takes_it_for() {
        let digits = "b".repeat(62);
        let of =
            |mode, extension: &str, kind| look(mode, 0xaa, &format!("{digits}.{extension}"), kind);
        let looked = |extension: &str, kind| of(RepoMode::Archive, extension, kind);
        let checksum: Checksum = format!("aa{digits}").parse().unwrap();
        let file = ObjectId::new(ObjectKind::File, checksum);
        assert_eq!(looked("filez", FileKind::File), Stored::Object(file));
        assert_eq!(looked("filez", FileKind::Symlink), Stored::Misshapen(file));
        assert_eq!(looked("filez", FileKind::Dir), Stored::Misshapen(file));
        assert_eq!(
            looked("commitmeta", FileKind::File),
            Stored::Detached(checksum)
        );
        for (extension, kind) in [
            ("tombstone-commit", FileKind::File),
            ("payload-link", FileKind::Symlink),
            ("file-xattrs", FileKind::File),
            ("sizes2", FileKind::File),
        ] {
            assert_eq!(looked(extension, kind), Stored::Companion, "{extension}");
        }
        let upper = format!("{}.filez", digits.to_uppercase());
        let rsync = format!(".{digits}.filez.Ab3Cd9");
        let short = format!("{}.filez", &digits[1..]);
        let others = [&upper, &rsync, &short, "README", "tmp", ".nfs00a1"];
        for name in others.map(|name| name.to_owned()) {
            let looked = look(RepoMode::Archive, 0xaa, &name, FileKind::File);
            assert_eq!(looked, Stored::Foreign, "{name}");
        }
        // The mode bare uses these names; an archive ignores them.
        for extension in ["file", "commit-tombstone", "filez.gz"] {
            assert_eq!(
                looked(extension, FileKind::File),
                Stored::Foreign,
                "{extension}"
            );
        }
        assert_eq!(looked("payload-link", FileKind::File), Stored::Foreign);
        let bare = [
            (RepoMode::Bare, true),
            (RepoMode::BareUser, false),
            (RepoMode::BareUserOnly, true),
        ];
        for (mode, has_links) in bare {
            assert_eq!(of(mode, "file", FileKind::File), Stored::Object(file));
            assert_eq!(of(mode, "filez", FileKind::File), Stored::Foreign);
            let link = match has_links {
                true => Stored::Object(file),
                false => Stored::Misshapen(file),
            };
            assert_eq!(of(mode, "file", FileKind::Symlink), link, "{mode:?}");
        }
    }
}
