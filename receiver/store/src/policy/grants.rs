//! The rights of one identity to refs, and the text of its refusals.

use artifact_formats::{RefName, RefPattern};
use artifact_protocol::frame::{Refusal, RefusalCode};

/// The rights of one identity. None by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Refs that it may create.
    pub push: Vec<RefPattern>,
    /// Refs that it may move to another commit, or create.
    pub replace: Vec<RefPattern>,
    /// Refs through which it may replace the detached metadata of any commit that is here already.
    pub sign: Vec<RefPattern>,
    /// Where it may move refs.
    pub rule: Rule,
    /// Refs that it may pull. Without a list, all of them if it has another right, and none
    /// otherwise: who may change a cache may be expected to read it, and who may do nothing must
    /// not gain a right by an upgrade.
    pub pull: Option<Vec<RefPattern>>,
}

/// Where a ref may be moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Only to descendants of its commit, whatever the client asks for.
    #[default]
    FastForward,
    /// To any commit, if the client asks for it.
    Any,
}

/// The effect of an update on a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sets its first commit, or completes its current one.
    Create,
    /// Moves it to another commit.
    Move,
    /// Replaces the detached metadata of a commit that is here already, and belongs to somebody
    /// else.
    Sign,
}

impl Action {
    /// Returns the word for it, in refusals and lists of rights.
    const fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Move => "replace",
            Self::Sign => "sign",
        }
    }
}

impl Grants {
    /// Returns a line for each right, such as `create team/**`, at most as much as fits a
    /// `Welcome`.
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
        for pattern in self.pull.iter().flatten() {
            let line = format!("pull {pattern}\n");
            if text.len() + line.len() > MAX_TEXT_LEN {
                return text + "and more\n";
            }
            text += &line;
        }
        text
    }

    /// Returns whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        !self.permit_changes() && self.pull.as_ref().is_none_or(Vec::is_empty)
    }

    /// Returns whether a right to change anything is granted.
    pub fn permit_changes(&self) -> bool {
        !(self.push.is_empty() && self.replace.is_empty() && self.sign.is_empty())
    }

    /// Returns the refs that may be pulled; `None` is all of them.
    pub(super) fn readable(&self) -> Option<&[RefPattern]> {
        match &self.pull {
            Some(patterns) => Some(patterns),
            None if self.permit_changes() => None,
            None => Some(&[]),
        }
    }

    /// Returns whether an action is granted.
    pub fn permit(&self, action: Action, name: &RefName) -> bool {
        self.lists(action)
            .into_iter()
            .flatten()
            .any(|pattern| pattern.matches(name.as_str()))
    }

    /// Refuses an action to `who`, and lists what is granted.
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

    /// Returns the patterns that grant an action. A right to replace a ref includes creating it:
    /// its holder would only have to wait for somebody else to create it.
    fn lists(&self, action: Action) -> [&[RefPattern]; 2] {
        match action {
            Action::Create => [&self.push, &self.replace],
            Action::Move => [&self.replace, &[]],
            Action::Sign => [&self.sign, &[]],
        }
    }
}

/// Limit of all rights as text, in bytes. The longest pattern fits.
const MAX_TEXT_LEN: usize = 4 * 1024;
/// Most patterns to name in a refusal.
const MAX_SHOWN: usize = 5;
