//! The progress of a push.
//!
//! A thread finds out how much there is to send, and what large files are called: both take looks
//! at the disk, and the push need not wait for them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use artifact_formats::{Checksum, ObjectId, ObjectKind, RepoMode, Size, counted, grouped};
use artifact_sender::{Remote, Repository, SenderEvent, escape};
use serde_json::json;

use crate::output::{Output, Progressing};
use crate::progress::{Amount, Shown};

pub(crate) struct PushProgress<'a> {
    shown: Shown<'a>,
    remote: &'a Remote,
    started: Instant,
    amount: Amount,
    had: u64,
    /// The large object that was last sent a piece of.
    large: Option<ObjectId>,
    measuring: Option<Measuring>,
}

impl<'a> PushProgress<'a> {
    pub(crate) fn new(
        output: &'a Output,
        remote: &'a Remote,
        repository: &Arc<Repository>,
        commits: Vec<Checksum>,
    ) -> Self {
        let is_read = matches!(output.progress(), Progressing::Bar | Progressing::Lines);
        Self {
            shown: Shown::new(output),
            remote,
            started: Instant::now(),
            amount: Amount {
                at_most: repository.mode() != RepoMode::Archive,
                ..Amount::default()
            },
            had: 0,
            large: None,
            measuring: is_read.then(|| Measuring::start(Arc::clone(repository), commits)),
        }
    }

    pub(crate) fn show(&mut self, event: &SenderEvent) {
        self.foresee(event);
        match event {
            // Until the server answers, the terminal belongs to the questions of `ssh`.
            SenderEvent::Welcomed(_) => {
                self.started = Instant::now();
                self.shown.begin();
            }
            SenderEvent::RefStatus(_) => self.shown.say("comparing".to_owned()),
            SenderEvent::Answered { wanted, had } => {
                self.amount.objects_all += wanted.len() as u64;
                self.had += had;
                if let Some(measuring) = &self.measuring {
                    measuring.ask(Question::Len(wanted.clone()));
                }
                self.draw();
            }
            SenderEvent::Sent {
                objects,
                bytes,
                large,
            } => {
                self.amount.objects += objects;
                self.amount.bytes += bytes;
                self.large = large.filter(|_| *objects == 0);
                self.draw();
            }
            SenderEvent::Missing(count) => self.amount.objects_all += count,
            SenderEvent::Staged(staged) if staged.objects == self.amount.objects_all => {
                self.shown.say("the server syncs to disk".to_owned());
            }
            SenderEvent::Staged(_) => {}
            SenderEvent::Finalized(_) => {
                self.shown.say("the server updates its summary".to_owned())
            }
            SenderEvent::Summary(_) => self.shown.end(),
        }
    }

    pub(crate) fn finish(&mut self) -> Duration {
        self.shown.end();
        self.started.elapsed()
    }

    /// Sets the text to print if the user interrupts.
    fn foresee(&self, event: &SenderEvent) {
        let remote = self.remote;
        let text = match event {
            SenderEvent::Welcomed(_) => format!("nothing was changed at {remote}"),
            SenderEvent::Staged(staged) if staged.objects == self.amount.objects_all => format!(
                "{remote} has all objects, and may have set the refs by now: run the same command \
                 again to make sure"
            ),
            SenderEvent::Staged(staged) => format!(
                "no ref was changed at {remote}, which keeps the {} that it has verified: run \
                 the same command again to send the rest",
                counted(staged.objects, "object")
            ),
            SenderEvent::Finalized(_) => format!("{remote} has set the refs"),
            SenderEvent::RefStatus(_)
            | SenderEvent::Answered { .. }
            | SenderEvent::Sent { .. }
            | SenderEvent::Missing(_)
            | SenderEvent::Summary(_) => return,
        };
        self.shown.output.meanwhile(text);
    }

    fn draw(&mut self) {
        let (took, mut amount) = (self.started.elapsed(), self.amount);
        self.shown.tell(took, || {
            json!({
                "event": "progress",
                "objects_sent": amount.objects,
                "objects_wanted": amount.objects_all,
                "bytes_sent": amount.bytes,
                "seconds": took.as_secs_f64(),
            })
        });
        let Some(measuring) = &mut self.measuring else {
            return;
        };
        amount.bytes_all = measuring.bytes();
        let mut text = amount.text(took);
        if self.had > 0 {
            text += &format!(", {} already there", grouped(self.had));
        }
        if let Some(name) = self.large.and_then(|large| measuring.name(large)) {
            text += &format!(", now {name}");
        }
        self.shown.say(text);
    }
}

/// Finds out lengths and names of objects.
struct Measuring {
    found: Arc<Found>,
    questions: Sender<Question>,
    asked: HashSet<ObjectId>,
}

#[derive(Default)]
struct Found {
    bytes: AtomicU64,
    /// What large files are called, and how long they are.
    names: Mutex<HashMap<ObjectId, String>>,
}

enum Question {
    Len(Vec<ObjectId>),
    Name(ObjectId),
}

impl Measuring {
    /// Starts the thread, which ends with this.
    fn start(repository: Arc<Repository>, commits: Vec<Checksum>) -> Self {
        let found = Arc::new(Found::default());
        let (questions, asked) = mpsc::channel();
        let own = Arc::clone(&found);
        thread::spawn(move || {
            for question in asked {
                own.answer(&repository, &commits, question);
            }
        });
        Self {
            found,
            questions,
            asked: HashSet::new(),
        }
    }

    fn ask(&self, question: Question) {
        // The thread lives as long as this.
        let _ = self.questions.send(question);
    }

    fn bytes(&self) -> u64 {
        self.found.bytes.load(Ordering::Relaxed)
    }

    /// Returns the name of an object that takes long to send, once it is known.
    fn name(&mut self, id: ObjectId) -> Option<String> {
        if self.asked.insert(id) {
            self.ask(Question::Name(id));
        }
        self.found.names().get(&id).cloned()
    }
}

impl Found {
    /// A failure is no news: whoever reads the object for the push reports it.
    fn answer(&self, repository: &Repository, commits: &[Checksum], question: Question) {
        let len = |id: ObjectId| repository.file_len(id).ok().flatten().unwrap_or(0);
        match question {
            Question::Len(ids) => {
                let bytes = ids.into_iter().map(len).sum();
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Question::Name(id) => {
                let len = len(id);
                if len < LARGE || id.kind != ObjectKind::File {
                    return;
                }
                let path = |commit: &Checksum| repository.path_of(*commit, id.checksum).ok()?;
                let path = commits.iter().find_map(path);
                let path = path.map_or_else(|| id.checksum.to_hex(), |path| escape(&path));
                let name = format!("{path} ({})", Size(len));
                self.names().insert(id, name);
            }
        }
    }

    fn names(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectId, String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a file that is worth a name.
const LARGE: u64 = 16_000_000;
