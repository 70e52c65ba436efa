//! Sends objects: reads each from the disk, verifies it as a receiver would, and puts it.
//!
//! A small object is verified and then put whole. A large one is uploaded in parts as it is read,
//! and becomes an object of the bucket only once all of it is verified.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use artifact_formats::{ObjectId, Size, with_causes};
use parking_lot::Mutex;

use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::Class;
use crate::bucket::requests::upload::{PART_LEN, Parts, UPLOAD_LEN_MAX};
use crate::bucket::requests::window::Window;
use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, if_there};
use crate::mirror::source::Source;
use crate::verify::{Scratch, Verified, Verifier, verify};

/// Sends objects of one repository.
pub(crate) struct Sender<'a, F: Fs> {
    pub(crate) source: &'a Source<F>,
    pub(crate) client: &'a Client,
    pub(crate) window: &'a Window,
    pub(crate) object_len_max: u64,
    /// Only count objects, without reading them.
    pub(crate) dry_run: bool,
    /// Keeps the session alive; called for each object and each part.
    pub(crate) keep: &'a (dyn Fn() -> Result<(), Error> + Sync),
    /// The bucket's objects from a list, with their lengths, sorted.
    pub(crate) listed: &'a [(ObjectId, u64)],
}

/// The outcome of sending objects.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Objects put, and their bytes.
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    /// Objects that are missing or damaged here, and why. None of them was put.
    pub(crate) bad: Vec<(ObjectId, String)>,
}

/// A large object that is complete once its last part is stored.
struct Large {
    parts: Parts,
    verified: Verified,
}

