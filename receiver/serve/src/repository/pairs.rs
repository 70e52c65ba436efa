//! The summary and its signature, a pair in two files.
//!
//! Writers replace one after the other, and pullers request one after the other. So the server
//! opens both together, only if they match, and a client that has received one gets the other of
//! the same pair on the same connection. Changes in between are for the next puller.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::repository::files::{Files, Found, Identity};

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The summary.
    Summary,
    /// Its signature.
    Signature,
}

/// A summary and its signature, as far as they exist.
#[derive(Debug)]
pub(crate) struct Pair {
    summary: Option<Found>,
    signature: Option<Found>,
}

type Seen = [Option<Identity>; 2];

impl Pair {
    fn open(files: &Files) -> io::Result<Self> {
        Ok(Self {
            summary: files.find(SUMMARY)?,
            signature: files.find(SIGNATURE)?,
        })
    }

    pub(crate) const fn get(&self, which: Which) -> Option<&Found> {
        match which {
            Which::Summary => self.summary.as_ref(),
            Which::Signature => self.signature.as_ref(),
        }
    }

    fn seen(&self) -> Seen {
        [&self.summary, &self.signature].map(|found| Some(found.as_ref()?.identity))
    }

    /// A writer of both gives them the same date: libostree does, and so does the receiver.
    fn agrees(&self) -> bool {
        match self.seen() {
            [Some(summary), Some(signature)] => summary.modified == signature.modified,
            [_, None] | [None, Some(_)] => true,
        }
    }
}

/// The pair in use.
#[derive(Debug, Default)]
pub(crate) struct Pairs(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    current: Option<Arc<Pair>>,
    /// The last pair seen that does not match, and since when.
    doubtful: Option<(Seen, Instant)>,
}

