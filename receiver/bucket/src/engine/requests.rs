//! The requests of the store, in the terms of `object_store`, and its answers in the store's terms.

use std::sync::Arc;

use artifact_store::bucket::{
    Answer, BucketError, Class, Condition, Entry, Found, Key, LIST_MAX, Listed, Request, Tag,
    Upload,
};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, UpdateVersion,
};

use crate::address::Address;
use crate::engine::answer::{code_of, error_of, is_missing_bucket, status_of};
use crate::engine::http::Heard;
use crate::settings::TagForm;

/// The connection to a bucket, which all requests share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) store: AmazonS3,
    pub(super) address: Address,
    pub(super) tags: TagForm,
    pub(super) heard: Arc<Heard>,
}

impl Shared {
    pub(super) async fn execute(&self, request: Request) -> Result<Answer, BucketError> {
        match request {
            Request::Get { key, unless } => {
                let options = GetOptions {
                    // Servers that want bare tags in `If-Match` accept quoted ones here.
                    if_none_match: unless.map(|tag| format!("\"{}\"", tag.as_str())),
                    ..GetOptions::default()
                };
                self.get(&key, options).await
            }
            Request::GetRange { key, from, most } => {
                let range = GetRange::Bounded(from..from.saturating_add(most));
                let options = GetOptions {
                    range: Some(range),
                    ..GetOptions::default()
                };
                self.get(&key, options).await
            }
            Request::Put {
                key,
                content,
                condition,
                class,
            } => self.put(&key, content, condition, class).await,
            Request::BeginUpload { key, class } => self.begin_upload(key, class).await,
            Request::PutPart {
                upload,
                number,
                content,
            } => self.put_part(&upload, number, content).await,
            Request::CompleteUpload { upload, parts } => self.complete(&upload, &parts).await,
            Request::AbortUpload { upload } => {
                let path = self.path(&upload.key)?;
                match self.store.abort_multipart(&path, &upload.id).await {
                    Ok(()) => Ok(Answer::Deleted),
                    Err(error) if is_absent(&error) => Ok(Answer::Deleted),
                    Err(error) => Err(error_of(&error)),
                }
            }
            Request::List {
                prefix,
                after,
                most,
            } => self.list(&prefix, after.as_ref(), most).await,
            Request::Delete { keys } => self.delete(&keys).await,
        }
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<Answer, BucketError> {
        let found = match self.store.get_opts(&self.path(key)?, options).await {
            Ok(found) => found,
            Err(Error::NotModified { .. }) => return Ok(Answer::Unchanged),
            Err(error) if is_absent(&error) => return Ok(Answer::Absent),
            // The range begins at or after the object's end.
            Err(error) if status_of(&error) == Some(416) => {
                return Ok(Answer::Found(Found {
                    content: Bytes::new(),
                    tag: Tag::new(""),
                    modified: 0,
                }));
            }
            Err(error) => return Err(error_of(&error)),
        };
        let tag = tag_of(found.meta.e_tag.as_deref())?;
        let modified = seconds(found.meta.last_modified.timestamp());
        let content = found.bytes().await.map_err(|error| error_of(&error))?;
        Ok(Answer::Found(Found {
            content,
            tag,
            modified,
        }))
    }

    async fn put(
        &self,
        key: &Key,
        content: Bytes,
        condition: Condition,
        class: Class,
    ) -> Result<Answer, BucketError> {
        let is_conditional = condition != Condition::Always;
        let mode = match condition {
            Condition::Always => PutMode::Overwrite,
            Condition::New => PutMode::Create,
            Condition::Is(tag) => PutMode::Update(UpdateVersion {
                e_tag: Some(self.tags.write(&tag)),
                version: None,
            }),
        };
        let options = PutOptions {
            mode,
            attributes: attributes(class),
            ..PutOptions::default()
        };
        let payload = PutPayload::from_bytes(content);
        match self
            .store
            .put_opts(&self.path(key)?, payload, options)
            .await
        {
            Ok(put) => Ok(Answer::Stored(tag_of(put.e_tag.as_deref())?)),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) if is_conditional => {
                Ok(Answer::NotMet)
            }
            Err(error) => Err(error_of(&error)),
        }
    }

    async fn begin_upload(&self, key: Key, class: Class) -> Result<Answer, BucketError> {
        let options = PutMultipartOptions {
            attributes: attributes(class),
            ..PutMultipartOptions::default()
        };
        let path = self.path(&key)?;
        let begun = self.store.create_multipart_opts(&path, options).await;
        let id = begun.map_err(|error| error_of(&error))?;
        Ok(Answer::Upload(Upload { key, id }))
    }

