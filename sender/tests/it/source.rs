//! Reading objects from each mode of repository.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::{fs, thread};

use artifact_formats::limits::{MAX_DETACHED_LEN, MAX_METADATA_LEN};
use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName, RepoMode};
use artifact_protocol::limits::MAX_BASES;
use artifact_sender::{Error, Object, Repository};

use crate::fixture::{
    Fixture, commit, fill_awkward, noise, object_path, objects, ostree, read_stored, unpack, xattr,
};

const MODES: [&str; 4] = ["archive", "bare", "bare-user", "bare-user-only"];

#[test]
fn every_object_of_every_mode_comes_out_as_libostree_would_store_it() {
    let fixture = Fixture::new();
    let tree = fixture.tree("tree");
    fill_awkward(&tree);
    for mode in MODES {
        let local = fixture.init(mode, mode);
        let head = commit(&local, "main", &tree);
        let archive = fixture.init(&format!("{mode}-archive"), "archive");
        let ours = fixture.init(&format!("{mode}-ours"), "archive");
        ostree(&archive, ["pull-local", local.to_str().unwrap(), "main"]);

        let repository = Repository::open(&local).unwrap();
        let reference = Repository::open(&archive).unwrap();
        assert_eq!(objects(&local), objects(&archive), "{mode}");
        assert!(objects(&local).len() > 30);
        for id in objects(&local) {
            let stored = read_stored(&repository, id).unwrap();
            let lying = fs::read(object_path(&archive, id, id.kind.archive_extension())).unwrap();
            assert_eq!(unpack(id, &stored), unpack(id, &lying), "{mode}: {id}");
            assert_eq!(read_stored(&reference, id).unwrap(), lying, "{mode}: {id}");
            let path = object_path(&ours, id, id.kind.archive_extension());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, stored).unwrap();
        }
        fs::write(ours.join("refs/heads/main"), format!("{head}\n")).unwrap();
        ostree(&ours, ["fsck"]);
        let again = fixture.init(&format!("{mode}-again"), "bare-user");
        ostree(
            &again,
            ["pull-local", "--untrusted", ours.to_str().unwrap(), "main"],
        );
    }
}

#[test]
fn every_compression_level_gives_the_same_content() {
    let fixture = Fixture::new();
    let tree = fixture.tree("tree");
    fill_awkward(&tree);
    let local = fixture.init("local", "bare-user");
    commit(&local, "main", &tree);
    for level in [0, 1, 9, 99] {
        let repository = Repository::open(&local).unwrap().with_compression(level);
        for id in objects(&local) {
            unpack(id, &read_stored(&repository, id).unwrap());
        }
    }
}

#[test]
fn many_threads_read_at_once() {
    let fixture = Fixture::new();
    let tree = fixture.tree("tree");
    fill_awkward(&tree);
    let local = fixture.init("local", "bare-user");
    commit(&local, "main", &tree);
    let repository = Repository::open(&local).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for id in objects(&local) {
                    unpack(id, &read_stored(&repository, id).unwrap());
                }
            });
        }
    });
}

/// Makes a repository with one file of the given content; returns the file's object.
fn one_file(fixture: &Fixture, mode: &str, content: &[u8]) -> (Repository, ObjectId) {
    let tree = fixture.tree(&format!("{mode}-tree"));
    fs::write(tree.join("file"), content).unwrap();
    let local = fixture.init(mode, mode);
    commit(&local, "main", &tree);
    let file = objects(&local)
        .into_iter()
        .find(|id| id.kind == ObjectKind::File);
    (Repository::open(local).unwrap(), file.unwrap())
}

#[test]
fn damaged_content_of_a_bare_repository_is_found_before_the_last_chunk_is_out() {
    let fixture = Fixture::new();
    for mode in ["bare", "bare-user", "bare-user-only"] {
        let (repository, id) = one_file(&fixture, mode, &noise(1_000_000));
        let path = object_path(repository.path(), id, "file");
        unpack(id, &read_stored(&repository, id).unwrap());
        let mut content = fs::read(&path).unwrap();
        content[999_999] ^= 1;
        fs::write(&path, content).unwrap();
        let error = read_stored(&repository, id).unwrap_err();
        assert!(
            matches!(error, Error::CorruptObject { id: named, .. } if named == id),
            "{error}"
        );
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        fs::remove_file(&path).unwrap();
        let error = read_stored(&repository, id).unwrap_err();
        assert!(matches!(error, Error::MissingObject { .. }), "{error}");
    }
}

#[test]
fn a_file_that_changes_its_length_while_it_is_read_is_an_error() {
    let fixture = Fixture::new();
    for (mode, extension) in [("bare-user", "file"), ("archive", "filez")] {
        let (repository, id) = one_file(&fixture, mode, &noise(2_000_000));
        let path = object_path(repository.path(), id, extension);
        let Object::Large(mut large) = repository.read(id).unwrap() else {
            unreachable!("two megabytes are not read whole");
        };
        assert!(large.next().unwrap().is_ok());
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1_500_000)
            .unwrap();
        let error = large.find_map(Result::err).unwrap();
        assert!(
            matches!(error, Error::ChangedObject { id: named, .. } if named == id),
            "{error}"
        );
        assert!(large.next().is_none());
    }
}

