//! An upload in parts: its key holds nothing of it before it is complete, so an object can be sent
//! while it is being verified.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::{Answer, Class, Key, Request, Tag, Upload};
use crate::bucket::requests::window::Window;
use crate::error::bucket::BucketError;

/// An object that is being uploaded.
#[derive(Debug)]
pub(crate) struct Parts {
    upload: Upload,
    // Of all parts together.
    len: u64,
    // By number, from 1; `None` while a part is on its way.
    tags: Arc<Mutex<Vec<Option<Tag>>>>,
}

impl Parts {
    /// Begins an upload, and begins another if the answer was lost: a lifecycle rule of the server
    /// removes the upload that nobody knows.
    pub(crate) fn begin(client: &Client, key: &Key) -> Result<Self, BucketError> {
        let mut begun = client.begin_upload(key, Class::Object);
        for _ in 0..BEGINS_MAX {
            if !matches!(begun, Err(BucketError::Unclear(_))) {
                break;
            }
            begun = client.begin_upload(key, Class::Object);
        }
        Ok(Self {
            upload: begun?,
            len: 0,
            tags: Arc::default(),
        })
    }

    /// Sends the next part, without waiting for its answer. Each part but the last has the length
    /// [`PART_LEN`].
    pub(crate) fn send(&mut self, window: &Window, content: Bytes) -> Result<(), BucketError> {
        self.len += content.len() as u64;
        let (at, number) = {
            let mut tags = self.tags.lock();
            tags.push(None);
            (
                tags.len() - 1,
                u32::try_from(tags.len()).unwrap_or(u32::MAX),
            )
        };
        let tags = Arc::clone(&self.tags);
        let request = Request::PutPart {
            upload: self.upload.clone(),
            number,
            content,
        };
        window.start(request, move |answer| match answer {
            Answer::Part(tag) => {
                if let Some(place) = tags.lock().get_mut(at) {
                    *place = Some(tag);
                }
                Ok(())
            }
            other => Err(BucketError::misfit("a part", &other)),
        })
    }

    /// Returns whether every part is stored.
    pub(crate) fn are_stored(&self) -> bool {
        self.tags.lock().iter().all(Option::is_some)
    }

    /// Makes an object of the parts, once all are stored and the object is verified.
    pub(crate) fn complete(&self, client: &Client) -> Result<(), BucketError> {
        let tags: Option<Vec<_>> = self.tags.lock().iter().cloned().collect();
        let tags = tags.ok_or_else(|| {
            let key = &self.upload.key;
            BucketError::Broken(format!("a part of the upload of {key} is not stored"))
        })?;
        match client.complete_upload(&self.upload, &tags) {
            Ok(_) => Ok(()),
            // The object shows whether the upload is complete: only verified bytes are ever stored
            // under its key.
            Err(BucketError::Unclear(_)) if self.is_there(client)? => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns whether the key holds an object of the parts' length.
    fn is_there(&self, client: &Client) -> Result<bool, BucketError> {
        let last = client.get_range(&self.upload.key, self.len.saturating_sub(1), 2)?;
        Ok(last.is_some_and(|found| found.content.len() == 1))
    }

    /// Discards the parts. After a failure, a lifecycle rule of the server removes them.
    pub(crate) fn abort(&self, client: &Client) -> Result<(), BucketError> {
        client.abort_upload(&self.upload)
    }
}

/// The length of a part, and of the longest object that needs no upload, in bytes: a 64 GiB object
/// has 9,363 parts.
pub(crate) const PART_LEN: usize = 7 * 1024 * 1024;
/// The longest upload in bytes: servers accept at most 10,000 parts.
pub(crate) const UPLOAD_LEN_MAX: u64 = 10_000 * PART_LEN as u64;
/// How often an upload is begun again after lost answers.
const BEGINS_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::requests::clock::ManualClock;
    use crate::bucket::requests::faulty::{Fate, Faulty};
    use crate::bucket::requests::memory::{Memory, Quirks};

    /// Uploads "onetwo" in two parts; the end of the upload has this fate.
    fn upload(memory: &Memory, end: Fate) -> Result<(), BucketError> {
        memory.set_quirks(Quirks {
            part_min: 1,
            ..Quirks::default()
        });
        let faulty = Faulty::new(Arc::new(memory.clone()));
        let mut begun = 0;
        faulty.choose(move |_, request| match request {
            Request::BeginUpload { .. } => {
                begun += 1;
                (begun < 3).then_some(Fate::Unheard)
            }
            Request::CompleteUpload { .. } => Some(end),
            _ => None,
        });
        let client = Client::new(Arc::new(faulty), Arc::new(ManualClock::default()));
        let window = Window::new(client.clone());
        let mut parts = Parts::begin(&client, &key())?;
        parts.send(&window, Bytes::from_static(b"one"))?;
        parts.send(&window, Bytes::from_static(b"two"))?;
        window.settle()?;
        assert!(parts.are_stored());
        parts.complete(&client)
    }

    fn key() -> Key {
        Key::new("objects/large").unwrap()
    }

    #[test]
    fn an_upload_is_complete_although_answers_were_lost_and_incomplete_if_its_end_was() {
        let memory = Memory::new();
        assert!(upload(&memory, Fate::Unsent).is_err());
        assert!(memory.objects().is_empty());
        upload(&memory, Fate::Unheard).unwrap();
        assert_eq!(memory.objects()[&key()].content, "onetwo");
    }

    #[test]
    fn an_older_object_of_another_length_is_not_taken_for_the_upload() {
        let memory = Memory::new();
        for older in ["onetw", "onetwo!"] {
            memory.damage(&key(), Some(older.into()));
            assert!(upload(&memory, Fate::Unsent).is_err());
            assert_eq!(memory.objects()[&key()].content, older);
        }
    }
}
