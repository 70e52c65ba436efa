//! Commands that the programs advise are run here as they are printed, and help.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use artifact_formats::ObjectKind;
use artifact_tests::exec::{Ran, run};
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};

use crate::place::Place;

const REF: &str = "project/element/key";

/// Returns the command between backticks that begins like this.
fn advised<'a>(ran: &'a Ran, begin: &str) -> &'a str {
    let said = [&ran.stderr, &ran.stdout];
    let commands = said
        .iter()
        .flat_map(|text| text.split('`').skip(1).step_by(2));
    let mut commands = commands.filter(|command| command.starts_with(begin));
    let command = commands.next();
    assert!(
        command.is_some(),
        "no advice that begins with {begin}: {ran}"
    );
    command.unwrap()
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs what a shell is told to, with the programs of this workspace on the PATH.
    fn sh(&self, command: &str) -> Ran {
        let programs = programs::client().unwrap();
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", programs.parent().unwrap().display());
        let mut sh = Command::new("sh");
        sh.args(["-c", command]).env("PATH", path);
        run(sh.env("HOME", self.dir.path()).current_dir(self.dir.path())).unwrap()
    }

    fn done(&self, command: &str) -> String {
        self.sh(command).success().unwrap()
    }

    /// Pulls the ref from the server's repository, which is called `o` here.
    fn pull(&self, into: &str, options: &str) -> Ran {
        self.sh(&format!(
            "artifact-cache pull --repo {into} --remote {} {options} {REF}",
            self.server.path().display()
        ))
    }
}

fn failed(ran: Ran, code: i32) -> Ran {
    assert_eq!(ran.code, Some(code), "{ran}");
    ran
}

#[test]
fn what_init_advises_makes_a_repository_fit_for_a_cache() {
    let place = Place::new();
    place.done("artifact-cache-admin init server");
    let ran = failed(
        place.sh("artifact-cache-admin init server --owner nobody"),
        9,
    );
    place.done(advised(&ran, "chown -R nobody "));
    place.done("artifact-cache-admin init server --owner nobody");

    let bare = Repo::init(&place.path("bare"), Mode::BareUser).unwrap();
    fs::create_dir(place.path("tree")).unwrap();
    bare.commit(REF, &place.path("tree"), &[]).unwrap();
    let ran = failed(place.sh("artifact-cache-admin init bare"), 9);
    place.done(advised(&ran, "ostree init --mode=archive "));
    place.done("artifact-cache-admin init bare.archive");
    let archive = Repo::at(&place.path("bare.archive"));
    assert_eq!(archive.refs().unwrap(), bare.refs().unwrap());
}

#[test]
fn what_is_advised_makes_a_configuration_trusted() {
    let place = Place::new();
    fs::write(place.path("config"), "").unwrap();
    let check = || place.sh("artifact-cache-admin config check config");
    place.done("chmod 666 config");
    place.done(advised(&failed(check(), 2), "chmod go-w "));
    place.done("chown nobody config");
    place.done(advised(&failed(check(), 2), "chown root "));
    check().success().unwrap();
}

#[test]
fn what_prune_and_fsck_advise_completes_a_ref_again() {
    let place = Place::new();
    place.done("artifact-cache-admin init server");
    place.commit(REF, "1");
    place.push(&[REF]).must_exit(0).unwrap();
    let tree = place.server.objects(ObjectKind::Dirtree).unwrap()[0];
    let tree = place
        .server
        .path()
        .join("objects")
        .join(tree.archive_path());
    fs::remove_file(tree).unwrap();
    let ran = failed(place.sh("artifact-cache-admin prune server"), 9);
    let fsck = advised(&ran, "artifact-cache-admin fsck --repair ");
    let ran = failed(place.sh(fsck), 9);
    let push = advised(&ran, "artifact-cache push");
    let server = place.server.path().display();
    place.done(&format!("{push} --repo source --remote {server} {REF}"));
    place.done(advised(&ran, "artifact-cache-admin fsck --repair "));
    place.done("artifact-cache-admin prune server");
}

