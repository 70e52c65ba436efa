use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};

use artifact_formats::{Checksum, ObjectId, RefName};
use artifact_protocol::frame::{
    Announce, Expect, Finalize, Frame, Hello, PREAMBLE, RefOutcome, RefState, RefUpdate,
    SummaryDone, Verdict,
};
use artifact_protocol::session::{Announcement, Opened, Published, RefQuery};
use artifact_protocol::{Features, Version};

use super::*;
use artifact_store::{Error as StoreError, Push, Refused};

/// Takes as long to publish as a client is waited for, twice over.
#[derive(Clone, Debug, Default)]
struct SlowStore {
    summarized: Arc<AtomicBool>,
}

impl Store for SlowStore {
    type Push = Self;

    fn refs(&self, _: &RefQuery) -> Result<(Vec<(RefName, Checksum)>, bool), StoreError> {
        Ok((Vec::new(), true))
    }

    fn begin(&self, _: &Announcement) -> Result<(Opened, Self), StoreError> {
        let state = RefState {
            current: None,
            verdict: Verdict::Accepted,
        };
        let opened = Opened {
            refs: vec![state],
            complete: Vec::new(),
        };
        Ok((opened, self.clone()))
    }
}

impl Push for SlowStore {
    type Stager = Refused;

    fn stager(&self) -> Refused {
        Refused
    }

    fn rely(&mut self, _: &[Checksum]) -> Result<(), StoreError> {
        Ok(())
    }

    fn have(&mut self, ids: &[ObjectId]) -> Result<Vec<bool>, StoreError> {
        Ok(vec![true; ids.len()])
    }

    fn stage_detached(&mut self, _: Checksum, _: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }

    fn lack(&mut self, _: &[ObjectId]) -> Result<(), StoreError> {
        Ok(())
    }

    fn publish(&mut self) -> Result<Published, StoreError> {
        thread::sleep(2 * STALL);
        Ok(Published::Done(vec![RefOutcome::Updated]))
    }

    fn summarize(&mut self) -> SummaryDone {
        thread::sleep(2 * STALL);
        self.summarized.store(true, Ordering::SeqCst);
        SummaryDone::Current
    }
}

const STALL: Duration = Duration::from_millis(200);

/// A client that takes no byte, or hangs up.
struct Deaf {
    hangs_up: bool,
}

impl Write for Deaf {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        if self.hangs_up {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        loop {
            thread::park();
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn finalized_push() -> Vec<u8> {
    let update = RefUpdate {
        name: "a/b".parse().unwrap(),
        commit: Checksum::new([1; 32]),
        detached: None,
        expect: Expect::Any,
    };
    let frames = [
        Frame::Hello(Hello {
            version_min: Version::OLDEST,
            version_max: Version::NEWEST,
            features: Features::SUPPORTED,
            agent: Default::default(),
            extensions: Default::default(),
        }),
        Frame::Announce(Announce {
            options: Default::default(),
            refs: vec![update],
            bases: Vec::new(),
            more: false,
            extensions: Default::default(),
        }),
        Frame::Finalize(Finalize {}),
    ];
    let mut bytes = PREAMBLE.to_vec();
    frames.iter().for_each(|frame| bytes.extend(frame.encode()));
    bytes
}

#[test]
fn a_publication_is_carried_through_though_the_client_takes_no_answer() {
    let store = Arc::new(SlowStore::default());
    let config = DriverConfig {
        session: ReceiverConfig::default(),
        openness: Openness::default(),
        timeouts: Timeouts {
            stall: STALL,
            ping: STALL / 4,
            ..Timeouts::default()
        },
        threads: 1,
        pulls: None,
    };
    let started = Instant::now();
    let input = Cursor::new(finalized_push());
    let mut published = false;
    let output = Deaf { hangs_up: false };
    let done = serve(&store, config, input, output, thread::park, |event| {
        published |= matches!(event, ReceiverEvent::Published(_));
    })
    .done;
    assert!(done.is_ok(), "{done:?}");
    assert!(published && store.summarized.load(Ordering::SeqCst));
    assert!(
        started.elapsed() < LINGER,
        "nobody is there to be waited for"
    );
}

#[test]
fn a_client_that_hangs_up_before_it_finalizes_ends_the_push() {
    let store = Arc::new(SlowStore::default());
    let config = DriverConfig {
        session: ReceiverConfig::default(),
        openness: Openness::default(),
        timeouts: Timeouts::default(),
        threads: 1,
        pulls: None,
    };
    let mut bytes = finalized_push();
    bytes.truncate(bytes.len() - 1);
    let output = Deaf { hangs_up: true };
    let input = Cursor::new(bytes);
    let done = serve(&store, config, input, output, thread::park, |_| ()).done;
    assert!(
        matches!(done, Err(Error::Session(SessionError::Truncated))),
        "{done:?}"
    );
}
