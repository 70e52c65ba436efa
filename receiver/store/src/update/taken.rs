//! The names of the refs that a push sets, none of which may be above another.

use std::collections::BTreeSet;

use artifact_protocol::frame::Refusal;

use crate::update::machine::conflict;

/// The names of accepted updates.
#[derive(Debug, Default)]
pub(crate) struct Taken<'a>(BTreeSet<&'a str>);

impl<'a> Taken<'a> {
    pub(crate) fn insert(&mut self, name: &'a str) {
        self.0.insert(name);
    }

    /// Refuses a name that is above or below another.
    pub(crate) fn judge(&self, name: &str) -> Result<(), Refusal> {
        if self.is_in_the_way(name) {
            return Err(conflict("the push sets another ref above or below it"));
        }
        Ok(())
    }

    fn is_in_the_way(&self, name: &str) -> bool {
        let above = name
            .match_indices('/')
            .any(|(end, _)| name.get(..end).is_some_and(|above| self.0.contains(above)));
        let below = format!("{name}/");
        above
            || (self.0)
                .range(below.as_str()..)
                .next()
                .is_some_and(|next| next.starts_with(&below))
    }
}
