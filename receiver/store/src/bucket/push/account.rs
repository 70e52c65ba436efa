//! The account of the pushing identity, if it has quotas: the push adds its new refs before it sets
//! any of them, and the objects that it brings.
//!
//! The push reads the account together with the announced refs, and replaces it together with its
//! last look at them, so that neither takes extra time while no other push of the identity does the
//! same. Sessions of one identity that run at once may each begin within the quota: each checks it
//! again when it replaces the account, which a long push also does now and then.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use artifact_protocol::frame::Refusal;
use bytes::Bytes;

use crate::bucket::collect::LEASE_RENEWAL;
use crate::bucket::records::accounts::{self, Account};
use crate::bucket::records::layout;
use crate::bucket::requests::ask::{found_at, get};
use crate::bucket::requests::client::Client;
use crate::bucket::requests::random::Random;
use crate::bucket::requests::seam::{Answer, Class, Condition, Key, Request, Tag};
use crate::config::Allowance;
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::quota::load::{Quota, Weight};
use crate::quota::refs::{RefsWeight, too_many_refs};

/// The account of the pushing identity.
#[derive(Debug)]
pub(crate) struct PushAccount {
    identity: String,
    key: Key,
    refs_max: u64,
    max: Weight,
    /// The account as it was last read or stored.
    stored: Account,
    tag: Option<Tag>,
    refs: RefsWeight,
    /// New refs that the push is about to create.
    new: BTreeSet<Box<str>>,
    /// The part of what this push has brought that the stored account includes.
    charged: Weight,
    /// The clock when the push began, or charged last.
    charged_at: Duration,
    sent: Option<Sent>,
}

/// A put whose answer was not heard yet.
#[derive(Debug)]
struct Sent {
    account: Account,
    content: Bytes,
    brought: Weight,
}

impl PushAccount {
    /// Prepares to read the account of an identity; `None` without quotas.
    pub(crate) fn new(client: &Client, identity: &str, allowance: &Allowance) -> Option<Self> {
        let Allowance {
            refs_max,
            objects_max,
            bytes_max,
        } = *allowance;
        if refs_max.is_none() && objects_max.is_none() && bytes_max.is_none() {
            return None;
        }
        Some(Self {
            identity: identity.to_owned(),
            key: layout::account(identity),
            refs_max: refs_max.unwrap_or(u64::MAX),
            max: Weight {
                objects: objects_max.unwrap_or(u64::MAX),
                // `BucketStore::open` refuses percentages.
                bytes: bytes_max.map_or(u64::MAX, |share| share.of(u64::MAX)),
            },
            stored: Account::new(identity),
            tag: None,
            refs: RefsWeight::default(),
            new: BTreeSet::new(),
            charged: Weight::default(),
            charged_at: client.clock().now(),
            sent: None,
        })
    }

    /// Returns the request to read the account.
    pub(crate) fn request(&self) -> Request {
        get(&self.key)
    }

    /// Takes the answer to that request.
    pub(crate) fn learn(&mut self, answer: Result<Answer, BucketError>) -> Result<(), Error> {
        if let Some(found) = found_at(&self.key, answer)? {
            self.stored = accounts::read(&self.key, &found)?;
            self.tag = Some(found.tag);
        }
        self.forget_new();
        Ok(())
    }

    /// Returns the quota of objects, as far as the account has used it up that was last read.
    pub(crate) fn quota(&self) -> Quota {
        self.quota_left_by(&self.stored)
    }

    /// Forgets the refs that were admitted and are not on the stored account.
    pub(crate) fn forget_new(&mut self) {
        self.new.clear();
        self.refs = RefsWeight::of(self.stored.refs.keys());
    }

    /// Admits a new ref.
    pub(crate) fn admit(&mut self, name: &str) -> Result<(), Refusal> {
        if !self.new.contains(name) && !self.stored.refs.contains_key(name) {
            if !self.refs.has_room_for(name, self.refs_max) {
                return Err(self.refusal());
            }
            self.refs.add(name);
        }
        self.new.insert(name.into());
        Ok(())
    }

    /// Returns why a ref was not admitted.
    pub(crate) fn refusal(&self) -> Refusal {
        too_many_refs(self.refs.used(), self.refs_max)
    }

