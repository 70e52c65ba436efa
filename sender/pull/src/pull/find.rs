//! The wanted refs that a cache has, and their commits: from its summary or from single refs.

use std::collections::BTreeMap;

use artifact_formats::{Checksum, RefName, Summary};

use super::Pull;
use crate::error::Error;
use crate::origin::Origin;
use crate::report::Report;
use crate::verify::{Demands, Reason};

impl Pull {
    /// Finds the wanted refs that the cache has.
    pub(super) async fn find(
        &self,
        origin: &Origin,
        demands: &[Demands],
        report: &mut Report,
    ) -> Result<BTreeMap<RefName, Checksum>, Error> {
        let signed = demands.iter().any(Demands::are_of_summary);
        let mut found = BTreeMap::new();
        // The summary may be large, and may list only some of the refs.
        let is_needed = self.pattern.is_some() || self.names.len() > FEW || signed;
        let summary = match (is_needed, signed) {
            (false, _) => None,
            (true, false) => origin.summary().await?,
            (true, true) => signed_summary(origin, demands).await?,
        };
        let listed = summary.as_ref().map(|summary| &summary.refs);
        if let Some(pattern) = &self.pattern {
            match listed {
                None => origin.without_summary().await?,
                Some(refs) => {
                    for (name, entry) in refs.iter().filter(|(name, _)| pattern.matches(name)) {
                        match name.parse::<RefName>() {
                            Ok(name) if self.except.contains(&name) => {}
                            Ok(name) => drop(found.insert(name, entry.commit)),
                            Err(error) => report.left_out.push((name.clone(), error)),
                        }
                    }
                }
            }
        }
        for name in self.names.difference(&self.except) {
            let commit = match listed.and_then(|refs| refs.get(name.as_str())) {
                Some(entry) => Some(entry.commit),
                // Nothing signed says what an unlisted ref holds.
                None if signed => None,
                None => origin.commit_of(name).await?,
            };
            found.extend(commit.map(|commit| (name.clone(), commit)));
        }
        Ok(found)
    }
}

/// Reads the summary, if the cache has one that everybody who demands a signature accepts.
async fn signed_summary(origin: &Origin, demands: &[Demands]) -> Result<Option<Summary>, Error> {
    let found = origin.summary_with_signatures().await?;
    let Some((summary, signatures)) = found else {
        let mut demands = demands.iter().filter(|demands| demands.are_of_summary());
        return match demands.next() {
            Some(demands) => {
                let what = "the summary".to_owned();
                Err(demands.unverified(what, Reason::NoSummary).into())
            }
            None => Ok(None),
        };
    };
    for demands in demands {
        let checked = demands.check_summary(&summary, signatures.as_deref());
        checked.await?;
    }
    origin.parse_summary(&summary).map(Some)
}

/// Up to this many refs are asked for one by one.
const FEW: usize = 8;
