//! What both kinds of session say and check in their greeting.

use super::error::{Error, Fault, Violation};
use crate::frame::{CloseCode, Extensions, Hello, Welcome};
use crate::limits::Limits;
use crate::text::Text;
use crate::version::{Features, Version};

/// The configuration of a receiver session.
#[derive(Clone, Debug, Default)]
pub struct ReceiverConfig {
    /// Program and version.
    pub agent: Text,
    /// The address to pull from.
    pub pull_url: Option<Text>,
    /// The client's identity.
    pub identity: Option<Text>,
    /// The client's rights, a line for each; `None` if they are not announced.
    pub rights: Option<String>,
    /// Set for a client without any right: the reason to close the session after `Welcome`.
    pub turns_away: Option<Text>,
    /// Whether clients may pull as well. Then the driver calls
    /// [`take_pull`](super::ReceiverSession::take_pull).
    pub serves_pulls: bool,
    /// The limits that the client must keep.
    pub limits: Limits,
}

impl ReceiverConfig {
    /// Ends the session of a client without any right.
    pub(crate) fn admit(&self) -> Result<(), Error> {
        match self.refusal() {
            Some(fault) => Err(Error::Fault(fault)),
            None => Ok(()),
        }
    }

    /// Returns why the client is turned away, if so.
    pub(crate) fn refusal(&self) -> Option<Fault> {
        let text = self.turns_away.as_ref()?;
        Some(Fault {
            code: CloseCode::NOT_PERMITTED,
            text: text.as_raw().to_owned(),
        })
    }
}

/// Returns the answer to `Hello`; `served` are the features that the server has.
pub(crate) fn greet(
    hello: &Hello,
    config: &ReceiverConfig,
    served: Features,
) -> Result<Welcome, Violation> {
    let Hello {
        version_min,
        version_max,
        features,
        ..
    } = *hello;
    let Some(version) = Version::negotiate(version_min, version_max) else {
        // REQ-8: the text begins with numbers for programs.
        return Err(Violation::Unsupported(format!(
            "versions {} {}: this server speaks no others, and the client speaks {version_min} \
             to {version_max}",
            Version::OLDEST,
            Version::NEWEST
        )));
    };
    let mut extensions = Extensions::default();
    if let Some(rights) = &config.rights {
        extensions.set(Welcome::RIGHTS, rights.clone().into_bytes());
    }
    Ok(Welcome {
        version,
        features: features.common(served),
        limits: config.limits,
        agent: config.agent.clone(),
        pull_url: config.pull_url.clone(),
        identity: config.identity.clone(),
        extensions,
    })
}

/// Checks that a client can work with what the server says.
pub(crate) fn check_welcome(welcome: &Welcome) -> Result<(), Violation> {
    let Welcome {
        version, limits, ..
    } = welcome;
    // REQ-9, LIM-2, LIM-3.
    if *version < Version::OLDEST || *version > Version::NEWEST {
        return Err(Violation::Unsupported(format!(
            "the server chose version {version}, which this client did not offer"
        )));
    }
    if !limits.is_acceptable() {
        return Err(Violation::Unsupported(format!(
            "the server's limit of {} bytes a frame",
            limits.frame_len_max
        )));
    }
    Ok(())
}
