//! Runs programs and keeps their output.
//!
//! A program's standard error is part of every failure, so that a failed test explains itself.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::{fmt, io};

/// The reason why a test could not be prepared, or the difference between two things. Only people
/// read it, so its `Debug` form, which `unwrap` prints, is readable.
pub struct Failure {
    what: String,
    source: Option<io::Error>,
}

impl Failure {
    /// Describes a failure.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            source: None,
        }
    }

    /// Returns a function that adds the failed action to an I/O error.
    pub fn doing(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            what: format!("cannot {what}"),
            source: Some(source),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub command: String,
    /// Exit code, or `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error; bytes that are not UTF-8 are replaced.
    pub stderr: String,
}

impl Ran {
    /// Returns standard output, or fails with standard error unless the exit code is 0.
    pub fn success(self) -> Result<String, Failure> {
        if self.code == Some(0) {
            Ok(self.stdout)
        } else {
            Err(Failure::new(self.to_string()))
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => writeln!(f, "`{}` ended with {code}", self.command)?,
            None => writeln!(f, "`{}` was ended by a signal", self.command)?,
        }
        write!(f, "{}{}", self.stdout, self.stderr)
    }
}

/// Runs a program to its end, without input. Any exit code is a success here.
pub fn run(command: &mut Command) -> Result<Ran, Failure> {
    let line = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(Failure::doing(format!("run `{line}`")))?;
    Ok(Ran {
        command: line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Returns the command line as a person would read it.
pub fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_carries_its_exit_code_and_what_it_said() {
        let ran = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap();
        assert_eq!(ran.code, Some(3));
        let text = format!("{:?}", ran.success().unwrap_err());
        assert!(
            text.contains("ended with 3") && text.contains("err"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(format!("{failure:?}").contains("no-such-program-here"));
    }
}
