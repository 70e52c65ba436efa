//! The server: what all connections share, who may come in, and how it ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use artifact_page::Site;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::body::Readers;
use crate::context::Shared;
use crate::error::Error;
use crate::files::Files;
use crate::gate::Gate;
use crate::limits::Shares;
use crate::listen::{Listener, Role, Socket};
use crate::log::AccessLog;
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::pairs::Pairs;
use crate::tls::{CertificateFiles, Certificates};

/// What is served, and to whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// The repository.
    pub repo: PathBuf,
    /// The path of its root in addresses, such as `/artifacts`; empty for the root of the host.
    pub at: String,
    /// The certificate; without one it is plain HTTP/1.1, to this machine alone.
    pub certificate: Option<CertificateFiles>,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once of one address, and half as many of the requests that may run for it.
    pub connections_each_max: usize,
    /// Where requests are written down, if they are.
    pub log: Option<AccessLog>,
    /// What the page for people says; without it there is none.
    pub page: Option<artifact_page::Options>,
}

/// What a running server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// To read the certificate again, changed or not.
    Reload,
    /// To end: what is running is finished. The second time, to end at once.
    Stop,
}

/// A server that has all it needs from outside the sandbox.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    certificates: Option<Arc<Certificates>>,
    connections: Arc<Semaphore>,
    connections_each: Arc<Shares>,
}

impl Server {
    /// Opens the repository and reads the certificate.
    pub fn open(config: Config) -> Result<Self, Error> {
        let files = Files::open(&config.repo).and_then(|files| {
            files.config()?;
            Ok(files)
        });
        let files = files.map_err(|source| Error::Repository {
            path: config.repo.clone(),
            source,
        })?;
        if files.may_write() {
            tracing::warn!(
                "this user may write to the repository, and need only read: run the server as \
                 another one"
            );
        }
        let site = config.page.map(|page| Site::open(&config.repo, page));
        let site = site.transpose().map_err(|source| Error::Page {
            path: config.repo.clone(),
            source: Box::new(source),
        })?;
        let site = site.map(Arc::new);
        let private = config
            .certificate
            .as_ref()
            .is_some_and(|files| files.client_ca.is_some());
        let certificates = config.certificate.map(Certificates::load).transpose()?;
        // Where tokio is built with signals, the first runtime of a process makes a pair of sockets
        // for all of them, which the sandbox does not let be made.
        let first = runtime::Builder::new_current_thread().enable_io().build();
        drop(first.map_err(Error::Runtime)?);
        let shared = Shared {
            files,
            pairs: Pairs::default(),
            at: config.at,
            readers: Readers::default(),
            metrics: Metrics::new(),
            log: config.log,
            answers: Arc::new(Semaphore::new(2 * config.connections_max)),
            answers_each: Shares::new(2 * config.connections_each_max),
            stopping: AtomicBool::new(false),
            private,
            site,
        };
        Ok(Self {
            shared: Arc::new(shared),
            certificates: certificates.map(Arc::new),
            connections: Arc::new(Semaphore::new(config.connections_max)),
            connections_each: Shares::new(config.connections_each_max),
        })
    }

    /// Serves until it is told to stop; the service manager hears of it. All threads are made here.
    pub fn run(
        self,
        sockets: Vec<(Role, Socket)>,
        orders: mpsc::UnboundedReceiver<Order>,
        notifier: &Notifier,
    ) -> Result<(), Error> {
        let runtime = runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("serve")
            .build()
            .map_err(Error::Runtime)?;
        let served = runtime.block_on(self.serve(sockets, orders, notifier));
        // What still reads from a disk that does not answer must not keep the process.
        runtime.shutdown_timeout(Duration::from_secs(1));
        served
    }

    async fn serve(
        self,
        sockets: Vec<(Role, Socket)>,
        mut orders: mpsc::UnboundedReceiver<Order>,
        notifier: &Notifier,
    ) -> Result<(), Error> {
        let (stop, stopped) = watch::channel(false);
        let tasks = TaskTracker::new();
        let places: Vec<_> = sockets.iter().map(|(_, s)| s.place.to_string()).collect();
        let this = Arc::new(self);
        for (role, socket) in sockets {
            let gate = Gate {
                shared: Arc::clone(&this.shared),
                // Those who watch over the server are told in plain text.
                certificates: this.certificates.clone().filter(|_| role == Role::Pullers),
                places: Arc::clone(&this.connections),
                each: Arc::clone(&this.connections_each),
                role,
                tasks: tasks.clone(),
                stopped: stopped.clone(),
            };
            match socket.listener {
                Listener::Tcp(listener) => {
                    let listener = TcpListener::from_std(listener).map_err(Error::Runtime)?;
                    tasks.spawn(gate.open(listener));
                }
                Listener::Unix(listener) => {
                    let listener = UnixListener::from_std(listener).map_err(Error::Runtime)?;
                    tasks.spawn(gate.open(listener));
                }
            }
        }
        let places = places.join(", ");
        tracing::info!("serving on {places}");
        notifier.tell(&format!("READY=1\nSTATUS=serving on {places}"));
        this.look_after(&mut orders, notifier).await;

        notifier.tell("STOPPING=1");
        tracing::info!("stopping: what is running is finished first");
        this.shared.stopping.store(true, Ordering::Relaxed);
        let _ = stop.send(true);
        tasks.close();
        tokio::select! {
            () = tasks.wait() => {}
            () = tokio::time::sleep(GRACE) => tracing::warn!("some answers took too long: cut off"),
            () = next_stop(&mut orders) => tracing::warn!("told twice: what is running is cut off"),
        }
        Ok(())
    }

    /// Waits to be told to stop, and does meanwhile what is to be done now and then.
    async fn look_after(&self, orders: &mut mpsc::UnboundedReceiver<Order>, notifier: &Notifier) {
        let mut looks = tokio::time::interval(RELOAD);
        let mut alive = tokio::time::interval(notifier.watchdog().unwrap_or(RELOAD));
        let mut print = self.certificates.as_ref().map(|files| files.print());
        loop {
            let told = tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Stop) | None => return,
                    Some(Order::Reload) => true,
                },
                _ = looks.tick() => false,
                _ = alive.tick() => {
                    if notifier.watchdog().is_some() {
                        notifier.tell("WATCHDOG=1");
                    }
                    continue;
                }
            };
            let Some(certificates) = &self.certificates else {
                continue;
            };
            let now = Some(certificates.print());
            if told || now != print {
                print = now;
                self.reload(certificates);
            }
        }
    }

    fn reload(&self, certificates: &Certificates) {
        let reloaded = certificates.reload();
        self.shared.metrics.certificate(reloaded.is_ok());
        match reloaded {
            Ok(()) => tracing::info!("the certificate was read again"),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                let source = error
                    .source()
                    .map_or(String::new(), |source| format!(": {source}"));
                tracing::error!("the certificate stays as it was: {error}{source}");
            }
        }
    }
}

/// Waits until the server is told to stop once more.
async fn next_stop(orders: &mut mpsc::UnboundedReceiver<Order>) {
    loop {
        match orders.recv().await {
            Some(Order::Stop) => return,
            Some(Order::Reload) => {}
            // Nobody is left who could say so.
            None => std::future::pending().await,
        }
    }
}

/// How often the files of the certificate are looked at.
const RELOAD: Duration = Duration::from_secs(5);
/// How long what is running may take once the server was told to stop.
const GRACE: Duration = Duration::from_secs(30);
