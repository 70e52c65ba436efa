//! One object, from the cache into the store's staging: asked for, retried, verified.
//!
//! Small objects are staged whole; of large ones, few are under way at once, and each goes to the
//! store piece by piece. So memory is bounded whatever a server sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Dirtree, ObjectId, ObjectKind};
use artifact_sender::{Object, Repository};
use artifact_store::{ObjectStream, Stager};
use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::origin::Origin;
use crate::web::{Body, Spoken, Web, WebError};

/// Brings in objects, many at once.
#[derive(Debug)]
pub(crate) struct Fetcher<S> {
    pub(crate) source: Source,
    pub(crate) origin: Origin,
    pub(crate) stager: S,
    /// Only asks for the size of files.
    pub(crate) dry_run: bool,
    pub(crate) cpus: Semaphore,
    pub(crate) large: Semaphore,
}

/// Where objects come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Web(Arc<Web>),
    Path(Arc<Repository>),
}

/// What became of a request for an object.
#[derive(Debug)]
pub(crate) enum Got {
    /// It is staged; or, in a dry run, its size is known.
    Staged(Staged),
    /// It is large, and other large ones are under way.
    Later,
}

/// A staged object.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Stored bytes.
    pub(crate) bytes: u64,
    /// The objects it names.
    pub(crate) children: Vec<ObjectId>,
    /// The time to the first byte, if the first attempt succeeded.
    pub(crate) latency: Option<Duration>,
    /// Whether the server had too much to do meanwhile.
    pub(crate) was_overload: bool,
}

/// An attempt that failed.
struct Failed {
    error: Error,
    may_pass: bool,
}

impl<S: Stager + Sync> Fetcher<S> {
    /// Fetches an object, again if that can help.
    pub(crate) async fn fetch(self: Arc<Self>, id: ObjectId) -> Result<Got, Error> {
        let (mut attempt, mut was_overload) = (0, false);
        loop {
            let failed = match self.attempt(id, attempt).await {
                Ok(Got::Staged(staged)) => {
                    return Ok(Got::Staged(Staged {
                        latency: staged.latency.filter(|_| attempt == 0),
                        was_overload,
                        ..staged
                    }));
                }
                Ok(Got::Later) => return Ok(Got::Later),
                Err(failed) => failed,
            };
            attempt += 1;
            if !failed.may_pass || attempt >= ATTEMPTS {
                return Err(failed.error);
            }
            tracing::debug!(%id, error = %failed.error, attempt, "trying again");
            let error = match &failed.error {
                Error::Web(error) => Some(error),
                _ => None,
            };
            was_overload |= error.is_some_and(WebError::is_overload);
            if let Source::Web(web) = &self.source {
                web.pause(attempt, error).await;
            }
        }
    }

    async fn attempt(&self, id: ObjectId, attempt: u32) -> Result<Got, Failed> {
        let web = match &self.source {
            Source::Web(web) => web,
            Source::Path(repository) => return self.copy(repository, id).await,
        };
        let began = Instant::now();
        let file = format!("objects/{}", id.archive_path());
        if self.dry_run && id.kind == ObjectKind::File {
            let len = web.len_of(&file).await.map_err(failed)?;
            let bytes = len.ok_or_else(|| self.lacking(id))?;
            return Ok(got(bytes, Vec::new(), began.elapsed()));
        }
        let len_max = if id.kind.is_metadata() {
            MAX_METADATA_LEN as u64
        } else {
            u64::MAX
        };
        let body = web.get(&file, len_max, attempt > 0).await.map_err(failed)?;
        let mut body = body.ok_or_else(|| self.lacking(id))?;
        let latency = began.elapsed();
        let mut permit = None;
        if body.len().is_some_and(|len| len > SMALL_LEN_MAX as u64) {
            permit = match self.room_for(id, web).await {
                Some(permit) => Some(permit),
                None => return Ok(Got::Later),
            };
        }
        let mut begun = BytesMut::new();
        while let Some(chunk) = body.chunk().await.map_err(failed)? {
            begun.extend_from_slice(&chunk);
            if begun.len() <= SMALL_LEN_MAX {
                continue;
            }
            if permit.is_none() {
                permit = match self.room_for(id, web).await {
                    Some(permit) => Some(permit),
                    None => return Ok(Got::Later),
                };
            }
            if id.kind == ObjectKind::File {
                let bytes = self.stream(id, begun.freeze(), body).await;
                return bytes
                    .map(|bytes| got(bytes, Vec::new(), latency))
                    .map_err(|failed| failed.once_more(attempt));
            }
        }
        let staged = self.stage(id, begun.freeze()).await;
        let (bytes, children) = staged.map_err(|failed| failed.once_more(attempt))?;
        drop(permit);
        Ok(got(bytes, children, latency))
    }

