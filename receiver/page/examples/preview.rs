//! Shows the pages of a repository on this machine, to those who develop them:
//!
//!    cargo run -p artifact-page --example preview -- REPO [AUDIT [PORT]]
//!
//! It answers one request at a time, and prints how long each took. It is no server.
#![expect(clippy::print_stderr, reason = "what it says is all there is to it")]

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use artifact_page::{Options, Site};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let repo = args.next().ok_or("usage: preview REPO [AUDIT [PORT]]")?;
    let audit = args.next().map(Into::into);
    let port = args.next().unwrap_or("8000".to_owned()).parse()?;
    let begun = Instant::now();
    let options = Options {
        audit,
        at: "/artifacts".to_owned(),
        ..Options::default()
    };
    let site = Site::open(Path::new(&repo), options)?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    eprintln!("read in {:?}; http://127.0.0.1:{port}/", begun.elapsed());
    for connection in listener.incoming().flatten() {
        // A browser that disconnects does not end the program.
        let _ = answer(&connection, &site);
    }
    Ok(())
}

fn answer(mut connection: &TcpStream, site: &Site) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut host = String::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("host:") {
            host = value.trim().to_owned();
        }
    }
    let target = request.split(' ').nth(1).unwrap_or("/");
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let begun = Instant::now();
    let page = site.answer(path, query, &host);
    let page = page.unwrap_or_else(|| site.not_found(path, &host));
    eprintln!(
        "{} {:?} {target:?} {}",
        page.status,
        begun.elapsed(),
        page.body.len()
    );
    write!(
        connection,
        "HTTP/1.1 {} -\r\nConnection: close\r\n",
        page.status
    )?;
    write!(
        connection,
        "Content-Type: {}\r\nContent-Length: {}\r\n",
        page.content_type,
        page.body.len()
    )?;
    for (name, value) in &page.headers {
        write!(connection, "{name}: {value}\r\n")?;
    }
    connection.write_all(b"\r\n")?;
    connection.write_all(&page.body)
}
