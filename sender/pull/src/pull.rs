//! A pull, from the refs that are wanted to what became of each.

mod find;
mod group;

use std::collections::BTreeSet;
use std::sync::Arc;

use artifact_formats::{RefName, RefPattern, RepoConfig, RepoMode};

use crate::error::Error;
use crate::local::Local;
use crate::loose::commits::CommitSource;
use crate::loose::{Job, SourceOf, Tally};
use crate::origin::{Kind, Origin};
use crate::report::{Event, Outcome, PulledRef, Refusal, Report};
use crate::verify::remote::demands_of_remotes;
use crate::verify::{Demands, SystemKeys};

/// A pull under construction: which refs to take, and how.
#[derive(Clone, Debug)]
pub struct Pull {
    pub(crate) local: Arc<Local>,
    pub(crate) names: BTreeSet<RefName>,
    pub(crate) pattern: Option<RefPattern>,
    pub(crate) except: BTreeSet<RefName>,
    pub(crate) depth: u32,
    pub(crate) force: bool,
    pub(crate) dry_run: bool,
    addresses: Vec<String>,
    demands: Vec<Demands>,
    system: SystemKeys,
}

impl Pull {
    /// Begins a pull into a local repository.
    pub fn new(local: impl Into<Arc<Local>>) -> Self {
        Self {
            local: local.into(),
            names: BTreeSet::new(),
            pattern: None,
            except: BTreeSet::new(),
            depth: 0,
            force: false,
            dry_run: false,
            addresses: Vec::new(),
            demands: Vec::new(),
            system: SystemKeys::default(),
        }
    }

    /// Sets the local ref of this name to the commit that the cache's holds.
    #[must_use]
    pub fn reference(mut self, name: RefName) -> Self {
        self.names.insert(name);
        self
    }

    /// Also takes every ref of the cache whose name matches; its summary lists them.
    #[must_use]
    pub fn matching(mut self, pattern: RefPattern) -> Self {
        self.pattern = Some(pattern);
        self
    }

    /// Leaves out these refs, though they match.
    #[must_use]
    pub fn except(mut self, names: impl IntoIterator<Item = RefName>) -> Self {
        self.except.extend(names);
        self
    }

    /// Also takes this many ancestors of each commit, as far as the cache has them.
    #[must_use]
    pub const fn depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// Also moves refs that hold a commit which the history of the cache's does not lead to.
    #[must_use]
    pub const fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Sets no ref, and fetches no file: finds out how much a pull would fetch. Over the web, each
    /// missing file costs a request for its size.
    #[must_use]
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Adds an address by which the local repository's configuration may know the cache, besides
    /// that of the origin.
    #[must_use]
    pub fn known_as(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Demands signatures, in addition to those that the local repository's configuration demands.
    #[must_use]
    pub fn demand(mut self, demands: Demands) -> Self {
        self.demands.push(demands);
        self
    }

    /// Sets where this machine keeps the keys that it trusts for every remote.
    #[must_use]
    pub fn system_keys(mut self, system: SystemKeys) -> Self {
        self.system = system;
        self
    }

    /// Executes the pull.
    ///
    /// `progress` is called for each event, and should return quickly.
    ///
    /// Dropping the future ends the pull. Refs set by then stay; verified objects are kept, and
    /// the next pull does not fetch them again.
    ///
    /// # Errors
    ///
    /// The reason why nothing more can be pulled. A fault of single refs is no error: the report
    /// has it.
    pub async fn from(
        &self,
        origin: &Origin,
        mut progress: impl FnMut(Event),
    ) -> Result<Report, Error> {
        let demands = Arc::new(self.demands_for(origin)?);
        let config = origin.config().await?;
        if let Kind::Web(web) = &origin.kind
            && web.answers_pulls()
            && self.suits_a_stream(&demands)
            && let Some(report) = self.ask(web, &demands, &mut progress).await?
        {
            return self.settle_doubts(report, origin, demands, &config).await;
        }
        self.pull_files(origin, demands, &config, &mut progress)
            .await
    }

    /// Pulls the refs from the files that were left alone because only the files tell whether what
    /// they hold is in the cache's history.
    async fn settle_doubts(
        &self,
        mut report: Report,
        origin: &Origin,
        demands: Arc<Vec<Demands>>,
        config: &RepoConfig,
    ) -> Result<Report, Error> {
        let is_doubtful = |pulled: &PulledRef| {
            matches!(pulled.outcome, Outcome::Refused(Refusal::HoldsWork { .. }))
        };
        let doubtful = report.refs.iter().filter(|pulled| is_doubtful(pulled));
        let names: BTreeSet<_> = doubtful.map(|pulled| pulled.name.clone()).collect();
        if names.is_empty() {
            return Ok(report);
        }
        let again = Self {
            names,
            pattern: None,
            ..self.clone()
        };
        let again = Box::pin(again.pull_files(origin, demands, config, &mut |_| ())).await?;
        report.refs.retain(|pulled| !is_doubtful(pulled));
        report.refs.extend(again.refs);
        report.objects += again.objects;
        report.bytes += again.bytes;
        Ok(report)
    }

    /// Pulls from the files of a web server or path.
    async fn pull_files(
        &self,
        origin: &Origin,
        demands: Arc<Vec<Demands>>,
        config: &RepoConfig,
        progress: &mut impl FnMut(Event),
    ) -> Result<Report, Error> {
        let mut report = Report::default();
        let found = self.find(origin, &demands, &mut report).await?;
        if matches!(origin.kind, Kind::Web(_)) && config.mode != RepoMode::Archive {
            return Err(Error::NotAnArchive {
                origin: origin.to_string(),
                mode: config.mode,
            });
        }
        progress(Event::Found {
            refs: found.len() as u64,
        });
        if found.is_empty() {
            return Ok(report);
        }
        let from = CommitSource {
            origin: origin.clone(),
            local: Arc::clone(&self.local),
            demands,
        };
        let job = Job {
            source: Arc::new(SourceOf::open(&from)?),
            from,
            depth: self.depth,
            dry_run: self.dry_run,
        };
        let mut tally = Tally::default();
        let found: Vec<_> = found.into_iter().collect();
        for group in found.chunks(GROUP_LEN) {
            let pulled = self.pull_group(&job, group, &mut tally, progress);
            report.refs.extend(pulled.await?);
        }
        report.objects = tally.objects;
        report.bytes = tally.bytes;
        Ok(report)
    }

    /// Collects who demands which signatures.
    fn demands_for(&self, origin: &Origin) -> Result<Vec<Demands>, Error> {
        self.demands_at(&[match &origin.kind {
            Kind::Web(web) => web.url().as_raw().to_owned(),
            Kind::Path(path) => {
                let absolute = path.canonicalize().unwrap_or_else(|_| path.clone());
                absolute.to_string_lossy().into_owned()
            }
        }])
    }

    /// Does the same for a cache that is known by further addresses.
    pub(crate) fn demands_at(&self, further: &[String]) -> Result<Vec<Demands>, Error> {
        let addresses = [&self.addresses, further].concat();
        let (path, config) = (self.local.path(), self.local.config());
        let mut demands = demands_of_remotes(path, config, &addresses, &self.system)?;
        demands.extend(self.demands.iter().cloned());
        Ok(demands)
    }
}

/// Refs that are pulled together.
const GROUP_LEN: usize = 256;
