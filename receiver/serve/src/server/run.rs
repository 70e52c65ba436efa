//! A running server: its sockets, its periodic work, and its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::answer::Role;
use crate::connections::{Certificates, Gate, Listener, Socket};
use crate::error::Error;
use crate::report::Notifier;
use crate::server::open::Server;

/// An order to a running server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Read the certificate again, changed or not.
    Reload,
    /// Finish running answers, then end. A second order ends at once.
    Stop,
}

impl Server {
    /// Serves until it is ordered to stop, and keeps the service manager informed. All threads are
    /// made here.
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
        // A thread that reads from a disk that does not answer must not keep the process alive.
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
                // Monitoring uses plain text.
                certificates: this.certificates.clone().filter(|_| role == Role::Pullers),
                places: match role {
                    Role::Pullers => Arc::clone(&this.connections),
                    Role::Metrics => Arc::new(Semaphore::new(MONITORS_MAX)),
                },
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

    /// Waits for the order to stop, and does periodic work meanwhile.
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

/// Waits for a second order to stop.
async fn next_stop(orders: &mut mpsc::UnboundedReceiver<Order>) {
    loop {
        match orders.recv().await {
            Some(Order::Stop) => return,
            Some(Order::Reload) => {}
            // No sender of orders is left.
            None => std::future::pending().await,
        }
    }
}

/// How often the files of the certificate are checked.
const RELOAD: Duration = Duration::from_secs(5);
/// How long running answers may take after the order to stop.
const GRACE: Duration = Duration::from_secs(30);
/// The most connections of monitoring to each socket, beside those of pullers.
const MONITORS_MAX: usize = 64;