#[test]
fn what_the_https_server_advises_lets_it_serve() {
    let place = Place::new();
    // Root starts it, and it must not run as root.
    let serve = |what: &str| {
        place.sh(&format!(
            "timeout 1 artifact-cache-serve --user nobody --no-page --log none {what}"
        ))
    };
    let plain = |repo: &str| serve(&format!("--plain-http --listen 127.0.0.1:0 {repo}"));
    let served = |ran: Ran| failed(ran, 124);
    let new = |ran: &Ran, repo: &str| {
        let command = advised(ran, "artifact-cache-admin init REPO");
        place.done(&command.replace("REPO", repo));
    };
    new(&failed(plain("none"), 9), "none");
    fs::create_dir(place.path("empty")).unwrap();
    new(&failed(plain("empty"), 9), "empty");
    Repo::init(&place.path("bare"), Mode::BareUser).unwrap();
    new(&failed(plain("bare"), 9), "archive");
    served(plain("archive"));
    place.done("chmod 600 empty/config");
    let ran = failed(plain("empty"), 9);
    let listed = place.done(&advised(&ran, "ls -l ").replace("REPO", "empty"));
    assert!(listed.starts_with("-rw-------"), "{listed}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let ran = serve(&format!("--plain-http --listen {at} archive"));
    let listed = place.done(advised(&ran, "ss -ltnp"));
    assert!(listed.contains(&at), "{listed}");

    for name in ["one", "two"] {
        place.done(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
             -subj /CN=localhost -keyout {name}.key -out {name}.pem 2>&1 && chmod 644 {name}.key"
        ));
    }
    let tls = |key: &str| {
        serve(&format!(
            "--listen 127.0.0.1:0 --cert one.pem --key {key} archive"
        ))
    };
    let ran = tls("two.key");
    let certificate = advised(&ran, "openssl x509 ").replace("CERT", "one.pem");
    let key = |name| advised(&ran, "openssl pkey ").replace("KEY", name);
    let certificate = place.done(&certificate);
    assert_ne!(certificate, place.done(&key("two.key")));
    assert_eq!(certificate, place.done(&key("one.key")));
    place.done("chmod 600 one.key");
    let ran = tls("one.key");
    let share = advised(&ran, "chgrp ").replace("GROUP", "nogroup");
    place.done(&share.replace("FILE", "one.key"));
    served(tls("one.key"));
}

#[test]
fn what_a_push_advises_lets_it_go_on() {
    let place = Place::new();
    place.done("artifact-cache-admin init server");
    fs::create_dir(place.path("tree")).unwrap();
    let server = place.server.path().display().to_string();
    let push = |name: &str| {
        place.sh(&format!(
            "artifact-cache push --repo source --remote {server} {name}"
        ))
    };
    // A name that ostree takes for a checksum.
    place.commit("face", "1");
    let ran = failed(push("face"), 2);
    let command = advised(&ran, "ostree refs --create=NEW OLD");
    let command = command.replace("NEW", REF).replace("OLD", "face");
    place.done(&format!("{command} --repo=source"));
    push(REF).success().unwrap();

    // A connection that fails for no reason that is known.
    let ran = failed(
        place.sh(&format!(
            "artifact-cache push --repo source --ssh 'sh -c \"exit 255\"' --remote a@localhost:x {REF}"
        )),
        5,
    );
    let shown = place.sh(&format!(
        "{} -o BatchMode=yes -p 1 localhost",
        advised(&ran, "ssh -v")
    ));
    assert!(shown.stderr.contains("debug1: "), "{shown}");

    // A commit that is bound to another name.
    place
        .source
        .commit("a/b/c", &place.path("tree"), &[])
        .unwrap();
    place.done("ostree refs --repo=source --create=x/y/z a/b/c");
    let ran = failed(push("x/y/z"), 3);
    assert!(ran.stderr.contains("add --bind-ref=REF"), "{ran}");
    let commit = advised(&ran, "ostree commit");
    place.done(&format!(
        "{commit} --repo=source --branch=a/b/c --bind-ref=x/y/z --tree=dir=tree"
    ));
    place.done("ostree refs --repo=source --force --create=x/y/z a/b/c");
    push("x/y/z").success().unwrap();

    // A local repository that lacks something.
    fs::write(place.path("tree/file"), "more").unwrap();
    place
        .source
        .commit("a/b/d", &place.path("tree"), &[])
        .unwrap();
    for id in place.source.objects(ObjectKind::File).unwrap() {
        fs::remove_file(place.source.path().join("objects").join(id.archive_path())).unwrap();
    }
    let ran = failed(push("a/b/d"), 7);
    let fsck = place.sh(&format!("{} --repo=source", advised(&ran, "ostree fsck")));
    assert!(failed(fsck, 1).stderr.contains("missing"));
}

