//! OpenPGP signatures, which libostree calls `gpg-verify`, checked by `gpgv` in a child process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use artifact_formats::gpg_signatures;
use artifact_sender::escape;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::reason::Reason;
use super::system::SystemKeys;

/// Trusted OpenPGP keys. A signature by any of them is good, unless it or the key has expired, or
/// the key is revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpgKeys(Vec<PathBuf>);

impl GpgKeys {
    /// Trusts the keys in a file: a keyring, or exported keys, in binary form or in ASCII armour.
    pub fn add_file(&mut self, path: impl Into<PathBuf>) {
        self.0.push(path.into());
    }

    /// Trusts the keys in all files of a directory.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn add_dir(&mut self, dir: &Path) -> Result<(), Reason> {
        self.add_those(dir, |_| true)
    }

    /// Trusts the keyrings that this machine trusts for every remote, if it has any.
    pub(super) fn add_system(&mut self, system: &SystemKeys) -> Result<(), Reason> {
        if !system.gpg.is_dir() {
            return Ok(());
        }
        let no_keyrings = ["trustdb.gpg", "secring.gpg"];
        self.add_those(&system.gpg, |name| {
            name.ends_with(".gpg") && !no_keyrings.contains(&name)
        })
    }

    fn add_those(&mut self, dir: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<(), Reason> {
        let entries = fs::read_dir(dir).map_err(bad_keys(dir))?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(bad_keys(dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if is_wanted(&name) && path.is_file() {
                found.push(path);
            }
        }
        found.sort();
        self.0.append(&mut found);
        Ok(())
    }

    /// Checks that one of the signatures is good.
    pub(super) async fn check(&self, content: &[u8], signatures: &[u8]) -> Result<(), Reason> {
        if self.0.is_empty() {
            return Err(Reason::NoKeys {
                kind: KIND,
                advice: "import one with `ostree remote gpg-import REMOTE`, or set gpgkeypath of \
                         the remote",
            });
        }
        let signatures = gpg_signatures(signatures).map_err(|_| Reason::Malformed)?;
        if signatures.is_empty() {
            return Err(Reason::Unsigned { kind: KIND });
        }
        let place = Place::prepare(&self.0, content)?;
        let mut details = Vec::new();
        for signature in signatures.iter().take(SIGNATURES_MAX) {
            match place.check(signature).await? {
                Ok(()) => return Ok(()),
                Err(detail) => details.push(detail),
            }
        }
        Err(Reason::NoneGood {
            kind: KIND,
            details: details.join("; "),
        })
    }
}

/// A directory with what `gpgv` reads.
struct Place {
    dir: tempfile::TempDir,
    keyrings: Vec<PathBuf>,
}

impl Place {
    fn prepare(keys: &[PathBuf], content: &[u8]) -> Result<Self, Reason> {
        let dir = tempfile::tempdir().map_err(|error| Reason::Gpgv(error.to_string()))?;
        let mut keyrings = Vec::new();
        for (index, path) in keys.iter().enumerate() {
            let keys = fs::read(path).map_err(bad_keys(path))?;
            let keyring = dir.path().join(format!("{index}.gpg"));
            let keys = match is_armoured(&keys) {
                true => unarmour(&keys).ok_or_else(|| Reason::BadKeys {
                    path: path.clone(),
                    why: "its ASCII armour is damaged".to_owned(),
                })?,
                false => keys,
            };
            fs::write(&keyring, keys).map_err(bad_keys(&keyring))?;
            keyrings.push(keyring);
        }
        let signed = dir.path().join(SIGNED);
        fs::write(&signed, content).map_err(bad_keys(&signed))?;
        Ok(Self { dir, keyrings })
    }

    /// Checks one signature; the inner error says what is wrong with it.
    async fn check(&self, signature: &[u8]) -> Result<Result<(), String>, Reason> {
        let dir = self.dir.path();
        let file = dir.join("signature");
        fs::write(&file, signature).map_err(bad_keys(&file))?;
        let mut command = Command::new("gpgv");
        command
            .arg("--status-fd")
            .arg("1")
            .arg("--homedir")
            .arg(dir);
        for keyring in &self.keyrings {
            command.arg("--keyring").arg(keyring);
        }
        command.arg("--").arg(&file).arg(dir.join(SIGNED));
        command.env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let said = tokio::time::timeout(PATIENCE, run(command)).await;
        match said {
            Ok(Ok(said)) => Ok(judge(&said)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(Reason::Gpgv(
                "it is not installed (Debian: apt-get install gpgv)".to_owned(),
            )),
            Ok(Err(error)) => Err(Reason::Gpgv(error.to_string())),
            Err(_) => Err(Reason::Gpgv("it does not end".to_owned())),
        }
    }
}

/// Runs a program, and returns the beginning of what it prints. The status lines say everything, so
/// the exit code does not matter: it is about all signatures of a blob together.
async fn run(mut command: Command) -> io::Result<String> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        read_some(stdout, &mut said).await?;
    }
    // Whatever it still wants to say, nobody listens.
    child.wait().await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

async fn read_some(from: impl AsyncRead + Unpin, said: &mut Vec<u8>) -> io::Result<()> {
    from.take(SAID_LEN_MAX).read_to_end(said).await.map(drop)
}

/// Reads the status lines of `gpgv` (GnuPG's doc/DETAILS). `GOODSIG` says that the signature is
/// good and neither it nor its key has expired or is revoked; `VALIDSIG` follows every signature
/// that is right as such.
fn judge(said: &str) -> Result<(), String> {
    let (mut is_good, mut problem) = (false, None);
    for line in said.lines() {
        let Some(status) = line.strip_prefix("[GNUPG:] ") else {
            continue;
        };
        let mut words = status.split(' ');
        let (word, key) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let bad = |what: &str| Some(format!("key {}: {what}", escape(key)));
        match word {
            "NEWSIG" => is_good = false,
            "GOODSIG" => is_good = true,
            "VALIDSIG" if is_good => return Ok(()),
            "BADSIG" => problem = bad("the signature is of something else"),
            "EXPSIG" => problem = bad("the signature has expired"),
            "EXPKEYSIG" => problem = bad("the key has expired"),
            "REVKEYSIG" => problem = bad("the key is revoked"),
            "NO_PUBKEY" => problem = bad("the key is not trusted"),
            "ERRSIG" if problem.is_none() => problem = bad("the signature cannot be checked"),
            _ => {}
        }
    }
    Err(problem.unwrap_or_else(|| "gpgv finds no signature in it".to_owned()))
}

fn is_armoured(keys: &[u8]) -> bool {
    keys.trim_ascii_start().starts_with(BEGIN.as_bytes())
}

/// Decodes one or more blocks of ASCII armour (RFC 9580, section 6.2).
fn unarmour(keys: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(keys).ok()?;
    let mut binary = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with(BEGIN) {
            continue;
        }
        // Headers end at an empty line.
        lines.by_ref().find(|line| line.trim().is_empty())?;
        let block = lines
            .by_ref()
            .take_while(|line| !line.starts_with("-----END"));
        // The line with the check sum begins with a `=`, as no other does.
        let base64: String = block
            .map(str::trim)
            .filter(|l| !l.starts_with('='))
            .collect();
        binary.extend(STANDARD.decode(base64).ok()?);
    }
    Some(binary)
}

