//! HTTP/2 requests whose pseudo-headers, names or order no puller would send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::support::Scene;

type Stream = StreamOwned<ClientConnection, TcpStream>;
type Fields<'a> = &'a [(&'a str, &'a str)];

/// An honest request, and its parts.
const HONEST: Fields<'_> = &[METHOD, SCHEME, AUTHORITY, PATH];
const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const AUTHORITY: (&str, &str) = (":authority", "localhost");
const PATH: (&str, &str) = (":path", "/artifacts/summary");

/// Each must get an error, or nothing but the end of its stream or connection.
const HOSTILE: &[Fields<'_>] = &[
    // Missing, doubled, empty, late or unknown pseudo-headers.
    &[],
    &[SCHEME, AUTHORITY, PATH],
    &[METHOD, AUTHORITY, PATH],
    &[METHOD, SCHEME, AUTHORITY],
    &[METHOD, METHOD, SCHEME, AUTHORITY, PATH],
    &[METHOD, SCHEME, SCHEME, AUTHORITY, PATH],
    &[METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH],
    &[METHOD, SCHEME, AUTHORITY, PATH, PATH],
    &[
        METHOD,
        SCHEME,
        AUTHORITY,
        PATH,
        (":path", "/artifacts/config"),
    ],
    &[METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH],
    &[("x", "y"), METHOD, SCHEME, AUTHORITY, PATH],
    &[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")],
    &[METHOD, SCHEME, AUTHORITY, PATH, (":unknown", "x")],
    &[METHOD, SCHEME, AUTHORITY, PATH, (":protocol", "websocket")],
    &[("", "GET"), SCHEME, AUTHORITY, PATH],
    &[(":", "GET"), SCHEME, AUTHORITY, PATH],
    &[(":METHOD", "GET"), SCHEME, AUTHORITY, PATH],
    // Methods.
    &[(":method", ""), SCHEME, AUTHORITY, PATH],
    &[(":method", "get"), SCHEME, AUTHORITY, PATH],
    &[(":method", "GET /x HTTP/1.1"), SCHEME, AUTHORITY, PATH],
    &[(":method", "GET\r\nX: y"), SCHEME, AUTHORITY, PATH],
    &[(":method", "POST"), SCHEME, AUTHORITY, PATH],
    &[(":method", "TRACE"), SCHEME, AUTHORITY, PATH],
    &[(":method", "CONNECT"), (":authority", "a:80")],
    &[(":method", "CONNECT"), SCHEME, AUTHORITY, PATH],
    &[(":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*")],
    // Schemes and hosts.
    &[METHOD, (":scheme", ""), AUTHORITY, PATH],
    &[METHOD, (":scheme", "file"), AUTHORITY, PATH],
    &[METHOD, (":scheme", "https://a/"), AUTHORITY, PATH],
    &[METHOD, SCHEME, (":authority", ""), PATH],
    &[METHOD, SCHEME, (":authority", "a/b"), PATH],
    &[METHOD, SCHEME, (":authority", "user@localhost"), PATH],
    &[METHOD, SCHEME, (":authority", "a b"), PATH],
    &[METHOD, SCHEME, (":authority", "a\r\nb"), PATH],
    &[METHOD, SCHEME, AUTHORITY, PATH, ("host", "other")],
    &[
        METHOD,
        SCHEME,
        AUTHORITY,
        PATH,
        ("host", "localhost"),
        ("host", "b"),
    ],
    // Paths.
    &[METHOD, SCHEME, AUTHORITY, (":path", "")],
    &[METHOD, SCHEME, AUTHORITY, (":path", "artifacts/summary")],
    &[METHOD, SCHEME, AUTHORITY, (":path", "*")],
    &[
        METHOD,
        SCHEME,
        AUTHORITY,
        (":path", "https://localhost/artifacts/summary"),
    ],
    &[
        METHOD,
        SCHEME,
        AUTHORITY,
        (":path", "//localhost/artifacts/summary"),
    ],
    &[
        METHOD,
        SCHEME,
        AUTHORITY,
        (":path", "/artifacts/../artifacts/summary"),
    ],
    &[METHOD, SCHEME, AUTHORITY, (":path", "/artifacts/summary\0")],
    &[
        METHOD,
        SCHEME,
        AUTHORITY,
        (":path", "/artifacts/summary HTTP/1.1\r\nHost: b"),
    ],
    &[METHOD, SCHEME, AUTHORITY, (":path", "/artifacts/%73ummary")],
    // Headers that HTTP/2 does not have, and names that it does not allow.
    &[METHOD, SCHEME, AUTHORITY, PATH, ("connection", "close")],
    &[
        METHOD,
        SCHEME,
        AUTHORITY,
        PATH,
        ("transfer-encoding", "chunked"),
    ],
    &[METHOD, SCHEME, AUTHORITY, PATH, ("keep-alive", "1")],
    &[
        METHOD,
        SCHEME,
        AUTHORITY,
        PATH,
        ("proxy-connection", "close"),
    ],
    &[METHOD, SCHEME, AUTHORITY, PATH, ("upgrade", "h2c")],
    &[METHOD, SCHEME, AUTHORITY, PATH, ("te", "gzip")],
    &[METHOD, SCHEME, AUTHORITY, PATH, ("content-length", "4")],
    &[METHOD, SCHEME, AUTHORITY, PATH, ("content-length", "-1")],
    &[METHOD, SCHEME, AUTHORITY, PATH, ("X-Upper", "y")],
    &[METHOD, SCHEME, AUTHORITY, PATH, ("x y", "z")],
    &[METHOD, SCHEME, AUTHORITY, PATH, ("x\r\ny", "z")],
    &[METHOD, SCHEME, AUTHORITY, PATH, ("x", "y\r\nz: a")],
    &[METHOD, SCHEME, AUTHORITY, PATH, ("x", "y\0")],
];

/// The server's answer to one request.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Status(u16),
    StreamReset,
    ConnectionEnded,
}

