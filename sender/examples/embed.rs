//! A build tool that shares what it has built: everything that embedding the sender takes.
//!
//! ```text
//! cargo run -p artifact-sender --example embed -- REPO ssh://artifacts@example.com/cache REF...
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example program prints"
)]

use std::error::Error;
use std::process::ExitCode;

use artifact_sender::{Connector, Push, Remote, Report, Repository, SenderEvent, SummaryDone};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(repo), Some(remote)) = (args.next(), args.next()) else {
        eprintln!("usage: embed REPO REMOTE REF...");
        return Ok(ExitCode::from(2));
    };
    let report = share(&repo, &remote.parse()?, args).await?;

    for (name, outcome) in &report.refs {
        println!("{name}: {outcome:?}");
    }
    println!(
        "{} objects, {} bytes",
        report.objects_sent, report.bytes_sent
    );
    if let Some(SummaryDone::Failed(why)) = &report.summary {
        eprintln!("others cannot list it yet: {}", why.escaped());
    }
    Ok(match report.refused().next() {
        None => ExitCode::SUCCESS,
        Some((name, refusal)) => {
            eprintln!("{name} was refused: {}", refusal.text.escaped());
            ExitCode::FAILURE
        }
    })
}

/// Pushes refs of a local repository, under the same names.
async fn share(
    repo: &str,
    remote: &Remote,
    refs: impl Iterator<Item = String>,
) -> Result<Report, Box<dyn Error>> {
    let mut push = Push::new(Repository::open(repo)?).agent("example-build-tool 1.0");
    for name in refs {
        push = push.reference(&name.parse()?)?;
    }

    // Any `AsyncRead + AsyncWrite` works; this one is the user's own ssh, or a local receiver.
    let mut connection = Connector::default().connect(remote)?;
    let result = push.over(&mut connection, show).await;

    // The standard error of ssh and the server often explains a failure.
    let (_, lines) = connection.finish().await?;
    if result.is_err() {
        lines
            .iter()
            .for_each(|line| eprintln!("remote: {}", artifact_sender::escape(line)));
    }
    Ok(result?)
}

/// Receives progress as events; a library prints nothing by itself.
fn show(event: &SenderEvent) {
    if let SenderEvent::Answered { wanted, had } = event {
        eprintln!(
            "the server wants {} objects more, and has {had}",
            wanted.len()
        );
    }
}