#[test]
fn what_a_pull_advises_lets_it_go_on() {
    let place = Place::new();
    place.done("artifact-cache-admin init server");
    place.commit(REF, "1");
    place.push(&[REF]).must_exit(0).unwrap();
    // Work of the user's own.
    let own = Repo::init(&place.path("own"), Mode::BareUser).unwrap();
    let work = own
        .commit(REF, &place.path("tree"), &["-s", "work"])
        .unwrap();
    let ran = failed(place.pull("own", ""), 3);
    let keep = advised(&ran, "ostree refs --create=NAME ").replace("NAME", "kept/work/1");
    place.done(&format!("{keep} --repo=own"));
    place.pull("own", "--force").success().unwrap();
    assert_eq!(own.commit_of("kept/work/1").unwrap(), work);
    assert_ne!(own.commit_of(REF).unwrap(), work);

    // A signature that a remote demands, and for which there is no key, and no signature.
    let server = place.server.path().display().to_string();
    Repo::init(&place.path("strict"), Mode::BareUser).unwrap();
    place.done(&format!(
        "ostree remote add --repo=strict o file://{server}"
    ));
    let ran = failed(place.pull("strict", ""), 8);
    let import = advised(&ran, "ostree remote gpg-import REMOTE").replace("REMOTE", "o");
    place.done(
        "mkdir -m 700 gnupg && gpg --homedir gnupg --batch --quiet --passphrase '' \
         --quick-gen-key me@example.com ed25519 sign && gpg --homedir gnupg --export >keys.gpg",
    );
    place.done(&format!("{import} --repo=strict --keyring=keys.gpg"));
    let ran = failed(place.pull("strict", ""), 8);
    let trust = advised(&ran, "ostree config set ").replace("NAME", "o");
    place.done(&format!("{trust} --repo=strict"));
    place.pull("strict", "").success().unwrap();
    let _ = place.sh("gpgconf --homedir gnupg --kill gpg-agent");
}

#[test]
fn what_is_advised_where_a_repository_cannot_hold_an_object_can_hold_it() {
    let place = Place::new();
    place.done("artifact-cache-admin init server");
    // A mark that a repository of this mode has no place for.
    let tree = place.path("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "x").unwrap();
    fs::set_permissions(tree.join("file"), PermissionsExt::from_mode(0o4755)).unwrap();
    place.source.commit(REF, &tree, &["--no-bindings"]).unwrap();
    place.push(&[REF]).must_exit(0).unwrap();
    place.done("ostree init --repo=only --mode=bare-user-only");
    let ran = place.pull("only", "");
    assert_ne!(ran.code, Some(0), "{ran}");
    let init = advised(&ran, "ostree init --mode=bare-user");
    place.done(&format!("{init} --repo=user"));
    place.pull("user", "").success().unwrap();
    let listed = place.done(&format!("ostree ls --repo=user -R {REF}"));
    assert!(listed.contains("-04755 "), "{listed}");
}
