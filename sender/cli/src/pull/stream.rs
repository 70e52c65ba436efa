//! The pull from a receiver, over ssh, and what it tells of the cache's files if that cannot be.

use std::time::Duration;

use artifact_protocol::{Text, exit};
use artifact_puller::{Error, Holds, Origin, Pull, Report};
use artifact_sender::{Error as SenderError, Remote};

use crate::address::Address;
use crate::args::Args;
use crate::config::Cache;
use crate::output::Output;
use crate::progress::PullProgress;
use crate::trouble::Trouble;
use crate::{origin, session};

/// What came of one session.
enum Talked {
    Pulled(Report),
    /// What seemed to be here has vanished.
    Missing,
    /// The server answers no pulls, and its files are here.
    NotServed(Option<Text>),
    Failed(Error),
}

/// How to go on.
pub(super) enum Came {
    /// It is done, and took so long.
    Pulled(Report, Duration),
    /// The files of the cache must do; they are here, unless nobody has asked yet.
    Files(Option<Origin>),
}

/// Pulls from a cache's receiver, if it has one that answers pulls, and returns how long that took.
pub(super) async fn pull(
    puller: &Pull,
    cache: &Cache,
    args: &Args,
    output: &Output,
) -> Result<Came, Trouble> {
    let remote = match &cache.address {
        Address::Receiver(remote @ Remote::Ssh(_)) => remote,
        Address::Receiver(Remote::Local(_)) | Address::Web(_) => {
            return Ok(Came::Files(None));
        }
    };
    let told = |error| Trouble::of_pull(&error, remote);
    if args.dialect().is_some() || !puller.can_be_streamed().map_err(told)? {
        return Ok(Came::Files(None));
    }
    for holds in [Holds::Something, Holds::Nothing] {
        let mut progress = PullProgress::new(output);
        let talked = session::run(remote, args, output, async |connection, dialect| {
            if dialect.is_some() {
                return Ok(Talked::NotServed(None));
            }
            let pulled = puller.over(connection, holds, |event| progress.show(event));
            match pulled.await {
                Ok(Some(report)) => Ok(Talked::Pulled(report)),
                Ok(None) => Ok(Talked::Missing),
                Err(Error::NotServed { pull_url }) => Ok(Talked::NotServed(pull_url)),
                Err(Error::Session(error)) => Err(SenderError::Session(error)),
                Err(error) => Ok(Talked::Failed(error)),
            }
        });
        let talked = talked.await;
        let took = progress.finish();
        match talked {
            Ok(Talked::Pulled(report)) => return Ok(Came::Pulled(report, took)),
            Ok(Talked::Missing) => {}
            Ok(Talked::NotServed(None)) => return Ok(Came::Files(None)),
            Ok(Talked::NotServed(Some(url))) => {
                let origin = origin::announced(remote, Some(&url), cache, args)?;
                return Ok(Came::Files(Some(origin)));
            }
            Ok(Talked::Failed(error)) => return in_files(told(error), cache, args, output).await,
            Err(trouble) => return in_files(trouble, cache, args, output).await,
        }
    }
    // The files do not depend on what is here.
    Ok(Came::Files(None))
}

/// Decides whether the files of the cache's web server may do instead: they tell which ref is at
/// fault, and servers of old versions have nothing else.
async fn in_files(
    trouble: Trouble,
    cache: &Cache,
    args: &Args,
    output: &Output,
) -> Result<Came, Trouble> {
    if trouble.may_pass || [exit::CONNECTION, exit::SOURCE].contains(&trouble.code) {
        return Err(trouble);
    }
    match origin::of(cache, args, output).await {
        Ok(origin) => Ok(Came::Files(Some(origin))),
        Err(_) => Err(trouble),
    }
}
