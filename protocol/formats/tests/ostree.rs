//! Objects as `ostree commit` 2022.7 wrote them, and properties of all objects.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

use std::fs;
use std::path::Path;

use artifact_formats::{
    Attributes, Checksum, Commit, Dirmeta, Dirtree, FileHeader, ObjectId, ObjectKind, Xattrs,
};
use proptest::prelude::*;

/// The files recorded in a directory: name and bytes of each.
fn recorded_in(dir: &str) -> Vec<(String, Vec<u8>)> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ostree");
    fs::read_dir(testdata.join(dir))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn every_object_ostree_wrote_is_accepted() {
    let mut seen = [0; 4];
    for (name, bytes) in recorded_in("objects") {
        let (checksum, extension) = name.split_once('.').unwrap();
        let checksum: Checksum = checksum.parse().unwrap();
        let kind = ObjectKind::ALL
            .into_iter()
            .find(|kind| kind.archive_extension() == extension)
            .unwrap();
        match kind {
            ObjectKind::File => {
                let needed = 8 + FileHeader::archive_bytes_needed(&bytes[..8]).unwrap();
                let (header, size) = FileHeader::parse_archive(&bytes[..needed]).unwrap();
                assert_eq!(header.to_archive(size), bytes[..needed]);
                if header.symlink_target().is_some() || size == 0 {
                    assert_eq!(Checksum::of(&header.to_hashed()), checksum);
                }
            }
            ObjectKind::Dirtree => {
                let tree = Dirtree::parse(&bytes).unwrap();
                assert_eq!(Dirtree::serialize(tree.files(), tree.dirs()), bytes);
            }
            ObjectKind::Dirmeta => {
                assert_eq!(Dirmeta::parse(&bytes).unwrap().serialize(), bytes);
            }
            ObjectKind::Commit => {
                Commit::parse(&bytes).unwrap();
            }
        }
        if kind.is_metadata() {
            assert_eq!(Checksum::of(&bytes), checksum);
        }
        seen[usize::from(kind.to_wire()) - 1] += 1;
    }
    assert!(seen.iter().all(|count| *count > 1), "{seen:?}");
}

#[test]
fn a_recorded_commit_is_read_as_it_was_made() {
    let commits: Vec<_> = recorded_in("objects")
        .into_iter()
        .filter(|(name, _)| name.ends_with(".commit"))
        .map(|(_, bytes)| Commit::parse(&bytes).unwrap())
        .collect();
    let first = commits
        .iter()
        .find(|commit| commit.subject == "subject \u{e9}")
        .unwrap();
    assert_eq!(first.body, "body");
    assert_eq!(first.version.as_deref(), Some("1.2"));
    assert_eq!(first.timestamp, 1_700_000_000);
    assert_eq!(first.parent, None);
    assert_eq!(first.ref_bindings, Some(vec!["os/main".to_owned()]));
    assert!(commits.iter().any(|commit| commit.parent.is_some()));
}

#[test]
fn a_file_of_a_bare_user_repository_has_the_checksum_it_has_in_an_archive() {
    let files = recorded_in("bare-user");
    let (metas, contents): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|(name, _)| name.ends_with(".ostreemeta"));
    assert_eq!(metas.len(), 4);
    for (name, meta) in metas {
        let checksum = name.trim_end_matches(".ostreemeta");
        let (_, content) = contents
            .iter()
            .find(|(name, _)| name.starts_with(checksum))
            .unwrap();
        let attributes = Attributes::parse(&meta).unwrap();
        assert_eq!(attributes.serialize(), meta);
        let (header, content) = if attributes.is_symlink() {
            (FileHeader::bare_user_link(attributes, content), &[][..])
        } else {
            (FileHeader::new(attributes, None), &content[..])
        };
        let header = header.unwrap();
        let hashed = [&header.to_hashed(), content].concat();
        assert_eq!(Checksum::of(&hashed).to_hex(), checksum);
    }
}

#[test]
fn children_of_a_dirtree_are_its_files_then_tree_and_meta_of_its_directories() {
    let sum = |byte| Checksum::new([byte; 32]);
    let bytes = Dirtree::serialize([("a", sum(1)), ("b", sum(2))], [("c", sum(3), sum(4))]);
    let children: Vec<_> = Dirtree::parse(&bytes).unwrap().children().collect();
    assert_eq!(
        children,
        [
            ObjectId::new(ObjectKind::File, sum(1)),
            ObjectId::new(ObjectKind::File, sum(2)),
            ObjectId::new(ObjectKind::Dirtree, sum(3)),
            ObjectId::new(ObjectKind::Dirmeta, sum(4)),
        ]
    );
}

