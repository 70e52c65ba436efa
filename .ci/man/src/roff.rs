//! Turns Markdown into roff with the `man` macros: what our texts contain, and no more.
//!
//! Tables become lists, whose terms are the first column: a table with long cells is unreadable on
//! a terminal.

use std::mem;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Returns the body of a page. The title is left out, since the page has one of its own.
pub(crate) fn from_markdown(text: &str) -> String {
    let mut writer = Writer::default();
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        writer.event(event);
    }
    writer.out
}

/// Returns a heading of a section.
pub(crate) fn heading(title: &str) -> String {
    format!(".SH {}\n", quoted(&escape(title)))
}

/// Returns text that keeps its lines, indented.
pub(crate) fn example(text: &str) -> String {
    let mut out = ".PP\n.RS 4\n.EX\n".to_owned();
    for line in text.lines() {
        out.push_str(&begun(escape(line)));
        out.push('\n');
    }
    out.push_str(".EE\n.RE\n");
    out
}

/// Escapes what roff would take for more than text.
pub(crate) fn escape(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('^', "\\(ha")
        .replace('~', "\\(ti")
        .replace('`', "\\(ga")
}

/// Protects a line that begins like a request.
fn begun(line: String) -> String {
    match line.as_bytes() {
        [b'.' | b'\'', ..] => format!("\\&{line}"),
        _ => line,
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\\(dq"))
}

#[derive(Default)]
struct Writer {
    out: String,
    /// The text of the paragraph, heading or cell that is being read.
    text: String,
    lists: Vec<Option<u64>>,
    /// Whether the next paragraph is the first of its item.
    begins_item: bool,
    is_verbatim: bool,
    link: String,
    table: Table,
}

/// A table, as far as it was read.
#[derive(Default)]
struct Table {
    head: Vec<String>,
    row: Vec<String>,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.is_verbatim => self.text.push_str(&text),
            Event::Text(text) => self.text.push_str(&escape(&text)),
            Event::Code(text) => {
                self.text.push_str(&format!("\\fB{}\\fR", escape(&text)));
            }
            Event::SoftBreak | Event::HardBreak => self.text.push('\n'),
            Event::Rule => {}
            Event::Html(text) | Event::InlineHtml(text) => self.text.push_str(&escape(&text)),
            Event::InlineMath(_)
            | Event::DisplayMath(_)
            | Event::FootnoteReference(_)
            | Event::TaskListMarker(_) => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::CodeBlock(_) => {
                self.flush();
                self.is_verbatim = true;
            }
            Tag::List(first) => {
                self.flush();
                if !self.lists.is_empty() {
                    self.out.push_str(".RS 4\n");
                }
                self.lists.push(first);
            }
            Tag::Item => {
                self.flush();
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}.", *number - 1)
                    }
                    _ => "\\(bu".to_owned(),
                };
                self.out.push_str(&format!(".IP {mark} 4\n"));
                self.begins_item = true;
            }
            Tag::Table(_) => {
                self.flush();
                self.table = Table::default();
            }
            Tag::Emphasis => self.text.push_str("\\fI"),
            Tag::Strong => self.text.push_str("\\fB"),
            Tag::Link { dest_url, .. } => self.link = dest_url.into_string(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let title = mem::take(&mut self.text).replace('\n', " ");
                let title = title.replace("\\fB", "").replace("\\fR", "");
                match level {
                    HeadingLevel::H1 => {}
                    HeadingLevel::H2 => self.line(&format!(".SH {}", quoted(&title))),
                    _ => self.line(&format!(".SS {}", quoted(&title))),
                }
            }
            TagEnd::Paragraph => self.flush(),
            TagEnd::CodeBlock => {
                self.is_verbatim = false;
                let text = mem::take(&mut self.text);
                self.out.push_str(&example(text.trim_end_matches('\n')));
            }
            TagEnd::List(_) => {
                self.flush();
                self.lists.pop();
                if !self.lists.is_empty() {
                    self.line(".RE");
                }
            }
            TagEnd::Item => {
                self.flush();
                self.begins_item = false;
            }
            TagEnd::Emphasis | TagEnd::Strong => self.text.push_str("\\fR"),
            TagEnd::Link => {
                let link = mem::take(&mut self.link);
                let is_shown = self.text.ends_with(&escape(&link));
                if link.starts_with("http") && !is_shown {
                    self.text.push_str(&format!(" <{}>", escape(&link)));
                }
            }
            TagEnd::TableCell => {
                let cell = mem::take(&mut self.text);
                self.table.row.push(cell.trim().to_owned());
            }
            TagEnd::TableHead => self.table.head = mem::take(&mut self.table.row),
            TagEnd::TableRow => self.row(),
            _ => {}
        }
    }

    /// Writes a row of a table: its first cell is the term, the others describe it.
    fn row(&mut self) {
        let row = mem::take(&mut self.table.row);
        let mut cells = row.iter().zip(&self.table.head);
        let Some((term, _)) = cells.next() else {
            return;
        };
        let is_pair = row.len() == 2;
        let others: Vec<String> = cells
            .filter(|(cell, _)| !cell.is_empty())
            .map(|(cell, head)| match is_pair || head.is_empty() {
                true => cell.clone(),
                false => format!("\\fI{head}:\\fR {cell}"),
            })
            .collect();
        self.out.push_str(".TP\n");
        self.line(&begun(term.clone()));
        match others.as_slice() {
            [] => self.line("\\&"),
            others => self.line(&begun(others.join("\n.br\n"))),
        }
    }

    /// Writes the paragraph that was read.
    fn flush(&mut self) {
        let text = mem::take(&mut self.text);
        if text.trim().is_empty() {
            return;
        }
        if !mem::take(&mut self.begins_item) {
            let request = if self.lists.is_empty() { ".PP" } else { ".IP" };
            self.line(request);
        }
        for line in text.trim().lines() {
            self.line(&begun(line.to_owned()));
        }
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_taken_for_a_request() {
        let roff =
            from_markdown("x\n.sh\n'y\n\n    .code\n\n- \\n\n\n| a | b |\n|-|-|\n| .c | 'd |");
        for line in roff.lines().filter(|line| line.starts_with(['.', '\''])) {
            let (request, _) = line.split_once(' ').unwrap_or((line, ""));
            let known = [".PP", ".RS", ".EX", ".EE", ".RE", ".IP", ".TP", ".br"];
            assert!(known.contains(&request), "{line:?} in {roff}");
        }
        assert!(roff.contains("\\en"), "{roff}");
    }

    #[test]
    fn a_row_of_a_table_is_a_term_and_what_the_other_columns_say_of_it() {
        let roff = from_markdown("| field | type | meaning |\n|---|---|---|\n| x | `u8` | a *y* |");
        let expected = ".TP\nx\n\\fItype:\\fR \\fBu8\\fR\n.br\n\\fImeaning:\\fR a \\fIy\\fR\n";
        assert_eq!(roff, expected);
    }
}
