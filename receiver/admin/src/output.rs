//! The output of all commands, for people or programs.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use artifact_protocol::{escape_json, exit};

/// Prints a result. [`finish`] reports a failure to print at the end; a closed pipe is no failure.
pub(crate) fn say(line: &str) {
    note_failure(writeln!(io::stdout(), "{line}"));
}

/// Prints an event, for programs as JSON that begins with the event's name, for people as text.
pub(crate) fn tell(json: bool, event: &str, fields: &serde_json::Value, text: &str) {
    if !json {
        return say(text);
    }
    let fields = fields.to_string();
    let rest = fields.strip_prefix('{').unwrap_or("}");
    let comma = if rest == "}" { "" } else { "," };
    say(&escape_json(&format!(
        "{{\"event\":\"{event}\"{comma}{rest}"
    )));
}

/// Prints an error or a warning.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Keeps the first failure to print, for [`finish`].
pub(crate) fn note_failure(printed: io::Result<()>) {
    if let Err(error) = printed
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = UNWRITABLE.set(error.to_string());
    }
}

/// Returns the exit code of a command that ended with `code`, and reports a failure to print.
pub(crate) fn finish(code: u8) -> ExitCode {
    note_failure(io::stdout().flush());
    let Some(why) = UNWRITABLE.get() else {
        return ExitCode::from(code);
    };
    complain(&format!(
        "artifact-cache-admin: cannot write to standard output: {why}"
    ));
    let is_done = code == exit::DONE;
    ExitCode::from(if is_done { exit::OTHER } else { code })
}

/// The reason why a result could not be printed.
static UNWRITABLE: OnceLock<String> = OnceLock::new();