impl<F: Fs> Sender<'_, F> {
    /// Sends objects, and returns when all of them are stored, durably.
    pub(crate) fn send(&self, ids: &[ObjectId]) -> Result<Sent, Error> {
        if self.dry_run {
            return self.count(ids);
        }
        let next = AtomicUsize::new(0);
        let sent = Mutex::new(Sent::default());
        let large = Mutex::new(Vec::new());
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let work = || -> Result<(), Error> {
            let mut scratch = Scratch::default();
            while let Some(&id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                (self.keep)()?;
                match self.small(id, &mut scratch)? {
                    Small::Put(bytes) => {
                        let mut sent = sent.lock();
                        sent.objects += 1;
                        sent.bytes += bytes;
                    }
                    Small::There => {}
                    Small::Bad(why) => sent.lock().bad.push((id, why)),
                    Small::Large => large.lock().push(id),
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.min(ids.len()))
                .map(|_| scope.spawn(work))
                .collect();
            let results = threads.into_iter().map(|thread| {
                let result = thread.join();
                result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            // Joins all threads before it returns an error.
            results
                .collect::<Vec<_>>()
                .into_iter()
                .collect::<Result<(), _>>()
        })?;
        let mut sent = sent.into_inner();
        let mut begun = Vec::new();
        let result = self.all_large(large.into_inner(), &mut begun, &mut sent);
        if result.is_err() {
            for large in begun {
                // A lifecycle rule of the server removes uploads that remain.
                let _ = large.parts.abort(self.client);
            }
        }
        result.map(|()| sent)
    }

    /// Counts the objects that [`send`](Self::send) would put.
    fn count(&self, ids: &[ObjectId]) -> Result<Sent, Error> {
        let mut sent = Sent::default();
        for &id in ids {
            let path = RepoPath::object(&id);
            let stat = if_there(self.source.fs().stat(&path));
            match stat.map_err(Error::io("looking at", &path))? {
                Some(stat) if self.is_listed(id, stat.len) => {}
                Some(stat) => {
                    sent.objects += 1;
                    sent.bytes += stat.len;
                }
                None => sent.bad.push((id, MISSING.to_owned())),
            }
        }
        Ok(sent)
    }

    /// Puts an object, unless it is a large one.
    fn small(&self, id: ObjectId, scratch: &mut Scratch) -> Result<Small, Error> {
        let path = RepoPath::object(&id);
        let file = if_there(self.source.fs().open(&path));
        let Some(file) = file.map_err(Error::io("opening", &path))? else {
            return Ok(Small::Bad(MISSING.to_owned()));
        };
        let mut content = Vec::new();
        let read = file.take(PART_LEN as u64 + 1).read_to_end(&mut content);
        read.map_err(Error::io("reading", &path))?;
        if content.len() > PART_LEN {
            return Ok(Small::Large);
        }
        if let Err(rejection) = verify(id, &content, self.object_len_max, scratch) {
            return Ok(Small::Bad(with_causes(&rejection)));
        }
        let len = content.len() as u64;
        if self.is_listed(id, len) {
            return Ok(Small::There);
        }
        let put = (self.window).put(layout::object(&id), content.into(), Class::Object);
        put.map_err(Error::bucket("storing", &id))?;
        Ok(Small::Put(len))
    }

    /// Returns whether the bucket has this object with this length. Its bytes are then the same,
    /// unless another program compressed the file differently.
    fn is_listed(&self, id: ObjectId, len: u64) -> bool {
        self.listed.binary_search(&(id, len)).is_ok()
    }

    /// Sends large objects, parts of several at once.
    fn all_large(
        &self,
        ids: Vec<ObjectId>,
        begun: &mut Vec<Large>,
        sent: &mut Sent,
    ) -> Result<(), Error> {
        for id in ids {
            match self.large(id)? {
                Ok(Some(large)) => begun.push(large),
                Ok(None) => {}
                Err(why) => sent.bad.push((id, why)),
            }
        }
        let settled = self.window.settle();
        settled.map_err(Error::bucket("storing", &"objects"))?;
        for large in begun {
            let completed = large.parts.complete(self.client);
            completed.map_err(Error::bucket("storing", &large.verified.id()))?;
            sent.objects += 1;
            sent.bytes += large.verified.stored_len();
        }
        Ok(())
    }

    /// Sends the parts of a large object. Returns `None` if the bucket has the object, and the
    /// damage if the object is damaged.
    fn large(&self, id: ObjectId) -> Result<Result<Option<Large>, String>, Error> {
        let path = RepoPath::object(&id);
        let fs = self.source.fs();
        let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
        let opened = if_there(fs.open(&path)).map_err(Error::io("opening", &path))?;
        let (Some(stat), Some(mut file)) = (stat, opened) else {
            return Ok(Err(MISSING.to_owned()));
        };
        if stat.len > UPLOAD_LEN_MAX {
            let (len, max) = (Size(stat.len), Size(UPLOAD_LEN_MAX));
            return Ok(Err(format!(
                "takes {len}, more than the {max} of one upload"
            )));
        }
        let mut verifier = Verifier::new(id, self.object_len_max);
        let listed = self.is_listed(id, stat.len);
        let mut parts = match listed {
            true => None,
            false => {
                let begun = Parts::begin(self.client, &layout::object(&id));
                Some(begun.map_err(Error::bucket("beginning to store", &id))?)
            }
        };
        let verified = loop {
            let mut part = Vec::with_capacity(PART_LEN);
            let read = (&mut file).take(PART_LEN as u64).read_to_end(&mut part);
            read.map_err(Error::io("reading", &path))?;
            (self.keep)()?;
            if part.is_empty() {
                break verifier.finish();
            }
            if let Err(rejection) = verifier.append(&part) {
                break Err(rejection);
            }
            if let Some(parts) = &mut parts {
                let sent = parts.send(self.window, part.into());
                sent.map_err(Error::bucket("storing", &id))?;
            }
        };
        match (verified, parts) {
            (Ok(verified), Some(parts)) => Ok(Ok(Some(Large { parts, verified }))),
            (Ok(_), None) => Ok(Ok(None)),
            (Err(rejection), parts) => {
                if let Some(parts) = parts {
                    let settled = self.window.settle();
                    settled.map_err(Error::bucket("storing", &id))?;
                    let aborted = parts.abort(self.client);
                    aborted.map_err(Error::bucket("discarding", &id))?;
                }
                Ok(Err(with_causes(&rejection)))
            }
        }
    }
}

enum Small {
    Put(u64),
    There,
    Bad(String),
    Large,
}

const MISSING: &str = "is missing";
