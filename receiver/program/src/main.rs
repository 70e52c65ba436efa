//! `bst-artifact-receive`: receives one push on standard input and output; sshd runs it.
//!
//! Standard output is the wire; everything else goes to standard error. This program does not link
//! libostree.

mod log;
mod refuse;
mod spoken;
mod stderr;
mod surroundings;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use artifact_protocol::dialect::Openness;
use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::{Error as SessionError, Fault, ReceiverConfig};
use artifact_protocol::{Text, Version, escape, exit};
use artifact_receiver::access::{self, AuthInfo, Client};
use artifact_receiver::audit::{self, Audit, Record};
use artifact_receiver::config::{Config, Confinement};
use artifact_receiver::driver::{self, DriverConfig, Patience};
use artifact_receiver::ulimits;
use artifact_sandbox::{Needs, Standing, privilege};
use artifact_store::{LocalStore, Nowhere, StoreConfig};
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::log::Log;
use self::spoken::Spoken;
use self::surroundings::Surroundings;

/// Receive a push of OSTree commits into an archive repository.
///
/// sshd runs this program and tells it who the client is. It speaks the artifact cache protocol on
/// standard input and output. In sshd_config:
///
///     Match User artifacts
///         ForceCommand bst-artifact-receive --pull-url https://example.com/artifacts REPO
///         ExposeAuthInfo yes
///
/// The last line tells it which key the client used. Without a configuration every key may push;
/// `artifact-cache-admin authorize` writes one.
///
/// Clients of BuildStream 1.x push to the same command. Those of ostree-push before 0.1 wait for
/// the server to speak first: give them `bst-artifact-receive --repo=REPO`, or a link to this
/// program named ostree-receive.
///
/// It verifies objects as they arrive, and moves a ref only when everything that the ref reaches is
/// in the repository and on the disk.
#[derive(Debug, Parser)]
#[command(name = "bst-artifact-receive", version, verbatim_doc_comment)]
struct Args {
    /// Log progress to standard error
    #[arg(short, long)]
    verbose: bool,
    /// Log at debug level
    #[arg(short, long)]
    debug: bool,
    /// Address to pull from, for clients
    #[arg(long, value_name = "URL")]
    pull_url: Option<String>,
    /// Configuration file: who may do what [default: /etc/artifact-cache.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Identity of the client, for a command="..." of its key in authorized_keys
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Number of threads that verify and publish objects [default: the number of processors]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Oldest protocol version that may push: 0 is ostree-push's, 1 is BuildStream 1.x's
    #[arg(long, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u16).range(..=i64::from(Version::NEWEST.0)))]
    protocol_min: u16,
    /// Repository, for clients of ostree-push before 0.1
    #[arg(long, value_name = "REPO", conflicts_with = "positional")]
    repo: Option<PathBuf>,
    /// Do not confine this process, for systems where confining fails, and for tracing
    #[arg(long)]
    no_sandbox: bool,
    /// Repository: a directory that `artifact-cache-admin init` or `ostree init` made
    #[arg(value_name = "REPO", required_unless_present = "repo")]
    positional: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return print(&error),
    };
    let surroundings = Surroundings::read();
    let id = session_id();
    let level = match (args.debug, args.verbose) {
        (true, _) => tracing::Level::DEBUG,
        (false, true) => tracing::Level::INFO,
        (false, false) => tracing::Level::WARN,
    };
    let log = Log::start(level, &id);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    ulimits::survive_long_files();
    match run(&args, &surroundings, &id, &log) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(exit::OTHER)
        }
    }
}

fn run(args: &Args, surroundings: &Surroundings, id: &str, log: &Log) -> anyhow::Result<u8> {
    if io::stdin().is_terminal() {
        tracing::error!(
            "sshd runs this program, not people at a terminal; --help explains the setup"
        );
        return Ok(exit::USAGE);
    }
    if let Some(command) = &surroundings.original_command {
        tracing::debug!("the client asked for: {}", escape(command));
        if command.starts_with("ostree-receive") && !args.server_first() {
            tracing::warn!(
                "the client was asked to run ostree-receive, and may wait for the server to speak: \
                 clients of ostree-push before 0.1 need a command with --repo=REPO"
            );
        }
    }
    // Everything that needs files or sockets comes before `confine`: the sandbox denies both, and a
    // signal wakes its thread through a socket.
    let ready = prepare(args, surroundings, id).and_then(|prepared| {
        let signals = Signals::new(TERM_SIGNALS).map_err(|error| {
            Unready::new("the server cannot handle signals; its log says why", error)
        })?;
        confine(args, prepared.confinement)?;
        Ok((prepared, signals))
    });
    // Threads that start from now on are confined as well.
    log.write();
    match ready {
        Ok((prepared, signals)) => serve(args, prepared, signals),
        Err(Unready { fault, cause }) => {
            tracing::error!("{cause:#}");
            tell(args, fault)
        }
    }
}

