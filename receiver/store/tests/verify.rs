//! Objects that the verifier accepts or refuses, through its public interface.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Attributes, Checksum, Commit, FileHeader, ObjectId, ObjectKind, Xattrs};
use artifact_store::verify::{Rejection, Scratch, Verified, Verifier, verify};
use flate2::Compression;
use flate2::read::{DeflateEncoder, ZlibEncoder};
use proptest::prelude::*;

const LARGE: u64 = 1 << 40;

fn judge(id: ObjectId, stored: &[u8]) -> Result<Verified, Rejection> {
    verify(id, stored, LARGE, &mut Scratch::default())
}

/// Verifies in pieces of `len` bytes.
fn judge_in_pieces(id: ObjectId, stored: &[u8], len: usize) -> Result<Verified, Rejection> {
    let mut verifier = Verifier::new(id, LARGE);
    for piece in stored.chunks(len) {
        verifier.append(piece)?;
    }
    verifier.finish()
}

fn header(mode: u32, target: Option<&str>) -> FileHeader {
    let attributes = Attributes {
        uid: 0,
        gid: 0,
        mode,
        xattrs: Xattrs::default(),
    };
    FileHeader::new(attributes, target.map(str::to_owned)).unwrap()
}

fn file_id(header: &FileHeader, content: &[u8]) -> ObjectId {
    let hashed = [&header.to_hashed(), content].concat();
    ObjectId::new(ObjectKind::File, Checksum::of(&hashed))
}

fn deflate(content: &[u8], level: u32) -> Vec<u8> {
    let mut deflated = Vec::new();
    DeflateEncoder::new(content, Compression::new(level))
        .read_to_end(&mut deflated)
        .unwrap();
    deflated
}

/// A regular file as an archive repository stores it: id, header, deflated content.
fn regular(content: &[u8]) -> (ObjectId, Vec<u8>, Vec<u8>) {
    let header = header(0o100_644, None);
    (
        file_id(&header, content),
        header.to_archive(content.len() as u64),
        deflate(content, 6),
    )
}

