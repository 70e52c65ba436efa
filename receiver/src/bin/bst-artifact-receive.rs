//! `bst-artifact-receive`: takes one push on standard input and output, as sshd runs it.
//!
//! Standard output is the wire; everything else goes to standard error. Nothing of libostree is in
//! this program.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use artifact_protocol::frame::RefOutcome;
use artifact_protocol::session::{
    Error as SessionError, ReceiverConfig, ReceiverEvent, ReceiverOutput, ReceiverSession,
};
use artifact_protocol::{Text, escape, exit};
use artifact_receiver::driver::{self, DriverConfig, Patience};
use artifact_receiver::sandbox;
use artifact_receiver::store::{LocalStore, StoreConfig};
use clap::Parser;

/// Receive a push of OSTree commits into an archive repository.
///
/// Meant to be run by sshd, which says who the client is; it speaks the artifact cache protocol on
/// standard input and output. In sshd_config:
///
///   Match User artifacts
///       ForceCommand bst-artifact-receive --pull-url https://example.com/artifacts REPO
///
/// Objects are verified as they arrive, and a ref moves only when everything it reaches is in the
/// repository and on the disk.
#[derive(Debug, Parser)]
#[command(name = "bst-artifact-receive", version, verbatim_doc_comment)]
struct Args {
    /// Say on standard error what happens
    #[arg(short, long)]
    verbose: bool,
    /// Say all of it
    #[arg(short, long)]
    debug: bool,
    /// Where everybody may pull from; clients are told
    #[arg(long, value_name = "URL")]
    pull_url: Option<String>,
    /// Who the client is, for the log; from the key's own command="..." in authorized_keys
    #[arg(long, value_name = "NAME", default_value = "anyone")]
    identity: String,
    /// Threads that verify objects [default: the number of processors]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Do not confine this process: for systems where that fails, and to trace it
    #[arg(long)]
    no_sandbox: bool,
    /// The repository: a directory that `artifact-cache-admin init` or `ostree init` made
    repo: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    init_log(&args);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(exit::OTHER)
        }
    }
}

fn run(args: Args) -> anyhow::Result<u8> {
    if io::stdin().is_terminal() {
        tracing::error!("this is for sshd to run, not for a terminal; --help says how");
        return Ok(exit::USAGE);
    }
    let session = ReceiverConfig {
        agent: Text::new(concat!("bst-artifact-receive ", env!("CARGO_PKG_VERSION"))),
        pull_url: args.pull_url.as_deref().map(Text::new),
        identity: Some(Text::new(&args.identity)),
        ..ReceiverConfig::default()
    };
    let limits = session.limits;
    let store = match LocalStore::open(
        &args.repo,
        StoreConfig {
            identity: args.identity,
            limits,
            ..Default::default()
        },
    ) {
        Ok(store) => Arc::new(store),
        Err(error) => {
            let code = exit::of_close(error.to_fault().code);
            let told = tell(session, &error);
            tracing::error!(
                "cannot open the repository {}: {:#}",
                args.repo.display(),
                anyhow::Error::new(error)
            );
            told?;
            return Ok(code);
        }
    };
    // Looks at files outside the repository.
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or_else(processors);
    if args.no_sandbox {
        tracing::debug!("sandbox: none, as told");
    } else {
        for layer in sandbox::enter(&args.repo) {
            tracing::debug!("sandbox: {}: {}", layer.what, layer.standing);
        }
    }
    let config = DriverConfig {
        session,
        patience: Patience::default(),
        threads,
    };
    let (input, output) = wire().context("cannot use standard input and output as the wire")?;
    Ok(
        match driver::serve(&store, config, input, output, log_event) {
            Ok(()) => exit::DONE,
            Err(error) => {
                let code = exit_code(&error);
                tracing::error!("{:#}", anyhow::Error::new(error));
                code
            }
        },
    )
}

/// Takes the descriptors themselves: no buffer and no lock of the standard library's between.
fn wire() -> io::Result<(File, File)> {
    let input = rustix::io::dup(rustix::stdio::stdin())?;
    let output = rustix::io::dup(rustix::stdio::stdout())?;
    for end in [&input, &output] {
        // Only pipes have a size, and a small one works as well.
        let _ = rustix::pipe::fcntl_setpipe_size(end, PIPE_LEN);
    }
    Ok((input.into(), output.into()))
}

const PIPE_LEN: usize = 1024 * 1024;

/// Tells a client why there is no session for it.
fn tell(config: ReceiverConfig, error: &artifact_receiver::error::Error) -> anyhow::Result<()> {
    let fault = error.to_fault();
    let mut session = ReceiverSession::new(config);
    session.abort(fault.code, &fault.text);
    let (_, mut output) = wire()?;
    while let Some(output_) = session.poll_output() {
        if let ReceiverOutput::Transmit(bytes) = output_ {
            output.write_all(&bytes)?;
        }
    }
    Ok(())
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

fn log_event(event: ReceiverEvent) {
    match event {
        ReceiverEvent::Greeted(hello) => {
            tracing::info!(agent = hello.agent.escaped(), "client");
        }
        ReceiverEvent::Opened(announcement, opened) => {
            for (update, state) in announcement.refs.iter().zip(&opened.refs) {
                let current = state
                    .current
                    .map_or_else(|| "none".to_owned(), |c| c.to_hex());
                let verdict = escape(&format!("{:?}", state.verdict));
                tracing::info!(%current, new = %update.commit, verdict, "announced {}", update.name);
            }
        }
        ReceiverEvent::Published(outcomes) => {
            let updated = outcomes
                .iter()
                .filter(|o| **o == RefOutcome::Updated)
                .count();
            tracing::info!(updated, of = outcomes.len(), "published");
        }
    }
}

fn init_log(args: &Args) {
    let level = match (args.debug, args.verbose) {
        (true, _) => tracing::Level::DEBUG,
        (false, true) => tracing::Level::INFO,
        (false, false) => tracing::Level::WARN,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        // It would be told to standard error, which is gone then: that panics.
        .log_internal_errors(false);
    // What goes into a file is read later; the client and the journal know what time it is.
    let into_file = rustix::fs::fstat(rustix::stdio::stderr()).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
    });
    if into_file {
        log.init();
    } else {
        log.without_time().init();
    }
}