    /// Returns the put of the account with all that the push has `brought` and the refs that it is
    /// about to create, if the account lacks any of these. The answer goes to
    /// [`settle`](Self::settle). Fails if the objects exceed their quota.
    pub(crate) fn put(
        &mut self,
        client: &Client,
        brought: Weight,
    ) -> Result<Option<Request>, Error> {
        let rest = brought.without(self.charged);
        if rest == Weight::default() && self.new.is_empty() {
            return Ok(None);
        }
        let mut account = self.stored.clone();
        self.check(&account, rest)?;
        let now = client.clock().wall();
        account.bring(rest, now);
        self.announce(&mut account, now);
        let content = account.to_bytes(&mut Random::new());
        self.sent = Some(Sent {
            account,
            content: content.clone(),
            brought,
        });
        Ok(Some(Request::Put {
            key: self.key.clone(),
            content,
            condition: self.tag.clone().map_or(Condition::New, Condition::Is),
            class: Class::Private,
        }))
    }

    /// Makes sure that the account is stored whose put got this answer. If other programs have
    /// replaced the account, checks the quotas again: fails if the objects exceed theirs, and
    /// returns the new refs that exceed it.
    pub(crate) fn settle(
        &mut self,
        client: &Client,
        answer: Result<Answer, BucketError>,
    ) -> Result<BTreeSet<Box<str>>, Error> {
        let Some(sent) = self.sent.take() else {
            return Ok(BTreeSet::new());
        };
        let mut refused = BTreeSet::new();
        match answer {
            Ok(Answer::Stored(tag)) => {
                (self.stored, self.tag) = (sent.account, Some(tag));
                self.charged = sent.brought;
            }
            Ok(Answer::NotMet) | Err(BucketError::Unclear(_)) => {
                let rest = sent.brought.without(self.charged);
                let now = client.clock().wall();
                let mut checked = Ok(());
                self.change(client, Some(sent.content), sent.brought, |this, account| {
                    checked = this.check(account, rest);
                    account.bring(rest, now);
                    if checked.is_ok() {
                        refused.extend(this.trim(account));
                        this.announce(account, now);
                    }
                })?;
                checked?;
            }
            Ok(other) => {
                let misfit = BucketError::misfit("a put", &other);
                return Err(Error::bucket("storing", &self.key)(misfit));
            }
            Err(error) => return Err(Error::bucket("storing", &self.key)(error)),
        }
        self.charged_at = client.clock().now();
        self.forget_new();
        Ok(refused)
    }

    /// Adds what the push has brought since it began or charged last, if that was long ago: what is
    /// in the bucket counts even if the push dies. Fails if the identity has exceeded its quota.
    pub(crate) fn charge_if_due(&mut self, client: &Client, brought: Weight) -> Result<(), Error> {
        let age = client.clock().now().saturating_sub(self.charged_at);
        if age < CHARGED_EVERY {
            return Ok(());
        }
        self.charged_at = client.clock().now();
        self.charge(client, brought)?;
        self.quota().check(Weight::default())
    }

    /// Adds what the push has brought and not charged yet.
    pub(crate) fn charge(&mut self, client: &Client, brought: Weight) -> Result<(), Error> {
        let rest = brought.without(self.charged);
        if rest == Weight::default() {
            return Ok(());
        }
        let sent = self.sent.take().map(|sent| sent.content);
        let now = client.clock().wall();
        self.change(client, sent, brought, |_, account| account.bring(rest, now))
    }

    fn change(
        &mut self,
        client: &Client,
        sent: Option<Bytes>,
        brought: Weight,
        mut change: impl FnMut(&mut Self, &mut Account),
    ) -> Result<(), Error> {
        let (key, identity) = (self.key.clone(), self.identity.clone());
        (self.stored, self.tag) = accounts::change(client, &key, &identity, sent, |account| {
            change(self, account);
            Ok(true)
        })?;
        self.charged = brought;
        Ok(())
    }

    fn quota_left_by(&self, account: &Account) -> Quota {
        Quota {
            identity: self.identity.clone(),
            held: account.weight(),
            max: self.max,
        }
    }

    /// Fails if the objects on an account exceed the quota with `rest` more, unless the rest is
    /// nothing.
    fn check(&self, account: &Account, rest: Weight) -> Result<(), Error> {
        match rest == Weight::default() {
            true => Ok(()),
            false => self.quota_left_by(account).check(rest),
        }
    }

    /// Adds the new refs to an account.
    fn announce(&self, account: &mut Account, now: u64) {
        for name in &self.new {
            account.refs.insert(name.clone(), now);
        }
    }

    /// Gives up the new refs for which an account has no room; returns them.
    fn trim(&mut self, account: &Account) -> BTreeSet<Box<str>> {
        let wanted = mem::take(&mut self.new);
        self.stored.clone_from(account);
        self.forget_new();
        let refused = wanted.into_iter().filter(|name| self.admit(name).is_err());
        refused.collect()
    }
}

/// How often a running push adds what it has brought.
const CHARGED_EVERY: Duration = LEASE_RENEWAL;
