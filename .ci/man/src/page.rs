//! One manual page.

use crate::roff::escape;

/// A page, whose body is roff already.
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) section: char,
    /// What it is, in one line, for `whatis` and `apropos`.
    pub(crate) about: String,
    pub(crate) body: String,
    pub(crate) see_also: Vec<String>,
}

impl Page {
    pub(crate) fn render(&self, date: &str) -> String {
        let Self {
            name,
            section,
            about,
            body,
            ..
        } = self;
        let manual = match section {
            '1' => "User Commands",
            '5' => "File Formats",
            '7' => "Miscellaneous Information",
            _ => "System Administration",
        };
        let version = env!("CARGO_PKG_VERSION");
        let (title, name, about) = (escape(&name.to_uppercase()), escape(name), escape(about));
        let mut text = format!(
            ".TH \"{title}\" \"{section}\" \"{date}\" \"artifact-cache {version}\" \"{manual}\"\n\
             .SH NAME\n{name} \\- {about}\n{body}"
        );
        if !self.see_also.is_empty() {
            text.push_str(".SH SEE ALSO\n");
            for (index, page) in self.see_also.iter().enumerate() {
                let (page, section) = page.split_once('(').unwrap_or((page, ")"));
                let comma = if index + 1 == self.see_also.len() {
                    ""
                } else {
                    ","
                };
                text.push_str(&format!(".BR {} ({section}{comma}\n", escape(page)));
            }
        }
        tidy(&text)
    }
}

/// Leaves out requests for space beside others that make the same space, which mandoc warns about.
fn tidy(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        let last = lines.last().copied().unwrap_or_default();
        match line {
            ".PP" if last.starts_with(".SH") || last.starts_with(".SS") => {}
            _ => lines.push(line),
        }
    }
    // An empty line between breaks.
    lines.join("\n").replace("\n.br\n\n.br\n", "\n.sp\n") + "\n"
}
