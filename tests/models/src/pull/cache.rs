//! A repository in memory, of commits and dirtrees as OSTree has them; files and dirmetas are
//! arbitrary bytes.

use std::collections::{BTreeMap, BTreeSet};

use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind, RefName};
use bytes::Bytes;

use crate::props::draw::Draw;

/// Refs, objects, and detached metadata.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// The stored bytes of each object.
    pub objects: BTreeMap<ObjectId, Bytes>,
    /// The values of the refs.
    pub refs: BTreeMap<RefName, Checksum>,
    /// The detached metadata of commits.
    pub detached: BTreeMap<Checksum, Bytes>,
}

impl Cache {
    /// Draws three refs, `p/e/0` to `p/e/2`, and commits of random trees that share directories.
    /// Each commit but the first has a parent, and some have detached metadata.
    pub fn draw(draw: &mut Draw<'_>) -> Self {
        let mut cache = Self::default();
        let mut trees = Vec::new();
        let mut parent = None;
        for number in 0..3 {
            for _ in 0..1 + draw.below(3) {
                let tree = cache.draw_tree(draw, &trees);
                trees.push(tree);
            }
            let root = cache.draw_tree(draw, &trees);
            let commit = cache.add_commit(root, parent, number);
            let name = format!("p/e/{number}").parse().expect("a name");
            cache.refs.insert(name, commit);
            if draw.once_in(3) {
                cache.detached.insert(commit, Bytes::from(vec![7; number]));
            }
            parent = Some(commit);
        }
        cache
    }

    fn draw_tree(&mut self, draw: &mut Draw<'_>, below: &[ObjectId]) -> ObjectId {
        let files: Vec<_> = (0..draw.below(4))
            .map(|number| {
                let len = *draw.pick(&[0, 1, 30, 700]);
                let byte = u8::try_from(draw.below(6)).expect("below 6");
                // As in OSTree, no file has the bytes of a dirtree.
                let stored = [b"file".to_vec(), vec![byte; len]].concat();
                (format!("f{number}"), self.add(ObjectKind::File, stored))
            })
            .collect();
        let meta = self.add(ObjectKind::Dirmeta, vec![u8::from(draw.once_in(3)); 12]);
        let dirs: Vec<_> = (0..draw.below(1 + below.len().min(3)))
            .map(|number| (format!("d{number}"), *draw.pick(below)))
            .collect();
        let files = files.iter().map(|(name, id)| (&name[..], id.checksum));
        let dirs = dirs
            .iter()
            .map(|(name, id)| (&name[..], id.checksum, meta.checksum));
        self.add(ObjectKind::Dirtree, Dirtree::serialize(files, dirs))
    }

    fn add_commit(
        &mut self,
        root: ObjectId,
        parent: Option<Checksum>,
        timestamp: usize,
    ) -> Checksum {
        let meta = self.add(ObjectKind::Dirmeta, vec![2; 12]);
        let commit = Commit {
            parent,
            timestamp: timestamp as u64,
            subject: "drawn".to_owned(),
            ..Commit::new(root.checksum, meta.checksum)
        };
        self.add(ObjectKind::Commit, commit.serialize()).checksum
    }

    fn add(&mut self, kind: ObjectKind, stored: Vec<u8>) -> ObjectId {
        let id = ObjectId::new(kind, Checksum::of(&stored));
        self.objects.insert(id, stored.into());
        id
    }

    /// Returns what an object names, a commit's parent aside.
    pub fn children(id: ObjectId, stored: &[u8]) -> Vec<ObjectId> {
        match id.kind {
            ObjectKind::Commit => {
                let commit = Commit::parse(stored).expect("it was verified");
                vec![
                    ObjectId::new(ObjectKind::Dirtree, commit.tree),
                    ObjectId::new(ObjectKind::Dirmeta, commit.meta),
                ]
            }
            ObjectKind::Dirtree => {
                let tree = Dirtree::parse(stored).expect("it was verified");
                tree.children().collect()
            }
            ObjectKind::Dirmeta | ObjectKind::File => Vec::new(),
        }
    }

    /// Returns the commit's ancestors that are here, and so many of them at most.
    pub fn ancestors(&self, commit: Checksum, history: u32) -> Vec<Checksum> {
        let mut ancestors = Vec::new();
        let mut next = self.objects.get(&ObjectId::commit(commit));
        while let Some(stored) = next
            && ancestors.len() < history as usize
        {
            let Some(parent) = Commit::parse(stored).expect("it was verified").parent else {
                break;
            };
            next = self.objects.get(&ObjectId::commit(parent));
            ancestors.extend(next.map(|_| parent));
        }
        ancestors
    }

    /// Returns what a commit reaches: those objects that are here, and those that are missing.
    pub fn closure(&self, commit: Checksum) -> (BTreeSet<ObjectId>, BTreeSet<ObjectId>) {
        let (mut here, mut gone) = (BTreeSet::new(), BTreeSet::new());
        let mut todo = vec![ObjectId::commit(commit)];
        while let Some(id) = todo.pop() {
            match self.objects.get(&id) {
                Some(stored) if here.insert(id) => todo.extend(Self::children(id, stored)),
                Some(_) => {}
                None => drop(gone.insert(id)),
            }
        }
        (here, gone)
    }

    /// Returns whether all that the refs' commits reach is here.
    pub fn is_whole(&self) -> bool {
        let mut commits = self.refs.values();
        commits.all(|commit| self.closure(*commit).1.is_empty())
    }
}
