//! Checks that a bucket has everything that its refs reach, by one list of all keys and the closure
//! lists. On request, it also checks that every object matches its name.
//!
//! While pushes run, it may report faults that they are about to correct; a second check shows
//! that.

mod contents;

use std::collections::{BTreeMap, BTreeSet};

use artifact_formats::{Checksum, ObjectId, Summary, counted};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::bucket::records::closures::{ClosureList, INCOMPLETE};
use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::{Class, Condition, Entry, Found};
use crate::bucket::requests::window::Window;
use crate::bucket::upkeep::look;
use crate::error::Error;
use crate::tree;
use crate::upkeep::{Checked, Finding, Weight};

/// Checks a bucket, and reports each finding, from several threads. With `contents`, it reads every
/// object; objects larger than `object_len_max` bytes are then faults.
pub fn fsck(
    client: &Client,
    contents: bool,
    object_len_max: u64,
    report: &(dyn Fn(Finding) + Sync),
) -> Result<Checked, Error> {
    check(client, contents, false, object_len_max, report)
}

/// Checks a bucket with all its objects, and marks commits as incomplete if any of their objects
/// are missing or damaged. No push relies on a marked commit, and a push or a mirror of it sends
/// everything again. A check that finds the commit complete removes the mark. If it finds any
/// fault, it also removes the journals of earlier pushes, which may name a lost object.
pub fn repair(
    client: &Client,
    object_len_max: u64,
    report: &(dyn Fn(Finding) + Sync),
) -> Result<Checked, Error> {
    check(client, true, true, object_len_max, report)
}

fn check(
    client: &Client,
    contents: bool,
    repair: bool,
    object_len_max: u64,
    report: &(dyn Fn(Finding) + Sync),
) -> Result<Checked, Error> {
    let mut check = Check {
        client,
        window: Window::new(client.clone()),
        object_len_max,
        repair,
        report,
        listed: Vec::new(),
        bad: Mutex::default(),
        checked: Mutex::default(),
    };
    let (mut heads, mut guarded) = (Vec::new(), Vec::new());
    for entry in client.list_each("") {
        let entry = entry.map_err(Error::bucket("listing", &"the bucket"))?;
        if let Some(id) = layout::object_of(&entry.key) {
            check.listed.push((id, entry.len));
        } else if entry.key.as_str().starts_with(layout::HEADS) {
            heads.push(entry);
        } else if let Some(name) = layout::guarded_by(&entry.key) {
            guarded.push(name.to_owned());
        }
    }
    check.listed.sort_unstable();
    check.count_objects();
    if contents {
        check.contents()?;
    }
    let commits = check.refs(&heads)?;
    check.closures(&commits)?;
    let names = heads.iter().filter_map(|entry| layout::head_of(&entry.key));
    let names = names.map(|name| name.to_string()).collect();
    check.guards(&guarded, &names);
    check.summary(&commits, &names)?;
    if repair && check.checked.lock().faults > 0 {
        let journals = client.list_all(layout::JOURNALS);
        let journals = journals.map_err(Error::bucket("listing", &"journals"))?;
        let keys: Vec<_> = journals.into_iter().map(|entry| entry.key).collect();
        let removed = client.delete(&keys);
        removed.map_err(Error::bucket("removing", &"journals"))?;
    }
    Ok(check.checked.into_inner())
}

struct Check<'a> {
    client: &'a Client,
    window: Window,
    object_len_max: u64,
    repair: bool,
    report: &'a (dyn Fn(Finding) + Sync),
    /// The objects with their lengths, sorted.
    listed: Vec<(ObjectId, u64)>,
    /// The objects that are damaged.
    bad: Mutex<BTreeSet<ObjectId>>,
    checked: Mutex<Checked>,
}

