//! `chaos-puller SOURCE REPO REF...`: the pull that `make chaos-pull` disturbs. It prints
//! `accepted` once the store has judged the refs, and `updated REF` for each ref that it has set.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use artifact_formats::RefName;
use artifact_tests::chaos::puller::pull;
use artifact_tests::exec::Failure;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Whoever has closed it does not want to know.
            let _ = writeln!(io::stderr(), "{failure:?}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let missing = || Failure::new("usage: chaos-puller SOURCE REPO REF...");
    let source = arguments.next().ok_or_else(missing)?;
    let repo = arguments.next().ok_or_else(missing)?;
    let names = arguments.map(|name| name.to_string_lossy().parse());
    let names: Vec<RefName> = names
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(format!("{error}")))?;
    let set = pull(&source, &repo, &names, || {
        say("accepted").unwrap_or_default()
    })?;
    for name in set {
        say(&format!("updated {name}")).map_err(Failure::doing("write"))?;
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