fn serve(args: &Args, prepared: Prepared, mut signals: Signals) -> anyhow::Result<u8> {
    let Prepared {
        store,
        session,
        oldest,
        mut audit,
        ..
    } = prepared;
    let mut spoken = Spoken::new(session.pull_url.as_ref());
    let config = DriverConfig {
        session,
        openness: args.openness(oldest, None),
        patience: Patience::default(),
        threads: args.threads(),
    };
    let turned_away = config.session.turns_away.as_ref();
    let turned_away = turned_away.map_or_else(String::new, |text| text.as_raw().to_owned());
    let (input, output) =
        wire().context("cannot duplicate standard input and output for the protocol")?;
    let event = |event| {
        log::event(&event);
        spoken.event(&event);
        audit.event(&event);
    };
    let stop = move || {
        let _ = signals.forever().next();
    };
    let served = match &store {
        Some(store) => driver::serve(store, config, input, output, stop, event),
        None => driver::serve(
            &Arc::new(Nowhere::new(turned_away)),
            config,
            input,
            output,
            stop,
            event,
        ),
    };
    let (code, failure) = match served.done {
        Ok(()) => (exit::DONE, None),
        Err(error) => {
            let code = exit_code(&error);
            if code == exit::REFUSED_REF {
                audit.turned_away();
            }
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::error!("{error}");
            (code, Some((code, error)))
        }
    };
    audit.finish(served.staged, failure);
    Ok(spoken.exit_code(code))
}

/// Confines this process as far as the kernel supports it, and fails if that is less than the
/// configuration requires.
fn confine(args: &Args, confinement: Confinement) -> Result<(), Unready> {
    let mut absent = Vec::new();
    if args.no_sandbox {
        tracing::debug!("sandbox: disabled by --no-sandbox");
        absent.push("--no-sandbox was given".to_owned());
    } else {
        for layer in artifact_sandbox::enter(&Needs::to_write(args.repo())) {
            let line = format!("{}: {}", layer.what, layer.standing);
            tracing::debug!("sandbox: {line}");
            if matches!(layer.standing, Standing::Absent(_)) {
                absent.push(line);
            }
        }
    }
    if confinement == Confinement::Required && !absent.is_empty() {
        let cause = anyhow::anyhow!(
            "the configuration says `sandbox = \"required\"`, but some layers are missing: {}",
            absent.join("; ")
        );
        let text = "the server's configuration cannot be used; its log says why";
        return Err(Unready::new(text, cause));
    }
    Ok(())
}

/// Prints the help that was asked for, or the mistake in the command line.
fn print(error: &clap::Error) -> ExitCode {
    use std::io::{ErrorKind, Write};
    let printed = error.print().and_then(|()| io::stdout().flush());
    ExitCode::from(match printed {
        _ if error.use_stderr() => exit::USAGE,
        Err(why) if why.kind() != ErrorKind::BrokenPipe => exit::OTHER,
        _ => exit::DONE,
    })
}

/// Everything that a session needs.
struct Prepared {
    /// `None` for a client without any right to push.
    store: Option<Arc<LocalStore>>,
    session: ReceiverConfig,
    /// The oldest protocol version that may push.
    oldest: Version,
    audit: Audit,
    confinement: Confinement,
}

impl Args {
    fn threads(&self) -> usize {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(processors)
    }

    fn repo(&self) -> &Path {
        let repo = self.repo.as_deref().or(self.positional.as_deref());
        // The parser ensures that one of the two is set.
        repo.unwrap_or_else(|| Path::new(""))
    }

    /// Returns whether clients wait for the server to speak first. The operator decides that by how
    /// the program is started; nothing else tells.
    fn server_first(&self) -> bool {
        self.repo.is_some() || spoken::is_ostree_receive(std::env::args_os().next().as_deref())
    }

    fn openness(&self, oldest: Version, refusal: Option<Fault>) -> Openness {
        Openness {
            oldest: oldest.max(Version(self.protocol_min)),
            server_first: self.server_first(),
            refusal,
        }
    }
}

/// Why no session is possible, for the client and for the log.
struct Unready {
    fault: Fault,
    cause: anyhow::Error,
}

impl Unready {
    /// A mistake of the operator's: `text` is all that the client is told.
    fn new(text: &str, cause: impl Into<anyhow::Error>) -> Self {
        Self {
            fault: Fault {
                code: CloseCode::STORAGE_FAILED,
                text: text.to_owned(),
            },
            cause: cause.into(),
        }
    }
}

