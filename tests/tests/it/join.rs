//! `artifact-cache join`, at a machine that has nothing yet.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::process::Command;

use artifact_tests::cache::Cache;
use artifact_tests::exec::{Ran, run};

/// Joins with a `known_hosts` of its own, which does not exist at first.
fn join(cache: &Cache, url: &str, options: &[&str]) -> Ran {
    let mut join = cache.client("join").unwrap();
    join.env("ARTIFACT_CACHE_SSH", ssh(cache))
        .arg(url)
        .args(options);
    run(&mut join).unwrap()
}

fn ssh(cache: &Cache) -> String {
    let known = cache.scratch("known");
    let ssh = cache.sshd().ssh_command();
    let words = ssh
        .split(' ')
        .map(|word| match word.strip_prefix("UserKnownHostsFile=") {
            Some(_) => format!("UserKnownHostsFile={}", known.display()),
            None => word.to_owned(),
        });
    words.collect::<Vec<_>>().join(" ")
}

fn fingerprint(cache: &Cache) -> String {
    let mut scan = Command::new("ssh-keyscan");
    let port = cache.sshd().port().to_string();
    let keys = run(scan.args(["-t", "ed25519", "-p", &port, "127.0.0.1"])).unwrap();
    let file = cache.scratch("scanned");
    fs::write(&file, keys.success().unwrap()).unwrap();
    let said = run(Command::new("ssh-keygen").arg("-lf").arg(&file)).unwrap();
    let said = said.success().unwrap();
    said.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn joining_needs_the_right_fingerprint_and_then_nothing_more() {
    let cache = Cache::start().unwrap();
    let url = cache.push_url();
    let (known, config) = (
        cache.scratch("known"),
        cache.scratch(".config/artifact-cache.yaml"),
    );
    // Nobody is there to ask.
    let asked = join(&cache, &url, &[]);
    assert_eq!(asked.code, Some(2), "{asked}");
    let right = fingerprint(&cache);
    assert!(asked.stderr.contains(&right), "{asked}");
    // Somebody in between.
    let wrong = format!("SHA256:{}", "A".repeat(43));
    let refused = join(&cache, &url, &["--fingerprint", &wrong]);
    assert_eq!(refused.code, Some(5), "{refused}");
    assert!(!known.exists() && !config.exists(), "{refused}");

    let joined = join(&cache, &url, &["--fingerprint", &right]);
    let said = joined.success().unwrap();
    assert!(said.contains("it calls you"), "{said}");
    assert_eq!(fs::read_to_string(&known).unwrap().lines().count(), 1);
    let text = fs::read_to_string(&config).unwrap();
    assert_eq!(text, format!("artifacts:\n  url: {url}\n"));

    // Again changes nothing, whatever is said of the fingerprint.
    join(&cache, &url, &["--fingerprint", &wrong])
        .success()
        .unwrap();
    assert_eq!(fs::read_to_string(&known).unwrap().lines().count(), 1);
    // What the user has written stays, and the user is told what to add.
    let other = join(&cache, "https://other.invalid/artifacts", &[]);
    assert_eq!(other.code, Some(2), "{other}");
    assert!(
        other
            .stderr
            .contains("- url: https://other.invalid/artifacts"),
        "{other}"
    );
    assert_eq!(fs::read_to_string(&config).unwrap(), text);
}

#[test]
fn a_host_that_shows_no_key_is_reported_and_nothing_is_written() {
    let cache = Cache::start().unwrap();
    let joined = join(&cache, "ssh://127.0.0.1:1/artifacts", &["--yes"]);
    assert_eq!(joined.code, Some(5), "{joined}");
    assert!(joined.stderr.contains("shows no key"), "{joined}");
    assert!(!cache.scratch(".config/artifact-cache.yaml").exists());
}
