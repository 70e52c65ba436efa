//! What is settled before a session begins, in an order that matters:
//!
//! 1. the configuration is read, and the client identified by it;
//! 2. the key that signs summaries is read, while this process may;
//! 3. root becomes the repository's owner;
//! 4. the audit file and the repository are opened, before the sandbox puts them out of reach; for
//!    a bucket, the agent starts instead, and the store is opened in the sandbox.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use artifact_protocol::session::ReceiverConfig;
use artifact_protocol::{Text, Version, escape};
use artifact_receiver::access::{self, AuthInfo, Client};
use artifact_receiver::audit::{self, Audit, Record};
use artifact_receiver::config::{Config, Confinement};
use artifact_receiver::driver::Pulls;
use artifact_receiver::ulimits;
use artifact_sandbox::privilege;
use artifact_sender::{Repository, Terms};
#[cfg(feature = "bucket")]
use artifact_store::bucket::BucketStore;
use artifact_store::{LocalStore, StoreConfig};

use crate::args::Args;
#[cfg(feature = "bucket")]
use crate::bucket::Begun;
use crate::ssh_variables::SshVariables;
use crate::unready::Unready;

/// Everything that a session needs.
pub(crate) struct Prepared {
    pub(crate) target: Target,
    /// The reason to refuse pushes of a client without any right to push.
    pub(crate) pushes_nothing: String,
    /// `None` for a client without any right.
    pub(crate) pulls: Option<Pulls>,
    pub(crate) session: ReceiverConfig,
    /// The oldest protocol version that may push.
    pub(crate) oldest: Version,
    pub(crate) audit: Audit,
    pub(crate) confinement: Confinement,
}

/// Where pushes go.
pub(crate) enum Target {
    /// The client has no right to push.
    Nowhere,
    /// A repository on this machine.
    Local(Arc<LocalStore>),
    /// A bucket that is not open yet.
    #[cfg(feature = "bucket")]
    Begun(Box<Begun>),
    /// A bucket.
    #[cfg(feature = "bucket")]
    Bucket(Arc<BucketStore>),
}

impl Target {
    /// Opens what the sandbox leaves in reach.
    pub(crate) fn open(self) -> Result<Self, Unready> {
        match self {
            #[cfg(feature = "bucket")]
            Self::Begun(begun) => begun.open().map(Self::Bucket),
            open => Ok(open),
        }
    }
}

/// Identifies the client and its rights, and opens the repository for it.
pub(crate) fn prepare(
    args: &Args,
    ssh_variables: &SshVariables,
    id: &str,
) -> Result<Prepared, Unready> {
    let misconfigured = |error| {
        let text = "the server's configuration cannot be used; its log says why";
        Unready::new(text, error)
    };
    ulimits::check().map_err(|error| Unready::new(&error.to_string(), error))?;
    let config = Config::read(args.config.as_deref()).map_err(misconfigured)?;
    let client = client(args, ssh_variables, config.as_ref())?;
    let from = ssh_variables
        .connection
        .as_deref()
        .unwrap_or("this machine");
    tracing::info!(
        from = escape(from),
        "the client is {}",
        escape(&client.name)
    );
    let summary = config.as_ref().map(|config| config.summary.load());
    let summary = summary.transpose().map_err(misconfigured)?;
    if !is_bucket(args.repo()) {
        become_owner_of(args.repo())?;
    }
    let config = config.unwrap_or_default();
    let oldest = Version(config.protocol_min.unwrap_or_default());
    let limits = config.limits.of_wire();
    let pull_url = args.pull_url.as_ref().or(config.pull_url.as_ref());
    let turns_away = client.policy.turns_away();
    let is_known = turns_away.is_none();
    let only_reads = client.policy.only_reads();
    let terms = Terms {
        readable: client.policy.readable().map(<[_]>::to_vec),
        ..Terms::default()
    };
    let session = ReceiverConfig {
        agent: agent(),
        pull_url: pull_url.map(|url| Text::new(url)),
        identity: Some(Text::new(&client.name)),
        rights: client.policy.rights(),
        turns_away: turns_away.as_deref().map(Text::new),
        limits,
        ..ReceiverConfig::default()
    };
    let audit = audit(ssh_variables, id, &client, &config);
    let store = StoreConfig {
        identity: client.name,
        policy: client.policy,
        limits,
        summary: summary.unwrap_or_default(),
        head_room: config.limits.head_room(),
        allowance: client.allowance,
        places: config.limits.places(),
        reread_max: None,
        threads: args.threads(),
    };
    if is_bucket(args.repo()) {
        let begin = |store| begin(args.repo(), &config, store);
        let pushes = is_known && only_reads.is_none();
        let target = pushes.then(|| begin(store)).transpose()?;
        return Ok(Prepared {
            target: target.unwrap_or(Target::Nowhere),
            pushes_nothing: only_reads.unwrap_or_default(),
            pulls: None,
            session,
            oldest,
            audit,
            confinement: config.sandbox,
        });
    }
    let store = is_known.then(|| LocalStore::open(args.repo(), store).map(Arc::new));
    let store = store.transpose().map_err(|error| Unready {
        fault: error.to_fault(),
        cause: anyhow::Error::new(error).context(format!(
            "cannot open the repository {}",
            args.repo().display()
        )),
    })?;
    let pulls = store.as_ref().and_then(|store| pulls(args, terms, store));
    if only_reads.is_some() {
        // Makes the file of sessions, all that such a client makes us write. A place need not be
        // free yet.
        let _ = store.as_ref().map(|store| store.take_place());
    }
    Ok(Prepared {
        target: match store {
            Some(store) if only_reads.is_none() => Target::Local(store),
            _ => Target::Nowhere,
        },
        pushes_nothing: only_reads.unwrap_or_default(),
        pulls,
        session,
        oldest,
        audit,
        confinement: config.sandbox,
    })
}

