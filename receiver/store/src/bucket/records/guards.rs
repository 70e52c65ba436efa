//! Guards of names: a bucket could hold both a ref `a` and a ref `a/b`, but no repository on a disk
//! can.
//!
//! Each name of a ref, and of each directory that leads to refs, has a guard that says which of the
//! two the name is. A push creates the guards of a new ref before the ref, and never changes or
//! removes a guard. If two pushes want a name for different things, one of them fails, whatever
//! else happens. Only tools that remove refs remove guards.

use std::collections::{BTreeMap, BTreeSet};

use artifact_formats::RefName;
use bytes::Bytes;

use crate::bucket::records::layout;
use crate::bucket::requests::ask::{ask_all, get_all};
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::{Answer, Class, Condition, Found, Key, Request};
use crate::error::Error;
use crate::error::bucket::BucketError;

/// The use of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Taken {
    ByRef,
    ByDir,
}

impl Taken {
    /// Returns the content of a guard.
    pub(crate) const fn content(self) -> Bytes {
        Bytes::from_static(match self {
            Self::ByRef => b"ref\n",
            Self::ByDir => b"dir\n",
        })
    }

    /// Reads a guard; `None` if the content is not a guard.
    pub(crate) fn parse(content: &[u8]) -> Option<Self> {
        let mut kinds = [Self::ByRef, Self::ByDir].into_iter();
        kinds.find(|kind| kind.content()[..] == *content)
    }

    /// Returns why a ref that needs this name for another use cannot be set.
    const fn why(self) -> &'static str {
        match self {
            Self::ByRef => "a part of its name is a ref",
            Self::ByDir => "there are refs below it",
        }
    }
}

/// The guards that a push has found.
#[derive(Debug, Default)]
pub(crate) struct Guards {
    found: BTreeMap<String, Taken>,
}

impl Guards {
    /// Takes the guard of a name as it was read, or its absence. Fails if the guard is damaged.
    pub(crate) fn learn(
        &mut self,
        name: &str,
        key: &Key,
        found: Option<&Found>,
    ) -> Result<(), Error> {
        let Some(found) = found else {
            self.found.remove(name);
            return Ok(());
        };
        let taken = Taken::parse(&found.content).ok_or_else(|| {
            let why = "it says neither `ref` nor `dir`: delete it if no ref needs the name";
            Error::bucket("reading", key)(BucketError::Broken(why.to_owned()))
        })?;
        self.note(name, taken);
        Ok(())
    }

    /// Notes the use of a name: the push has created its guard, or another program has set refs
    /// without one.
    pub(crate) fn note(&mut self, name: &str, taken: Taken) {
        self.found.insert(name.to_owned(), taken);
    }

    /// Returns the guards that these refs need and that were not found.
    pub(crate) fn missing<'a>(
        &self,
        refs: impl Iterator<Item = &'a RefName>,
    ) -> Vec<(&'a str, Taken)> {
        let needed = refs.flat_map(needed);
        let missing = needed.filter(|(name, _)| !self.found.contains_key(*name));
        missing.collect::<BTreeMap<_, _>>().into_iter().collect()
    }

    /// Returns the names that these refs need and whose guards were found, with the guards' keys.
    pub(crate) fn present<'a>(
        &self,
        refs: impl Iterator<Item = &'a RefName>,
    ) -> Vec<(&'a str, Key)> {
        let needed = refs.flat_map(needed).map(|(name, _)| name);
        let present: BTreeSet<_> = needed
            .filter(|name| self.found.contains_key(*name))
            .collect();
        keyed(present)
    }

    /// Creates the guards that these refs need and that were not found.
    pub(crate) fn create<'a>(
        &mut self,
        client: &Client,
        refs: impl Iterator<Item = &'a RefName>,
    ) -> Result<(), Error> {
        let mut left: Vec<(&str, Taken)> = self.missing(refs);
        for _ in 0..TURNS {
            if left.is_empty() {
                return Ok(());
            }
            let answers = ask_all(client, left.iter().filter_map(put).collect());
            let mut doubtful = BTreeSet::new();
            for ((name, taken), answer) in left.iter().zip(answers) {
                match answer {
                    Ok(Answer::Stored(_)) => self.note(name, *taken),
                    Ok(Answer::NotMet) | Err(BucketError::Unclear(_)) => {
                        doubtful.insert(*name);
                    }
                    Ok(other) => {
                        let misfit = BucketError::misfit("a put", &other);
                        return Err(Error::bucket("guarding", name)(misfit));
                    }
                    Err(error) => return Err(Error::bucket("guarding", name)(error)),
                }
            }
            self.read(client, doubtful)?;
            left.retain(|(name, _)| !self.found.contains_key(*name));
        }
        let name = left.first().map_or("", |(name, _)| name);
        let unclear = BucketError::Unclear("each answer was lost".to_owned());
        Err(Error::bucket("guarding", &name)(unclear))
    }

    /// Returns why a ref cannot be set, if its name or a part of it has another use.
    pub(crate) fn conflict(&self, name: &RefName) -> Option<&'static str> {
        needed(name).find_map(|(part, wanted)| {
            let taken = self.found.get(part)?;
            (*taken != wanted).then(|| taken.why())
        })
    }

    fn read(&mut self, client: &Client, names: BTreeSet<&str>) -> Result<(), Error> {
        let (names, keys): (Vec<_>, Vec<_>) = keyed(names).into_iter().unzip();
        let found = get_all(client, &keys)?;
        for ((name, key), found) in names.into_iter().zip(&keys).zip(found) {
            self.learn(name, key, found.as_ref())?;
        }
        Ok(())
    }
}

/// Returns these names with the keys of their guards.
pub(crate) fn keyed<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, Key)> {
    let names = names.into_iter();
    let keyed = names.filter_map(|name| Some((name, layout::guard(name)?)));
    keyed.collect()
}

/// Returns the request that creates a guard.
pub(crate) fn put((name, taken): &(&str, Taken)) -> Option<Request> {
    Some(Request::Put {
        key: layout::guard(name)?,
        content: taken.content(),
        condition: Condition::New,
        class: Class::Private,
    })
}

/// Returns the names that refs take, each once.
pub(crate) fn names<'a>(refs: impl Iterator<Item = &'a RefName>) -> BTreeSet<&'a str> {
    let names = refs.filter(|name| layout::head(name).is_some());
    names.flat_map(needed).map(|(name, _)| name).collect()
}

/// Returns the names that a ref takes: its own, and those of the directories that lead to it.
pub(crate) fn needed(name: &RefName) -> impl Iterator<Item = (&str, Taken)> {
    let text = name.as_str();
    let dirs = text.match_indices('/');
    let dirs = dirs.filter_map(move |(end, _)| Some((text.get(..end)?, Taken::ByDir)));
    dirs.chain([(text, Taken::ByRef)])
}

/// The most attempts to create guards whose answers are lost.
const TURNS: usize = 5;
