//! The effect of an operator's commands, and of pushes beside them, on repositories that other
//! programs and people have changed.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use artifact_tests::exec::run;
use artifact_tests::repo::Repo;
use serde_json::Value;

use crate::place::Place;

/// A repository with some refs.
fn with_refs(names: &[&str]) -> Place {
    let place = Place::new();
    place.admin(&["init", "server"]).success().unwrap();
    for name in names {
        place.commit(name, name);
    }
    place.push(names).must_exit(0).unwrap();
    place
}

impl Place {
    fn head(&self, name: &str) -> std::path::PathBuf {
        self.server.path().join("refs").join(name)
    }

    fn link(&self, link: &str, target: &str) {
        let path = self.head(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// Checks that stock ostree can list refs, prune, check, and make a summary.
    fn stock_works(&self) {
        self.server.refs().unwrap();
        self.server.fsck().unwrap();
        self.server
            .ostree("prune", ["--refs-only", "--no-prune"])
            .unwrap();
    }

    fn must(&self, args: &[&str]) -> String {
        self.admin(args).success().unwrap()
    }
}

// Removing and pruning targets once left aliases that led to nothing: from then on, stock `ostree
// refs`, `fsck` and `prune` failed, and so did our own prune.
#[test]
fn what_an_alias_leads_to_is_kept_and_named_and_an_alias_can_be_removed() {
    for (link, target) in [
        ("heads/stable", "p/a/1"),
        ("heads/os/deep/stable", "../../p/a/1"),
        ("mirrors/org.example/x", "../../heads/p/a/1"),
        ("remotes/origin/x", "../../heads/p/a/1"),
    ] {
        let place = with_refs(&["p/a/1", "p/a/2", "p/b/1", "q/a/1"]);
        place.link(link, target);
        place.set_age("p/a/1", 1_000_000);
        let shown = link
            .strip_prefix("heads/")
            .map_or(format!("refs/{link}"), str::to_owned);
        let ran = place.admin(&["remove", "server", "p/a/1"]);
        assert_eq!(ran.code, Some(9), "{ran}");
        assert!(ran.stderr.contains(&shown), "{ran}");
        for more in [
            &["--keep", "1"][..],
            &["--keep-younger-than", "1day"],
            &["--dry-run", "--keep", "1"],
        ] {
            let said = place.must(&[&["prune", "server"], more].concat());
            assert!(
                said.contains(&format!("kept p/a/1: {shown} is an alias")),
                "{said}"
            );
        }
        assert!(place.head("heads/p/a/1").exists());
        place.stock_works();
        if link.starts_with("heads/") {
            let said = place.must(&["remove", "server", &shown]);
            assert!(said.contains(&format!("removed {shown}")), "{said}");
            place.must(&["remove", "server", "p/a/1"]);
            place.stock_works();
        }
    }
}

#[test]
fn chains_of_aliases_are_kept_whole_and_go_together() {
    let place = with_refs(&["p/a/1", "p/a/2", "p/a/3"]);
    place.link("heads/first", "second");
    place.link("heads/second", "p/a/1");
    for kept in [&["p/a/1"][..], &["second"], &["p/a/1", "second"]] {
        let ran = place.admin(&[&["remove", "server"], kept].concat());
        assert_eq!(ran.code, Some(9), "{ran}");
        assert_eq!(
            ran.stderr.matches("is an alias of it").count(),
            kept.len(),
            "{ran}"
        );
        place.stock_works();
    }
    place.must(&["remove", "server", "p/a/1", "first", "second"]);
    place.stock_works();
    assert_eq!(place.names(), ["p/a/2", "p/a/3"]);
}

#[test]
fn an_alias_that_leads_nowhere_is_named_and_keeps_nobody_from_anything() {
    let links = [
        ("heads/gone", "p/a/9"),
        ("heads/loop", "loop"),
        ("heads/this", "that"),
        ("heads/that", "this"),
        ("heads/outside", "/etc/hostname"),
        ("heads/above", "../../config"),
        ("heads/dir", "p/a"),
        ("mirrors/org.example/gone", "../../heads/p/a/9"),
        ("remotes/origin/gone", "../../heads/p/a/9"),
    ];
    for links in links
        .each_ref()
        .map(std::slice::from_ref)
        .into_iter()
        .chain([&links[..]])
    {
        let place = with_refs(&["p/a/1", "p/a/2"]);
        for (link, target) in links {
            place.link(link, target);
        }
        place.commit("p/a/3", "three");
        place.push(&["p/a/3"]).must_exit(0).unwrap();
        place.must(&["summary", "server"]);
        place.must(&["prune", "--keep", "2", "server"]);
        let checked = place.must(&["fsck", "server"]);
        let status = place.must(&["status", "server"]);
        let json: Value =
            serde_json::from_str(&place.must(&["status", "--json", "server"])).unwrap();
        assert_eq!(
            json["broken_refs"].as_array().unwrap().len(),
            links.len(),
            "{json}"
        );
        for (link, _) in links {
            let shown = link.strip_prefix("heads/").unwrap_or(link);
            assert!(status.contains(&format!("{shown} is an alias")), "{status}");
            assert!(
                checked.contains(&format!("remark: refs/{link}: ")),
                "{checked}"
            );
        }
        let mut heads = links
            .iter()
            .filter_map(|(link, _)| link.strip_prefix("heads/"));
        let gone: Vec<_> = heads.by_ref().collect();
        if !gone.is_empty() {
            place.must(&[&["remove", "server"], &gone[..]].concat());
            if gone.len() == links.len() {
                place.stock_works();
            }
        }
    }
    // A push of the alias's target mends it.
    let place = with_refs(&["p/a/1"]);
    place.link("heads/next", "p/a/2");
    place.commit("p/a/2", "two");
    place.push(&["p/a/2"]).must_exit(0).unwrap();
    place.stock_works();
}

// A copy of a repository without its empty directories was one that `init` called good and that no
// command could prune.
#[test]
fn directories_that_are_gone_are_made_again_by_whoever_needs_them() {
    type Act = (&'static str, fn(&Place));
    let acts: [Act; 8] = [
        ("init", |place| drop(place.must(&["init", "server"]))),
        ("push", |place| {
            place.commit("p/a/2", "two");
            place.push(&["p/a/2"]).must_exit(0).unwrap();
        }),
        ("prune", |place| drop(place.must(&["prune", "server"]))),
        ("summary", |place| drop(place.must(&["summary", "server"]))),
        ("remove", |place| {
            let ran = place.admin(&["remove", "server", "no/such"]);
            assert!(ran.stderr.contains("no ref no/such"), "{ran}");
        }),
        ("repair", |place| {
            drop(place.must(&["fsck", "--repair", "server"]))
        }),
        ("fsck", |place| drop(place.must(&["fsck", "server"]))),
        ("status", |place| drop(place.must(&["status", "server"]))),
    ];
    for names in [&["p/a/1"][..], &[]] {
        for (name, act) in acts {
            let place = Place::new();
            place.must(&["init", "server"]);
            if !names.is_empty() {
                place.commit("p/a/1", "one");
                place.push(names).must_exit(0).unwrap();
            }
            let server = place.server.path();
            let find = ["-type", "d", "-empty", "-delete"];
            run(Command::new("find").arg(server).args(find))
                .unwrap()
                .success()
                .unwrap();
            assert!(!server.join("refs/remotes").exists() && !server.join("state").exists());
            act(&place);
            // Read-only commands create nothing.
            if name == "fsck" || name == "status" {
                place.must(&["init", "server"]);
            }
            place.stock_works();
            place.server.ostree("summary", ["-u"]).unwrap();
            place.commit("p/b/1", name);
            place.push(&["p/b/1"]).must_exit(0).unwrap();
            place.must(&["fsck", "server"]);
        }
    }
    // A missing directory is not made when the objects are elsewhere.
    let place = with_refs(&["p/a/1"]);
    let objects = place.server.path().join("objects");
    fs::rename(&objects, place.dir.path().join("elsewhere")).unwrap();
    for args in [
        &["init", "server"][..],
        &["prune", "server"],
        &["status", "server"],
    ] {
        let ran = place.admin(args);
        assert_eq!(ran.code, Some(9), "{ran}");
        assert!(ran.stderr.contains("no directory of objects"), "{ran}");
    }
    assert!(!objects.exists());
}

// Our fsck once called a tombstone, which a prune had made, a fault.
#[test]
fn files_that_ostree_has_or_passes_over_are_no_faults() {
    let place = with_refs(&["p/a/1", "p/a/2"]);
    place
        .server
        .ostree("config", ["set", "core.tombstone-commits", "true"])
        .unwrap();
    place.must(&["remove", "server", "p/a/1"]);
    // It has the same bytes as stock's.
    let copy = place.dir.path().join("copy");
    let copied = run(Command::new("cp")
        .arg("-a")
        .arg(place.server.path())
        .arg(&copy));
    copied.unwrap().success().unwrap();
    let stock = Repo::at(&copy);
    stock.ostree("prune", ["--refs-only"]).unwrap();
    place.must(&["prune", "server"]);
    let objects = |repo: &Repo| repo.listing(&["extensions", "summary"]).unwrap();
    objects(&place.server).must_equal(&objects(&stock)).unwrap();
    let said = place.must(&["fsck", "server"]);
    assert!(said.contains(": 0 faults, 0 remarks"), "{said}");

    let server = place.server.path();
    let dir = fs::read_dir(server.join("objects"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let digits = "a".repeat(62);
    let write = |path: &Path| fs::write(path, "junk").unwrap();
    write(&dir.join(format!("{digits}.sizes2")));
    write(&dir.join(format!("{digits}.file-xattrs")));
    let said = place.must(&["fsck", "server"]);
    assert!(said.contains(": 0 faults, 0 remarks"), "{said}");

    let foreign = [
        dir.join(format!(".{digits}.filez.Ab3Cd9")),
        dir.join(format!("{digits}.file")),
        dir.join(format!("{digits}.commitmeta")),
        dir.join("tmp.XYZ"),
        dir.join(format!("{}.filez", "A".repeat(62))),
        server.join("objects/.nfs0001"),
        server.join("objects/README"),
        server.join("refs/heads/p/.2.Ab3Cd9"),
        server.join("refs/heads/.rsync_info"),
    ];
    for path in &foreign {
        write(path);
    }
    fs::create_dir(server.join("objects/lost+found")).unwrap();
    fs::copy(
        server.join("refs/heads/p/a/2"),
        server.join("refs/heads/tmp.ABC123"),
    )
    .unwrap();
    place.stock_works();
    // In mode bare: stock prune fails for a tombstone in an archive repository.
    let files = place
        .server
        .objects(artifact_formats::ObjectKind::File)
        .unwrap();
    let payload = files[0].archive_path();
    symlink(
        format!("../{payload}"),
        dir.join(format!("{digits}.payload-link")),
    )
    .unwrap();
    let said = place.must(&["fsck", "server"]);
    let expected = format!(": 0 faults, {} remarks", foreign.len() + 2);
    assert!(said.contains(&expected), "{said}");
    assert_eq!(place.must(&["fsck", "-q", "server"]), "");
    let json: Value = serde_json::from_str(&place.must(&["status", "--json", "server"])).unwrap();
    assert_eq!(json["objects"], 4, "{json}");
    place.commit("p/a/3", "three");
    place.push(&["p/a/3"]).must_exit(0).unwrap();
    place.must(&["prune", "server"]);
    // An entry at which stock ostree stops is a fault.
    fs::create_dir(dir.join(format!("{digits}.dirtree"))).unwrap();
    write(&server.join("refs/heads/empty"));
    let ran = place.admin(&["fsck", "server"]);
    assert!(
        ran.code == Some(9) && ran.stdout.contains(": 2 faults"),
        "{ran}"
    );
}

#[test]
fn a_dry_prune_says_what_the_prune_then_does_as_stock_ostree_would() {
    let place = with_refs(&["p/a/1", "p/a/2", "p/a/3", "p/a/4", "q/a/1"]);
    for (age, name) in ["p/a/1", "p/a/2", "p/a/3", "p/a/4"].iter().enumerate() {
        place.set_age(name, 1_000_000 - 100 * age as u64);
    }
    let server = place.server.path();
    let args = ["prune", "--keep", "2", "server"];
    let before = place.server.listing(&[]).unwrap();
    let dry = place.must(&[&args[..], &["--dry-run"]].concat());
    before
        .must_equal(&place.server.listing(&[]).unwrap())
        .unwrap();
    let space = |dir: &Path| -> u64 {
        let find = ["-type", "f", "-printf", "%s\n"];
        let found = run(Command::new("find").arg(dir).args(find))
            .unwrap()
            .success();
        found
            .unwrap()
            .lines()
            .map(|line| line.parse::<u64>().unwrap())
            .sum()
    };
    let copy = place.dir.path().join("copy");
    run(Command::new("cp").arg("-a").arg(server).arg(&copy))
        .unwrap()
        .success()
        .unwrap();
    let stock = Repo::at(&copy);
    for name in ["p/a/1", "p/a/2"] {
        stock.ostree("refs", ["--delete", name]).unwrap();
    }
    stock.ostree("prune", ["--refs-only"]).unwrap();
    let objects = server.join("objects");
    let had = space(&objects);
    let wet = place.must(&args);
    let freed = had - space(&objects);
    let said = format!("6 of 16 objects, {freed} B");
    assert!(freed > 0 && freed < 1000);
    assert!(dry.ends_with(&format!("would remove {said}\n")), "{dry}");
    assert!(wet.ends_with(&format!("removed {said}\n")), "{wet}");
    let listed = |repo: &Repo| repo.listing(&["extensions", "summary"]).unwrap();
    listed(&place.server).must_equal(&listed(&stock)).unwrap();
}

#[test]
fn what_empties_a_project_or_takes_more_than_half_is_refused_unless_it_is_meant() {
    let refused = [
        (&["--keep", "0"][..], "no ref of project p"),
        (&["--keep", "0", "--refs", "q/**"], "no ref of project q"),
        (
            &["--keep-younger-than", "1s", "--refs", "p/a/*"],
            "3 of 5 refs",
        ),
        (&["--keep-younger-than", "1s"], "no ref of project p"),
    ];
    let place = with_refs(&["p/a/1", "p/a/2", "p/a/3", "p/b/1", "q/a/1"]);
    for name in place.names() {
        place.set_age(&name, 1000);
    }
    for (args, why) in refused {
        let args = [&["prune", "server"], args].concat();
        let ran = place.admin(&args);
        assert_eq!(ran.code, Some(2), "{ran}");
        assert!(
            ran.stderr.contains(why) && ran.stderr.contains("--allow-remove-all"),
            "{ran}"
        );
        let said = place.must(&[&args[..], &["--dry-run"]].concat());
        assert!(
            said.contains("would remove p/") || said.contains("would remove q/"),
            "{said}"
        );
        assert!(said.contains("--allow-remove-all"), "{said}");
        assert_eq!(place.names().len(), 5);
    }
    place.must(&["prune", "--keep", "1", "server"]);
    assert_eq!(place.names(), ["p/a/3", "p/b/1", "q/a/1"]);
    place.must(&["prune", "--keep", "0", "--allow-remove-all", "server"]);
    assert!(place.names().is_empty());
}

// Web servers distinguish two versions of a file by whole seconds and the length: of two summaries
// within a second, clients were given the first.
#[test]
fn each_version_of_a_file_that_is_served_has_a_later_second() {
    let place = Place::new();
    place.must(&["init", "server"]);
    let second = |path: &str| {
        let metadata = fs::metadata(place.server.path().join(path)).unwrap();
        (metadata.mtime(), metadata.len())
    };
    let mut before = (Vec::new(), Vec::new());
    for turn in 0..5 {
        place.commit("p/a/1", &format!("{turn}"));
        let mut push = Command::new(artifact_tests::programs::client().unwrap());
        push.args(["push", "--force", "--remote"])
            .arg(place.server.path())
            .arg("--repo")
            .arg(place.source.path())
            .arg("p/a/1");
        run(&mut push).unwrap().success().unwrap();
        before.0.push(second("summary"));
        before.1.push(second("refs/heads/p/a/1"));
    }
    for versions in [before.0, before.1] {
        let later = versions.windows(2).all(|pair| pair[0].0 < pair[1].0);
        assert!(later, "{versions:?}");
    }
    // An unchanged summary keeps its date.
    let is = second("summary");
    place.must(&["summary", "server"]);
    assert_eq!(second("summary"), is);
}

// A receiver that wrote beyond its limit of file sizes died of a signal, and its client was told to
// push again.
#[test]
fn a_limit_of_the_receivers_process_is_named_to_the_client() {
    let place = Place::new();
    place.must(&["init", "server"]);
    let tree = place.dir.path().join("tree");
    fs::create_dir_all(&tree).unwrap();
    let noise: Vec<u8> = (0..400_000_u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes())
        .collect();
    fs::write(tree.join("large"), noise).unwrap();
    place.commit("p/a/1", "one");
    let receiver = artifact_tests::programs::receiver().unwrap();
    let limited = place.dir.path().join("ssh");
    for (limit, named) in [
        ("-f 100", "ulimit -f"),
        ("-n 16", "ulimit -n"),
        ("-v 100000", "ulimit -v"),
        ("-d 50000", "ulimit -d"),
    ] {
        let script = format!(
            "#!/bin/bash\nulimit {limit} && exec {} {}\n",
            receiver.display(),
            place.server.path().display()
        );
        fs::write(&limited, script).unwrap();
        run(Command::new("chmod").arg("755").arg(&limited))
            .unwrap()
            .success()
            .unwrap();
        let mut push = Command::new(artifact_tests::programs::client().unwrap());
        push.args(["push", "--retries", "0", "--remote", "ssh://x/y", "--ssh"])
            .arg(&limited)
            .arg("--repo")
            .arg(place.source.path())
            .arg("p/a/1");
        let ran = run(&mut push).unwrap();
        assert_eq!(ran.code, Some(9), "{limit}: {ran}");
        assert!(ran.stderr.contains(named), "{limit}: {ran}");
    }
    place.push(&["p/a/1"]).must_exit(0).unwrap();
    place.must(&["fsck", "server"]);
}

// On a full disk, no command could remove anything: each wanted to write first.
#[test]
fn a_full_disk_keeps_nobody_from_making_room() {
    let place = with_refs(&["p/a/1", "p/a/2", "p/a/3"]);
    let disk = place.dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=2m", "tmpfs"];
    let mounted = run(Command::new("mount").args(mount).arg(&disk))
        .unwrap()
        .success();
    mounted.expect("this test has to be run by root");
    let outcome = std::panic::catch_unwind(|| {
        let server = disk.join("server");
        let copied = run(Command::new("cp")
            .arg("-a")
            .args([place.server.path(), &server]));
        copied.unwrap().success().unwrap();
        let fill = format!("of={}", disk.join("fill").display());
        let filled = run(Command::new("dd").args(["if=/dev/zero", "bs=4k", &fill])).unwrap();
        assert_ne!(filled.code, Some(0), "{filled}");
        place.must(&["remove", "disk/server", "p/a/1"]);
        let said = place.must(&["prune", "--keep", "1", "--allow-remove-all", "disk/server"]);
        assert!(said.contains("removed 6 of 10 objects"), "{said}");
        let server = Repo::at(&server);
        assert_eq!(server.refs().unwrap().len(), 1);
        server.fsck().unwrap();
        place.must(&["fsck", "disk/server"]);
    });
    run(Command::new("umount").arg(&disk))
        .unwrap()
        .success()
        .unwrap();
    outcome.unwrap();
}
