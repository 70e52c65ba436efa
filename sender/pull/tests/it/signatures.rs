//! Signatures by real keys: `gpg` makes the keys, and stock `ostree` signs with them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use artifact_formats::{ObjectId, serialize_signature};
use artifact_puller::{Error, Outcome, Pull, Report};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};

use crate::cache::{Cache, Here, REF, origin, path_of};
use crate::server::Server;
use crate::streamed::{Way, pull};

fn run(program: &str, args: &[&str]) -> String {
    let ran = Command::new(program).args(args).output();
    let ran = ran.unwrap_or_else(|error| panic!("{program}: {error}; `apt-get install {program}`"));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// Keys in a directory of their own. Their agent ends with them.
struct Gpg(tempfile::TempDir);

impl Gpg {
    fn new() -> Self {
        // A short path: it contains the agent's socket.
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self(home)
    }

    fn home(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn run(&self, args: &[&str]) -> String {
        run(
            "gpg",
            &[&["--homedir", self.home(), "--batch", "--quiet"], args].concat(),
        )
    }

    /// Makes a key that does not expire, and returns its fingerprint.
    fn key(&self, name: &str) -> String {
        let long_ago = ["--faked-system-time", "20200101T000000", "--passphrase", ""];
        let make = ["--quick-generate-key", name, "ed25519", "sign", "never"];
        self.run(&[&long_ago[..], &make].concat());
        let listed = self.run(&["--with-colons", "--list-keys", name]);
        let line = listed.lines().find(|line| line.starts_with("fpr:"));
        line.unwrap().split(':').nth(9).unwrap().to_owned()
    }

    fn let_expire(&self, key: &str) {
        let then = ["--faked-system-time", "20200601T000000"];
        self.run(&[&then[..], &["--quick-set-expire", key, "1w"]].concat());
    }

    fn revoke(&self, key: &str) {
        let file = self.0.path().join(format!("openpgp-revocs.d/{key}.rev"));
        // A colon keeps it from being imported by mistake.
        let certificate = fs::read_to_string(&file)
            .unwrap()
            .replace("\n:---", "\n---");
        fs::write(&file, certificate).unwrap();
        self.run(&["--import", file.to_str().unwrap()]);
    }

    fn export(&self, keys: &[&str]) -> String {
        let path = self.0.path().join("trusted.gpg");
        let path = path.to_str().unwrap().to_owned();
        self.run(&[&["--yes", "--output", &path, "--export"], keys].concat());
        path
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let kill = ["--homedir", self.home(), "--kill", "gpg-agent"];
        let _ = Command::new("gpgconf").args(kill).output();
    }
}

/// A cache that stock ostree has made: one commit with these signatures, and a summary with those.
fn cache(gpg: &Gpg, commit_by: &[&str], summary_by: &[&str]) -> Cache {
    let dir = tempfile::tempdir().unwrap();
    let (tree, repo) = (dir.path().join("tree"), dir.path().join("repo"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), format!("{commit_by:?}")).unwrap();
    let repo = format!("--repo={}", repo.display());
    let home = format!("--gpg-homedir={}", gpg.home());
    let sign = |keys: &[&str]| -> Vec<String> {
        let mut options: Vec<_> = keys.iter().map(|key| format!("--gpg-sign={key}")).collect();
        if !keys.is_empty() {
            options.push(home.clone());
        }
        options
    };
    let ostree = |args: &[&str], sign: Vec<String>| {
        let sign: Vec<_> = sign.iter().map(String::as_str).collect();
        run("ostree", &[args, &[&repo], &sign].concat());
    };
    ostree(&["init", "--mode=archive"], Vec::new());
    let tree = format!("--tree=dir={}", tree.display());
    ostree(&["commit", "-b", REF, &tree], sign(commit_by));
    ostree(&["summary", "-u"], sign(summary_by));
    let mut cache = Cache::default();
    let at = dir.path().join("repo");
    read(&at, &at, &mut cache);
    cache
}

fn read(root: &Path, dir: &Path, cache: &mut Cache) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, cache);
        } else {
            let name = path.strip_prefix(root).unwrap();
            cache.put(name.to_str().unwrap(), &fs::read(&path).unwrap());
        }
    }
}

/// A local repository whose remote demands signatures, as `ostree remote add` writes it.
fn demanding(url: &str, options: &[&str]) -> Here {
    let here = Here::new();
    let repo = format!("--repo={}", here.path().display());
    run(
        "ostree",
        &[&["remote", "add", &repo], options, &["web", url]].concat(),
    );
    here
}

fn one(here: &Here, url: &str) -> Pull {
    here.pull().reference(REF.parse().unwrap()).known_as(url)
}

/// Returns what a pull says against signatures; an empty text if they are good.
fn refusal(here: &Here, cache: &Cache, result: Result<Report, Error>) -> String {
    let text = |error: &Error| match error {
        Error::Unverified(unverified) => unverified.reason.to_string(),
        other => panic!("another error: {other}"),
    };
    let said = match &result {
        Err(error) => text(error),
        Ok(report) => match report.refs.first().map(|pulled| &pulled.outcome) {
            Some(Outcome::Pulled) => String::new(),
            Some(Outcome::Failed(error)) => text(error),
            other => panic!("{other:?}"),
        },
    };
    let held = said.is_empty().then(|| cache.head());
    assert_eq!(here.held(REF), held, "{said}");
    said
}