#[test]
fn a_bare_user_file_without_its_attributes_is_an_error_that_says_so() {
    let fixture = Fixture::new();
    let (repository, id) = one_file(&fixture, "bare-user", b"content");
    let path = object_path(repository.path(), id, "file");
    xattr(&path, "user.ostreemeta", b"junk");
    let error = repository.read(id).unwrap_err();
    assert!(matches!(error, Error::UnparsableObject { .. }), "{error}");
    rustix::fs::removexattr(&path, "user.ostreemeta").unwrap();
    let error = repository.read(id).unwrap_err();
    assert!(error.to_string().contains("user.ostreemeta"), "{error}");
}

#[test]
fn an_emptied_archive_file_is_an_error() {
    let fixture = Fixture::new();
    let (repository, id) = one_file(&fixture, "archive", b"content");
    fs::write(object_path(repository.path(), id, "filez"), b"").unwrap();
    assert!(matches!(
        repository.read(id).unwrap_err(),
        Error::CorruptObject { .. }
    ));
}

#[test]
fn damaged_or_oversized_metadata_is_an_error() {
    let fixture = Fixture::new();
    let (repository, _) = one_file(&fixture, "archive", b"content");
    let ids = objects(repository.path());
    let id = *ids
        .iter()
        .find(|id| id.kind == ObjectKind::Dirmeta)
        .unwrap();
    let path = object_path(repository.path(), id, "dirmeta");
    fs::write(&path, b"junk").unwrap();
    assert!(matches!(
        repository.read(id).unwrap_err(),
        Error::CorruptObject { .. }
    ));
    let file = fs::File::create(&path).unwrap();
    file.set_len(MAX_METADATA_LEN as u64).unwrap();
    assert!(matches!(
        repository.read(id).unwrap_err(),
        Error::CorruptObject { .. }
    ));
    file.set_len(MAX_METADATA_LEN as u64 + 1).unwrap();
    assert!(matches!(
        repository.read(id).unwrap_err(),
        Error::TooLarge { .. }
    ));
}

#[test]
fn large_metadata_comes_in_chunks() {
    let fixture = Fixture::new();
    let tree = fixture.tree("tree");
    for number in 0..3_600 {
        fs::write(tree.join(format!("{number:0250}")), b"").unwrap();
    }
    let local = fixture.init("local", "archive");
    let head = commit(&local, "main", &tree);
    let repository = Repository::open(&local).unwrap();
    let id = ObjectId::new(ObjectKind::Dirtree, repository.commit(head).unwrap().tree);
    let stored = read_stored(&repository, id).unwrap();
    assert!(stored.len() > 1_000_000);
    unpack(id, &stored);
}

#[test]
fn only_repositories_of_a_known_mode_are_opened() {
    let fixture = Fixture::new();
    let open = |path: &Path| Repository::open(path).unwrap_err();
    assert!(matches!(open(&fixture.path("none")), Error::Io { .. }));
    let tree = fixture.tree("tree");
    assert!(matches!(open(&tree), Error::NotARepository { .. }));
    fs::write(tree.join("config"), "[core]\nrepo_version=1\nmode=bare\n").unwrap();
    assert!(matches!(open(&tree), Error::NotARepository { .. }));
    fs::create_dir(tree.join("objects")).unwrap();
    assert_eq!(Repository::open(&tree).unwrap().mode(), RepoMode::Bare);
    fs::write(
        tree.join("config"),
        "[core]\nrepo_version=1\nmode=bare-split-xattrs\n",
    )
    .unwrap();
    assert!(matches!(open(&tree), Error::Config { .. }));
    fs::write(tree.join("config"), b"[core]\xff").unwrap();
    assert!(matches!(open(&tree), Error::Io { .. }));
}

#[test]
fn refs_and_their_aliases_resolve() {
    let fixture = Fixture::new();
    let tree = fixture.tree("tree");
    let local = fixture.init("local", "archive");
    let head = commit(&local, "p/e/1", &tree);
    ostree(&local, ["refs", "--alias", "--create=p/alias", "p/e/1"]);
    symlink("e", local.join("refs/heads/p/f")).unwrap();
    let repository = Repository::open(&local).unwrap();
    for revision in ["p/e/1", "p/alias", "p/f/1", head.to_string().as_str()] {
        assert_eq!(repository.resolve(revision).unwrap(), head, "{revision}");
    }
    for revision in ["p/e/2", "p/e", "p/e/1/2", "q"] {
        let error = repository.resolve(revision).unwrap_err();
        assert!(
            matches!(error, Error::NoSuchRef { .. }),
            "{revision}: {error}"
        );
    }
    for revision in ["", "../p", "remote:p/e/1", "p/e/1^"] {
        let error = repository.resolve(revision).unwrap_err();
        assert!(
            matches!(error, Error::BadRevision { .. }),
            "{revision}: {error}"
        );
    }
    for content in ["", "junk", &format!("{head}"), &format!("{head}\n\n")] {
        fs::write(local.join("refs/heads/broken"), content).unwrap();
        let error = repository.resolve("broken").unwrap_err();
        assert!(
            matches!(error, Error::BadRef { .. }),
            "{content:?}: {error}"
        );
    }
}

