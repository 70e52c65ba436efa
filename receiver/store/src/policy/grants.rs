//! What one identity may do to which refs, and the words for what it may not.

use artifact_formats::{RefName, RefPattern};
use artifact_protocol::frame::{Refusal, RefusalCode};

/// The rights of one identity. The default: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Refs it may create.
    pub push: Vec<RefPattern>,
    /// Refs it may move to another commit, and create.
    pub replace: Vec<RefPattern>,
    /// Refs by which it may replace the detached metadata of any commit that is here already.
    pub sign: Vec<RefPattern>,
    /// Where it may move refs to.
    pub rule: Rule,
}

/// Where a ref may be moved to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// To descendants of its commit only, whatever the client asks for.
    #[default]
    FastForward,
    /// To any commit, if the client asks for that.
    Any,
}

/// What an update does to a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Gives it its first commit, or completes the one it has.
    Create,
    /// Gives it another commit.
    Move,
    /// Replaces the detached metadata of a commit that is here already, and somebody else's.
    Sign,
}

impl Action {
    /// Returns the word for it, in refusals and where rights are listed.
    const fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Move => "replace",
            Self::Sign => "sign",
        }
    }
}

impl Grants {
    /// Returns a line for each right, such as `create team/**`; not more than fit a `Welcome`.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for action in [Action::Create, Action::Move, Action::Sign] {
            for pattern in self.lists(action).into_iter().flatten() {
                let forward = action == Action::Move && self.rule == Rule::FastForward;
                let how = if forward { " (forward only)" } else { "" };
                let line = format!("{} {pattern}{how}\n", action.verb());
                if text.len() + line.len() > MAX_TEXT_LEN {
                    return text + "and more\n";
                }
                text += &line;
            }
        }
        text
    }

    /// Returns whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.push.is_empty() && self.replace.is_empty() && self.sign.is_empty()
    }

    /// Returns whether an action is granted.
    pub fn permit(&self, action: Action, name: &RefName) -> bool {
        self.lists(action)
            .into_iter()
            .flatten()
            .any(|pattern| pattern.matches(name.as_str()))
    }

    /// Says that an action is not granted to `who`, and what is.
    pub(super) fn refusal(&self, who: &str, action: Action, name: &RefName) -> Refusal {
        let verb = action.verb();
        let granted: Vec<_> = self.lists(action).into_iter().flatten().collect();
        let shown: Vec<_> = granted.iter().take(MAX_SHOWN).map(|p| p.as_str()).collect();
        let may = match granted.len().saturating_sub(shown.len()) {
            _ if granted.is_empty() => "nothing".to_owned(),
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        };
        let text = format!("{who} may not {verb} {name}: it may {verb} {may}");
        Refusal::new(RefusalCode::NOT_PERMITTED, &text)
    }

    /// Returns the patterns that grant an action: who may replace a ref may create it as well, since
    /// it would only have to wait for somebody to do so.
    fn lists(&self, action: Action) -> [&[RefPattern]; 2] {
        match action {
            Action::Create => [&self.push, &self.replace],
            Action::Move => [&self.replace, &[]],
            Action::Sign => [&self.sign, &[]],
        }
    }
}

/// Of all rights as text, in bytes. The longest pattern fits.
const MAX_TEXT_LEN: usize = 4 * 1024;
/// Patterns named in a refusal.
const MAX_SHOWN: usize = 5;