/// Identifies the client and its rights, and opens the repository for it.
fn prepare(args: &Args, surroundings: &Surroundings, id: &str) -> Result<Prepared, Unready> {
    let misconfigured = |error| {
        let text = "the server's configuration cannot be used; its log says why";
        Unready::new(text, error)
    };
    ulimits::check().map_err(|error| Unready::new(&error.to_string(), error))?;
    let config = Config::read(args.config.as_deref()).map_err(misconfigured)?;
    let client = client(args, surroundings, config.as_ref())?;
    let from = surroundings.connection.as_deref().unwrap_or("this machine");
    tracing::info!(
        from = escape(from),
        "the client is {}",
        escape(&client.name)
    );
    let summary = config.as_ref().map(|config| config.summary.load());
    let summary = summary.transpose().map_err(misconfigured)?;
    let become_owner = privilege::become_owner_of(args.repo());
    if let Some(user) = become_owner
        .context("cannot switch to the repository's owner")
        .map_err(|cause| Unready::new("the server's repository cannot be used", cause))?
    {
        tracing::debug!("switched from root to the repository's owner, user {user}");
    }
    let config = config.unwrap_or_default();
    let oldest = Version(config.protocol_min.unwrap_or_default());
    let limits = config.limits.of_wire();
    let pull_url = args.pull_url.as_ref().or(config.pull_url.as_ref());
    let turns_away = client.policy.turns_away();
    let may_push = turns_away.is_none();
    let session = ReceiverConfig {
        agent: agent(),
        pull_url: pull_url.map(|url| Text::new(url)),
        identity: Some(Text::new(&client.name)),
        rights: client.policy.rights(),
        turns_away: turns_away.as_deref().map(Text::new),
        limits,
    };
    let audit = audit(surroundings, id, &client, &config);
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
    let store = may_push.then(|| LocalStore::open(args.repo(), store));
    let store = store.transpose().map_err(|error| Unready {
        fault: error.to_fault(),
        cause: anyhow::Error::new(error).context(format!(
            "cannot open the repository {}",
            args.repo().display()
        )),
    })?;
    Ok(Prepared {
        store: store.map(Arc::new),
        session,
        oldest,
        audit,
        confinement: config.sandbox,
    })
}

/// Opens the audit file before the sandbox puts it out of reach.
fn audit(surroundings: &Surroundings, id: &str, client: &Client, config: &Config) -> Audit {
    let file = config.audit.file.as_deref().and_then(|path| {
        let opened = audit::open(path);
        opened
            .inspect_err(|error| {
                tracing::warn!(%error, "cannot open the audit file {}: audit lines go to the log \
                    instead", path.display());
            })
            .ok()
    });
    let from = surroundings.connection.as_deref();
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
    surroundings: &Surroundings,
    config: Option<&Config>,
) -> Result<Client, Unready> {
    const UNKNOWN: &str = "the server cannot tell who its clients are; its log says why";
    let auth = surroundings.user_auth.as_deref().map(AuthInfo::read);
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

fn agent() -> Text {
    Text::new(concat!("bst-artifact-receive ", env!("CARGO_PKG_VERSION")))
}

/// Returns an id that tells this session's lines in the log from all others.
fn session_id() -> String {
    let mut random = [0; 4];
    match getrandom::fill(&mut random) {
        Ok(()) => format!("{:08x}", u32::from_ne_bytes(random)),
        // Everything else that needs random bytes will fail by itself.
        Err(_) => format!("pid{}", std::process::id()),
    }
}

/// Duplicates the descriptors, to avoid the standard library's buffers and locks.
fn wire() -> io::Result<(File, File)> {
    let input = rustix::io::dup(rustix::stdio::stdin())?;
    let output = rustix::io::dup(rustix::stdio::stdout())?;
    for end in [&input, &output] {
        // Setting the size works only on pipes, and a small pipe works as well.
        let _ = rustix::pipe::fcntl_setpipe_size(end, PIPE_LEN);
    }
    Ok((input.into(), output.into()))
}

const PIPE_LEN: usize = 1024 * 1024;
/// Signals that tell a process to stop.
const TERM_SIGNALS: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Tells a client why it gets no session, and returns the exit code.
fn tell(args: &Args, fault: Fault) -> anyhow::Result<u8> {
    let code = exit::of_close(fault.code);
    let session = ReceiverConfig {
        agent: agent(),
        pull_url: args.pull_url.as_deref().map(Text::new),
        ..ReceiverConfig::default()
    };
    let mut spoken = Spoken::new(session.pull_url.as_ref());
    let openness = args.openness(Version::default(), Some(fault));
    refuse::tell(session, openness, wire()?, |event| spoken.event(&event))?;
    Ok(spoken.exit_code(code))
}

fn exit_code(error: &driver::Error) -> u8 {
    let session = match error {
        driver::Error::Session(session) => session,
        driver::Error::Store(store) => return exit::of_close(store.to_fault().code),
        _ => return exit::OTHER,
    };
    match session {
        SessionError::Decode(_) | SessionError::Violation(_) => exit::NOT_THE_PROTOCOL,
        SessionError::PeerClosed(_) | SessionError::Truncated => exit::CONNECTION,
        SessionError::Fault(fault) => exit::of_close(fault.code),
        _ => exit::OTHER,
    }
}