#[test]
fn bases_beside_a_ref_are_the_newest_each_commit_once() {
    let fixture = Fixture::new();
    let local = fixture.init("local", "archive");
    let repository = Repository::open(&local).unwrap();
    let name: RefName = "p/e/key".parse().unwrap();
    assert!(repository.bases_beside(&name).unwrap().is_empty());
    let directory = local.join("refs/heads/p/e");
    fs::create_dir_all(directory.join("subdirectory")).unwrap();
    let write = |file: &str, seconds: u64, number: u8| {
        let checksum = Checksum::new([number; 32]);
        fs::write(directory.join(file), format!("{checksum}\n")).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let file = fs::File::options()
            .write(true)
            .open(directory.join(file))
            .unwrap();
        file.set_modified(time).unwrap();
    };
    for number in 0..40 {
        write(
            &format!("k{}", number % 7 * 10 + number),
            1000 + u64::from(number),
            number,
        );
    }
    write("again", 5000, 39);
    write("key", 9000, 99);
    write("tmp.x", 9000, 98);
    fs::write(directory.join("junk"), "junk").unwrap();
    symlink("key", directory.join("alias")).unwrap();
    let expected: Vec<_> = (0..40u8)
        .rev()
        .take(MAX_BASES)
        .map(|n| Checksum::new([n; 32]))
        .collect();
    let bases = repository.bases_beside(&name).unwrap();
    assert!(bases.iter().all(|base| base.name.parent() == Some("p/e")));
    let commits: Vec<_> = bases.iter().map(|base| base.commit).collect();
    assert_eq!(commits, expected);
}

#[test]
fn detached_metadata_is_read_unless_it_is_empty_or_too_long() {
    let fixture = Fixture::new();
    let (repository, _) = one_file(&fixture, "archive", b"content");
    let commit = repository.resolve("main").unwrap();
    assert_eq!(repository.detached(commit).unwrap(), None);
    let id = ObjectId::new(ObjectKind::Commit, commit);
    let path = object_path(repository.path(), id, "commitmeta");
    for (len, expected) in [
        (0, None),
        (1, Some(1)),
        (MAX_DETACHED_LEN, Some(MAX_DETACHED_LEN)),
    ] {
        fs::write(&path, vec![7; len]).unwrap();
        assert_eq!(
            repository
                .detached(commit)
                .unwrap()
                .map(|bytes| bytes.len()),
            expected
        );
    }
    fs::write(&path, vec![7; MAX_DETACHED_LEN + 1]).unwrap();
    assert!(matches!(
        repository.detached(commit).unwrap_err(),
        Error::TooLarge { .. }
    ));
}

#[test]
fn what_a_repository_lacks_is_read_from_its_parent_and_from_the_parents_parent() {
    let fixture = Fixture::new();
    let tree = fixture.tree("tree");
    fill_awkward(&tree);
    let old = fixture.init("old", "archive");
    let base = commit(&old, "base", &tree);
    let whole = objects(&old);
    let (middle, local) = (
        fixture.init("middle", "bare-user"),
        fixture.init("local", "bare-user"),
    );
    let lean = |on: &Path, of: &Path| {
        ostree(of, ["config", "set", "core.parent", on.to_str().unwrap()]);
    };
    lean(&old, &middle);
    lean(&middle, &local);
    let repository = Repository::open(&local).unwrap().with_compression(1);
    assert_eq!(repository.resolve("base").unwrap(), base);
    assert!(repository.complete_commit(base).unwrap().is_some());
    for id in whole {
        unpack(id, &read_stored(&repository, id).unwrap());
    }
    let nowhere = ObjectId::new(ObjectKind::Dirtree, Checksum::new([9; 32]));
    let said = repository.read(nowhere).unwrap_err().to_string();
    assert!(
        said.contains("its parent") && said.contains("middle"),
        "{said}"
    );

    // A repository without objects of its own loses its empty `objects` in some copies.
    fs::remove_dir_all(local.join("objects")).unwrap();
    assert_eq!(
        Repository::open(&local).unwrap().resolve("base").unwrap(),
        base
    );
    fs::create_dir(local.join("objects")).unwrap();
    lean(&fixture.path("gone"), &local);
    let said = Repository::open(&local).unwrap_err().to_string();
    assert!(
        said.contains("gone") && said.contains("core.parent"),
        "{said}"
    );
    let config = fs::read_to_string(local.join("config")).unwrap();
    let middle = middle.to_str().unwrap();
    let config = config.replace(fixture.path("gone").to_str().unwrap(), middle);
    fs::write(local.join("config"), config).unwrap();
    lean(&local, &old);
    let said = format!("{:?}", Repository::open(&local).unwrap_err());
    assert!(said.contains("without an end"), "{said}");
}
