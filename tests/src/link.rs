//! A link with a round-trip time, which counts its bytes: a TCP proxy on 127.0.0.1.
//!
//! It delays but does not throttle: any number of bytes leaves half a round trip after it came in.
//! The window of the protocol above it bounds the bytes under way, as with ssh on a real long link.
//! It simulates neither lost packets nor the slow start of TCP.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::exec::Failure;

/// A proxy in front of one port of 127.0.0.1; it accepts no new connections once it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    round_trip: Duration,
    stopping: AtomicBool,
    up: AtomicU64,
    down: AtomicU64,
}

impl Link {
    /// Starts a proxy to `port` that takes half of `round_trip` each way.
    pub fn start(port: u16, round_trip: Duration) -> Result<Self, Failure> {
        let starting = || Failure::doing("start a link");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(starting())?;
        let address = listener.local_addr().map_err(starting())?;
        let shared = Arc::new(Shared {
            target: SocketAddr::from(([127, 0, 0, 1], port)),
            round_trip,
            stopping: AtomicBool::new(false),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        });
        let of_listener = Arc::clone(&shared);
        let listener = thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if of_listener.stopping.load(Ordering::Acquire) {
                    break;
                }
                let shared = Arc::clone(&of_listener);
                // As on any network, an end notices by itself that the other is gone.
                thread::spawn(move || carry(&connection, &shared));
            }
        });
        Ok(Self {
            address,
            shared,
            listener: Some(listener),
        })
    }

    /// Returns the port to connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns how many bytes it has carried so far: from clients to the server, and back.
    pub fn carried(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Acquire);
        (read(&self.shared.up), read(&self.shared.down))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        let woken = TcpStream::connect(self.address).is_ok();
        if let (true, Some(listener)) = (woken, self.listener.take()) {
            let _ = listener.join();
        }
    }
}

/// Carries one connection to its end.
fn carry(client: &TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    // The packets with which TCP connects: a client may write after one round trip.
    thread::sleep(shared.round_trip);
    let server = TcpStream::connect(shared.target)?;
    for end in [client, &server] {
        end.set_nodelay(true)?;
    }
    let down = pump(&server, client, shared, |shared| &shared.down)?;
    let up = pump(client, &server, shared, |shared| &shared.up)?;
    for thread in down.into_iter().chain(up) {
        let _ = thread.join();
    }
    Ok(())
}

/// Carries one direction with two threads: one reads bytes as they come, the other writes them when
/// they are due.
fn pump(
    from: &TcpStream,
    to: &TcpStream,
    shared: &Arc<Shared>,
    count: fn(&Shared) -> &AtomicU64,
) -> io::Result<[JoinHandle<()>; 2]> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    let (under_way, arriving) = channel::<(Instant, Vec<u8>)>();
    let shared = Arc::clone(shared);
    let take_in = thread::spawn(move || {
        loop {
            let mut bytes = vec![0; CHUNK_LEN];
            // A connection that was reset has ended as well.
            let len = from.read(&mut bytes).unwrap_or(0);
            bytes.truncate(len);
            bytes.shrink_to_fit();
            count(&shared).fetch_add(len as u64, Ordering::AcqRel);
            let due = Instant::now() + shared.round_trip / 2;
            if under_way.send((due, bytes)).is_err() || len == 0 {
                break;
            }
        }
    });
    let give_out = thread::spawn(move || {
        for (due, bytes) in arriving {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    Ok([take_in, give_out])
}

const CHUNK_LEN: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Echoes each connection's bytes, once it has ended.
    fn echo() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let mut bytes = Vec::new();
                connection.read_to_end(&mut bytes).unwrap();
                connection.write_all(&bytes).unwrap();
            }
        });
        port
    }

    fn talk(link: &Link, bytes: &[u8]) -> (Vec<u8>, Duration) {
        let mut connection = TcpStream::connect(("127.0.0.1", link.port())).unwrap();
        let begun = Instant::now();
        connection.write_all(bytes).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        (answer, begun.elapsed())
    }

    #[test]
    fn every_byte_arrives_and_is_counted() {
        let link = Link::start(echo(), Duration::ZERO).unwrap();
        let bytes = artifact_models::random::Random(1).bytes(5_000_000);
        assert!(talk(&link, &bytes).0 == bytes);
        assert_eq!(link.carried(), (5_000_000, 5_000_000));
        talk(&link, b"more");
        assert_eq!(link.carried(), (5_000_004, 5_000_004));
    }

    #[test]
    fn connecting_and_an_answer_take_a_round_trip_each_and_more_bytes_take_no_longer() {
        let round_trip = Duration::from_millis(100);
        let link = Link::start(echo(), round_trip).unwrap();
        for len in [1, 3_000_000] {
            let (answer, took) = talk(&link, &vec![7; len]);
            assert_eq!(answer.len(), len);
            assert!(took >= 2 * round_trip, "{took:?}");
            // A throttled link would need many round trips for the second.
            assert!(took < 20 * round_trip, "{took:?}");
        }
    }
}
