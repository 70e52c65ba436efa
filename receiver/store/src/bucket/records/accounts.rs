//! The account of an identity: the refs that it has set, and the objects that its pushes have
//! brought.
//!
//! ```text
//! artifact-cache account 1
//! random NUMBER               differs in each account ever stored
//! identity NAME
//! held OBJECTS BYTES          brought by pushes that published, or counted by a collection
//! left TIME OBJECTS BYTES     brought by other pushes that ended before this time, by the hour
//! ref TIME NAME               a push announced at this time that it would set this ref
//! ```
//!
//! A push replaces its identity's account by compare-and-swap before it sets new refs, and when it
//! ends. So an account names every ref that its identity has set; it may name more. Only operators'
//! commands take refs off an account. Times are in seconds since 1970.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::time::Duration;

use artifact_formats::RefName;
use bytes::Bytes;

use crate::bucket::records::layout;
use crate::bucket::requests::client::{Client, Outcome};
use crate::bucket::requests::random::Random;
use crate::bucket::requests::seam::{Class, Condition, Found, Key, Tag};
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::quota::load::Weight;

/// The account of an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) identity: String,
    /// What pushes have brought that published it.
    pub(crate) held: Weight,
    /// What other pushes have brought, by the end of the hour in which they ended.
    pub(crate) left: BTreeMap<u64, Weight>,
    /// The refs, each with the time when a push last announced that it would create the ref.
    pub(crate) refs: BTreeMap<Box<str>, u64>,
}

impl Account {
    /// Begins an empty account.
    pub(crate) fn new(identity: &str) -> Self {
        Self {
            identity: identity.to_owned(),
            ..Self::default()
        }
    }

    /// Returns everything that the identity has brought.
    pub(crate) fn weight(&self) -> Weight {
        let left = self.left.values();
        left.fold(self.held, |sum, weight| sum + *weight)
    }

    /// Adds what a push has brought that ended without publishing it.
    pub(crate) fn leave(&mut self, brought: Weight, now: u64) {
        let hour = now.next_multiple_of(HOUR);
        let left = self.left.entry(hour).or_default();
        *left = *left + brought;
        while self.left.len() > LEFT_MAX
            && let Some((_, oldest)) = self.left.pop_first()
            && let Some(mut next) = self.left.first_entry()
        {
            *next.get_mut() = *next.get() + oldest;
        }
    }

    /// Takes refs off that are gone, except those that a push has announced since `before`, in
    /// seconds since 1970: it may be about to set them. Returns whether there were any.
    pub(crate) fn close(&mut self, before: u64, is_gone: impl Fn(&str) -> bool) -> bool {
        let all = self.refs.len();
        self.refs
            .retain(|name, announced| *announced >= before || !is_gone(name));
        self.refs.len() < all
    }

    /// Returns the account as bytes, which differ each time: a late put whose condition is an older
    /// account can thus never take effect.
    pub(crate) fn to_bytes(&self, random: &mut Random) -> Bytes {
        let Weight { objects, bytes } = self.held;
        let mut text = format!(
            "{HEAD}\nrandom {:016x}\nidentity {}\nheld {objects} {bytes}\n",
            random.next(),
            self.identity
        );
        for (hour, Weight { objects, bytes }) in &self.left {
            let _ = writeln!(text, "left {hour} {objects} {bytes}");
        }
        for (name, announced) in &self.refs {
            let _ = writeln!(text, "ref {announced} {name}");
        }
        text.into()
    }

    /// Reads an account; `None` if the content is none.
    pub(crate) fn parse(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?.strip_suffix('\n')?;
        let mut lines = text.split('\n');
        if lines.next()? != HEAD {
            return None;
        }
        lines.next()?.strip_prefix("random ")?;
        let mut account = Self::new(lines.next()?.strip_prefix("identity ")?);
        account.held = weight(lines.next()?.strip_prefix("held ")?)?;
        for line in lines {
            let (kind, rest) = line.split_once(' ')?;
            let (time, rest) = rest.split_once(' ')?;
            let time = time.parse().ok()?;
            match kind {
                "left" => _ = account.left.insert(time, weight(rest)?),
                "ref" => {
                    RefName::parse_stored(rest).ok()?;
                    account.refs.insert(rest.into(), time);
                }
                _ => return None,
            }
        }
        Some(account)
    }
}

fn weight(text: &str) -> Option<Weight> {
    let (objects, bytes) = text.split_once(' ')?;
    Some(Weight {
        objects: objects.parse().ok()?,
        bytes: bytes.parse().ok()?,
    })
}

