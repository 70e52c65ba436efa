//! The account of the pushing identity, if it has quotas: the push adds its new refs before it sets
//! any of them, and the objects that it has brought.
//!
//! The push reads the account together with the announced refs, and replaces it together with its
//! last look at them, so that neither takes extra time. Sessions of one identity that run at once
//! may each begin within the quota: each checks it again when it replaces the account.

use std::collections::BTreeSet;

use artifact_formats::RefName;
use artifact_protocol::frame::Refusal;
use bytes::Bytes;

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
    /// New refs that the stored account does not name yet.
    new: BTreeSet<Box<str>>,
    /// The part of what this push has brought that the stored account includes.
    charged: Weight,
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
    pub(crate) fn new(identity: &str, allowance: &Allowance) -> Option<Self> {
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

    /// Returns the quota of objects, as far as it is used by others than this push.
    pub(crate) fn quota(&self) -> Quota {
        Quota {
            identity: self.identity.clone(),
            held: self.stored.weight(),
            max: self.max,
        }
    }

    /// Forgets the refs that were admitted and are not on the stored account.
    pub(crate) fn forget_new(&mut self) {
        self.new.clear();
        self.refs = RefsWeight::of(self.stored.refs.keys().map(|name| &**name));
    }

    /// Admits a new ref.
    pub(crate) fn admit(&mut self, name: &RefName) -> Result<(), Refusal> {
        let name = name.as_str();
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
    /// about to create, unless the account includes them already. The answer goes to
    /// [`settle`](Self::settle).
    pub(crate) fn charge(&mut self, brought: Weight, now: u64) -> Option<Request> {
        if brought == self.charged && self.new.is_empty() {
            return None;
        }
        let mut account = self.stored.clone();
        self.add(&mut account, brought, now);
        let content = account.to_bytes(&mut Random::new());
        self.sent = Some(Sent {
            account,
            content: content.clone(),
            brought,
        });
        Some(Request::Put {
            key: self.key.clone(),
            content,
            condition: self.tag.clone().map_or(Condition::New, Condition::Is),
            class: Class::Private,
        })
    }

    /// Makes sure that the account is stored whose put got this answer. If other sessions of the
    /// identity have replaced the account, checks the quotas again: fails if the objects exceed
    /// theirs, and returns the new refs that exceed it.
    pub(crate) fn settle(
        &mut self,
        client: &Client,
        answer: Result<Answer, BucketError>,
    ) -> Result<BTreeSet<Box<str>>, Error> {
        let Some(sent) = self.sent.take() else {
            return Ok(BTreeSet::new());
        };
        let mut refused = BTreeSet::new();
        let (key, identity) = (self.key.clone(), self.identity.clone());
        (self.stored, self.tag) = match answer {
            Ok(Answer::Stored(tag)) => (sent.account, Some(tag)),
            Ok(Answer::NotMet) | Err(BucketError::Unclear(_)) => {
                let now = client.clock().wall();
                let content = Some(sent.content);
                accounts::change(client, &key, &identity, content, |account| {
                    let quota = Quota {
                        held: account.weight(),
                        ..self.quota()
                    };
                    quota.check(sent.brought.without(self.charged))?;
                    refused.extend(self.trim(account));
                    self.add(account, sent.brought, now);
                    Ok(true)
                })?
            }
            Ok(other) => {
                let misfit = BucketError::misfit("a put", &other);
                return Err(Error::bucket("storing", &key)(misfit));
            }
            Err(error) => return Err(Error::bucket("storing", &key)(error)),
        };
        self.charged = sent.brought;
        self.forget_new();
        Ok(refused)
    }

    /// Adds what the push has brought without publishing it, at its end.
    pub(crate) fn leave(&mut self, client: &Client, brought: Weight) -> Result<(), Error> {
        let rest = brought.without(self.charged);
        if rest == Weight::default() {
            return Ok(());
        }
        let now = client.clock().wall();
        accounts::change(client, &self.key, &self.identity, None, |account| {
            account.leave(rest, now);
            Ok(true)
        })?;
        self.charged = brought;
        Ok(())
    }

    /// Adds to an account what the stored one lacks.
    fn add(&self, account: &mut Account, brought: Weight, now: u64) {
        account.held = account.held + brought.without(self.charged);
        for name in &self.new {
            account.refs.insert(name.clone(), now);
        }
    }

    /// Gives up the new refs for which an account has no room; returns them.
    fn trim(&mut self, account: &Account) -> BTreeSet<Box<str>> {
        let mut refs = RefsWeight::of(account.refs.keys().map(|name| &**name));
        let mut refused = BTreeSet::new();
        for name in std::mem::take(&mut self.new) {
            let is_there = account.refs.contains_key(&name);
            if !is_there && !refs.has_room_for(&name, self.refs_max) {
                refused.insert(name);
                continue;
            }
            if !is_there {
                refs.add(&name);
            }
            self.new.insert(name);
        }
        refused
    }
}