fn run(program: &str, args: &[&str], dir: &Path) {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// Makes a tree with everything that a file system can hold and OSTree accepts.
fn make_tree(tree: &Path) {
    fs::create_dir_all(tree.join("d/e")).unwrap();
    fs::create_dir(tree.join("empty dir")).unwrap();
    fs::write(tree.join("empty"), b"").unwrap();
    fs::write(tree.join("d/new\nline \u{e9}\u{1}"), b"x").unwrap();
    fs::write(tree.join("zeros"), vec![0; 3_000_000]).unwrap();
    let noise: Vec<u8> = (0..200_000u32)
        .flat_map(|n| Checksum::of(&n.to_le_bytes()).as_bytes()[..4].to_vec())
        .collect();
    for len in [1, 65_535, 65_536, 65_537, 800_000] {
        fs::write(tree.join(format!("d/noise-{len}")), &noise[..len]).unwrap();
    }
    fs::write(tree.join("setuid"), b"#!").unwrap();
    fs::set_permissions(tree.join("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(tree.join("d/e"), fs::Permissions::from_mode(0o3700)).unwrap();
    symlink("../\u{e9} x", tree.join("d/link")).unwrap();
    symlink("t".repeat(4_000), tree.join("long-link")).unwrap();
    fs::write(tree.join("xattrs"), b"content").unwrap();
    for (name, value, path) in [
        ("user.b", "2", "xattrs"),
        ("user.a", "", "xattrs"),
        ("security.artifact", "zed", "xattrs"),
        ("user.dir", "3", "d"),
    ] {
        run("setfattr", &["-n", name, "-v", value, path], tree);
    }
    run("chown", &["12:34", "zeros", "d"], tree);
}

#[test]
fn every_object_that_ostree_commit_makes_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    make_tree(&dir.path().join("tree"));
    let ostree = |args: &[&str]| run("ostree", args, dir.path());
    ostree(&["init", "--repo=repo", "--mode=archive"]);
    let commit = ["commit", "--repo=repo", "--branch=a/b", "--tree=dir=tree"];
    ostree(&[&commit[..], &["--generate-sizes", "--subject=one"]].concat());
    let version = "--add-metadata-string=version=2";
    ostree(&[&commit[..], &[version, "--parent=none", "--body=two"]].concat());

    let mut scratch = Scratch::default();
    let mut seen = [0; 4];
    for entry in fs::read_dir(dir.path().join("repo/objects")).unwrap() {
        let entry = entry.unwrap();
        for object in fs::read_dir(entry.path()).unwrap() {
            let path = object.unwrap().path();
            let prefix = entry.file_name().into_string().unwrap();
            let rest = path.file_stem().unwrap().to_str().unwrap();
            let kind = ObjectKind::ALL
                .into_iter()
                .find(|kind| path.extension().unwrap() == kind.archive_extension())
                .unwrap();
            let id = ObjectId::new(kind, format!("{prefix}{rest}").parse().unwrap());
            let stored = fs::read(&path).unwrap();
            let verified = verify(id, &stored, LARGE, &mut scratch).unwrap();
            assert_eq!(
                (verified.id(), verified.stored_len()),
                (id, stored.len() as u64)
            );
            for len in [97, 4_096, 70_000] {
                assert_eq!(judge_in_pieces(id, &stored, len).as_ref(), Ok(&verified));
            }
            seen[usize::from(kind.to_wire()) - 1] += 1;
        }
    }
    assert_eq!(seen, [12, 3, 3, 2], "file, dirtree, dirmeta, commit");
}

#[test]
fn containers_that_ostree_fsck_takes_for_good_are_refused() {
    let content = b"some content, some content, some content".repeat(100);
    let (id, head, body) = regular(&content);
    let size = content.len() as u64;
    let header = header(0o100_644, None);
    let stored = |head: &[u8], body: &[u8]| [head, body].concat();
    assert!(judge(id, &stored(&head, &body)).is_ok());

    let mut padded = head.clone();
    padded[5] = 1;
    // An empty block that is not the last.
    let empty_block = [0, 0, 0, 0xff, 0xff];
    let mut zlib = Vec::new();
    ZlibEncoder::new(&content[..], Compression::default())
        .read_to_end(&mut zlib)
        .unwrap();
    // One byte of padding after the variant, included in its length.
    let mut wide = head.clone();
    wide.push(0);
    wide[3] += 1;
    let cases: [(&str, Vec<u8>); 13] = [
        ("size too big", stored(&header.to_archive(size + 1), &body)),
        ("size u64::MAX", stored(&header.to_archive(u64::MAX), &body)),
        (
            "size too small",
            stored(&header.to_archive(size - 1), &body),
        ),
        ("size 0", stored(&header.to_archive(0), &body)),
        ("padding not zero", stored(&padded, &body)),
        ("a byte after the end", stored(&head, &stored(&body, &[0]))),
        (
            "1 MB after the end",
            stored(&head, &stored(&body, &vec![0; 1_000_000])),
        ),
        ("second stream", stored(&head, &stored(&body, &body))),
        (
            "1 MB of empty blocks",
            stored(&head, &stored(&empty_block.repeat(200_000), &body)),
        ),
        ("zlib wrapper", stored(&head, &zlib)),
        ("not deflated", stored(&head, &content)),
        ("header with a byte more", stored(&wide, &body)),
        ("no body", head.clone()),
    ];
    for (what, stored) in cases {
        for len in [1, 100, 5_000, usize::MAX] {
            let rejection = judge_in_pieces(id, &stored, len).unwrap_err();
            // The checksum is right: only the container betrays the change.
            assert!(
                matches!(
                    rejection,
                    Rejection::Container { .. }
                        | Rejection::Structure(_)
                        | Rejection::TooLarge { .. }
                ),
                "{what}: {rejection}"
            );
        }
    }
}

#[test]
fn content_that_ends_with_a_buffer_is_verified_to_its_end() {
    let buffer = 64 * 1024;
    for len in [buffer - 1, buffer, buffer + 1, 2 * buffer, 5 * buffer + 1] {
        let content = vec![0; len];
        let header = header(0o100_644, None);
        let id = file_id(&header, &content);
        for level in [0, 1, 6, 9] {
            let stored = [header.to_archive(len as u64), deflate(&content, level)].concat();
            for piece in [10, usize::MAX] {
                assert!(
                    judge_in_pieces(id, &stored, piece).is_ok(),
                    "{len} {level} {piece}"
                );
            }
        }
    }
}

#[test]
fn a_link_is_its_header_and_nothing_else() {
    let header = header(0o120_777, Some("target"));
    let id = file_id(&header, b"");
    let stored = header.to_archive(0);
    assert!(judge(id, &stored).is_ok());
    for body in [&b"\0"[..], b"\x03\0", b"target"] {
        assert!(judge(id, &[&stored, body].concat()).is_err());
    }
}

#[test]
fn an_object_cut_at_any_byte_is_refused() {
    for (id, stored) in samples() {
        for cut in 0..stored.len() {
            assert!(judge(id, &stored[..cut]).is_err(), "{id} cut at {cut}");
            assert!(
                judge_in_pieces(id, &stored[..cut], 1).is_err(),
                "{id} cut at {cut}"
            );
        }
    }
}

#[test]
fn an_object_with_any_byte_flipped_is_refused() {
    let mut scratch = Scratch::default();
    for (id, mut stored) in samples() {
        for at in 0..stored.len() {
            stored[at] ^= 0xff;
            assert!(
                verify(id, &stored, LARGE, &mut scratch).is_err(),
                "{id} at {at}"
            );
            stored[at] ^= 0xff;
        }
        assert!(verify(id, &stored, LARGE, &mut scratch).is_ok());
    }
}

#[test]
fn an_object_with_any_bit_flipped_is_refused_unless_deflate_gives_it_no_meaning() {
    for (id, mut stored) in samples() {
        for bit in 0..stored.len() * 8 {
            stored[bit / 8] ^= 1 << (bit % 8);
            if judge(id, &stored).is_ok() {
                // The bits after the end of the stream, which fill the last byte.
                assert_eq!((id.kind, bit / 8), (ObjectKind::File, stored.len() - 1));
            }
            stored[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// One small object of each kind, and each kind of file.
fn samples() -> Vec<(ObjectId, Vec<u8>)> {
    let link = header(0o120_777, Some("target"));
    let mut samples = vec![(file_id(&link, b""), link.to_archive(0))];
    for content in [&b""[..], b"x", &b"twice, twice, twice".repeat(5)] {
        let (id, head, body) = regular(content);
        samples.push((id, [head, body].concat()));
    }
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../protocol/formats/testdata/ostree/objects");
    for entry in fs::read_dir(testdata).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().unwrap();
        for kind in [ObjectKind::Dirtree, ObjectKind::Dirmeta, ObjectKind::Commit] {
            if extension == kind.archive_extension() {
                let checksum = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
                samples.push((ObjectId::new(kind, checksum), fs::read(&path).unwrap()));
            }
        }
    }
    samples
}

#[test]
fn a_bomb_is_refused_whatever_size_it_declares() {
    // 10 MB that inflate to 10 GB: a block of 1 MB of zeros, repeated.
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut encoder, &vec![0; 1 << 20]).unwrap();
    std::io::Write::flush(&mut encoder).unwrap();
    let block = encoder.get_ref().clone();
    let bomb = block.repeat(10_000_000 / block.len());
    let header = header(0o100_644, None);
    let id = file_id(&header, b"");
    for (size, refused_because) in [
        (0, "takes up more"),
        (1_000, "takes up more"),
        (20_000_000, "longer than its header says"),
        (LARGE + 1, "larger than"),
        (u64::MAX, "larger than"),
    ] {
        let stored = [header.to_archive(size), bomb.clone()].concat();
        let whole = judge(id, &stored).unwrap_err();
        assert!(
            whole.to_string().contains(refused_because),
            "{size}: {whole}"
        );
        let pieces = judge_in_pieces(id, &stored, 100).unwrap_err();
        assert!(matches!(
            pieces,
            Rejection::Container { .. } | Rejection::TooLarge { .. }
        ));
    }
}

#[test]
fn filling_within_the_longest_stream_is_taken_and_beyond_it_refused() {
    let content = vec![7; 1_000];
    let (id, head, body) = regular(&content);
    let most = 1_000 + 1_000 / 8 + 1_000 / 64 + 64;
    let empty_block = [0, 0, 0, 0xff, 0xff];
    let filled = |blocks| [head.clone(), empty_block.repeat(blocks), body.clone()].concat();
    let fit = (most - body.len()) / empty_block.len();
    assert!(judge(id, &filled(fit)).is_ok());
    assert!(judge(id, &filled(fit + 1)).is_err());
}

#[test]
fn object_length_limit_holds_at_n_and_fails_at_n_plus_one() {
    let scratch = &mut Scratch::default();
    // Small as stored, large when inflated.
    let (id, head, body) = regular(&[0; 5_000]);
    let stored = [head, body].concat();
    assert!(verify(id, &stored, 5_000, scratch).is_ok());
    let limit = 4_999;
    assert_eq!(
        verify(id, &stored, limit, scratch),
        Err(Rejection::TooLarge { limit })
    );
    // Larger as stored than inflated.
    let (id, head, body) = regular(b"x");
    let stored = [head, body].concat();
    assert!(verify(id, &stored, stored.len() as u64, scratch).is_ok());
    let limit = stored.len() as u64 - 1;
    assert_eq!(
        verify(id, &stored, limit, scratch),
        Err(Rejection::TooLarge { limit })
    );
}

#[test]
fn metadata_length_limit_holds_at_n_and_fails_at_n_plus_one() {
    let commit = |body_len: usize| {
        let commit = Commit {
            body: "b".repeat(body_len),
            ..Commit::new(Checksum::new([1; 32]), Checksum::new([2; 32]))
        };
        let object = commit.serialize();
        (
            ObjectId::new(ObjectKind::Commit, Checksum::of(&object)),
            object,
        )
    };
    // The timestamp after the body is aligned to eight bytes.
    let overhead = commit(MAX_METADATA_LEN - 1_000).1.len() - (MAX_METADATA_LEN - 1_000);
    let slack = (overhead - 7..=overhead)
        .find(|overhead| commit(MAX_METADATA_LEN - overhead).1.len() <= MAX_METADATA_LEN)
        .unwrap();
    let (id, longest) = commit(MAX_METADATA_LEN - slack);
    assert!(longest.len() > MAX_METADATA_LEN - 8);
    assert!(judge(id, &longest).is_ok());
    assert!(judge_in_pieces(id, &longest, 1 << 20).is_ok());
    let limit = MAX_METADATA_LEN as u64;
    let too_long = vec![0; MAX_METADATA_LEN + 1];
    assert_eq!(judge(id, &too_long), Err(Rejection::TooLarge { limit }));
    assert_eq!(
        judge_in_pieces(id, &too_long, 1 << 20),
        Err(Rejection::TooLarge { limit })
    );
    assert!(matches!(
        judge(id, &too_long[1..]),
        Err(Rejection::ChecksumMismatch { .. })
    ));
}

#[test]
fn an_object_is_not_taken_for_another_kind_or_checksum() {
    for (id, stored) in samples() {
        for kind in ObjectKind::ALL {
            let as_kind = ObjectId::new(kind, id.checksum);
            assert_eq!(
                judge(as_kind, &stored).is_ok(),
                kind == id.kind,
                "{id} as {kind}"
            );
        }
        let other = ObjectId::new(id.kind, Checksum::new([9; 32]));
        assert_eq!(
            judge(other, &stored),
            Err(Rejection::ChecksumMismatch {
                expected: other.checksum,
                computed: id.checksum,
            })
        );
    }
}

#[test]
fn what_has_been_rejected_stays_rejected() {
    let (id, head, body) = regular(b"content");
    let mut verifier = Verifier::new(id, LARGE);
    let mut bad = head.clone();
    bad[7] = 1;
    let rejection = verifier.append(&bad).unwrap_err();
    assert_eq!(verifier.append(&head), Err(rejection.clone()));
    assert_eq!(verifier.append(&body), Err(rejection.clone()));
    assert_eq!(verifier.finish(), Err(rejection));
}

proptest! {
    #[test]
    fn a_scratch_that_was_used_for_anything_judges_as_a_new_one(
        first in prop::collection::vec(any::<u8>(), 0..100),
        content in prop::collection::vec(any::<u8>(), 0..3_000),
        level in 0..=9u32,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut scratch = Scratch::default();
        let header = header(0o100_755, None);
        let id = file_id(&header, &content);
        let stored = [header.to_archive(content.len() as u64), deflate(&content, level)].concat();
        let _ = verify(id, &first, LARGE, &mut scratch);
        let _ = verify(id, &stored[..cut.index(stored.len())], LARGE, &mut scratch);
        prop_assert!(verify(id, &stored, LARGE, &mut scratch).is_ok());
    }

    #[test]
    fn a_verdict_does_not_depend_on_how_the_bytes_are_split(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let samples = samples();
        let (id, stored) = which.get(&samples);
        let mut stored = stored.clone();
        for (at, byte) in changes {
            let at = at.index(stored.len());
            stored[at] = byte;
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stored.len())).collect();
        cuts.sort_unstable();
        let mut verifier = Verifier::new(*id, LARGE);
        let mut from = 0;
        for cut in cuts.into_iter().chain([stored.len()]) {
            let _ = verifier.append(&stored[from..cut]);
            from = cut;
        }
        let whole = judge(*id, &stored);
        prop_assert_eq!(verifier.finish().is_ok(), whole.is_ok());
    }
}

#[test]
fn a_good_object_split_anywhere_is_verified() {
    for (id, stored) in samples() {
        for at in 0..=stored.len() {
            let mut verifier = Verifier::new(id, LARGE);
            verifier.append(&stored[..at]).unwrap();
            verifier.append(&[]).unwrap();
            verifier.append(&stored[at..]).unwrap();
            assert!(verifier.finish().is_ok());
        }
    }
}

#[test]
fn every_rejection_says_what_is_wrong_without_repeating_its_source() {
    use std::error::Error;

    let (id, stored) = samples().pop().unwrap();
    let dirmeta = ObjectId::new(ObjectKind::Dirmeta, Checksum::of(&stored[1..]));
    let rejection = judge(dirmeta, &stored[1..]).unwrap_err();
    let source = rejection.source().unwrap().to_string();
    assert!(!rejection.to_string().contains(&source));
    assert!(source.starts_with("bad dirmeta: "), "{source}");
    let mismatch = judge(id, b"").unwrap_err().to_string();
    assert!(mismatch.contains(&id.checksum.to_hex()), "{mismatch}");
}
