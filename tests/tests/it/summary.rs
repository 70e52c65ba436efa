//! `artifact-cache-admin summary`, with signatures that stock ostree verifies when it pulls.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use artifact_formats::Summary;
use artifact_tests::exec::{Failure, Ran, run};
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use tempfile::TempDir;

/// A GPG key in a directory of its own. Its agent ends when the directory is gone.
struct Gpg {
    home: TempDir,
}

impl Gpg {
    fn new() -> Result<Self, Failure> {
        // A short path: it contains the agent's socket.
        let home = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700))
            .map_err(Failure::doing("close a directory"))?;
        let gpg = Self { home };
        let name = "Cache <cache@example.com>";
        gpg.run(&["--passphrase", "", "--quick-generate-key", name, "ed25519"])?;
        Ok(gpg)
    }

    fn run(&self, args: &[&str]) -> Result<String, Failure> {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(self.home.path());
        run(gpg.args(["--batch", "--quiet"]).args(args))?.success()
    }

    fn export(&self, to: &Path) -> Result<(), Failure> {
        let to = to.display().to_string();
        self.run(&["--output", &to, "--export", "cache@example.com"])?;
        Ok(())
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let mut end = Command::new("gpgconf");
        end.arg("--homedir").arg(self.home.path());
        let _ = run(end.args(["--kill", "gpg-agent"]));
    }
}

fn admin(repo: &Repo, args: &[&str]) -> Result<Ran, Failure> {
    // Not this machine's key.
    let mut command = Command::new(programs::admin()?);
    command
        .args(["summary", "--config", "/dev/null"])
        .args(args);
    run(command.arg(repo.path()))
}

fn read(repo: &Repo) -> Summary {
    Summary::parse(&fs::read(repo.path().join("summary")).unwrap()).unwrap()
}

fn identity(path: &Path) -> io::Result<(u64, i64)> {
    fs::metadata(path).map(|metadata| (metadata.ino(), metadata.ctime_nsec()))
}

#[test]
fn a_summary_signed_with_gpg_is_pulled_from_by_those_who_insist() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::init(&dir.path().join("server"), Mode::Archive).unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    repo.commit("p/e/k", &tree, &["--no-bindings"]).unwrap();
    let gpg = Gpg::new().unwrap();
    let keys = dir.path().join("keys");
    gpg.export(&keys).unwrap();
    let home = gpg.home.path().display().to_string();
    let sign = ["--gpg-sign", "cache@example.com", "--gpg-homedir", &home];

    let said = admin(&repo, &sign).unwrap().success().unwrap();
    assert!(said.starts_with("made the summary: 1 ref, "), "{said}");
    let stored: u64 = ["filez", "dirtree", "dirmeta", "commit"]
        .into_iter()
        .flat_map(|kind| files_of(&repo.path().join("objects"), kind))
        .sum();
    assert_eq!(read(&repo).refs["p/e/k"].size, Some(stored));

    let user = Repo::init(&dir.path().join("user"), Mode::BareUser).unwrap();
    let url = format!("file://{}", repo.path().display());
    let import = format!("--gpg-import={}", keys.display());
    let options = ["--set=gpg-verify=false", "--set=gpg-verify-summary=true"];
    let add = ["add", &import, options[0], options[1], "cache", &url];
    user.ostree("remote", add).unwrap();
    user.ostree("pull", ["cache", "p/e/k"]).unwrap();

    // A unit that wakes when the summary changes does not wake itself.
    let paths = ["summary", "summary.sig"].map(|name| repo.path().join(name));
    let before = paths.each_ref().map(|path| identity(path).unwrap());
    let said = admin(&repo, &sign).unwrap().success().unwrap();
    assert!(said.starts_with("the summary is right: 1 ref, "), "{said}");
    assert_eq!(before, paths.each_ref().map(|path| identity(path).unwrap()));

    // Any change of the refs removes the signature until the command has run again.
    repo.commit("p/e/l", &tree, &["--no-bindings"]).unwrap();
    let said = admin(&repo, &[]).unwrap().success().unwrap();
    assert!(said.starts_with("made the summary: 2 refs, "), "{said}");
    assert!(!paths[1].exists());
    assert!(user.ostree("pull", ["cache", "p/e/l"]).is_err());
    admin(&repo, &sign).unwrap().success().unwrap();
    user.ostree("pull", ["cache", "p/e/l"]).unwrap();

    let said = admin(
        &repo,
        &["--gpg-sign", "nobody@example.com", "--gpg-homedir", &home],
    );
    assert!(said.unwrap().success().is_ok(), "it is signed already");
    repo.commit("p/e/m", &tree, &["--no-bindings"]).unwrap();
    let said = admin(
        &repo,
        &["--gpg-sign", "nobody@example.com", "--gpg-homedir", &home],
    );
    let failure = said.unwrap().success().unwrap_err().to_string();
    assert!(failure.contains("nobody@example.com"), "{failure}");
}

#[test]
fn the_summary_follows_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::init(&dir.path().join("server"), Mode::Archive).unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for name in ["a/e/k", "b/e/k"] {
        repo.commit(name, &tree, &["--no-bindings"]).unwrap();
    }
    let config = dir.path().join("artifact-cache.toml");
    let make = |text: &str| {
        fs::write(&config, text).unwrap();
        let mut command = Command::new(programs::admin().unwrap());
        command.arg("summary").arg("--config").arg(&config);
        run(command.arg(repo.path())).unwrap().success()
    };
    let said = make("[summary]\nmode = \"matching\"\npatterns = [\"b/**\"]\n").unwrap();
    assert!(said.starts_with("made the summary: 1 ref,"), "{said}");
    assert_eq!(read(&repo).refs.keys().collect::<Vec<_>>(), ["b/e/k"]);
    let said = make("[summary]\nmode = \"without-timestamps\"\n").unwrap();
    assert!(said.starts_with("made the summary: 2 refs"), "{said}");
    assert_eq!(read(&repo).refs["a/e/k"].timestamp, None);
    let said = make("[summary]\nmode = \"none\"\n").unwrap();
    assert_eq!(said, "removed the summary, as the configuration says\n");
    assert!(!repo.path().join("summary").exists());
    let said = make("[summary]\nmode = \"none\"\n").unwrap();
    assert_eq!(said, "there is no summary, as the configuration says\n");
    let user = Repo::init(&dir.path().join("user"), Mode::BareUser).unwrap();
    user.pull_path(repo.path(), &["a/e/k"]).unwrap();
    let key = dir.path().join("no-key");
    fs::write(&key, "secret").unwrap();
    let failure = make(&format!(
        "[summary]\nsign-key = {:?}\n",
        key.display().to_string()
    ));
    let failure = failure.unwrap_err().to_string();
    assert!(
        failure.contains("no-key") && !failure.contains("secret\n"),
        "{failure}"
    );
}

/// Returns the lengths of the files below a directory that have an extension.
fn files_of(dir: &Path, extension: &str) -> Vec<u64> {
    let mut lengths = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lengths.extend(files_of(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            lengths.push(fs::metadata(path).unwrap().len());
        }
    }
    lengths
}
