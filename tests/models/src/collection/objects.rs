//! The objects and refs of the models.

use std::fmt;
use std::sync::Arc;

use artifact_store::bucket::collect::{Doomed, Rank};

/// An object: a file, or a commit that reaches files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    /// A commit of the file.
    B,
    /// Another commit of the file.
    C,
    /// Another commit of the file.
    D,
    /// A commit of nothing.
    E,
    /// The file.
    F,
}

/// A ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ref(pub u8);

/// A set of objects.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Ids(u8);

impl Id {
    const ALL: [Self; 5] = [Self::B, Self::C, Self::D, Self::E, Self::F];

    /// Returns what the object reaches, without itself.
    pub fn beneath(self) -> Ids {
        match self {
            Self::B | Self::C | Self::D => Ids::of([Self::F]),
            Self::E | Self::F => Ids::default(),
        }
    }

    pub(super) fn is_commit(self) -> bool {
        self.rank() == Rank::Commit
    }
}

impl Doomed for Id {
    fn rank(&self) -> Rank {
        match self {
            Self::B | Self::C | Self::D | Self::E => Rank::Commit,
            Self::F => Rank::File,
        }
    }
}

impl Ids {
    pub(super) fn of(ids: impl IntoIterator<Item = Id>) -> Self {
        let mut set = Self::default();
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }

    pub(super) fn insert(&mut self, id: Id) {
        self.0 |= 1 << id as u8;
    }

    pub(super) const fn contains(self, id: Id) -> bool {
        self.0 & 1 << id as u8 != 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Id> {
        Id::ALL.into_iter().filter(move |id| self.contains(*id))
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Adds what the objects reach.
    pub(super) fn closed(self) -> Self {
        self.iter().fold(self, |all, id| all.with(id.beneath()))
    }

    pub(super) fn list(self) -> Arc<[Id]> {
        self.iter().collect()
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
