//! The account of an identity: the refs that it has created, and the objects that its pushes have
//! brought.
//!
//! ```text
//! artifact-cache account 1
//! random NUMBER               differs in each account ever stored
//! identity NAME
//! counted OBJECTS BYTES       found by the last collection below the refs of the identity
//! brought TIME OBJECTS BYTES  brought since then, or lately, in the hour before this time
//! ref TIME NAME               announced at this time by a push that was about to create it
//! ```
//!
//! A push replaces the account by compare-and-swap before it sets refs, now and then while it runs,
//! and when it ends with objects that it has not charged yet. So an account names every ref that
//! its identity has created since it has quotas; it may name more. Only operators' commands take
//! refs off. Times are in seconds since 1970.

use std::collections::BTreeMap;
use std::fmt::Write;

use artifact_formats::RefName;
use bytes::Bytes;

use crate::bucket::records::layout;
use crate::bucket::requests::ask::get_all;
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
    /// What the last collection has found below the refs.
    counted: Weight,
    /// What pushes have brought that no collection has found since, by the end of the hour.
    brought: BTreeMap<u64, Weight>,
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

    /// Returns everything that counts towards the quota of objects.
    pub(crate) fn weight(&self) -> Weight {
        let brought = self.brought.values();
        brought.fold(self.counted, |sum, weight| sum + *weight)
    }

    /// Adds what a push has brought.
    pub(crate) fn bring(&mut self, weight: Weight, now: u64) {
        let hour = now.div_ceil(HOUR).saturating_mul(HOUR);
        let brought = self.brought.entry(hour).or_default();
        *brought = *brought + weight;
        while self.brought.len() > HOURS_MAX
            && let Some((_, oldest)) = self.brought.pop_first()
            && let Some(mut next) = self.brought.first_entry()
        {
            *next.get_mut() = *next.get() + oldest;
        }
    }

    /// Takes the count of a collection, which looked at the bucket at the time `marked` and deletes
    /// what nothing reaches and is older than the grace, in seconds.
    ///
    /// What was brought within the grace still counts, because it is in the bucket, reached or not.
    /// The part that the collection has found below refs must not count twice. The account cannot
    /// tell that part, so it takes off whatever would make it heavier than it was before.
    pub(crate) fn recount(&mut self, counted: Weight, marked: u64, grace: u64) {
        let before = self.weight();
        self.brought
            .retain(|hour, _| hour.saturating_add(grace) >= marked);
        self.counted = counted;
        let mut twice = self.weight().without(before);
        for weight in self.brought.values_mut() {
            let rest = weight.without(twice);
            twice = twice.without(*weight);
            *weight = rest;
        }
        self.brought
            .retain(|_, weight| *weight != Weight::default());
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
        let Weight { objects, bytes } = self.counted;
        let mut text = format!(
            "{HEAD}\nrandom {:016x}\nidentity {}\ncounted {objects} {bytes}\n",
            random.next(),
            self.identity
        );
        for (hour, Weight { objects, bytes }) in &self.brought {
            let _ = writeln!(text, "brought {hour} {objects} {bytes}");
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
        account.counted = weight(lines.next()?.strip_prefix("counted ")?)?;
        for line in lines {
            let (kind, rest) = line.split_once(' ')?;
            let (time, rest) = rest.split_once(' ')?;
            let time = time.parse().ok()?;
            match kind {
                "brought" => _ = account.brought.insert(time, weight(rest)?),
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
        let why = "it is no account: delete it, and the refs and objects of its identity count \
                   from now on";
        Error::bucket("reading", key)(BucketError::Broken(why.to_owned()))
    })
}

/// Reads all accounts but damaged ones, whose identities fail to push until an operator has deleted
/// them.
pub(crate) fn read_all(client: &Client) -> Result<BTreeMap<Key, Account>, Error> {
    let entries = client.list_all(layout::ACCOUNTS);
    let entries = entries.map_err(Error::bucket("listing", &layout::ACCOUNTS))?;
    let keys: Vec<_> = entries.into_iter().map(|entry| entry.key).collect();
    let all = get_all(client, &keys)?;
    let mut accounts = BTreeMap::new();
    for (key, found) in keys.into_iter().zip(all) {
        let Some(found) = found else { continue };
        match read(&key, &found) {
            Ok(account) => _ = accounts.insert(key, account),
            Err(error) => tracing::warn!("{}", artifact_formats::with_causes(&error)),
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
    sent: Option<Bytes>,
    mut change: impl FnMut(&mut Account) -> Result<bool, Error>,
) -> Result<(Account, Option<Tag>), Error> {
    let (mut random, mut waits) = (Random::new(), client.waits());
    let mut sent: Vec<Bytes> = sent.into_iter().collect();
    loop {
        let started = client.clock().now();
        let found = client.get(key).map_err(Error::bucket("reading", key))?;
        let tag = found.as_ref().map(|found| found.tag.clone());
        let mut account = match &found {
            Some(found) => read(key, found)?,
            None => Account::new(identity),
        };
        let is_stored = found.is_some_and(|found| sent.contains(&found.content));
        if is_stored || !change(&mut account)? {
            return Ok((account, tag));
        }
        let content = account.to_bytes(&mut random);
        let condition = tag.map_or(Condition::New, Condition::Is);
        let failed = match client.put(key, content.clone(), condition, Class::Private) {
            Ok(Outcome::Stored(tag)) => return Ok((account, Some(tag))),
            Ok(Outcome::NotMet) => {
                BucketError::Busy("other programs replaced it each time".to_owned())
            }
            Err(error @ BucketError::Unclear(_)) => error,
            Err(error) => return Err(Error::bucket("storing", key)(error)),
        };
        sent.push(content);
        let took = client.clock().now().saturating_sub(started);
        match waits.before_repeating(true, &failed, took) {
            Some(wait) => client.clock().sleep(wait),
            None => return Err(Error::bucket("storing", key)(failed)),
        }
    }
}

const HEAD: &str = "artifact-cache account 1";
const HOUR: u64 = 3600;
/// The most hours that an account tells apart.
const HOURS_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn of(objects: u64, bytes: u64) -> Weight {
        Weight { objects, bytes }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_account_is_read_as_it_was_written_and_a_cut_one_is_refused(
            counted in (0u64..9, 0u64..9),
            brought in prop::collection::vec((0u64..100, 0u64..9, 0u64..9), 0..4),
            refs in prop::collection::btree_map("[xy](/[xyz]){0,3}", 0u64..100, 0..9),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut account = Account::new("mia");
            account.counted = of(counted.0, counted.1);
            let mut sum = account.counted;
            for (hours, objects, bytes) in brought {
                account.bring(of(objects, bytes), hours * HOUR);
                sum = sum + of(objects, bytes);
            }
            account.refs = refs.into_iter().map(|(name, at)| (name.into(), at)).collect();
            prop_assert_eq!(account.weight(), sum);
            let content = account.to_bytes(&mut Random::new());
            prop_assert_eq!(Account::parse(&content), Some(account.clone()));
            let cut = Account::parse(&content[..cut.index(content.len())]);
            prop_assert_ne!(cut, Some(account));
        }

        /// What each hour brought is reached by refs, or not; what was counted before may be
        /// reached no longer.
        #[test]
        fn no_count_forgets_young_objects_or_makes_an_account_heavier(
            before in 0u64..20,
            gone in 0u64..20,
            brought in prop::collection::vec((0u64..50, 0u64..9, 0u64..9), 0..6),
            grace in 0u64..50,
        ) {
            let mut account = Account::new("mia");
            account.counted = of(before, before);
            let kept = before.saturating_sub(gone);
            let (now, grace) = (50 * HOUR, grace * HOUR);
            let (mut reached, mut young) = (kept, 0);
            for (hours, found, lost) in brought {
                account.bring(of(found + lost, found + lost), hours * HOUR);
                reached += found;
                young += if hours * HOUR + grace >= now { lost } else { 0 };
            }
            let old = account.weight();
            account.recount(of(reached, reached), now, grace);
            let new = account.weight();
            prop_assert!(new.fits(old), "{new:?} of {old:?}");
            prop_assert!(of(reached + young, reached + young).fits(new), "{new:?}");
            // The same count again, when all is old, is exact.
            account.recount(of(reached, reached), now + grace + 1, grace);
            prop_assert_eq!(account.weight(), of(reached, reached));
        }
    }

    #[test]
    fn what_is_brought_for_long_keeps_its_sum_and_the_later_time() {
        let mut account = Account::new("mia");
        for hour in 1..=100 {
            account.bring(of(1, 10), hour * HOUR - 1);
            account.bring(of(1, 10), hour * HOUR);
        }
        assert_eq!(account.brought.len(), HOURS_MAX);
        assert_eq!(account.weight(), of(200, 2000));
        let (last, _) = account.brought.last_key_value().unwrap();
        assert_eq!(*last, 100 * HOUR);
    }
}