impl Check<'_> {
    fn fault(&self, what: &impl ToString, why: &impl ToString) {
        self.checked.lock().faults += 1;
        self.report(Weight::Fault, what, why);
    }

    fn remark(&self, what: &impl ToString, why: &impl ToString) {
        self.checked.lock().remarks += 1;
        self.report(Weight::Remark, what, why);
    }

    fn report(&self, weight: Weight, what: &impl ToString, why: &impl ToString) {
        (self.report)(Finding {
            weight,
            what: what.to_string(),
            why: why.to_string(),
        });
    }

    fn count_objects(&self) {
        let mut checked = self.checked.lock();
        checked.objects = self.listed.len() as u64;
        checked.bytes = self.listed.iter().map(|(_, len)| len).sum();
    }

    fn has(&self, id: &ObjectId) -> bool {
        let is_there = self.listed.binary_search_by(|(at, _)| at.cmp(id)).is_ok();
        is_there && !self.bad.lock().contains(id)
    }

    /// Reports guards that no ref needs.
    fn guards(&self, guarded: &[String], names: &BTreeSet<String>) {
        for name in guarded {
            let below = format!("{name}/");
            let mut after = names.range(below.clone()..);
            let leads = after.next().is_some_and(|next| next.starts_with(&below));
            if !leads && !names.contains(name) {
                let why = "is taken although there is no such ref: \
                           `artifact-cache-admin remove` frees it";
                self.remark(&format!("the name {name}"), &why);
            }
        }
    }

    /// Reads the refs; returns their commits, each with the first ref that holds it.
    fn refs(&self, heads: &[Entry]) -> Result<BTreeMap<Checksum, String>, Error> {
        let (refs, broken) = look::read(self.client, heads)?;
        for (name, why) in broken {
            self.fault(&format!("ref {name}"), &why);
        }
        self.checked.lock().refs = refs.len() as u64;
        let mut commits = BTreeMap::new();
        for stored in refs {
            let id = ObjectId::commit(stored.commit);
            if self.has(&id) {
                commits
                    .entry(stored.commit)
                    .or_insert_with(|| format!("ref {}", stored.name));
            } else {
                self.fault(
                    &format!("ref {}", stored.name),
                    &format!("names {id}, which is missing or damaged"),
                );
                if self.repair {
                    self.mark(stored.commit, false)?;
                }
            }
        }
        self.checked.lock().commits = commits.len() as u64;
        Ok(commits)
    }

    /// Checks that the bucket has everything that commits reach.
    fn closures(&self, commits: &BTreeMap<Checksum, String>) -> Result<(), Error> {
        let all: Vec<_> = commits.iter().collect();
        for some in all.chunks(LISTS_AT_ONCE) {
            let keys: Vec<_> = some
                .iter()
                .map(|(commit, _)| layout::closure(**commit))
                .collect();
            let found = self.window.get_all(&keys);
            let found = found.map_err(Error::bucket("reading", &"closure lists"))?;
            for ((commit, name), found) in some.iter().zip(found) {
                let content = found.map(|found| found.content);
                let is_there = content.is_some();
                let is_marked = content
                    .as_ref()
                    .is_some_and(|content| content == INCOMPLETE);
                let list = content.and_then(|content| ClosureList::decode(**commit, &content));
                let is_whole = match list {
                    Some(list) => self.list(name, &list)?,
                    None if is_marked => {
                        self.remark(name, &"is marked as incomplete: push or mirror it again");
                        self.walk(name, **commit)?
                    }
                    None if is_there => {
                        let why = "its closure list is damaged; the next push makes another";
                        self.fault(name, &why);
                        self.walk(name, **commit)?
                    }
                    None => {
                        self.remark(name, &"has no closure list; the next push makes one");
                        self.walk(name, **commit)?
                    }
                };
                if self.repair && is_whole == is_marked {
                    self.mark(**commit, is_whole)?;
                }
            }
        }
        Ok(())
    }

    /// Marks a commit as incomplete, or removes the mark.
    fn mark(&self, commit: Checksum, is_whole: bool) -> Result<(), Error> {
        let key = layout::closure(commit);
        let marked = match is_whole {
            true => self.client.delete(std::slice::from_ref(&key)),
            false => {
                let content = Bytes::from_static(INCOMPLETE);
                let put = (self.client).put(&key, content, Condition::Always, Class::Private);
                put.map(drop)
            }
        };
        marked.map_err(Error::bucket("marking", &key))
    }

    /// Returns whether the bucket has everything that a list names.
    fn list(&self, name: &str, list: &ClosureList) -> Result<bool, Error> {
        let mut is_whole = self.named(name, list);
        for &base in &list.heading().bases {
            let key = layout::closure(base);
            let found = self
                .client
                .get(&key)
                .map_err(Error::bucket("reading", &key))?;
            match found.and_then(|found| ClosureList::decode(base, &found.content)) {
                Some(list) => is_whole &= self.named(name, &list),
                None => {
                    let why =
                        format!("{key}, which completes its closure list, is missing or damaged");
                    self.fault(&name, &why);
                    return self.walk(name, list.commit());
                }
            }
        }
        Ok(is_whole)
    }

    fn named(&self, name: &str, list: &ClosureList) -> bool {
        let mut is_whole = true;
        for (id, _) in list.objects().filter(|(id, _)| !self.has(id)) {
            self.fault(&name, &format!("reaches {id}, which is missing or damaged"));
            is_whole = false;
        }
        is_whole
    }

    /// Finds everything that a commit reaches from its objects; returns whether the bucket has it.
    fn walk(&self, name: &str, commit: Checksum) -> Result<bool, Error> {
        let mut is_whole = true;
        let root = ObjectId::commit(commit);
        let mut seen = BTreeSet::from([root]);
        let mut level = vec![root];
        while !level.is_empty() {
            let keys: Vec<_> = level.iter().map(layout::object).collect();
            let mut next = Vec::new();
            let found = self.window.get_all(&keys);
            let found = found.map_err(Error::bucket("reading", &"directories"))?;
            for (id, found) in level.iter().zip(found) {
                let children = found.and_then(|found| tree::children(*id, &found.content).ok());
                let Some(children) = children else {
                    self.fault(&name, &format!("reaches {id}, which is missing or damaged"));
                    is_whole = false;
                    continue;
                };
                for child in children.into_iter().filter(|child| seen.insert(*child)) {
                    if !self.has(&child) {
                        let why = format!("reaches {child}, which is missing or damaged");
                        self.fault(&name, &why);
                        is_whole = false;
                    } else if child.kind.has_children() {
                        next.push(child);
                    }
                }
            }
            level = next;
        }
        Ok(is_whole)
    }

    /// Checks that the summary names only existing commits, and every ref.
    fn summary(
        &self,
        commits: &BTreeMap<Checksum, String>,
        names: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let key = layout::summary();
        let found = self
            .client
            .get(&key)
            .map_err(Error::bucket("reading", &key))?;
        let Some(Found { content, .. }) = found else {
            return Ok(());
        };
        let Ok(summary) = Summary::parse(&content) else {
            self.fault(
                &key,
                &"is damaged: `artifact-cache-admin summary` makes it again",
            );
            return Ok(());
        };
        for (name, entry) in &summary.refs {
            let id = ObjectId::commit(entry.commit);
            if !self.has(&id) {
                self.fault(&key, &format!("names {id} for {name}, which is missing"));
            }
        }
        let gone = summary
            .refs
            .keys()
            .filter(|name| !names.contains(*name))
            .count();
        if gone > 0 {
            self.remark(
                &key,
                &format!("names {} that are gone", counted(gone as u64, "ref")),
            );
        }
        let named: BTreeSet<_> = summary.refs.values().map(|entry| entry.commit).collect();
        let unnamed = commits
            .keys()
            .filter(|commit| !named.contains(*commit))
            .count();
        if unnamed > 0 {
            self.remark(
                &key,
                &format!("does not name {unnamed} of the commits that refs hold"),
            );
        }
        Ok(())
    }
}

/// Closure lists in memory at once: the list of a large tree takes a few MiB.
const LISTS_AT_ONCE: usize = 64;
