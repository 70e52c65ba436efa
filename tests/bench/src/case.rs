//! What can be pushed: which tree, how much of it is missing, from what kind of repository to where.

/// A tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// An artifact of 50 files.
    T,
    /// A root file system of Debian, as `debootstrap` makes it.
    A,
    /// 100,000 small files.
    B,
    /// Four large files, of which two can be compressed.
    C,
    /// A million files of a few bytes.
    M,
    /// One file of 10 GiB.
    G,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::T, Self::A, Self::B, Self::C, Self::M, Self::G];
    /// Those that are measured unless others are asked for.
    pub const USUAL: [Self; 4] = [Self::T, Self::A, Self::B, Self::C];

    /// Returns its name, as `BENCH_CASES` takes it.
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

    /// Returns whether it is pushed from a bare-user repository as well.
    pub const fn has_bare_user(self) -> bool {
        matches!(self, Self::A | Self::G)
    }

    /// Returns whether only its memory is of interest.
    pub const fn is_huge(self) -> bool {
        matches!(self, Self::M | Self::G)
    }

    /// Returns what it is, for people.
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

/// How much of the tree is missing at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// All of it: the repository is empty.
    Full,
    /// What has changed since the commit that is there: one file in a hundred, one at least.
    Change,
    /// Nothing: the ref is there.
    Nothing,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Change, Self::Nothing];

    /// Returns its name, as `BENCH_WORKS` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Change => "change",
            Self::Nothing => "nothing",
        }
    }
}

/// What the source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// An archive repository, whose objects travel as they lie.
    Archive,
    /// A bare-user repository, as build tools keep, whose objects have to be compressed.
    BareUser,
}

impl Source {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::BareUser => "bare-user",
        }
    }
}

/// Where the destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In memory, where creating files costs next to nothing.
    Memory,
    /// On disk.
    Disk,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Memory, Self::Disk];

    /// Returns its name, as `BENCH_PLACES` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "tmpfs",
            Self::Disk => "disk",
        }
    }
}
