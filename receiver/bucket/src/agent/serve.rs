//! The agent's end of the connection: takes requests, and hands them to an engine.

use std::io::{self, BufReader, BufWriter, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use artifact_formats::with_causes;
use artifact_sandbox::Needs;
use artifact_store::bucket::{Bucket, BucketError, Request};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::agent::wire::{self, Asked, Ready, Told};
use crate::open::open;
use crate::settings::Settings;

/// Serves one client on standard input until the client ends.
///
/// Confines this process as far as an agent allows: it may connect and read, but neither write
/// files nor start programs.
pub fn serve() -> io::Result<()> {
    let stream = UnixStream::from(rustix::io::dup(rustix::stdio::stdin())?);
    for layer in artifact_sandbox::enter(&Needs::to_connect()) {
        tracing::debug!("sandbox of the agent: {}: {}", layer.what, layer.status);
    }
    let mut reader = BufReader::with_capacity(BUFFER, stream.try_clone()?);
    let Some((settings, _)) = wire::read::<Settings>(&mut reader)? else {
        return Ok(());
    };
    let engine = open(&settings);
    let ready: Ready = engine
        .as_ref()
        .map(|_| ())
        .map_err(|error| with_causes(error));
    wire::write(&stream, &ready, &[])?;
    match engine {
        Ok(engine) => pass_on(&Arc::new(engine), reader, stream),
        Err(_) => Ok(()),
    }
}

/// Passes requests to the bucket, and its answers back, until the client ends.
pub(super) fn pass_on(
    bucket: &Arc<impl Bucket>,
    mut reader: BufReader<UnixStream>,
    stream: UnixStream,
) -> io::Result<()> {
    let held = Arc::new(Held::default());
    let (answers, receiver) = mpsc::channel();
    let writer = thread::Builder::new();
    writer
        .name("answers".to_owned())
        .spawn(move || write(&receiver, stream))?;
    while let Some((mut asked, content)) = wire::read::<Asked>(&mut reader)? {
        if let Some(place) = wire::content_of(&mut asked.request) {
            *place = content;
        }
        let len = asked.request.content_len();
        held.take(len);
        let (answers, held) = (answers.clone(), Arc::clone(&held));
        let number = asked.number;
        let then = move |answer| {
            held.give_back(len);
            // Without a writer, no client waits for the answer.
            let _ = answers.send(Told { number, answer });
        };
        match refused(&asked.request) {
            Some(error) => then(Err(error)),
            None => bucket.start(asked.request, Box::new(then)),
        }
    }
    Ok(())
}

/// Writes answers until all senders are gone, or the client is.
fn write(answers: &Receiver<Told>, stream: UnixStream) {
    let mut writer = BufWriter::with_capacity(BUFFER, &stream);
    while let Ok(first) = answers.recv() {
        let mut told = std::iter::once(first).chain(answers.try_iter());
        let written = told.try_for_each(|told| write_answer(&mut writer, told));
        if written.and_then(|()| writer.flush()).is_err() {
            // Otherwise the client would wait for answers that nobody writes.
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn write_answer(writer: impl Write, mut told: Told) -> io::Result<()> {
    let content = wire::content_of_answer(&mut told.answer).map(std::mem::take);
    let mut content = content.unwrap_or_default();
    if content.len() > wire::CONTENT_MAX {
        let len = content.len();
        let why = format!("an object of {len} bytes is longer than any that a store reads whole");
        (told.answer, content) = (Err(BucketError::Broken(why)), Bytes::new());
    }
    wire::write(writer, &told, &content)
}

/// Returns why an agent refuses a request. A push deletes only its own records, and a summary or
/// signature that the configuration no longer wants.
fn refused(request: &Request) -> Option<BucketError> {
    let Request::Delete { keys } = request else {
        return None;
    };
    let may_go = |key: &str| key.starts_with(OWN) || SUMMARIES.contains(&key);
    let kept = keys.iter().find(|key| !may_go(key.as_str()))?;
    Some(BucketError::Refused(format!(
        "a push does not delete {kept}"
    )))
}

/// The bytes of content in requests on their way to the server.
#[derive(Default)]
struct Held {
    bytes: Mutex<usize>,
    less: Condvar,
}

impl Held {
    /// Waits until this content has room, and counts it.
    fn take(&self, len: usize) {
        let mut bytes = self.bytes.lock();
        while *bytes > 0 && *bytes + len > HELD_MAX {
            self.less.wait(&mut bytes);
        }
        *bytes += len;
    }

    fn give_back(&self, len: usize) {
        *self.bytes.lock() -= len;
        self.less.notify_one();
    }
}

const OWN: &str = "extensions/artifact-cache/";
const SUMMARIES: [&str; 2] = ["summary", "summary.sig"];
const BUFFER: usize = 256 * 1024;
/// The most content in memory, in bytes: somewhat more than one window of the store.
const HELD_MAX: usize = 80 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use artifact_store::bucket::{Answer, Found, Key, Tag};

    use super::*;

    #[test]
    fn only_notes_and_summaries_may_be_deleted() {
        let delete = |key: &str| Request::Delete {
            keys: vec![Key::new(key).unwrap()],
        };
        for key in [
            "extensions/artifact-cache/pending/x",
            "summary",
            "summary.sig",
        ] {
            assert_eq!(refused(&delete(key)), None, "{key}");
        }
        for key in [
            "config",
            "refs/heads/a",
            "objects/00/1.filez",
            "summary/x",
            "extensions/x",
        ] {
            assert!(refused(&delete(key)).is_some(), "{key}");
        }
    }

    /// A client waited forever for an answer that was too long to send.
    #[test]
    fn an_answer_that_is_too_long_is_an_error_and_the_next_one_arrives() {
        let (answers, receiver) = mpsc::channel();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let writing = thread::spawn(move || write(&receiver, ours));
        let found = |len| {
            Ok(Answer::Found(Found {
                content: vec![0; len].into(),
                tag: Tag::new("t"),
                modified: 0,
            }))
        };
        for (number, len) in [(1, wire::CONTENT_MAX + 1), (2, 3)] {
            let answer = found(len);
            answers.send(Told { number, answer }).unwrap();
        }
        drop(answers);
        let mut reader = BufReader::new(theirs);
        let (first, _) = wire::read::<Told>(&mut reader).unwrap().unwrap();
        assert!(
            matches!(first.answer, Err(BucketError::Broken(_))),
            "{first:?}"
        );
        let (second, content) = wire::read::<Told>(&mut reader).unwrap().unwrap();
        assert_eq!((second.number, content.len()), (2, 3));
        writing.join().unwrap();
    }
}