fn any_xattrs() -> impl Strategy<Value = Xattrs> {
    prop::collection::btree_map("[a-z]{1,9}", any::<Vec<u8>>(), 0..4).prop_map(|pairs| {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value));
        Xattrs::new(pairs.collect()).unwrap()
    })
}

fn any_header() -> impl Strategy<Value = FileHeader> {
    let target = prop::option::of("[^\0]{1,300}");
    (
        any::<u32>(),
        any::<u32>(),
        0..=0o7777u32,
        any_xattrs(),
        target,
    )
        .prop_map(|(uid, gid, permissions, xattrs, target)| {
            let kind = if target.is_some() {
                0o120_000
            } else {
                0o100_000
            };
            let mode = kind | permissions;
            let attributes = Attributes {
                uid,
                gid,
                mode,
                xattrs,
            };
            FileHeader::new(attributes, target).unwrap()
        })
}

proptest! {
    #[test]
    fn a_file_header_round_trips_and_no_other_bytes_stand_for_it(
        header in any_header(),
        size: u64,
        at in any::<prop::sample::Index>(),
        change: u8,
    ) {
        let size = if header.symlink_target().is_some() { 0 } else { size };
        let mut bytes = header.to_archive(size);
        prop_assert_eq!(FileHeader::parse_archive(&bytes), Ok((header, size)));
        let at = at.index(bytes.len());
        bytes[at] = change;
        if let Ok((other, size)) = FileHeader::parse_archive(&bytes) {
            prop_assert_eq!(other.to_archive(size), bytes);
        }
    }

    #[test]
    fn a_dirtree_round_trips_and_no_other_bytes_stand_for_it(
        names in prop::collection::btree_map("[^/\0]{1,20}", any::<(bool, [u8; 32])>(), 0..20),
        at in any::<prop::sample::Index>(),
        change: u8,
    ) {
        let of = |wanted: bool| {
            let names = names.iter().filter(|(name, _)| *name != "." && *name != "..");
            let names = names.filter(move |(_, (is_file, _))| *is_file == wanted);
            names.map(|(name, (_, sum))| (name.as_str(), Checksum::new(*sum)))
        };
        let dirs: Vec<_> = of(false).map(|(name, sum)| (name, sum, sum)).collect();
        let mut bytes = Dirtree::serialize(of(true), dirs.clone());
        let tree = Dirtree::parse(&bytes).unwrap();
        prop_assert!(tree.files().eq(of(true)));
        prop_assert!(tree.dirs().eq(dirs));
        let at = at.index(bytes.len());
        bytes[at] = change;
        if let Ok(other) = Dirtree::parse(&bytes) {
            prop_assert_eq!(Dirtree::serialize(other.files(), other.dirs()), bytes.clone());
        }
    }

    #[test]
    fn attributes_round_trip_and_no_other_bytes_stand_for_them(
        uid: u32, gid: u32, mode: u32, xattrs in any_xattrs(),
        at in any::<prop::sample::Index>(),
        change: u8,
    ) {
        let attributes = Attributes { uid, gid, mode, xattrs };
        let mut bytes = attributes.serialize();
        prop_assert_eq!(Attributes::parse(&bytes), Ok(attributes));
        let at = at.index(bytes.len());
        bytes[at] = change;
        if let Ok(other) = Attributes::parse(&bytes) {
            prop_assert_eq!(other.serialize(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_judged_without_panic(bytes: Vec<u8>) {
        let _ = Commit::parse(&bytes);
        let _ = Dirtree::parse(&bytes);
        let _ = Dirmeta::parse(&bytes);
        let _ = FileHeader::parse_archive(&bytes);
        let _ = FileHeader::archive_bytes_needed(&bytes);
        let _ = artifact_formats::Summary::parse(&bytes);
        let _ = artifact_formats::check_detached(&bytes);
    }

    #[test]
    fn a_changed_commit_is_judged_without_panic(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        change: u8,
    ) {
        let commits = recorded_in("objects");
        let (_, bytes) = which.get(&commits);
        let mut bytes = bytes.clone();
        let at = at.index(bytes.len());
        bytes[at] = change;
        let _ = Commit::parse(&bytes);
        let _ = Dirtree::parse(&bytes);
    }
}