/// Becomes the owner of a repository on this machine, if this is root.
fn become_owner_of(repo: &Path) -> Result<(), Unready> {
    let owner = privilege::become_owner_of(repo)
        .context("cannot switch to the repository's owner")
        .map_err(|cause| Unready::new("the server's repository cannot be used", cause))?;
    if let Some(user) = owner {
        tracing::debug!("switched from root to the repository's owner, user {user}");
    }
    Ok(())
}

#[cfg(feature = "bucket")]
pub(crate) fn is_bucket(repo: &Path) -> bool {
    crate::bucket::is_meant_by(repo)
}

#[cfg(feature = "bucket")]
fn begin(repo: &Path, config: &Config, store: StoreConfig) -> Result<Target, Unready> {
    Begun::new(repo, config, store).map(|begun| Target::Begun(Box::new(begun)))
}

#[cfg(not(feature = "bucket"))]
pub(crate) fn is_bucket(repo: &Path) -> bool {
    repo.as_os_str().as_encoded_bytes().starts_with(b"s3://")
}

#[cfg(not(feature = "bucket"))]
fn begin(_: &Path, _: &Config, _: StoreConfig) -> Result<Target, Unready> {
    Err(Unready::new(
        "the server's program lacks object storage",
        anyhow::anyhow!(
            "this program was built without object storage: build it with the feature `bucket`, or \
             install the package"
        ),
    ))
}

/// Opens the repository for pulls; `None` if it cannot be read, because pushes need less of it.
fn pulls(args: &Args, terms: Terms, store: &Arc<LocalStore>) -> Option<Pulls> {
    let repository = Repository::open(args.repo())
        .inspect_err(|error| {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, "clients cannot pull");
        })
        .ok()?;
    Some(Pulls {
        repository: Arc::new(repository),
        terms,
        store: Arc::clone(store),
    })
}

/// Opens the audit file before the sandbox puts it out of reach.
fn audit(ssh_variables: &SshVariables, id: &str, client: &Client, config: &Config) -> Audit {
    let file = config.audit.file.as_deref().and_then(|path| {
        let opened = audit::open(path);
        opened
            .inspect_err(|error| {
                tracing::warn!(%error, "cannot open the audit file {}: audit lines go to the log \
                    instead", path.display());
            })
            .ok()
    });
    let from = ssh_variables.connection.as_deref();
    let address = from.map(|from| from.split(' ').take(2).collect::<Vec<_>>().join(" "));
    let record = Record {
        session: id.to_owned(),
        identity: client.name.clone(),
        keys: client.keys.iter().map(ToString::to_string).collect(),
        client: address,
        ..Record::default()
    };
    Audit::new(file, record)
}

fn client(
    args: &Args,
    ssh_variables: &SshVariables,
    config: Option<&Config>,
) -> Result<Client, Unready> {
    const UNKNOWN: &str = "the server cannot tell who its clients are; its log says why";
    let auth = ssh_variables.user_auth.as_deref().map(AuthInfo::read);
    let auth = match auth.transpose() {
        Ok(auth) => auth,
        Err(error) if config.is_none() => {
            tracing::warn!("{:#}", anyhow::Error::new(error));
            None
        }
        Err(error) => return Err(Unready::new(UNKNOWN, error)),
    };
    access::identify(config, args.identity.as_deref(), auth.as_ref())
        .map_err(|error| Unready::new(&error.to_string(), error))
}

/// Returns the program and its version, for clients.
pub(crate) fn agent() -> Text {
    Text::new(concat!("bst-artifact-receive ", env!("CARGO_PKG_VERSION")))
}
