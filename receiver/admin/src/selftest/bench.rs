//! The cache that is tried, and the receivers that serve it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use artifact_formats::{Checksum, RefName};
use artifact_protocol::limits::Limits;
use artifact_sender::{Expect, Push, RECEIVER, Report, Repository};
use artifact_store::Weight;
use ostree::gio;
use tokio::process::{Child, Command};

use crate::selftest::source::Source;

/// A cache, the commits to push to it, and what its refs have to hold.
#[derive(Debug)]
pub(super) struct Bench {
    dir: PathBuf,
    pub(super) cache: PathBuf,
    pub(super) source: Source,
    receiver: PathBuf,
    config: PathBuf,
    /// The value of each ref.
    pub(super) refs: BTreeMap<RefName, Checksum>,
    pub(super) objects_checked: u64,
    /// How long a push takes here.
    pub(super) usual: Duration,
}

impl Bench {
    pub(super) fn create(
        dir: &Path,
        receiver: Option<&Path>,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Self> {
        let receiver = match receiver {
            Some(path) => path
                .canonicalize()
                .with_context(|| path.display().to_string())?,
            None => find_receiver()
                .context("there is no bst-artifact-receive: name it with --receiver")?,
        };
        let name = format!("artifact-cache-selftest.{}", std::process::id());
        let dir = dir.canonicalize()?.join(name);
        fs::create_dir(&dir)?;
        let cache = dir.join("cache");
        fs::create_dir(&cache)?;
        let repo = ostree::Repo::new_for_path(&cache);
        repo.create(ostree::RepoMode::Archive, gio::Cancellable::NONE)?;
        // Receivers believe a file only if nobody else can change it, which is not known of the
        // directory to try.
        let config = std::env::temp_dir().join(format!("selftest.{}.toml", random.u64(..)));
        let text = "[[identity]]\nname = \"selftest\"\nreplace = [\"**\"]\nrule = \"any\"\n";
        let mut file = fs::File::create_new(&config)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        let mut bench = Self {
            source: Source::create(&dir)?,
            dir,
            cache,
            receiver,
            config,
            refs: BTreeMap::new(),
            objects_checked: 0,
            usual: Duration::ZERO,
        };
        let commit = bench.source.commit(None, random)?;
        // A first push makes the directories, and shows that pushes work here at all.
        let name: RefName = "selftest/moving/ref".parse()?;
        bench.refs.insert(name.clone(), commit);
        let push = bench.push(&name, commit, Expect::Any)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let begun = Instant::now();
        runtime.block_on(async {
            let (child, report) = bench.run(push, None).await?;
            bench.end(child, &report).await
        })?;
        bench.usual = begun.elapsed();
        Ok(bench)
    }

    /// Prepares a push of one ref.
    pub(super) fn push(
        &self,
        name: &RefName,
        commit: Checksum,
        expect: Expect,
    ) -> anyhow::Result<Push> {
        let push = Push::new(Repository::open(&self.source.path)?);
        Ok(push.update(name.clone(), commit, expect)?.force(true))
    }

    /// Starts a receiver, by way of a shell that limits the length of its files.
    pub(super) fn receiver(&self, blocks_max: Option<u64>) -> anyhow::Result<Child> {
        let limit = blocks_max.map_or("unlimited".to_owned(), |blocks| blocks.to_string());
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "ulimit -f \"$1\"; shift; exec \"$@\"", "sh", &limit])
            .arg(&self.receiver)
            .args(["--identity", "selftest", "--config"])
            .arg(&self.config)
            .arg(&self.cache)
            .env_remove("SSH_USER_AUTH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().context("cannot start the receiver")
    }

    /// Pushes to a receiver of its own.
    pub(super) async fn run(
        &self,
        push: Push,
        blocks_max: Option<u64>,
    ) -> anyhow::Result<(Child, Result<Report, artifact_sender::Error>)> {
        let mut child = self.receiver(blocks_max)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the receiver has no pipes");
        };
        let report = push.over(tokio::io::join(output, input), |_| ()).await;
        Ok((child, report))
    }

    /// Waits for a receiver, and fails unless its push succeeded.
    pub(super) async fn end(
        &self,
        child: Child,
        report: &Result<Report, artifact_sender::Error>,
    ) -> anyhow::Result<()> {
        let said = child.wait_with_output().await?;
        let said = String::from_utf8_lossy(&said.stderr);
        match report {
            Ok(report) if report.refs.iter().all(|(_, outcome)| is_set(outcome)) => Ok(()),
            Ok(report) => bail!("the push was refused: {:?}; {}", report.refs, said.trim()),
            Err(error) => bail!("the push failed: {error}; {}", said.trim()),
        }
    }

    /// Returns the value of a ref in the cache.
    pub(super) fn value(&self, name: &RefName) -> anyhow::Result<Option<Checksum>> {
        let path = self.cache.join("refs/heads").join(name.as_str());
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim_end().parse().with_context(|| {
                format!("{name} holds {text:?}, which is no commit")
            })?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(format!("cannot read {name}")),
        }
    }

    /// Checks all objects, all refs, and that the summary names them.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        let faults = Mutex::new(Vec::new());
        let report = |finding: artifact_store::Finding| {
            if finding.weight == Weight::Fault {
                let mut faults = faults
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
                faults.push(format!("{}: {}", finding.what, finding.why));
            }
        };
        let checked = artifact_store::fsck(&self.cache, Limits::default().object_len_max, &report)?;
        self.objects_checked += checked.objects;
        let faults = faults
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(first) = faults.first() {
            bail!("fsck finds {} faults, such as {first}", faults.len());
        }
        for (name, commit) in &self.refs {
            let value = self.value(name)?;
            if value != Some(*commit) {
                bail!("{name} was acknowledged as {commit}, and holds {value:?}");
            }
        }
        let bytes = fs::read(self.cache.join("summary")).context("cannot read the summary")?;
        let summary = artifact_formats::Summary::parse(&bytes).context("the summary is broken")?;
        for (name, commit) in &self.refs {
            let listed = summary.refs.get(name.as_str()).map(|r| r.commit);
            if listed != Some(*commit) {
                bail!("the summary says that {name} is {listed:?}, and it is {commit}");
            }
        }
        Ok(())
    }

    /// Removes everything.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        fs::remove_file(&self.config)?;
        fs::remove_dir_all(&self.dir)
            .with_context(|| format!("cannot remove {}", self.dir.display()))
    }

    /// Leaves the cache to be looked at, and returns its path.
    pub(super) fn keep(self) -> PathBuf {
        // It can be written again.
        let _ = fs::remove_file(&self.config);
        self.dir
    }
}

pub(super) fn is_set(outcome: &artifact_sender::RefOutcome) -> bool {
    use artifact_sender::RefOutcome::{Unchanged, Updated};
    matches!(outcome, Updated | Unchanged)
}

fn find_receiver() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let own = own.parent().map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = own.into_iter().chain(std::env::split_paths(&path));
    dirs.find_map(|dir| dir.join(RECEIVER).canonicalize().ok())
}
