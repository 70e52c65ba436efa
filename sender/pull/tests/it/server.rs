//! A web server that does what it is told, bad or good, over HTTP/1.1.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a server does when it is asked for a file.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Sends it.
    File(Vec<u8>),
    /// Sends these bytes as they are, and closes the connection.
    Raw(Vec<u8>),
    /// Sends these bytes, and then the second ones for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// Sends these bytes, and then nothing, with an open connection.
    Silent(Vec<u8>),
    /// Does the first when it is asked for the first time, and later the second.
    Then(Box<Self>, Box<Self>),
}

/// A running server.
pub(crate) struct Server {
    port: u16,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Answer {
    pub(crate) fn status(status: &str) -> Self {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        Self::Raw(head.into_bytes())
    }

    pub(crate) fn redirect(to: &str) -> Self {
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        Self::Raw(head.into_bytes())
    }
}

impl Server {
    /// Serves files, some of them in a special way.
    pub(crate) async fn start(
        files: BTreeMap<String, Vec<u8>>,
        special: BTreeMap<String, Answer>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(BTreeMap::new()));
        let (files, special) = (Arc::new(files), Arc::new(special));
        let task = tokio::spawn({
            let asked = Arc::clone(&asked);
            async move {
                while let Ok((connection, _)) = listener.accept().await {
                    let (files, special) = (Arc::clone(&files), Arc::clone(&special));
                    let asked = Arc::clone(&asked);
                    tokio::spawn(async move {
                        // A client that goes away is not the server's concern.
                        let _ = serve(connection, &files, &special, &asked).await;
                    });
                }
            }
        });
        Self { port, asked, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/cache", self.port)
    }

    /// Returns how often each path was asked for.
    pub(crate) fn asked(&self) -> BTreeMap<String, usize> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    connection: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    special: &BTreeMap<String, Answer>,
    asked: &Mutex<BTreeMap<String, usize>>,
) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let mut request = String::new();
        if connection.read_line(&mut request).await? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while connection.read_line(&mut line).await? > 2 {
            line.clear();
        }
        let mut words = request.split(' ');
        let method = words.next().unwrap_or_default();
        let path = words.next().unwrap_or_default();
        let path = path.strip_prefix("/cache/").unwrap_or(path).to_owned();
        let times = {
            let mut asked = asked.lock().unwrap();
            let times = asked.entry(path.clone()).or_default();
            *times += 1;
            *times
        };
        let mut answer = match (special.get(&path), files.get(&path)) {
            (Some(answer), _) => answer.clone(),
            (None, Some(content)) => Answer::File(content.clone()),
            (None, None) => {
                let absent = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                connection.write_all(absent).await?;
                continue;
            }
        };
        if let Answer::Then(first, later) = answer {
            answer = if times == 1 { *first } else { *later };
        }
        match answer {
            Answer::File(content) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    content.len()
                );
                connection.write_all(head.as_bytes()).await?;
                if method == "GET" {
                    connection.write_all(&content).await?;
                }
                connection.flush().await?;
            }
            Answer::Raw(bytes) => {
                connection.write_all(&bytes).await?;
                connection.flush().await?;
                return connection.shutdown().await;
            }
            Answer::Endless(bytes, more) => {
                connection.write_all(&bytes).await?;
                loop {
                    connection.write_all(&more).await?;
                }
            }
            Answer::Silent(bytes) => {
                connection.write_all(&bytes).await?;
                connection.flush().await?;
                tokio::time::sleep(Duration::from_secs(60)).await;
                return Ok(());
            }
            Answer::Then(..) => unreachable!("they are not nested"),
        }
        // Whatever else came along belongs to the next request.
        let _ = connection.read(&mut []).await?;
    }
}