#[test]
fn hostile_pseudo_headers_and_names_get_errors_only() {
    let scene = Scene::start_tls();
    assert_eq!(ask(&scene, HONEST), Reply::Status(200));
    for fields in HOSTILE {
        let reply = ask(&scene, fields);
        let refused = !matches!(reply, Reply::Status(status) if status < 400);
        assert!(refused, "{fields:?}: {reply:?}");
    }
    assert_eq!(ask(&scene, HONEST), Reply::Status(200));
}

/// Sends a request as it is, on a connection of its own.
fn ask(scene: &Scene, fields: Fields<'_>) -> Reply {
    let mut stream = connect(scene);
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    // The server may have hung up on what it has seen so far.
    let _ = stream.write_all(&bytes);
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return Reply::ConnectionEnded;
        }
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        if stream.read_exact(&mut payload).is_err() {
            return Reply::ConnectionEnded;
        }
        match head[3] {
            HEADERS => return Reply::Status(status(&payload)),
            RST_STREAM => return Reply::StreamReset,
            GO_AWAY => return Reply::ConnectionEnded,
            _ => {}
        }
    }
}

fn connect(scene: &Scene) -> Stream {
    let mut roots = RootCertStore::empty();
    let certificate = scene.certificate();
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_file(certificate).unwrap())
        .unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, scene.connect())
}

/// A field that is neither indexed nor compressed (RFC 7541, 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        assert!(text.len() < 127);
        bytes.push(text.len() as u8);
        bytes.extend(text.as_bytes());
    }
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Returns the status of an answer: its first field, from the static table, or a literal whose name
/// is from there (RFC 7541, appendix A).
fn status(block: &[u8]) -> u16 {
    // A change of the table's size may come first.
    let block = &block[block
        .iter()
        .take_while(|byte| **byte & 0xe0 == 0x20)
        .count()..];
    match block {
        [indexed @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]
        }
        // The digits as they are, or in Huffman's code, in which "4" and "5" begin with 0x69..0x6d.
        [0x48 | 0x08, 3, digits @ ..] => {
            std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap()
        }
        [0x48 | 0x08, len, first, ..] if len & 0x80 != 0 => match first >> 2 {
            0b01_1010 => 400,
            0b01_1011 => 500,
            other => panic!("a status that begins with {other:#b}"),
        },
        other => panic!("no status: {other:x?}"),
    }
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
