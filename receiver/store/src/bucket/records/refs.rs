//! The refs of a bucket: their names, their values, and their contents.

use artifact_formats::{Checksum, RefName};
use bytes::Bytes;

use crate::bucket::records::layout;
use crate::bucket::requests::ask::get_all;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::random::Random;
use crate::bucket::requests::seam::{Condition, Entry, Found, Key, Tag};
use crate::bucket::requests::window::Window;
use crate::error::Error;
use crate::update::Value;

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
        match Checksum::from_ref(&found.content) {
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

/// Lists the refs by name, without keys that name no ref.
pub(crate) fn list(client: &Client) -> impl Iterator<Item = Result<(RefName, Entry), Error>> {
    let entries = client.list_each(layout::HEADS);
    entries.filter_map(|entry| match entry {
        Ok(entry) => Some(Ok((layout::head_of(&entry.key)?, entry))),
        Err(error) => Some(Err(Error::bucket("listing", &"refs")(error))),
    })
}

/// Reads any number of refs, and calls `take` with each; with `None` if it does not exist.
pub(crate) fn read_each(
    client: &Client,
    keys: &[Key],
    mut take: impl FnMut(&Key, Option<Found>) -> Result<(), Error>,
) -> Result<(), Error> {
    let window = Window::new(client.clone());
    for some in keys.chunks(READ_AT_ONCE) {
        let found = window.get_all(some);
        let found = found.map_err(Error::bucket("reading", &"refs"))?;
        for (key, found) in some.iter().zip(found) {
            take(key, found)?;
        }
    }
    Ok(())
}

/// Reads the commits of a few refs, at once; leaves out refs without a commit.
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
/// hashes of contents. Without the blanks, a late put whose condition is a value that the ref holds
/// again would undo later pushes. Readers, including OSTree's, ignore blanks at the end.
pub(crate) fn content(commit: Checksum, random: &mut Random) -> Bytes {
    let bits = random.next();
    let blanks = (0..BLANKS).map(|bit| if bits >> bit & 1 == 0 { ' ' } else { '\t' });
    let mut text = commit.to_hex();
    text.extend(blanks);
    text.push('\n');
    text.into()
}

/// The number of blanks after a commit: enough to differ each time, and as many as readers of refs
/// accept.
const BLANKS: u32 = 48;
