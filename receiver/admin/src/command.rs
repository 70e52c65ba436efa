//! The receiver's command line, in `ForceCommand` or in a `command="..."`.

use std::path::{Path, PathBuf};

/// What the command line of a receiver says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReceiverCommand {
    pub(crate) program: String,
    pub(crate) config: Option<PathBuf>,
    pub(crate) pull_url: Option<String>,
    pub(crate) identity: Option<String>,
    pub(crate) repo: Option<PathBuf>,
}

impl ReceiverCommand {
    /// Parses a line for a shell; `None` if it runs no receiver.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = words(line).into_iter();
        let program = words.find(|word| {
            let name = word.rsplit('/').next().unwrap_or_default();
            PROGRAMS.contains(&name)
        })?;
        let mut this = Self {
            program,
            ..Self::default()
        };
        while let Some(word) = words.next() {
            // A redirection, or another command.
            if word.contains(['>', '<', '|', ';', '&']) {
                break;
            }
            let (option, value) = match word.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option, Some(value.into())),
                _ => (word.as_str(), None),
            };
            let mut value = || value.clone().or_else(|| words.next());
            match option {
                "--config" => this.config = value().map(PathBuf::from),
                "--pull-url" => this.pull_url = value(),
                "--identity" => this.identity = value(),
                "--repo" => this.repo = value().map(PathBuf::from),
                "--threads" | "--protocol-min" => drop(value()),
                _ if option.starts_with('-') => {}
                _ => this.repo = Some(word.into()),
            }
        }
        Some(this)
    }

    /// Returns whether it writes to this repository, when it runs in `home`.
    pub(crate) fn is_of(&self, repo: &Path, home: &Path) -> bool {
        let path = self.repo.as_deref().map(|path| home.join(path));
        path.is_some_and(|path| path.canonicalize().is_ok_and(|path| path == repo))
    }
}

/// Splits a line into words as a shell does, without expanding anything.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' | '"' => {
                let within = word.get_or_insert_default();
                within.extend(chars.by_ref().take_while(|next| *next != c));
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

const PROGRAMS: [&str; 2] = ["bst-artifact-receive", "ostree-receive"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_manual_is_understood_with_all_its_options() {
        let line = "umask 022; /usr/bin/bst-artifact-receive --pull-url 'https://h/a b' -v \
                    --config=/etc/c --threads 2 arti\\ facts 2>>receive.log";
        let command = ReceiverCommand::parse(line).unwrap();
        assert_eq!(command.program, "/usr/bin/bst-artifact-receive");
        assert_eq!(command.pull_url.as_deref(), Some("https://h/a b"));
        assert_eq!(command.config.as_deref(), Some(Path::new("/etc/c")));
        assert_eq!(command.repo.as_deref(), Some(Path::new("arti facts")));
        assert_eq!(ReceiverCommand::parse("/bin/sh -c true"), None);
    }
}
