//! A repository as a site: read now and then, shown on every request.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use artifact_store::{Catalogue, CatalogueRef, Error};
use parking_lot::{Mutex, RwLock};

use crate::address::PullUrl;
use crate::answer::Page;
use crate::health::Vitals;
use crate::links::{self, Asked, At, Layout, Place};
use crate::shelf::Shelf;
use crate::snapshot::{Snapshot, Stock};
use crate::trail::Trail;
use crate::view::View;
use crate::words::Clock;

/// An operator's options for a site.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The name of the cache; by default its host.
    pub title: Option<String>,
    /// The URL to pull from; by default the host of the client's request, over https.
    pub pull_url: Option<PullUrl>,
    /// The path of the repository on the server, such as `/artifacts`; empty for its root.
    pub at: String,
    /// Whether the server speaks http instead of https, with nothing before it that speaks https.
    pub plain_http: bool,
    /// The URL to push to, such as `ssh://artifacts@cache.example.com/artifacts`.
    pub push_url: Option<String>,
    /// The file of the audit log. Without it, or without the right to read it, only some refs show
    /// who pushed them.
    pub audit: Option<PathBuf>,
}

/// A repository as a site. It answers from any number of threads, and may block.
#[derive(Debug)]
pub struct Site {
    options: Options,
    looking: Arc<Looking>,
    counting: Arc<Counting>,
}

/// What was seen last, and who looks again.
#[derive(Debug)]
struct Looking {
    reader: Mutex<Reader>,
    shown: RwLock<Arc<Snapshot>>,
    runs: AtomicBool,
}

#[derive(Debug)]
struct Reader {
    catalogue: Catalogue,
    trail: Trail,
    looked: Instant,
}

#[derive(Debug)]
struct Counting {
    repo: PathBuf,
    runs: AtomicBool,
    stock: Mutex<Option<(Stock, Instant, Duration)>>,
}

impl Site {
    /// Opens the repository at `repo`, and reads everything it shows: some 100 milliseconds for
    /// 10,000 refs on an idle disk.
    ///
    /// Fails if there is no repository of mode archive or it cannot be read, which the operator has
    /// to correct.
    pub fn open(repo: &Path, options: Options) -> Result<Self, Error> {
        let catalogue = Catalogue::open(repo)?;
        let mut trail = Trail::new(options.audit.as_deref());
        trail.refresh();
        let mut reader = Reader {
            catalogue,
            trail,
            looked: Instant::now(),
        };
        let shelf = Arc::new(reader.shelf());
        let shown = reader.snapshot(shelf, false);
        Ok(Self {
            options,
            looking: Arc::new(Looking {
                reader: Mutex::new(reader),
                shown: RwLock::new(Arc::new(shown)),
                runs: AtomicBool::new(false),
            }),
            counting: Arc::new(Counting {
                repo: repo.to_owned(),
                runs: AtomicBool::new(false),
                stock: Mutex::new(None),
            }),
        })
    }

    /// Answers a request for `path`, which begins with a slash; `path` and `query` are still
    /// encoded. `host` is the host in the client's request. `None` if no page has this path: the
    /// server's own files come before or after this.
    pub fn answer(&self, path: &str, query: Option<&str>, host: &str) -> Option<Page> {
        let asked = links::asked(path, query)?;
        Looking::run_if_due(&self.looking);
        Counting::run_if_due(&self.counting);
        let at = match asked {
            Asked::Moved(to) => return Some(Page::moved(to)),
            Asked::Nowhere => return Some(self.not_found(path, host)),
            Asked::Page(at) => at,
        };
        let view = self.view(Layout::Server, host);
        match view.page(&at) {
            Some(body) => Some(Page::html(200, body)),
            None => Some(self.not_found(path, host)),
        }
    }

    /// Returns the page for a path that does not exist.
    pub fn not_found(&self, path: &str, host: &str) -> Page {
        let view = self.view(Layout::Server, host);
        Page::html(404, view.missing(&Place::missing(path).first()))
    }

    /// Counts the files of the repository now, which takes as long as looking at each. A server
    /// need not call it: the site counts now and then, beside its answers.
    pub fn count(&self) {
        self.counting.count();
    }

