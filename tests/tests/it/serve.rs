//! `artifact-cache-serve` as pullers and operators meet it: the program itself, stock ostree, curl.

use artifact_tests::cache::Cache;
use artifact_tests::exec::Failure;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::serving::Serving;
use artifact_tests::tree::Tree;

/// A repository of one ref, its tree, and a place for more.
struct Scene {
    repo: Repo,
    tree: Tree,
    dir: tempfile::TempDir,
}

const REF: &str = "alpha/greeting/1";

fn scene() -> Result<Scene, Failure> {
    let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
    let tree = Tree::create(&dir.path().join("tree"))?;
    tree.all_kinds()?;
    tree.generated(200, 7)?;
    let repo = Repo::init(&dir.path().join("artifacts"), Mode::Archive)?;
    repo.commit(
        REF,
        tree.root(),
        &["--add-detached-metadata-string=key=value"],
    )?;
    repo.ostree("summary", ["--update"])?;
    Ok(Scene { repo, tree, dir })
}

/// Pulls with stock ostree, with these settings of the remote.
fn pull(scene: &Scene, user: &str, serving: &Serving, settings: &[&str]) -> Result<Repo, Failure> {
    let user = Repo::init(&scene.dir.path().join(user), Mode::BareUser)?;
    let ca = serving.authority().certificate();
    let ca = format!("--set=tls-ca-path={}", ca.display());
    let url = serving.url();
    let remote = ["add", "--no-gpg-verify", &ca];
    user.ostree(
        "remote",
        remote.iter().chain(settings).chain(&["web", &url]),
    )?;
    user.ostree("pull", ["web", REF])?;
    Ok(user)
}

#[test]
fn stock_ostree_pulls_and_mirrors_all_of_an_artifact_over_tls() {
    let scene = scene().unwrap();
    let serving = Serving::start(scene.repo.path(), &[]).unwrap();
    let user = pull(&scene, "user", &serving, &[]).unwrap();
    let commit = scene.repo.commit_of(REF).unwrap();
    user.fsck().unwrap();
    assert_eq!(user.detached(&commit), scene.repo.detached(&commit));
    let checkout = scene.dir.path().join("checkout");
    user.checkout(&format!("web:{REF}"), &checkout).unwrap();
    artifact_tests::listing::compare(scene.tree.root(), &checkout).unwrap();

    let mirror = Repo::init(&scene.dir.path().join("mirror"), Mode::Archive).unwrap();
    let ca = serving.authority().certificate();
    let ca = format!("--set=tls-ca-path={}", ca.display());
    let remote = ["add", "--no-gpg-verify", &ca, "web", &serving.url()];
    mirror.ostree("remote", remote).unwrap();
    mirror.ostree("pull", ["--mirror", "web"]).unwrap();
    mirror.fsck().unwrap();
    assert_eq!(mirror.refs().unwrap(), scene.repo.refs().unwrap());
    assert_eq!(mirror.summary().unwrap(), scene.repo.summary().unwrap());
    let log = serving.log().unwrap();
    assert!(
        log.contains("GET /artifacts/summary HTTP/2.0\" 200"),
        "{log}"
    );
}

#[test]
fn only_a_certificate_of_the_authority_lets_a_client_in_where_one_is_asked_for() {
    let scene = scene().unwrap();
    let serving = Serving::start_private(scene.repo.path(), &[]).unwrap();
    let settings = |name: &str| {
        let (certificate, key) = serving.authority().certify(name).unwrap();
        let certificate = format!("--set=tls-client-cert-path={}", certificate.display());
        [
            certificate,
            format!("--set=tls-client-key-path={}", key.display()),
        ]
    };
    let [certificate, key] = settings("alice");
    pull(&scene, "alice", &serving, &[&certificate, &key]).unwrap();
    assert!(pull(&scene, "nobody", &serving, &[]).is_err());
    // Somebody else's authority has certified this one.
    let other = tempfile::tempdir().unwrap();
    let other = artifact_tests::serving::Authority::create(other.path()).unwrap();
    let (certificate, key) = other.certify("mallory").unwrap();
    let certificate = format!("--set=tls-client-cert-path={}", certificate.display());
    let key = format!("--set=tls-client-key-path={}", key.display());
    assert!(pull(&scene, "mallory", &serving, &[&certificate, &key]).is_err());
}

#[test]
fn a_push_is_pulled_over_tls_as_soon_as_it_has_returned() {
    let cache = Cache::start().unwrap();
    let tree = crate::every_kind(&cache).unwrap();
    let from = crate::source(&cache, Mode::BareUser).unwrap();
    from.commit(REF, tree.root(), &[]).unwrap();
    cache.push(&from, &[REF]).unwrap().must_exit(0).unwrap();
    let serving = Serving::start(cache.repo().path(), &[]).unwrap();
    let summary = serving.curl("/artifacts/summary", &[]).unwrap();
    assert!(summary.contains(REF), "{summary}");
    let next = "alpha/greeting/2";
    from.commit(next, tree.root(), &["--subject=again"])
        .unwrap();
    cache.push(&from, &[next]).unwrap().must_exit(0).unwrap();
    assert!(
        serving
            .curl("/artifacts/summary", &[])
            .unwrap()
            .contains(next)
    );
    let named = serving
        .curl(&format!("/artifacts/refs/heads/{next}"), &[])
        .unwrap();
    assert_eq!(named.trim(), from.commit_of(next).unwrap().to_hex());
}
