//! The pages of a program: one for itself, and one for each of its subcommands.

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;

use crate::page::Page;
use crate::roff::{example, heading};

/// Adds the pages of a command and of its subcommands.
pub(crate) fn pages(
    command: Command,
    section: char,
    related: &[&str],
    pages: &mut Vec<Page>,
) -> anyhow::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    add(&command, None, section, related, pages)
}

fn add(
    command: &Command,
    parent: Option<&str>,
    section: char,
    related: &[&str],
    pages: &mut Vec<Page>,
) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let about = command.get_about().map(ToString::to_string);
    let about = about.with_context(|| format!("{name} does not say what it does"))?;
    let about = about.lines().next().unwrap_or_default();
    let own = format!("{name}({section})");
    let see_also = parent.iter().map(|parent| format!("{parent}({section})"));
    let see_also = see_also.chain(related.iter().map(ToString::to_string));
    pages.push(Page {
        name: name.to_owned(),
        section,
        about: lower_first(about.trim_end_matches('.')),
        body: body(command, section)?,
        see_also: see_also.filter(|page| *page != own).collect(),
    });
    for command in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        add(command, Some(name), section, related, pages)?;
    }
    Ok(())
}

fn body(command: &Command, section: char) -> anyhow::Result<String> {
    let man = Man::new(command.clone()).section(section);
    let mut roff = Vec::new();
    man.render_synopsis_section(&mut roff)?;
    man.render_description_section(&mut roff)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut roff)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut roff)?;
    }
    let mut body = String::from_utf8(roff)?;
    let after = command.get_after_help().map(ToString::to_string);
    body.push_str(&after_help(&after.unwrap_or_default()));
    Ok(body)
}

/// Gives each part of the text after the options a section: a part begins with a line such as
/// `Examples:`.
fn after_help(text: &str) -> String {
    let mut body = String::new();
    let mut part = String::new();
    let mut title = "NOTES".to_owned();
    let mut flush = |title: &str, part: &mut String| {
        if !part.trim().is_empty() {
            body.push_str(&heading(title));
            body.push_str(&example(part.trim_matches('\n')));
        }
        part.clear();
    };
    for line in text.lines() {
        match line.strip_suffix(':') {
            Some(next) if KNOWN.contains(&next) => {
                flush(&title, &mut part);
                title = next.to_uppercase().replace("EXIT CODES", "EXIT STATUS");
            }
            _ => part.extend([line, "\n"]),
        }
    }
    flush(&title, &mut part);
    body
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

const KNOWN: [&str; 2] = ["Examples", "Exit codes"];