fn bad_keys(path: &Path) -> impl FnOnce(io::Error) -> Reason {
    let path = path.to_owned();
    move |error| Reason::BadKeys {
        path,
        why: error.to_string(),
    }
}

const KIND: &str = "OpenPGP";
const BEGIN: &str = "-----BEGIN PGP";
const SIGNED: &str = "signed";
/// Each takes a child process.
const SIGNATURES_MAX: usize = 16;
const SAID_LEN_MAX: u64 = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_signature_by_a_good_key_counts() {
        let good = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 0A me\n[GNUPG:] VALIDSIG 0A\n";
        assert_eq!(judge(good), Ok(()));
        for (status, says) in [
            ("EXPSIG", "signature has expired"),
            ("EXPKEYSIG", "key has expired"),
            ("REVKEYSIG", "revoked"),
            ("BADSIG", "something else"),
        ] {
            let said = format!("[GNUPG:] NEWSIG\n[GNUPG:] {status} 0A me\n[GNUPG:] VALIDSIG 0A\n");
            let problem = judge(&said).unwrap_err();
            assert!(problem.contains(says), "{problem}");
            // The next one in the same blob is good.
            assert_eq!(judge(&format!("{said}{good}")), Ok(()));
        }
        for said in [
            "",
            "[GNUPG:] VALIDSIG 0A\n",
            "[GNUPG:] GOODSIG 0A me\n",
            "gpgv: [GNUPG:] GOODSIG 0A\ngpgv: [GNUPG:] VALIDSIG 0A\n",
            "[GNUPG:] GOODSIG 0A\n[GNUPG:] NEWSIG\n[GNUPG:] VALIDSIG 0B\n",
        ] {
            assert!(judge(said).is_err(), "{said}");
        }
    }

    #[test]
    fn armour_is_taken_off_every_block() {
        let text = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: x\n\nYWJj\nZGVm\n=AbCd\n\
                    -----END PGP PUBLIC KEY BLOCK-----\nnoise\n\
                    -----BEGIN PGP PUBLIC KEY BLOCK-----\n\nZ2hp\n-----END PGP-----\n";
        assert!(is_armoured(text.as_bytes()));
        assert_eq!(unarmour(text.as_bytes()).unwrap(), b"abcdefghi");
        assert!(unarmour(b"-----BEGIN PGP X-----\n\n!!!\n").is_none());
        assert!(unarmour(b"-----BEGIN PGP X-----\nno end").is_none());
        assert!(!is_armoured(b"\x99\x01"));
    }
}
