//! Pulls commits of a shared artifact cache into a local OSTree repository.
//!
//! A [`Pull`] says which refs to take; [`Pull::from`] takes them from an [`Origin`]: any web server
//! that serves an OSTree repository, or a repository on this machine. Progress arrives as
//! [`Event`]s, and the result is a [`Report`].
//!
//! ```no_run
//! use artifact_puller::{Local, Origin, Outcome, Pull, WebOptions};
//!
//! # async fn share() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "https://cache.example.com/artifacts".parse()?;
//! let origin = Origin::web(url, &WebOptions::default())?;
//! let pull = Pull::new(Local::open("/home/me/repo")?).reference("project/element/key".parse()?);
//!
//! let report = pull.from(&origin, |event| println!("{event:?}")).await?;
//! for pulled in &report.refs {
//!     match &pulled.outcome {
//!         Outcome::Pulled | Outcome::Unchanged => println!("{} is here", pulled.name),
//!         other => println!("{}: {other:?}", pulled.name),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Every object is verified before it has a name in the repository, and a ref moves once everything
//! that it reaches is on the disk: what arrives decides, not who sent it. A pull that is cut off
//! leaves all refs as they were; the next one fetches the rest. Signatures that the repository's
//! configuration demands of a remote with the origin's address are checked, or the ref is not set.
//!
//! The library prints nothing, reads no configuration but the repository's own, and has no global
//! state; it needs a tokio runtime with time and I/O enabled. `gpgv` runs as a child where OpenPGP
//! signatures are demanded.

mod bindings;
mod cpus;
mod error;
mod local;
mod loose;
mod moves;
mod origin;
mod over;
mod pull;
mod report;
mod streamed;
mod verify;
mod web;
mod window;

// The public interface is:

pub use error::{Error, Fault};
pub use local::Local;
pub use origin::Origin;
pub use over::Holds;
pub use pull::Pull;
pub use report::{Event, Outcome, PulledRef, Refusal, Report};
pub use verify::{Demands, Ed25519Keys, GpgKeys, Reason, SystemKeys, Unverified};
pub use web::{Cause, CertificateError, WebError, WebIdentity, WebOptions, WebUrl};
