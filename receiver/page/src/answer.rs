//! A page, ready to be sent.

use sha2::{Digest, Sha256};

use crate::policy;

/// An answer to a request: all a server needs to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// 200; 308 where the address lacked its final slash; or 404.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// Headers besides `Content-Type` and `Content-Length`, among them an `ETag` for a server to
    /// compare with the client's `If-None-Match`.
    pub headers: Vec<(&'static str, String)>,
    /// The body, complete.
    pub body: Vec<u8>,
}

impl Page {
    pub(crate) fn html(status: u16, body: String) -> Self {
        let body = body.into_bytes();
        let digest = Sha256::digest(&body);
        let tag: String = digest
            .iter()
            .take(12)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let headers = vec![
            ("ETag", format!("\"{tag}\"")),
            ("Cache-Control", "no-cache".to_owned()),
            ("Content-Security-Policy", policy::IN_HEADER.clone()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
            ("Referrer-Policy", "no-referrer".to_owned()),
        ];
        Self {
            status,
            content_type: "text/html; charset=utf-8",
            headers,
            body,
        }
    }

    pub(crate) fn moved(to: String) -> Self {
        Self {
            status: 308,
            content_type: "text/plain; charset=utf-8",
            headers: vec![("Location", to), ("Cache-Control", "no-cache".to_owned())],
            body: b"moved\n".to_vec(),
        }
    }
}
