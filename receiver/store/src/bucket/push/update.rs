//! The updates of a push into a bucket, compared with the refs there.

use artifact_formats::{Checksum, RefName};
use bytes::Bytes;

use crate::bucket::client::Client;
use crate::bucket::layout;
use crate::bucket::push::ask::get_all;
use crate::bucket::random::Random;
use crate::bucket::seam::{Condition, Found, Key, Tag};
use crate::error::Error;
use crate::update::{self, Value, lost_race};

/// One ref of a push; its place is its key, unless its name is too long for one.
pub(crate) type Update = update::Update<Option<Key>, Held>;
/// All of them.
pub(crate) type Updates = update::Updates<Option<Key>, Held>;

/// The value of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Nothing,
    Commit(Checksum, Tag),
    /// An object with no valid content. A push may replace it.
    Malformed(Tag),
}

impl Held {
    /// Takes the object that was read.
    pub(crate) fn of(found: Option<&Found>) -> Self {
        let Some(found) = found else {
            return Self::Nothing;
        };
        let tag = found.tag.clone();
        match parse(&found.content) {
            Some(commit) => Self::Commit(commit, tag),
            None => Self::Malformed(tag),
        }
    }

    /// Returns the condition of a put that replaces this value and no other.
    pub(crate) fn condition(&self) -> Condition {
        match self {
            Self::Nothing => Condition::New,
            Self::Commit(_, tag) | Self::Malformed(tag) => Condition::Is(tag.clone()),
        }
    }
}

impl Value for Held {
    fn commit(&self) -> Option<Checksum> {
        match self {
            Self::Commit(commit, _) => Some(*commit),
            Self::Nothing | Self::Malformed(_) => None,
        }
    }
}

/// Reads the commits of refs, many at once; leaves out refs without any.
pub(crate) fn values(
    client: &Client,
    names: &[RefName],
) -> Result<Vec<(RefName, Checksum)>, Error> {
    let mut values = Vec::new();
    for some in names.chunks(READ_AT_ONCE) {
        let named = some.iter();
        let named = named.filter_map(|name| Some((name, layout::head(name)?)));
        let (some, keys): (Vec<_>, Vec<_>) = named.unzip();
        for (name, found) in some.into_iter().zip(get_all(client, &keys)?) {
            let commit = Held::of(found.as_ref()).commit();
            values.extend(commit.map(|commit| (name.clone(), commit)));
        }
    }
    Ok(values)
}

/// Refs in memory at once.
pub(crate) const READ_AT_ONCE: usize = 1024;

/// Returns the content of a ref: the commit, and blanks that differ each time. Servers compare
/// hashes of contents. Without the blanks, a late put conditional on a value that the ref has again
/// would undo later pushes. Readers, including OSTree's, ignore blanks at the end.
pub(crate) fn content(commit: Checksum, random: &mut Random) -> Bytes {
    let bits = random.next();
    let blanks = (0..BLANKS).map(|bit| if bits >> bit & 1 == 0 { ' ' } else { '\t' });
    let mut text = commit.to_hex();
    text.extend(blanks);
    text.push('\n');
    text.into()
}

fn parse(content: &[u8]) -> Option<Checksum> {
    let text = std::str::from_utf8(content).ok()?;
    text.trim_ascii_end().parse().ok()
}

impl Update {
    /// Compares the ref with the value the client was told; returns whether it still holds it. The
    /// wanted commit counts only with the announced detached metadata.
    pub(crate) fn confirm(&mut self, now: Held, detached: Option<Checksum>) -> bool {
        if now == self.held {
            return true;
        }
        let announced = self.wanted.detached;
        let is_wanted =
            now.commit() == Some(self.commit()) && (announced.is_none() || announced == detached);
        self.moved(now, is_wanted);
        false
    }

    /// Refuses an update that was up to date if its ref has changed since.
    pub(crate) fn confirm_unchanged(&mut self, now: &Held) {
        if self.is_up_to_date() && now.commit() != Some(self.commit()) {
            self.refuse(lost_race());
        }
    }

    /// Returns the name of a ref that does not exist yet.
    pub(crate) fn new_name(&self) -> Option<&RefName> {
        (self.held == Held::Nothing).then_some(&self.wanted.name)
    }
}

/// The number of blanks after a commit: enough to differ each time, and as many as readers of refs
/// accept.
const BLANKS: u32 = 48;