    async fn put_part(
        &self,
        upload: &Upload,
        number: u32,
        content: Bytes,
    ) -> Result<Answer, BucketError> {
        let path = self.path(&upload.key)?;
        let index = number
            .checked_sub(1)
            .and_then(|index| usize::try_from(index).ok())
            .ok_or_else(|| BucketError::Broken("parts have numbers from 1".to_owned()))?;
        let payload = PutPayload::from_bytes(content);
        match self.store.put_part(&path, &upload.id, index, payload).await {
            Ok(part) => Ok(Answer::Part(Tag::new(&part.content_id))),
            Err(error) if is_absent(&error) => Ok(Answer::Absent),
            Err(error) => Err(error_of(&error)),
        }
    }

    async fn complete(&self, upload: &Upload, parts: &[Tag]) -> Result<Answer, BucketError> {
        if parts.is_empty() {
            // The library would upload an empty part.
            return Err(BucketError::Broken("an upload without parts".to_owned()));
        }
        let parts = parts.iter().map(|tag| PartId {
            content_id: format!("\"{}\"", tag.as_str()),
        });
        let path = self.path(&upload.key)?;
        let completed = self
            .store
            .complete_multipart(&path, &upload.id, parts.collect());
        match completed.await {
            // Ceph's gateway sends no tag.
            Ok(put) => Ok(Answer::Stored(Tag::new(
                put.e_tag.as_deref().unwrap_or_default(),
            ))),
            Err(error) if is_absent(&error) => Ok(Answer::Absent),
            Err(error) => Err(error_of(&error)),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        most: u32,
    ) -> Result<Answer, BucketError> {
        let full = self.address.full(prefix);
        let prefix = Some(full.as_str()).filter(|prefix| !prefix.is_empty());
        let mut offset = after.map(|key| self.address.full(key.as_str()));
        loop {
            let options = PaginatedListOptions {
                offset,
                max_keys: usize::try_from(most.min(LIST_MAX)).ok(),
                ..PaginatedListOptions::default()
            };
            let listed = self.store.list_paginated(prefix, options).await;
            let listed = listed.map_err(|error| error_of(&error))?;
            let (objects, more) = (listed.result.objects, listed.page_token.is_some());
            offset = objects.last().map(|last| last.location.as_ref().to_owned());
            let entries = self.entries(objects)?;
            // A page may contain only keys of other programs.
            if !entries.is_empty() || !more || offset.is_none() {
                return Ok(Answer::Listed(Listed { entries, more }));
            }
        }
    }

    /// Returns the entries of a list, without keys that no store could have written.
    fn entries(&self, objects: Vec<ObjectMeta>) -> Result<Vec<Entry>, BucketError> {
        let mut entries = Vec::with_capacity(objects.len());
        for object in objects {
            let full = object.location.as_ref();
            let relative = self.address.relative(full).ok_or_else(|| {
                BucketError::Broken(format!("a list contains {full:?}, which was not asked for"))
            })?;
            let Ok(key) = Key::new(relative) else {
                continue;
            };
            entries.push(Entry {
                key,
                len: object.size,
                tag: tag_of(object.e_tag.as_deref())?,
                modified: seconds(object.last_modified.timestamp()),
            });
        }
        Ok(entries)
    }

    async fn delete(&self, keys: &[Key]) -> Result<Answer, BucketError> {
        let paths: Vec<Path> = keys
            .iter()
            .map(|key| self.path(key))
            .collect::<Result<_, _>>()?;
        let mut deleted = self
            .store
            .delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(deleted) = deleted.next().await {
            match deleted {
                Err(error) if !is_absent(&error) => return Err(error_of(&error)),
                _ => {}
            }
        }
        Ok(Answer::Deleted)
    }

    fn path(&self, key: &Key) -> Result<Path, BucketError> {
        Path::parse(self.address.full(key.as_str()))
            .map_err(|error| BucketError::Broken(error.to_string()))
    }
}

impl TagForm {
    fn write(self, tag: &Tag) -> String {
        match self {
            Self::Quoted => format!("\"{}\"", tag.as_str()),
            Self::Bare => tag.as_str().to_owned(),
        }
    }
}

/// Returns whether the bucket exists, but not the object or upload.
fn is_absent(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && !is_missing_bucket(error)
        || code_of(error) == Some("NoSuchUpload")
}

fn tag_of(tag: Option<&str>) -> Result<Tag, BucketError> {
    let tag = tag.filter(|tag| !tag.is_empty());
    let tag = tag.ok_or_else(|| BucketError::Broken("an answer without an ETag".to_owned()))?;
    Ok(Tag::new(tag))
}

fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

fn attributes(class: Class) -> Attributes {
    let cache_control = match class {
        Class::Object => "public, max-age=31536000, immutable",
        Class::Current => "no-cache",
        Class::Private => "no-store",
    };
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::CacheControl, cache_control.into());
    attributes
}
