//! The pushes to measure: which tree, how much of it is missing, from what kind of repository, to
//! where.

/// A tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// An artifact of 50 files.
    T,
    /// A root file system of Debian, as `debootstrap` makes it.
    A,
    /// 100,000 small files.
    B,
    /// Four large files, two of them compressible.
    C,
    /// A million files of a few bytes.
    M,
    /// One file of 10 GiB.
    G,
}

impl Case {
    pub const ALL: [Self; 6] = [Self::T, Self::A, Self::B, Self::C, Self::M, Self::G];
    /// The default trees.
    pub const USUAL: [Self; 4] = [Self::T, Self::A, Self::B, Self::C];

    /// Returns its name, as in `BENCH_CASES`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::T => "T",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::M => "M",
            Self::G => "G",
        }
    }

    /// Returns whether it is also pushed from a bare-user repository.
    pub const fn has_bare_user(self) -> bool {
        matches!(self, Self::A | Self::G)
    }

    /// Returns whether only its memory matters.
    pub const fn is_huge(self) -> bool {
        matches!(self, Self::M | Self::G)
    }

    /// Returns its description.
    pub const fn title(self) -> &'static str {
        match self {
            Self::T => "50 files",
            Self::A => "root file system",
            Self::B => "100,000 small files",
            Self::C => "4 large files",
            Self::M => "1,000,000 tiny files",
            Self::G => "a file of 10 GiB",
        }
    }
}

/// How much of the tree the destination lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Everything: the repository is empty.
    Full,
    /// The changes since the commit that it has: one file in a hundred, at least one.
    Change,
    /// Nothing: it has the ref.
    Nothing,
}

impl Work {
    pub const ALL: [Self; 3] = [Self::Full, Self::Change, Self::Nothing];

    /// Returns its name, as in `BENCH_WORKS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Change => "change",
            Self::Nothing => "nothing",
        }
    }
}

/// The kind of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// An archive repository, whose objects are sent as they are stored.
    Archive,
    /// A bare-user repository, as build tools keep, whose objects must be compressed.
    BareUser,
}

impl Source {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::BareUser => "bare-user",
        }
    }
}

/// The place of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In memory, where creating files costs almost nothing.
    Memory,
    /// On disk.
    Disk,
}

impl Place {
    pub const ALL: [Self; 2] = [Self::Memory, Self::Disk];

    /// Returns its name, as in `BENCH_PLACES`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "tmpfs",
            Self::Disk => "disk",
        }
    }
}
