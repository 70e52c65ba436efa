//! What releases have left on disks, opened by this one: `tests/samples`.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_receiver::config::Config;
use artifact_tests::cache::Pushed;
use artifact_tests::exec::{Ran, run};
use artifact_tests::programs;
use artifact_tests::repo::Repo;
use tempfile::TempDir;

/// The files of one release, unpacked.
struct Sample {
    dir: TempDir,
}

impl Sample {
    fn unpack(archive: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = Command::new("tar");
        // With the time of now: staging is forgotten after a day.
        tar.arg("-xzmf").arg(archive).arg("-C").arg(dir.path());
        run(&mut tar).unwrap().success().unwrap();
        let sample = Self { dir };
        // As the sample was moved, so was the audit.
        let path = sample.path("artifact-cache.toml");
        let text = fs::read_to_string(&path).unwrap();
        let here = sample.dir.path().to_string_lossy().into_owned();
        fs::write(&path, text.replace("/srv/", &format!("{here}/"))).unwrap();
        sample
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn admin(&self, args: &[&str]) -> Ran {
        let mut admin = Command::new(programs::admin().unwrap());
        run(admin.args(args).current_dir(self.dir.path())).unwrap()
    }

    /// Pushes as alice, whom the sample's configuration names.
    fn push(&self, name: &str) -> Pushed {
        let ssh = self.path("ssh");
        let receiver = programs::receiver().unwrap();
        let text = format!(
            "#!/bin/sh\nexec {} --config {} --identity alice {}\n",
            receiver.display(),
            self.path("artifact-cache.toml").display(),
            self.path("server").display()
        );
        fs::write(&ssh, text).unwrap();
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
        let mut push = Command::new(programs::client().unwrap());
        push.args(["push", "--json", "--remote", "ssh://x/y", "--ssh"])
            .arg(&ssh)
            .arg("--repo")
            .arg(self.path("source"))
            .arg(name);
        Pushed::read(run(&mut push).unwrap()).unwrap()
    }
}

fn samples() -> Vec<Sample> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let archives = entries.filter(|path| path.extension().is_some_and(|end| end == "gz"));
    archives.map(|archive| Sample::unpack(&archive)).collect()
}

#[test]
fn what_each_release_left_on_a_disk_is_opened_continued_and_kept() {
    let samples = samples();
    assert!(!samples.is_empty());
    for sample in samples {
        let path = sample.path("artifact-cache.toml");
        let config = Config::parse(&fs::read_to_string(&path).unwrap(), &path).unwrap();
        assert_eq!(config.identities.len(), 1);
        let repo = Repo::at(&sample.path("server"));
        let old = repo.refs().unwrap();
        assert_eq!(old.len(), 3, "{old:?}");
        sample
            .admin(&["fsck", "--quiet", "server"])
            .success()
            .unwrap();
        let status = sample
            .admin(&["status", "--json", "server"])
            .success()
            .unwrap();
        assert!(status.contains("alpha/greeting"), "{status}");
        let metrics = sample.admin(&["metrics", "--config", "artifact-cache.toml", "server"]);
        let metrics = metrics.success().unwrap();
        assert!(
            metrics.contains("artifact_cache_pushes_total{outcome=\"done\"} 1"),
            "{metrics}"
        );

        // The push that was killed goes on with the file in which it was, the directory and the
        // commit: five other files had arrived.
        let pushed = sample.push("beta/killed/one").must_exit(0).unwrap();
        assert_eq!(pushed.objects_sent, Some(3));
        // The record of who set a ref.
        sample.push("alpha/greeting/one").must_exit(0).unwrap();
        sample.push("missing/one").must_exit(7).unwrap();
        repo.fsck().unwrap();
        let new = repo.refs().unwrap();
        assert!(
            old.iter()
                .all(|(name, commit)| new.get(name) == Some(commit)),
            "{new:?}"
        );
        assert_eq!(new.len(), 4);
        let pruned = sample.admin(&["prune", "--config", "artifact-cache.toml", "server"]);
        pruned.success().unwrap();
        assert!(sample.path("artifact-cache.yaml").exists());
        let mut list = Command::new(programs::client().unwrap());
        list.args(["list", "--retries", "0", "--config", "artifact-cache.yaml"]);
        let listed = run(list.current_dir(sample.dir.path())).unwrap();
        // Its caches cannot be reached, but it was understood.
        assert_eq!(listed.code, Some(5), "{listed}");
    }
}
