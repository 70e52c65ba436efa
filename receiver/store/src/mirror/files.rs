//! The bucket's `config`, summary and signatures.

use artifact_formats::Checksum;

use crate::bucket::records::layout;
use crate::bucket::requests::client::{Client, Outcome, Read};
use crate::bucket::requests::seam::{Class, Condition, Key, Tag};
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::local::disk::Fs;
use crate::mirror::record::Record;
use crate::mirror::source::{Signed, Source};
use crate::mirror::turn::{Mirrored, Turn};

/// The states of three files when the mirror began.
#[derive(Debug)]
pub(crate) struct Files {
    config: State,
    summary: State,
    signature: State,
}

/// The SHA-256 and the tag of a file, if it exists.
type State = Option<(Checksum, Tag)>;

impl Files {
    /// Looks at the files, and reads those that differ from the record.
    pub(crate) fn look(client: &Client, record: &Record) -> Result<Self, Error> {
        let look = |key: Key| -> Result<State, Error> {
            let known = record.files.get(key.as_str());
            let read = client.read(&key, known.map(|(_, tag)| tag.clone()));
            Ok(match read.map_err(Error::bucket("reading", &key))? {
                Read::Found(found) => Some((Checksum::of(&found.content), found.tag)),
                Read::Unchanged => known.cloned(),
                Read::Absent => None,
            })
        };
        Ok(Self {
            config: look(layout::config())?,
            summary: look(layout::summary())?,
            signature: look(layout::summary_signature())?,
        })
    }

    /// Puts the `config` that pullers need.
    pub(crate) fn put_config<F: Fs>(
        &self,
        client: &Client,
        source: &Source<F>,
        record: &mut Record,
    ) -> Result<(), Error> {
        let content = source.repo.config.for_pullers();
        put(
            client,
            layout::config(),
            content.as_bytes(),
            &self.config,
            record,
        )?;
        Ok(())
    }

    /// Puts the signatures and then the summary. Libostree reads them in this order, too, so a
    /// client that reads during a replacement rarely gets a pair that does not match. Returns
    /// whether the bucket has both now.
    pub(crate) fn put_summary<F: Fs>(
        &self,
        turn: &Turn<'_, F>,
        signed: &Signed,
        record: &mut Record,
        done: &mut Mirrored,
    ) -> Result<bool, Error> {
        let Signed { summary, signature } = signed;
        let is_new =
            differs(&self.summary, Some(summary)) || differs(&self.signature, signature.as_deref());
        done.summary_replaced |= is_new;
        if turn.options.dry_run {
            return Ok(true);
        }
        let key = layout::summary_signature();
        let signed = match signature {
            Some(content) => put(turn.client, key, content, &self.signature, record)?,
            None => remove(turn.client, key, &self.signature, record)?,
        };
        let key = layout::summary();
        let put = signed && put(turn.client, key, summary, &self.summary, record)?;
        Ok(put)
    }

    /// Removes a summary that the repository does not have: it would name old commits forever.
    pub(crate) fn remove_summary<F: Fs>(
        &self,
        turn: &Turn<'_, F>,
        record: &mut Record,
        done: &mut Mirrored,
    ) -> Result<bool, Error> {
        done.summary_replaced |= self.summary.is_some();
        if turn.options.dry_run {
            return Ok(true);
        }
        remove(turn.client, layout::summary(), &self.summary, record)?;
        remove(
            turn.client,
            layout::summary_signature(),
            &self.signature,
            record,
        )
    }
}

fn differs(state: &State, content: Option<&[u8]>) -> bool {
    state.as_ref().map(|(digest, _)| *digest) != content.map(Checksum::of)
}

/// Replaces a file unless it has changed since this mirror looked at it; returns whether it has
/// this content now.
fn put(
    client: &Client,
    key: Key,
    content: &[u8],
    state: &State,
    record: &mut Record,
) -> Result<bool, Error> {
    let digest = Checksum::of(content);
    let name = key.as_str().to_owned();
    let mut keep = |tag: Tag| {
        record.files.insert(name.clone(), (digest, tag));
        Ok(true)
    };
    let condition = match state {
        Some((there, tag)) if *there == digest => return keep(tag.clone()),
        Some((_, tag)) => Condition::Is(tag.clone()),
        None => Condition::New,
    };
    match client.put(&key, content.to_vec().into(), condition, Class::Current) {
        Ok(Outcome::Stored(tag)) => return keep(tag),
        // The put may have taken place, or another mirror was faster.
        Ok(Outcome::NotMet) | Err(BucketError::Unclear(_)) => {}
        Err(error) => return Err(Error::bucket("storing", &key)(error)),
    }
    let found = client.get(&key).map_err(Error::bucket("reading", &key))?;
    match found {
        Some(found) if found.content == content => keep(found.tag),
        Some(_) | None => Ok(false),
    }
}

fn remove(client: &Client, key: Key, state: &State, record: &mut Record) -> Result<bool, Error> {
    record.files.remove(key.as_str());
    if state.is_some() {
        let keys = std::slice::from_ref(&key);
        client
            .delete(keys)
            .map_err(Error::bucket("removing", &key))?;
    }
    Ok(true)
}
