//! The lines of an `authorized_keys`, as sshd reads them.

use artifact_receiver::access::PublicKey;

use crate::command::ReceiverCommand;

/// A line with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyLine {
    /// Counted from 1.
    pub(crate) number: usize,
    /// `None` if sshd cannot use the line.
    pub(crate) key: Option<PublicKey>,
    /// The `command="..."` among its options.
    pub(crate) command: Option<String>,
}

impl KeyLine {
    /// Returns the identity that the command names.
    pub(crate) fn identity(&self) -> Option<String> {
        ReceiverCommand::parse(self.command.as_deref()?)?.identity
    }
}

/// Reads all lines but comments.
pub(crate) fn parse(text: &str) -> Vec<KeyLine> {
    let lines = text
        .lines()
        .zip(1..)
        .map(|(line, number)| (line.trim(), number));
    let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let parsed = lines.map(|(line, number)| {
        let (options, rest) = match line.parse::<PublicKey>() {
            Ok(_) => ("", line),
            Err(_) => split_options(line),
        };
        KeyLine {
            number,
            key: rest.parse().ok(),
            command: command_of(options),
        }
    });
    parsed.collect()
}

/// Splits a line behind its options, which end at a space outside of quotes.
fn split_options(line: &str) -> (&str, &str) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return (&line[..at], line[at..].trim_start()),
            _ => {}
        }
    }
    (line, "")
}

fn command_of(options: &str) -> Option<String> {
    let (_, rest) = options.split_once("command=\"")?;
    let mut command = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => command.extend(chars.next()),
            _ => command.push(c),
        }
    }
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 \
                       AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_line_is_options_a_key_and_a_comment() {
        let text = format!(
            "# {KEY}\n{KEY} ci\nrestrict,command=\"a \\\"b\\\" c\",no-pty {KEY}\n\nssh-ed25519 x\n"
        );
        let lines = parse(&text);
        let numbers: Vec<_> = lines.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [2, 3, 5]);
        assert!(lines[0].key.is_some() && lines[0].command.is_none());
        assert_eq!(lines[1].command.as_deref(), Some("a \"b\" c"));
        assert!(lines[1].key.is_some() && lines[2].key.is_none());
    }
}
