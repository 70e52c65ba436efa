//! Commits and their signatures, which come before everything that they reach.

use std::collections::BTreeMap;
use std::sync::Arc;

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::bindings::Bindings;
use crate::error::Error;
use crate::local::Local;
use crate::moves::parse;
use crate::origin::Origin;
use crate::verify::Demands;

/// Where commits come from, and which signatures they need.
#[derive(Clone, Debug)]
pub(crate) struct CommitSource {
    pub(crate) origin: Origin,
    pub(crate) local: Arc<Local>,
    pub(crate) demands: Arc<Vec<Demands>>,
}

/// A commit that has every demanded signature.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) commit: Checksum,
    pub(crate) parent: Option<Checksum>,
    pub(crate) tree: ObjectId,
    pub(crate) meta: ObjectId,
    /// The refs and the collection it is bound to.
    pub(crate) bindings: Bindings,
    /// SHA-256 of its detached metadata.
    pub(crate) detached_sum: Option<Checksum>,
    // Kept unless they are large.
    content: Option<Bytes>,
    detached: Option<Bytes>,
}

impl CommitSource {
    /// Loads commits, many at once, and checks their signatures; `None` for those that the cache
    /// does not have.
    pub(crate) async fn load_all(
        &self,
        commits: impl IntoIterator<Item = Checksum>,
    ) -> Result<BTreeMap<Checksum, Result<Option<Signed>, Error>>, Error> {
        let mut loaded = BTreeMap::new();
        let mut under_way = JoinSet::new();
        let mut commits = commits.into_iter();
        loop {
            while under_way.len() < AT_ONCE
                && let Some(commit) = commits.next()
            {
                let this = self.clone();
                under_way.spawn(async move { (commit, this.load(commit).await) });
            }
            match under_way.join_next().await {
                Some(Ok((commit, result))) => drop(loaded.insert(commit, result)),
                Some(Err(_)) => return Err(Error::Internal("a task that loads commits has ended")),
                None => return Ok(loaded),
            }
        }
    }

    async fn load(&self, commit: Checksum) -> Result<Option<Signed>, Error> {
        let content = async {
            match self.local.commit_bytes(commit) {
                Some(content) => Ok(Some(content)),
                None => self.origin.commit(commit).await,
            }
        };
        let (content, detached) = tokio::try_join!(content, self.origin.detached(commit))?;
        let Some(content) = content else {
            return Ok(None);
        };
        for demands in &*self.demands {
            let checked = demands.check_commit(commit, &content, detached.as_deref());
            checked.await?;
        }
        let parsed = parse(commit, &content)?;
        let keep = |bytes: &Bytes| bytes.len() <= KEPT_LEN_MAX;
        Ok(Some(Signed {
            commit,
            parent: parsed.parent,
            tree: ObjectId::new(ObjectKind::Dirtree, parsed.tree),
            meta: ObjectId::new(ObjectKind::Dirmeta, parsed.meta),
            bindings: Bindings {
                refs: parsed.ref_bindings,
                collection: parsed.collection_binding,
            },
            detached_sum: detached.as_deref().map(Checksum::of),
            content: Some(content).filter(keep),
            detached: detached.filter(keep),
        }))
    }

    /// Returns a commit's bytes and its detached metadata, those whose signatures were checked.
    pub(crate) async fn bytes(&self, signed: &Signed) -> Result<(Bytes, Option<Bytes>), Error> {
        let commit = signed.commit;
        let content = match &signed.content {
            Some(content) => Some(content.clone()),
            None => match self.local.commit_bytes(commit) {
                Some(content) => Some(content),
                None => self.origin.commit(commit).await?,
            },
        };
        let detached = match (&signed.detached, signed.detached_sum) {
            (Some(detached), _) => Some(detached.clone()),
            (None, None) => None,
            (None, Some(_)) => self.origin.detached(commit).await?,
        };
        let is_same = detached.as_deref().map(Checksum::of) == signed.detached_sum;
        match content {
            Some(content) if is_same => Ok((content, detached)),
            // It has changed since it was checked: the next attempt begins anew.
            Some(_) | None => Err(Error::StillMissing {
                id: ObjectId::commit(commit),
            }),
        }
    }
}

const AT_ONCE: usize = 32;
/// The longest commit to keep until it is staged, in bytes; a group of refs keeps one for each.
const KEPT_LEN_MAX: usize = 32 * 1024;
