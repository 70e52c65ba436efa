use std::sync::Arc;

use artifact_formats::RepoConfig;
use tempfile::TempDir;

use super::*;
use crate::local::disk::real::RealFs;

#[test]
fn no_base_is_walked_for_what_is_not_here() {
    let dir = TempDir::new().unwrap();
    let config = RepoConfig::parse("[core]\nrepo_version=1\nmode=archive-z2\n").unwrap();
    let fs = Arc::new(RealFs::open(dir.path()).unwrap());
    let repo = Repo {
        fs: Arc::clone(&fs),
        config,
    };
    let mut bases = Bases::default();
    // The commit does not exist, as a walk would find out.
    let held = RepoPath::head(&"a/b".parse().unwrap());
    bases.add(held, Checksum::new([1; 32]));
    let id = ObjectId::new(ObjectKind::File, Checksum::new([2; 32]));
    assert_eq!(bases.find(&repo, &id, &|_| false).unwrap(), None);
    assert_eq!(bases.lost(), 0);
    fs.mkdir(&RepoPath::objects(), 0o700).unwrap();
    fs.mkdir(&RepoPath::fan_out(2), 0o700).unwrap();
    fs.create(&RepoPath::object(&id), 0o644).unwrap();
    assert_eq!(bases.find(&repo, &id, &|_| false).unwrap(), None);
    assert_eq!(bases.lost(), 1);
}
