//! Text from the other side: bounded in length, and escaped before anybody sees it.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::MAX_TEXT_LEN;

/// Text for people, at most [`MAX_TEXT_LEN`] bytes (LIM-17). It may come from the other side, so it
/// has no `Display`: it reaches a terminal or a log only through [`Text::escaped`].
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text(Box<str>);

impl Text {
    /// Takes as much of `text` as fits, cut between characters.
    pub fn new(text: &str) -> Self {
        // REQ-7.
        let mut end = text.len().min(MAX_TEXT_LEN);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text.get(..end).unwrap_or_default().into())
    }

    /// Returns the text with an escape for every character that could move a cursor, change a
    /// colour, or reorder or hide its neighbours.
    pub fn escaped(&self) -> String {
        escape(&self.0)
    }

    /// Returns the original text, to compare or to pass on, never to show.
    pub fn as_raw(&self) -> &str {
        &self.0
    }

    /// Returns whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Escapes every character of `text` that is not plainly printable (REQ-33).
pub fn escape(text: &str) -> String {
    rewrite(text, |character, escaped| match character {
        '\\' => escaped.push_str("\\\\"),
        _ => escaped.extend(character.escape_debug()),
    })
}

/// Like `escape`, for text that contains escapes already, such as a line of a log: keeps
/// backslashes.
pub fn escape_line(text: &str) -> String {
    rewrite(text, |character, escaped| match character {
        '\\' => escaped.push(character),
        _ => escaped.extend(character.escape_debug()),
    })
}

/// Makes JSON safe to show without changing its meaning: characters that a terminal acts upon or
/// does not show become escapes of JSON.
pub fn escape_json(json: &str) -> String {
    rewrite(json, |character, escaped| match character {
        '\\' => escaped.push(character),
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    })
}

/// Copies plainly printable characters except backslashes, and lets `otherwise` write the rest.
fn rewrite(text: &str, mut otherwise: impl FnMut(char, &mut String)) -> String {
    let mut rewritten = String::with_capacity(text.len());
    for character in text.chars() {
        let is_ascii = character == ' ' || (character.is_ascii_graphic() && character != '\\');
        if is_ascii || character.escape_debug().eq([character]) {
            rewritten.push(character);
        } else {
            otherwise(character, &mut rewritten);
        }
    }
    rewritten
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        if text.len() > MAX_TEXT_LEN {
            return Err(D::Error::custom("text is longer than 1024 bytes"));
        }
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_holds_no_control_or_reordering_character() {
        let hostile = "ok\x1b[2J\r\n\u{9b}31m\u{202e}\u{200b}\u{7f}";
        let escaped = Text::new(hostile).escaped();
        assert_eq!(
            escaped,
            "ok\\u{1b}[2J\\r\\n\\u{9b}31m\\u{202e}\\u{200b}\\u{7f}"
        );
    }

    #[test]
    fn a_line_of_a_log_is_escaped_once() {
        let hostile = "ok\x1b[2J\n\u{9b}\u{85}\u{2028}\u{2066}\u{202e}\u{7f} \\u{1b} \"a\\\"";
        let shown = escape_line(hostile);
        assert_eq!(
            shown,
            "ok\\u{1b}[2J\\n\\u{9b}\\u{85}\\u{2028}\\u{2066}\\u{202e}\\u{7f} \\u{1b} \"a\\\""
        );
        assert_eq!(escape_line(&shown), shown);
    }

    #[test]
    fn json_is_escaped_by_its_own_means() {
        let json = "{\"a\":\"\\n\u{7f}\u{9b}\u{202e}\u{2028}\u{e0001}\u{1f600}\u{e9}\"}";
        let shown = escape_json(json);
        assert_eq!(
            shown,
            "{\"a\":\"\\n\\u007f\\u009b\\u202e\\u2028\\udb40\\udc01\u{1f600}\u{e9}\"}"
        );
    }

    #[test]
    fn what_is_plainly_printable_stays_as_it_is() {
        let plain = "a \"b\" 'c' \u{e9} ~";
        assert_eq!(escape(plain), plain);
        assert!(Text::new("").is_empty() && !Text::new("a").is_empty());
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = Text::new(&"\u{e9}".repeat(MAX_TEXT_LEN));
        assert_eq!(text.as_raw().len(), MAX_TEXT_LEN);
        let odd = Text::new(&format!("a{}", "\u{e9}".repeat(MAX_TEXT_LEN)));
        assert_eq!(odd.as_raw().len(), MAX_TEXT_LEN - 1);
    }
}