    /// Passes each page to `put` as a file, by its path relative to the first page, `index.html`.
    /// The links name files, so that the pages need no server. Returns the number of files, or the
    /// first error of `put`.
    pub fn files(&self, mut put: impl FnMut(&str, &[u8]) -> io::Result<()>) -> io::Result<usize> {
        let view = self.view(Layout::Files, "");
        let mut count = 0;
        for place in view.places() {
            for page in 1..=view.pages_of(&place) {
                let at = At {
                    place: place.clone(),
                    page,
                };
                let Some(body) = view.page(&at) else { continue };
                put(&at.file(), body.as_bytes())?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn view(&self, layout: Layout, host: &str) -> View {
        let options = &self.options;
        let pull_url = options.pull_url.clone();
        let pull_url = pull_url.or_else(|| PullUrl::of_host(options.plain_http, host, &options.at));
        View {
            layout,
            clock: match layout {
                Layout::Server => Clock::Now(now()),
                Layout::Files => Clock::Dates,
            },
            now: now(),
            title: options.title.clone(),
            push_url: options.push_url.clone(),
            pull_url,
            shown: Arc::clone(&self.looking.shown.read()),
            stock: self.counting.stock.lock().map(|(stock, ..)| stock),
        }
    }
}

impl Looking {
    /// Looks for changes, unless a thread has just looked or is looking. It waits a little: the
    /// page of a small cache is as new as can be, and that of a large one is there at once.
    fn run_if_due(this: &Arc<Self>) {
        let is_due = this
            .reader
            .try_lock()
            .is_some_and(|reader| reader.looked.elapsed() >= BETWEEN_LOOKS);
        if !is_due || this.runs.swap(true, Ordering::AcqRel) {
            return;
        }
        let (done, is_done) = mpsc::channel();
        let looking = Arc::clone(this);
        let started = thread::Builder::new()
            .name("look".to_owned())
            .spawn(move || {
                looking.look();
                looking.runs.store(false, Ordering::Release);
                // Nobody may wait any more.
                let _ = done.send(());
            });
        match started {
            Ok(_) => _ = is_done.recv_timeout(WORTH_WAITING),
            Err(error) => {
                this.runs.store(false, Ordering::Release);
                tracing::warn!(%error, "cannot look for changes: pages stay as before");
            }
        }
    }

    fn look(&self) {
        let mut reader = self.reader.lock();
        let shelf = Arc::clone(&self.shown.read().shelf);
        let (shelf, is_stale) = match reader.refresh() {
            Ok(true) => (Arc::new(reader.shelf()), false),
            Ok(false) => (shelf, false),
            Err(error) => {
                tracing::warn!(%error, "cannot read the repository: pages stay as before");
                (shelf, true)
            }
        };
        let shown = reader.snapshot(shelf, is_stale);
        *self.shown.write() = Arc::new(shown);
        reader.looked = Instant::now();
    }
}

impl Reader {
    /// Reads what has changed; returns whether anything has.
    fn refresh(&mut self) -> Result<bool, Error> {
        let was_written = self.trail.refresh();
        Ok(self.catalogue.refresh()? || was_written)
    }

    fn shelf(&mut self) -> Shelf {
        let trail = &self.trail;
        let who = |stored: &CatalogueRef| {
            let setter = trail.setter(&stored.name, &stored.commit.to_hex());
            setter.map(str::to_owned).or_else(|| stored.owner.clone())
        };
        let shelf = Shelf::new(self.catalogue.refs(), who);
        self.trail.retain(|name| shelf.find(name).is_some());
        shelf
    }

    fn snapshot(&mut self, shelf: Arc<Shelf>, is_stale: bool) -> Snapshot {
        let has_audit = self.trail.is_readable();
        let vitals = Vitals {
            room: self.catalogue.room().ok(),
            refs: shelf.len(),
            broken: self.catalogue.broken().len(),
            summary: self.catalogue.summary(),
            last_set: shelf.newest().next().map(|item| item.stored.set),
            day: has_audit.then(|| self.trail.ends_since(now() - DAY)),
            stale: is_stale,
        };
        Snapshot {
            pushes: self.trail.pushes().cloned().collect(),
            has_audit,
            vitals,
            shelf,
        }
    }
}

impl Counting {
    fn run_if_due(this: &Arc<Self>) {
        let is_due = match *this.stock.lock() {
            None => true,
            // A cache that takes long to count is counted rarely, so that the counting is no
            // burden.
            Some((_, counted, took)) => counted.elapsed() > BETWEEN_COUNTS.max(took * 50),
        };
        if !is_due || this.runs.swap(true, Ordering::AcqRel) {
            return;
        }
        let counting = Arc::clone(this);
        let started = thread::Builder::new()
            .name("count".to_owned())
            .spawn(move || {
                counting.count();
                counting.runs.store(false, Ordering::Release);
            });
        if let Err(error) = started {
            this.runs.store(false, Ordering::Release);
            tracing::warn!(%error, "cannot count the files of the cache");
        }
    }

    fn count(&self) {
        let begun = Instant::now();
        match artifact_store::count_objects(&self.repo) {
            Ok((objects, others)) => {
                let stock = Stock { objects, others };
                *self.stock.lock() = Some((stock, Instant::now(), begun.elapsed()));
            }
            Err(error) => tracing::warn!(%error, "cannot count the files of the cache"),
        }
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// How long an answer waits for news.
const WORTH_WAITING: Duration = Duration::from_millis(40);
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
const BETWEEN_COUNTS: Duration = Duration::from_secs(10 * 60);
const DAY: i64 = 24 * 60 * 60;
