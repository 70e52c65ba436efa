//! A cache in object storage, on a real engine: Ceph's gateway (`tests/bucket/ceph`), for `make
//! test-extra`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_tests::cache::Pushed;
use artifact_tests::exec::{Failure, run};
use artifact_tests::listing;
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::sshd::Sshd;
use artifact_tests::tree::Tree;
use tempfile::TempDir;

/// A checked bucket of its own prefix, and a server that receives pushes into it.
struct Scene {
    dir: TempDir,
    address: String,
    url: String,
    config: PathBuf,
    sshd: Sshd,
}

impl Scene {
    fn start() -> Result<Self, Failure> {
        let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
        ceph(&["up"])?;
        ceph(&["bucket", "artifact-tests"])?;
        let place = format!("artifact-tests/push-{}", std::process::id());
        let credentials = dir.path().join("credentials");
        let keys = "[default]\naws_access_key_id = test\naws_secret_access_key = testtest\n";
        fs::write(&credentials, keys)
            .and_then(|()| fs::set_permissions(&credentials, Permissions::from_mode(0o600)))
            .map_err(Failure::doing("write the keys"))?;
        let config = dir.path().join("config.toml");
        let text = format!(
            "[bucket]\nendpoint = \"{SERVER}\"\ncredentials = {credentials:?}\n\
             [[identity]]\nname = \"all\"\nkeys = [\"*\"]\npush = [\"**\"]\nreplace = [\"**\"]\n"
        );
        fs::write(&config, text).map_err(Failure::doing("write the configuration"))?;
        let address = format!("s3://{place}");
        let sshd = Sshd::start(&format!(
            "{} --verbose --config {} {address}",
            programs::receiver()?.display(),
            config.display(),
        ))?;
        Ok(Self {
            url: format!("{SERVER}/{place}"),
            dir,
            address,
            config,
            sshd,
        })
    }

    fn admin(&self, command: &str) -> Result<Command, Failure> {
        let mut admin = Command::new(programs::admin()?);
        admin
            .arg(command)
            .arg("--config")
            .arg(&self.config)
            .arg(&self.address);
        Ok(admin)
    }

    fn push(&self, from: &Repo, name: &str) -> Result<Pushed, Failure> {
        let mut command = Command::new(programs::client()?);
        command.args(["push", "--json", "--repo"]).arg(from.path());
        command.args(["--remote", &self.sshd.url("artifacts"), name]);
        command
            .env("HOME", self.dir.path())
            .env("ARTIFACT_CACHE_SSH", self.sshd.ssh_command());
        Pushed::read(run(&mut command)?)
    }

    fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

#[test]
fn a_push_over_ssh_into_a_bucket_is_what_stock_ostree_pulls_from_it() {
    if !crate::extra() {
        return;
    }
    let scene = Scene::start().unwrap();
    // A bucket that nobody checked is refused.
    let source = Repo::init(&scene.scratch("source"), Mode::Archive).unwrap();
    let tree = Tree::create(&scene.scratch("tree")).unwrap();
    tree.all_kinds().unwrap();
    tree.generated(300, 3).unwrap();
    source.commit(REF, tree.root(), &[]).unwrap();
    scene.push(&source, REF).unwrap().must_exit(9).unwrap();
    // Everybody may list the private part of this bucket, which is worse, but no fault.
    let checked = run(&mut scene.admin("check").unwrap()).unwrap();
    assert_eq!(checked.code, Some(10), "{checked:?}");
    run(&mut scene.admin("init").unwrap())
        .unwrap()
        .success()
        .unwrap();

    scene.push(&source, REF).unwrap().must_exit(0).unwrap();
    must_hold(&scene, "first", tree.root()).unwrap();
    // Nothing to do, and then a change.
    scene.push(&source, REF).unwrap().must_exit(0).unwrap();
    tree.generated(310, 4).unwrap();
    let first = source.commit_of(REF).unwrap();
    let parent = format!("--parent={first}");
    source.commit(REF, tree.root(), &[&parent]).unwrap();
    scene.push(&source, REF).unwrap().must_exit(0).unwrap();
    must_hold(&scene, "second", tree.root()).unwrap();
}

/// Fails unless stock ostree pulls this tree from the bucket.
fn must_hold(scene: &Scene, user: &str, tree: &Path) -> Result<(), Failure> {
    let user = Repo::init(&scene.scratch(user), Mode::BareUser)?;
    user.pull_http(&scene.url, &[REF])?;
    user.fsck()?;
    let checkout = user.path().with_extension("checkout");
    user.checkout(REF, &checkout)?;
    listing::compare(tree, &checkout)
}

fn ceph(arguments: &[&str]) -> Result<String, Failure> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bucket/ceph");
    run(Command::new(script).args(arguments))?.success()
}

const REF: &str = "alpha/greeting/1";
const SERVER: &str = "http://127.0.0.1:7480";