/// Reads the account that was found under a key.
pub(crate) fn read(key: &Key, found: &Found) -> Result<Account, Error> {
    Account::parse(&found.content).ok_or_else(|| {
        let why = "it is no account: delete it, and the refs and objects of its identity count from \
                   now on";
        Error::bucket("reading", key)(BucketError::Broken(why.to_owned()))
    })
}

/// Reads all accounts.
pub(crate) fn read_all(client: &Client) -> Result<HashMap<Key, Account>, Error> {
    let mut accounts = HashMap::new();
    for entry in client.list_each(layout::ACCOUNTS) {
        let entry = entry.map_err(Error::bucket("listing", &layout::ACCOUNTS))?;
        let found = client.get(&entry.key);
        if let Some(found) = found.map_err(Error::bucket("reading", &entry.key))? {
            let account = read(&entry.key, &found)?;
            accounts.insert(entry.key, account);
        }
    }
    Ok(accounts)
}

/// Changes the account of an identity by compare-and-swap, and returns it with its tag. `change` is
/// called for each attempt, and returns whether it has changed the account it was given. `sent` is
/// the content of an earlier attempt whose answer was lost: if the bucket holds it, the account is
/// changed already.
pub(crate) fn change(
    client: &Client,
    key: &Key,
    identity: &str,
    mut sent: Option<Bytes>,
    mut change: impl FnMut(&mut Account) -> Result<bool, Error>,
) -> Result<(Account, Option<Tag>), Error> {
    let mut random = Random::new();
    for turn in 1..=TURNS {
        let found = client.get(key).map_err(Error::bucket("reading", key))?;
        let tag = found.as_ref().map(|found| found.tag.clone());
        let mut account = match &found {
            Some(found) => read(key, found)?,
            None => Account::new(identity),
        };
        let is_stored = |sent: &Bytes| found.as_ref().is_some_and(|found| found.content == sent);
        if sent.as_ref().is_some_and(is_stored) || !change(&mut account)? {
            return Ok((account, tag));
        }
        let content = account.to_bytes(&mut random);
        let condition = tag.map_or(Condition::New, Condition::Is);
        match client.put(key, content.clone(), condition, Class::Private) {
            Ok(Outcome::Stored(tag)) => return Ok((account, Some(tag))),
            Ok(Outcome::NotMet) => {
                let wait = random.below(u64::from(turn.min(8)) * PAUSE_MS);
                client.clock().sleep(Duration::from_millis(wait));
            }
            Err(BucketError::Unclear(_)) => sent = Some(content),
            Err(error) => return Err(Error::bucket("storing", key)(error)),
        }
    }
    let busy = BucketError::Busy("others replaced it each time".to_owned());
    Err(Error::bucket("storing", key)(busy))
}

const HEAD: &str = "artifact-cache account 1";
const HOUR: u64 = 3600;
/// The most hours that an account tells apart.
const LEFT_MAX: usize = 48;
/// The most attempts to replace an account while other pushes replace it too.
const TURNS: u32 = 64;
/// The longest wait after the first lost race, in milliseconds.
const PAUSE_MS: u64 = 40;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_account_is_read_as_it_was_written_and_a_cut_one_is_refused(
            held in (0u64..9, 0u64..9),
            left in prop::collection::vec((0u64..100, 0u64..9, 0u64..9), 0..4),
            refs in prop::collection::btree_map("[xy](/[xyz]){0,3}", 0u64..100, 0..9),
            cut in any::<prop::sample::Index>(),
        ) {
            let of = |objects, bytes| Weight { objects, bytes };
            let mut account = Account::new("mia");
            account.held = of(held.0, held.1);
            let mut sum = account.held;
            for (hours, objects, bytes) in left {
                account.leave(of(objects, bytes), hours * HOUR);
                sum = sum + of(objects, bytes);
            }
            account.refs = refs.into_iter().map(|(name, at)| (name.into(), at)).collect();
            prop_assert_eq!(account.weight(), sum);
            let content = account.to_bytes(&mut Random::new());
            prop_assert_eq!(Account::parse(&content), Some(account.clone()));
            let cut = Account::parse(&content[..cut.index(content.len())]);
            prop_assert_ne!(cut, Some(account));
        }
    }

    #[test]
    fn what_is_left_for_long_keeps_its_sum_and_the_later_time() {
        let mut account = Account::new("mia");
        let one = Weight {
            objects: 1,
            bytes: 10,
        };
        for hour in 1..=100 {
            account.leave(one, hour * HOUR - 1);
            account.leave(one, hour * HOUR);
        }
        assert_eq!(account.left.len(), LEFT_MAX);
        let sum = Weight {
            objects: 200,
            bytes: 2000,
        };
        assert_eq!(account.weight(), sum);
        assert_eq!(account.left.last_key_value().unwrap().0, &(100 * HOUR));
    }
}
