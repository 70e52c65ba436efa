//! A read-only web server for `ostree pull` in tests. Not for production.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::exec::Failure;

/// Serves the files below a directory on a port of 127.0.0.1, until it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Starts serving `root`, which need not exist yet.
    pub fn start(root: &Path) -> Result<Self, Failure> {
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).map_err(Failure::doing("listen for http"))?;
        let address = listener
            .local_addr()
            .map_err(Failure::doing("find the port of the web server"))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (root, stop) = (root.to_owned(), Arc::clone(&stopping));
        let listener = thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let root = root.clone();
                // A client that goes away in the middle is not the server's concern.
                thread::spawn(move || serve(&connection, &root));
            }
        });
        Ok(Self {
            address,
            stopping,
            listener: Some(listener),
        })
    }

    /// Returns the address of the root, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        let woken = TcpStream::connect(self.address).is_ok();
        if let (true, Some(listener)) = (woken, self.listener.take()) {
            let _ = listener.join();
        }
    }
}

/// Answers the requests of one connection in turn.
fn serve(connection: &TcpStream, root: &Path) -> io::Result<()> {
    connection.set_read_timeout(Some(IDLE_TIMEOUT))?;
    connection.set_nodelay(true)?;
    let mut lines = BufReader::new(connection).lines();
    while let Some(request) = lines.next().transpose()? {
        let mut close = request.ends_with("HTTP/1.0");
        for header in lines.by_ref() {
            let header = header?;
            if header.is_empty() {
                break;
            }
            close |= header.eq_ignore_ascii_case("connection: close");
        }
        answer(connection, root, &request)?;
        if close {
            break;
        }
    }
    connection.shutdown(Shutdown::Both)
}

fn answer(mut connection: &TcpStream, root: &Path, request: &str) -> io::Result<()> {
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if method != "GET" && method != "HEAD" {
        return connection
            .write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n");
    }
    let file = inside(root, target).and_then(|path| File::open(path).ok());
    let (Some(file), Some(metadata)) = (&file, file.as_ref().and_then(|f| f.metadata().ok()))
    else {
        return connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    };
    if !metadata.is_file() {
        return connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    let len = metadata.len();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n"
    )?;
    if method == "GET" {
        io::copy(&mut io::Read::take(file, len), &mut connection)?;
    }
    Ok(())
}

/// Returns the path that a request names, unless it leads out of the root.
fn inside(root: &Path, target: &str) -> Option<PathBuf> {
    let relative = Path::new(target.split('?').next()?.strip_prefix('/')?);
    relative
        .components()
        .all(|component| matches!(component, Component::Normal(_)))
        .then(|| root.join(relative))
}

const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn talk(server: &HttpServer, requests: &str) -> String {
        let mut connection = TcpStream::connect(server.address).unwrap();
        connection.write_all(requests.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn one_connection_gets_files_lengths_and_refusals_but_nothing_outside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::write(dir.path().join("root/file"), "content").unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        let server = HttpServer::start(&dir.path().join("root")).unwrap();
        let answer = talk(
            &server,
            "GET /file?x HTTP/1.1\r\nHost: a\r\n\r\nHEAD /file HTTP/1.1\r\n\r\n\
             GET /none HTTP/1.1\r\n\r\nGET /../secret HTTP/1.1\r\n\r\nGET //etc/passwd \
             HTTP/1.1\r\n\r\n\
             GET / HTTP/1.1\r\n\r\nPUT /file HTTP/1.1\r\nConnection: close\r\n\r\n",
        );
        let status: Vec<&str> = answer
            .lines()
            .filter_map(|line| line.split_once("HTTP/1.1 ")?.1.split(' ').next())
            .collect();
        assert_eq!(status, ["200", "200", "404", "404", "404", "404", "405"]);
        assert_eq!(answer.matches("content").count(), 1);
        assert_eq!(answer.matches("Content-Length: 7").count(), 2);
        assert!(!answer.contains("secret"));
    }
}
