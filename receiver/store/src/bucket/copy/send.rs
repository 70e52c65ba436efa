//! Sends objects: reads each from the disk, verifies it as a receiver would, and puts it.
//!
//! A small object is verified and then put whole. A large one is uploaded in parts as it is read,
//! and becomes an object of the bucket only once all of it is verified.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use artifact_formats::{ObjectId, Size, with_causes};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::bucket::client::Client;
use crate::bucket::copy::source::Source;
use crate::bucket::layout;
use crate::bucket::seam::{Answer, BucketError, Class, Request, Tag, Upload};
use crate::bucket::window::Window;
use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, if_there};
use crate::verify::{Scratch, Verified, Verifier, verify};

/// Sends objects of one repository.
pub(super) struct Sender<'a, F: Fs> {
    pub(super) source: &'a Source<F>,
    pub(super) client: &'a Client,
    pub(super) window: &'a Window,
    pub(super) object_len_max: u64,
    /// Only count objects, without reading them.
    pub(super) dry_run: bool,
    /// Keeps the session alive; called for each object and each part.
    pub(super) keep: &'a (dyn Fn() -> Result<(), Error> + Sync),
    /// The bucket's objects from a list, with their lengths, sorted.
    pub(super) listed: &'a [(ObjectId, u64)],
}

/// The outcome of sending objects.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Objects put, and their bytes.
    pub(super) objects: u64,
    pub(super) bytes: u64,
    /// Objects that are missing or damaged here, and why. None of them was put.
    pub(super) bad: Vec<(ObjectId, String)>,
}

/// A large object that is complete once its last part is stored.
struct Large {
    upload: Upload,
    tags: Arc<Mutex<Vec<Option<Tag>>>>,
    verified: Verified,
}

impl<F: Fs> Sender<'_, F> {
    /// Sends objects, and returns when all of them are stored, durably.
    pub(super) fn send(&self, ids: &[ObjectId]) -> Result<Sent, Error> {
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
                // A lifecycle rule of the server removes uploads that stay.
                let _ = self.client.abort_upload(&large.upload);
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
            self.complete(large)?;
            sent.objects += 1;
            sent.bytes += large.verified.stored_len();
        }
        Ok(())
    }

    /// Sends the parts of a large object. Returns `None` if the bucket has the object, or how it is
    /// damaged.
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
        let upload = match listed {
            true => None,
            false => Some(self.begin(id)?),
        };
        let tags = Arc::new(Mutex::new(Vec::new()));
        let mut number = 0;
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
            number += 1;
            if let Some(upload) = &upload {
                put_part(self.window, upload, number, part.into(), &tags)
                    .map_err(Error::bucket("storing", &id))?;
            }
        };
        match (verified, upload) {
            (Ok(verified), Some(upload)) => Ok(Ok(Some(Large {
                upload,
                tags,
                verified,
            }))),
            (Ok(_), None) => Ok(Ok(None)),
            (Err(rejection), upload) => {
                if let Some(upload) = upload {
                    let settled = self.window.settle();
                    settled.map_err(Error::bucket("storing", &id))?;
                    let aborted = self.client.abort_upload(&upload);
                    aborted.map_err(Error::bucket("discarding", &id))?;
                }
                Ok(Err(with_causes(&rejection)))
            }
        }
    }

    /// Begins an upload, and begins another if the answer was lost: a lifecycle rule of the server
    /// removes the upload that nobody knows.
    fn begin(&self, id: ObjectId) -> Result<Upload, Error> {
        let key = layout::object(&id);
        let mut result = self.client.begin_upload(&key, Class::Object);
        for _ in 0..BEGINS_MAX {
            if !matches!(result, Err(BucketError::Unclear(_))) {
                break;
            }
            result = self.client.begin_upload(&key, Class::Object);
        }
        result.map_err(Error::bucket("beginning to store", &id))
    }

    /// Makes an object of a verified upload.
    fn complete(&self, large: &Large) -> Result<(), Error> {
        let id = large.verified.id();
        let tags: Option<Vec<_>> = large.tags.lock().iter().cloned().collect();
        let tags = tags.ok_or(Error::Misuse {
            what: "complete an upload before all its parts were stored",
        })?;
        let completed = self.client.complete_upload(&large.upload, &tags);
        match completed {
            Ok(_) => Ok(()),
            // Only verified bytes are ever stored under this key.
            Err(BucketError::Unclear(_)) if self.is_there(id, large.verified.stored_len())? => {
                Ok(())
            }
            Err(error) => Err(Error::bucket("storing", &id)(error)),
        }
    }

    fn is_there(&self, id: ObjectId, len: u64) -> Result<bool, Error> {
        let key = layout::object(&id);
        let listed = self.client.list(key.as_str(), None, 1);
        let listed = listed.map_err(Error::bucket("looking for", &id))?;
        let mut entries = listed.entries.iter();
        Ok(entries.any(|entry| entry.key == key && entry.len == len))
    }
}

enum Small {
    Put(u64),
    There,
    Bad(String),
    Large,
}

fn put_part(
    window: &Window,
    upload: &Upload,
    number: u32,
    content: Bytes,
    tags: &Arc<Mutex<Vec<Option<Tag>>>>,
) -> Result<(), BucketError> {
    tags.lock().push(None);
    let index = number as usize - 1;
    let slots = Arc::clone(tags);
    let upload = upload.clone();
    let request = Request::PutPart {
        upload,
        number,
        content,
    };
    window.start(request, move |answer| match answer {
        Answer::Part(tag) => {
            if let Some(slot) = slots.lock().get_mut(index) {
                *slot = Some(tag);
            }
            Ok(())
        }
        other => Err(BucketError::misfit("a part", &other)),
    })
}

const MISSING: &str = "is missing";
/// The length of a part, and of the longest object that is put whole, in bytes.
const PART_LEN: usize = 8 * 1024 * 1024;
/// The longest object in bytes: servers accept at most 10,000 parts in an upload.
const UPLOAD_LEN_MAX: u64 = 10_000 * PART_LEN as u64;
/// How often an upload is begun again after lost answers.
const BEGINS_MAX: u32 = 5;