impl Pairs {
    /// Returns the current pair. While a writer is between the two files, returns the previous
    /// pair.
    pub(crate) async fn current(&self, files: &Files) -> io::Result<Arc<Pair>> {
        loop {
            if let Some(pair) = self.try_current(files)? {
                return Ok(pair);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn try_current(&self, files: &Files) -> io::Result<Option<Arc<Pair>>> {
        let look = || io::Result::Ok([files.look(SUMMARY)?, files.look(SIGNATURE)?]);
        let mut state = self.0.lock();
        let seen = look()?;
        if let Some(pair) = state.current.as_ref().filter(|pair| pair.seen() == seen) {
            return Ok(Some(Arc::clone(pair)));
        }
        let pair = Pair::open(files)?;
        let still = pair.seen() == seen && look()? == seen;
        if still && (pair.agrees() || state.has_settled(seen)) {
            let pair = Arc::new(pair);
            state.current = Some(Arc::clone(&pair));
            state.doubtful = None;
            return Ok(Some(pair));
        }
        Ok(state.current.clone())
    }
}

impl State {
    /// Returns whether two files that do not seem to match have stayed like that: some operators
    /// sign a summary later, and no writer stays between the two for so long.
    fn has_settled(&mut self, seen: Seen) -> bool {
        match self.doubtful {
            Some((before, since)) if before == seen => since.elapsed() >= SETTLE,
            _ => {
                self.doubtful = Some((seen, Instant::now()));
                false
            }
        }
    }
}

/// The pair of which a client has received one file, and not yet the other.
#[derive(Debug, Default)]
pub(crate) struct Half(Mutex<Option<Given>>);

#[derive(Debug)]
struct Given {
    which: Which,
    /// Several clients may come over one connection of a proxy.
    client: Option<IpAddr>,
    at: Instant,
    pair: Arc<Pair>,
}

impl Half {
    /// Returns the pair whose other file this client received a moment ago.
    pub(crate) fn take(&self, which: Which, client: Option<IpAddr>) -> Option<Arc<Pair>> {
        let given = self.0.lock().take()?;
        let fits = given.which != which && given.client == client && given.at.elapsed() < MAX_AGE;
        fits.then_some(given.pair)
    }

    /// Remembers that this client receives a file of a pair.
    pub(crate) fn give(&self, which: Which, client: Option<IpAddr>, pair: &Arc<Pair>) {
        *self.0.lock() = Some(Given {
            which,
            client,
            at: Instant::now(),
            pair: Arc::clone(pair),
        });
    }
}

pub(crate) const SUMMARY: &str = "summary";
const SIGNATURE: &str = "summary.sig";
/// The time between two looks while there is no matching pair.
const PAUSE: Duration = Duration::from_millis(10);
/// How long two files of different dates must stay unchanged.
const SETTLE: Duration = Duration::from_millis(100);
/// How long a client may take from one file to the other.
const MAX_AGE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;

    fn put(dir: &Path, name: &str, text: &str, date: SystemTime) {
        let new = dir.join("new");
        fs::write(&new, text).unwrap();
        File::options()
            .write(true)
            .open(&new)
            .unwrap()
            .set_modified(date)
            .unwrap();
        fs::rename(new, dir.join(name)).unwrap();
    }

    fn text(pair: &Pair, which: Which) -> Option<String> {
        let found = pair.get(which)?;
        let mut bytes = vec![0; 16];
        let len = found.file.read_at(&mut bytes, 0).unwrap();
        Some(String::from_utf8(bytes[..len].to_vec()).unwrap())
    }

    fn both(pair: &Pair) -> [Option<String>; 2] {
        [Which::Summary, Which::Signature].map(|which| text(pair, which))
    }

    fn texts(texts: [&str; 2]) -> [Option<String>; 2] {
        texts.map(|text| Some(text.to_owned()))
    }

    #[tokio::test]
    async fn a_writer_between_the_two_files_is_not_seen_whichever_it_writes_first() {
        for order in [[SUMMARY, SIGNATURE], [SIGNATURE, SUMMARY]] {
            let dir = tempfile::tempdir().unwrap();
            let files = Files::open(dir.path()).unwrap();
            let pairs = Pairs::default();
            let start = SystemTime::now();
            assert_eq!(both(&pairs.current(&files).await.unwrap()), [None, None]);
            for name in [SUMMARY, SIGNATURE] {
                put(dir.path(), name, "1", start);
            }
            let first = pairs.current(&files).await.unwrap();
            assert_eq!(both(&first), texts(["1", "1"]));
            let later = start + Duration::from_secs(1);
            put(dir.path(), order[0], "2", later);
            let between = pairs.current(&files).await.unwrap();
            assert_eq!(both(&between), texts(["1", "1"]), "{order:?}");
            put(dir.path(), order[1], "2", later);
            let second = pairs.current(&files).await.unwrap();
            assert_eq!(both(&second), texts(["2", "2"]));
            // The pair already received stays whole.
            assert_eq!(both(&first), texts(["1", "1"]));
        }
    }

    #[tokio::test]
    async fn a_signature_of_another_date_is_served_once_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let start = SystemTime::now();
        put(dir.path(), SUMMARY, "1", start);
        put(dir.path(), SIGNATURE, "1", start + Duration::from_secs(1));
        let pair = Pairs::default().current(&files).await.unwrap();
        assert_eq!(both(&pair), texts(["1", "1"]));
    }

    #[test]
    fn whoever_has_one_file_gets_the_other_of_the_same_pair_once() {
        let (half, pair) = (
            Half::default(),
            Pair {
                summary: None,
                signature: None,
            },
        );
        let (pair, somebody) = (Arc::new(pair), "192.0.2.1".parse().ok());
        half.give(Which::Signature, somebody, &pair);
        assert!(half.take(Which::Summary, None).is_none(), "somebody else's");
        half.give(Which::Signature, somebody, &pair);
        assert!(
            half.take(Which::Signature, somebody).is_none(),
            "the same again"
        );
        half.give(Which::Signature, somebody, &pair);
        assert!(half.take(Which::Summary, somebody).is_some());
        assert!(half.take(Which::Summary, somebody).is_none(), "twice");
    }
}