    /// Waits until another large object may be under way. Over HTTP/2, unread answers would stop
    /// the others on their connection: returns `None` there instead of waiting.
    async fn room_for(&self, id: ObjectId, web: &Web) -> Option<SemaphorePermit<'_>> {
        let permits = match id.kind.is_metadata() {
            true => METADATA_PERMITS,
            false => 1,
        };
        if web.spoken() == Spoken::Http2 {
            return self.large.try_acquire_many(permits).ok();
        }
        self.large.acquire_many(permits).await.ok()
    }

    /// Verifies and stages a whole object; returns its length, and the objects that it names.
    async fn stage(&self, id: ObjectId, stored: Bytes) -> Result<(u64, Vec<ObjectId>), Failed> {
        let _cpu = self.cpus.acquire().await;
        let stager = self.stager.clone();
        let staged = spawn_blocking(move || {
            let children = children_of(id, &stored);
            let len = stored.len() as u64;
            stager.stage(id, stored).map(|()| (len, children))
        });
        joined(staged.await)?.map_err(|error| Failed::in_store(id, error))
    }

    /// Passes a large object on, piece by piece; returns its length.
    async fn stream(&self, id: ObjectId, begun: Bytes, mut body: Body) -> Result<u64, Failed> {
        let (pieces, mut coming) = mpsc::channel(PIECES_WAITING);
        let stager = self.stager.clone();
        let staging = spawn_blocking(move || {
            let mut stream = stager.begin(id)?;
            while let Some(piece) = coming.blocking_recv() {
                match piece {
                    Some(bytes) => stream.append(bytes)?,
                    None => return stream.finish(),
                }
            }
            // The other side has failed: nothing is staged.
            Ok(())
        });
        let mut len = begun.len() as u64;
        let mut next = Some(begun);
        let mut lost = None;
        loop {
            let is_last = next.is_none();
            if pieces.send(next).await.is_err() || is_last {
                break;
            }
            match body.chunk().await {
                Ok(chunk) => {
                    len += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                    next = chunk;
                }
                Err(error) => {
                    lost = Some(failed(error));
                    break;
                }
            }
        }
        drop(pieces);
        joined(staging.await)?.map_err(|error| Failed::in_store(id, error))?;
        lost.map_or(Ok(len), Err)
    }

    /// Reads an object of a repository on this machine.
    async fn copy(&self, from: &Arc<Repository>, id: ObjectId) -> Result<Got, Failed> {
        let _cpu = self.cpus.acquire().await;
        let (from, stager, dry_run) = (Arc::clone(from), self.stager.clone(), self.dry_run);
        let began = Instant::now();
        let copied = spawn_blocking(move || {
            let read = from.read(id).map_err(Failed::of_source)?;
            let stage = |error| Failed::in_store(id, error);
            match read {
                Object::Small(stored) => {
                    let (len, children) = (stored.len() as u64, children_of(id, &stored));
                    if !(dry_run && id.kind == ObjectKind::File) {
                        stager.stage(id, stored).map_err(stage)?;
                    }
                    Ok((len, children))
                }
                Object::Large(pieces) => {
                    let is_file = id.kind == ObjectKind::File;
                    let (mut len, mut whole) = (0, Vec::new());
                    let mut stream = match dry_run && is_file {
                        true => None,
                        false => Some(stager.begin(id).map_err(stage)?),
                    };
                    for piece in pieces {
                        let piece = piece.map_err(Failed::of_source)?;
                        len += piece.len() as u64;
                        if !is_file {
                            whole.extend_from_slice(&piece);
                        }
                        if let Some(stream) = &mut stream {
                            stream.append(piece).map_err(stage)?;
                        }
                    }
                    if let Some(stream) = stream {
                        stream.finish().map_err(stage)?;
                    }
                    Ok((len, children_of(id, &whole)))
                }
            }
        });
        let (bytes, children) = joined(copied.await)??;
        Ok(got(bytes, children, began.elapsed()))
    }

    fn lacking(&self, id: ObjectId) -> Failed {
        Failed {
            error: Error::Lacking {
                origin: self.origin.to_string(),
                id,
            },
            may_pass: false,
        }
    }
}

impl Failed {
    /// Judges an error of the store: it refuses what a damaged or hostile cache, or something on
    /// the way, has sent.
    fn in_store(id: ObjectId, error: artifact_store::Error) -> Self {
        match error {
            artifact_store::Error::Refused { .. } => Self {
                error: Error::Damaged {
                    id,
                    source: Box::new(error),
                },
                may_pass: true,
            },
            source => Self {
                error: Error::Store(source),
                may_pass: false,
            },
        }
    }

    fn of_source(error: artifact_sender::Error) -> Self {
        Self {
            error: Error::Source(error),
            may_pass: false,
        }
    }

    /// A bad object may have been damaged on the way, or by a cache there; but if it is bad again,
    /// it will stay so.
    fn once_more(self, attempt: u32) -> Self {
        let is_damaged = matches!(self.error, Error::Damaged { .. });
        Self {
            may_pass: self.may_pass && (attempt == 0 || !is_damaged),
            error: self.error,
        }
    }
}

fn failed(error: WebError) -> Failed {
    Failed {
        may_pass: error.may_pass(),
        error: Error::Web(error),
    }
}

fn got(bytes: u64, children: Vec<ObjectId>, latency: Duration) -> Got {
    Got::Staged(Staged {
        bytes,
        children,
        latency: Some(latency),
        was_overload: false,
    })
}

fn joined<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, Failed> {
    result.map_err(|_| Failed {
        error: Error::Internal("a thread that stages objects has ended"),
        may_pass: false,
    })
}

/// Returns what a directory names; nothing if it is malformed, which the store reports.
fn children_of(id: ObjectId, stored: &[u8]) -> Vec<ObjectId> {
    if id.kind != ObjectKind::Dirtree {
        return Vec::new();
    }
    let mut children: Vec<_> = Dirtree::parse(stored)
        .map(|tree| tree.children().collect())
        .unwrap_or_default();
    children.sort_unstable();
    children.dedup();
    children
}

/// The longest object to keep in memory whole, in bytes; of those, as many as the window allows.
const SMALL_LEN_MAX: usize = 64 * 1024;
/// The most large objects under way; of metadata, which must be read whole, each counts as several.
pub(crate) const LARGE_AT_ONCE: usize = 16;
/// A large metadata object has up to 10 MiB.
const METADATA_PERMITS: u32 = 8;
const PIECES_WAITING: usize = 4;
const ATTEMPTS: u32 = 5;
