//! The policy of a page: it may use its one style and its one script, known by their hashes, and
//! nothing else.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The style of all pages.
pub(crate) const STYLE: &str = include_str!("../assets/style.css");
/// The script of all pages: it copies text, filters files, and opens the target of a link.
pub(crate) const SCRIPT: &str = include_str!("../assets/script.js");
/// The icon, as a data URL.
pub(crate) static ICON: LazyLock<String> = LazyLock::new(|| {
    let icon = STANDARD.encode(include_str!("../assets/icon.svg"));
    format!("data:image/svg+xml;base64,{icon}")
});

/// The part of the policy that a page itself can state.
pub(crate) static IN_PAGE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; img-src data:; \
         form-action 'self'; base-uri 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// The whole policy, which only a server can state.
pub(crate) static IN_HEADER: LazyLock<String> =
    LazyLock::new(|| format!("{}; frame-ancestors 'none'", *IN_PAGE));

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}