#[tokio::test]
async fn a_ref_moves_only_to_a_commit_that_a_good_key_has_signed() {
    let gpg = Gpg::new();
    let [good, wrong, expired, revoked] =
        ["good", "wrong", "expired", "revoked"].map(|name| gpg.key(name));
    let signed = |keys: &[&str]| cache(&gpg, keys, &[]);
    let mut stolen = signed(&[]);
    let by_good = signed(&[&good]);
    let detached = |cache: &Cache| {
        format!(
            "objects/{}",
            ObjectId::commit(cache.head()).loose_path("commitmeta")
        )
    };
    let signature = by_good.files[&detached(&by_good)].clone();
    stolen.put(&detached(&stolen), &signature);
    let cases = [
        (by_good, ""),
        (signed(&[&wrong, &good]), ""),
        (signed(&[]), "no OpenPGP signature"),
        (signed(&[&wrong]), "the key is not trusted"),
        (signed(&[&expired]), "the key has expired"),
        (signed(&[&revoked]), "the key is revoked"),
        (signed(&[&revoked, &expired]), "the key"),
        (stolen, "the signature is of something else"),
    ];
    gpg.let_expire(&expired);
    gpg.revoke(&revoked);
    let trusted = format!("--gpg-import={}", gpg.export(&[&good, &expired, &revoked]));
    for (cache, says) in cases {
        let server = Server::start(cache.files.clone(), BTreeMap::new()).await;
        let url = server.url();
        let loose = demanding(&url, &[&trusted]);
        let result = one(&loose, &url).from(&origin(&server), |_| ()).await;
        let said = refusal(&loose, &cache, result);
        let streamed = demanding(&url, &[&trusted]);
        let (result, _) = pull(one(&streamed, &url), &cache, Way::Good).await;
        assert_eq!(refusal(&streamed, &cache, result), said);
        assert!(
            said.contains(says) && said.is_empty() == says.is_empty(),
            "{said}, not {says}"
        );
    }
}

#[tokio::test]
async fn what_a_ref_holds_is_learnt_only_from_a_summary_that_a_good_key_has_signed() {
    let gpg = Gpg::new();
    let (good, wrong) = (gpg.key("good"), gpg.key("wrong"));
    let trusted = format!("--gpg-import={}", gpg.export(&[&good]));
    let mut changed = cache(&gpg, &[], &[&good]);
    // The signed one lists another commit.
    let (other, _) = changed.commit("other", None);
    let signature = changed.files["summary.sig"].clone();
    changed.set(REF, other);
    changed.put("summary.sig", &signature);
    let cases = [
        (cache(&gpg, &[], &[&good]), ""),
        (cache(&gpg, &[], &[]), "no OpenPGP signature"),
        (cache(&gpg, &[&good], &[&wrong]), "the key is not trusted"),
        (changed, "the signature is of something else"),
    ];
    let options = [
        "--set=gpg-verify=false",
        "--set=gpg-verify-summary=true",
        &trusted,
    ];
    for (cache, says) in cases {
        let server = Server::start(cache.files.clone(), BTreeMap::new()).await;
        let here = demanding(&server.url(), &options);
        let pull = one(&here, &server.url());
        assert!(!pull.can_be_streamed().unwrap(), "a stream has no summary");
        let result = pull.from(&origin(&server), |_| ()).await;
        let said = refusal(&here, &cache, result);
        assert!(
            said.contains(says) && said.is_empty() == says.is_empty(),
            "{said}, not {says}"
        );
    }
}

// Debian's ostree knows no ed25519.
#[tokio::test]
async fn sign_verify_takes_the_keys_of_the_remote_and_no_others() {
    let key = |seed| SigningKey::from_bytes(&[seed; 32]);
    let public = |key: &SigningKey| STANDARD.encode(key.verifying_key().as_bytes());
    let (good, wrong) = (key(1), key(2));
    let trusted = format!("--set=verification-ed25519-key={}", public(&good));
    let options = ["--no-gpg-verify", "--set=sign-verify=true", &trusted];
    for (by, says) in [
        (Some(&good), ""),
        (Some(&wrong), "none of its ed25519 signatures is good"),
        (None, "no ed25519 signature"),
    ] {
        let mut cache = Cache::new();
        let id = ObjectId::commit(cache.head());
        if let Some(by) = by {
            let signature = by.sign(&cache.files[&path_of(id)]).to_bytes();
            let path = format!("objects/{}", id.loose_path("commitmeta"));
            cache.put(&path, &serialize_signature(&signature));
        }
        let server = Server::start(cache.files.clone(), BTreeMap::new()).await;
        let url = server.url();
        let loose = demanding(&url, &options);
        let result = one(&loose, &url).from(&origin(&server), |_| ()).await;
        let said = refusal(&loose, &cache, result);
        let streamed = demanding(&url, &options);
        let (result, _) = pull(one(&streamed, &url), &cache, Way::Good).await;
        assert_eq!(refusal(&streamed, &cache, result), said);
        assert!(
            said.contains(says) && said.is_empty() == says.is_empty(),
            "{said}, not {says}"
        );
    }
}
