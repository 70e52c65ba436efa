//! Aliases: symbolic links among the refs, by which one ref stands for another.
//!
//! Followed here, by their text and only below `refs`, as the kernel would follow them for
//! libostree; no operation of [`Fs`] follows them. Only `ostree refs --alias` and people create
//! aliases.

use std::collections::HashMap;
use std::io;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{FileKind, Fs, if_there, list_dir};
use crate::local::repository::refs::is_fragment;

/// A symbolic link among the refs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    pub(crate) path: RepoPath,
    /// The target and the links on the way, or the reason why it leads nowhere.
    pub(crate) way: Result<Way, Lost>,
}

/// The way from a link to its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The file at the end.
    pub(crate) file: RepoPath,
    /// The links on the way, including the first.
    pub(crate) links: Vec<RepoPath>,
}

/// The reason why a link leads to no ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    Nothing,
    Circle,
    Outside,
    NoFile,
}

impl Lost {
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::Nothing => "is an alias that leads to nothing",
            Self::Circle => "is an alias that leads in a circle",
            Self::Outside => "is an alias that leads out of the refs",
            Self::NoFile => "is an alias of something that is not a ref",
        }
    }
}

/// Lists all aliases, including those in mirrors and remotes.
pub(crate) fn list<F: Fs>(fs: &F) -> Result<Vec<Alias>, Error> {
    let mut found = Vec::new();
    let mut dirs = vec![RepoPath::refs()];
    while let Some(dir) = dirs.pop() {
        for (name, kind) in list_dir(fs, &dir)? {
            let path = dir.child(&name);
            match kind {
                FileKind::Dir => dirs.push(path),
                FileKind::Symlink if is_fragment(&name) => {
                    let way = follow(fs, &path)?;
                    found.push(Alias { path, way });
                }
                FileKind::Symlink | FileKind::File | FileKind::Other => {}
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Returns the targets of aliases, direct and indirect, each with one of its aliases.
pub(crate) fn targets(aliases: &[Alias]) -> HashMap<&RepoPath, &RepoPath> {
    let mut targets = HashMap::new();
    for alias in aliases {
        if let Ok(way) = &alias.way {
            let passed = way.links.iter().filter(|link| **link != alias.path);
            targets.extend(passed.chain([&way.file]).map(|path| (path, &alias.path)));
        }
    }
    targets
}

/// Follows a path through all symbolic links in it.
pub(crate) fn follow<F: Fs>(fs: &F, path: &RepoPath) -> Result<Result<Way, Lost>, Error> {
    let components =
        |text: &str| -> Vec<String> { text.split('/').rev().map(str::to_owned).collect() };
    let mut at = RepoPath::root();
    let mut left = components(path.as_str());
    let mut links = Vec::new();
    while let Some(component) = left.pop() {
        match component.as_str() {
            "" | "." => continue,
            ".." if at == RepoPath::root() => return Ok(Err(Lost::Outside)),
            ".." => {
                at = at.parent();
                continue;
            }
            _ => {}
        }
        let next = at.child(&component);
        let kind = match if_there(fs.stat(&next)) {
            Ok(stat) => stat.map(|stat| stat.kind),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => None,
            Err(error) => return Err(Error::io("looking at", &next)(error)),
        };
        match kind {
            None => return Ok(Err(Lost::Nothing)),
            Some(FileKind::Other) => return Ok(Err(Lost::NoFile)),
            Some(FileKind::Dir | FileKind::File) => at = next,
            Some(FileKind::Symlink) if links.len() == MAX_LINKS => return Ok(Err(Lost::Circle)),
            Some(FileKind::Symlink) => {
                let Some(target) =
                    if_there(fs.read_link(&next)).map_err(Error::io("reading", &next))?
                else {
                    return Ok(Err(Lost::Nothing));
                };
                if target.starts_with('/') {
                    return Ok(Err(Lost::Outside));
                }
                left.extend(components(&target));
                links.push(next);
            }
        }
    }
    if at.below(&RepoPath::refs()).is_none() {
        return Ok(Err(Lost::Outside));
    }
    let stat = if_there(fs.stat(&at)).map_err(Error::io("looking at", &at))?;
    Ok(match stat.map(|stat| stat.kind) {
        Some(FileKind::File) => Ok(Way { file: at, links }),
        Some(FileKind::Dir | FileKind::Symlink | FileKind::Other) => Err(Lost::NoFile),
        None => Err(Lost::Nothing),
    })
}

/// Most links that the kernel follows in one path.
const MAX_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::local::disk::real::RealFs;

    #[test]
    fn aliases_lead_where_the_kernel_follows_them_and_never_out_of_the_refs() {
        let dir = TempDir::new().unwrap();
        let refs = dir.path().join("refs");
        for sub in ["heads/os/x", "mirrors/org.a", "remotes/o"] {
            fs::create_dir_all(refs.join(sub)).unwrap();
        }
        fs::write(refs.join("heads/os/x/1"), "").unwrap();
        fs::write(refs.join("mirrors/org.a/m"), "").unwrap();
        let links = [
            ("heads/direct", "os/x/1", "heads/os/x/1"),
            ("heads/chain", "direct", "heads/os/x/1"),
            ("heads/os/up", "../os/./x//1", "heads/os/x/1"),
            ("heads/around", "../../refs/heads/os/x/1", "heads/os/x/1"),
            ("heads/across", "../mirrors/org.a/m", "mirrors/org.a/m"),
            ("remotes/o/r", "../../heads/chain", "heads/os/x/1"),
            ("heads/dir", "os/x", "no file"),
            ("heads/by-dir", "dir/1", "heads/os/x/1"),
            ("heads/gone", "os/x/2", "nothing"),
            ("heads/below", "os/x/1/2", "nothing"),
            ("heads/a", "b", "circle"),
            ("heads/b", "a", "circle"),
            ("heads/self", "self", "circle"),
            ("heads/root", "/etc/passwd", "outside"),
            ("heads/out", "../../../x", "outside"),
            ("heads/config", "../../objects", "outside"),
        ];
        fs::create_dir(dir.path().join("objects")).unwrap();
        for (link, target, _) in links {
            symlink(target, refs.join(link)).unwrap();
        }
        let real = RealFs::open(dir.path()).unwrap();
        let all = list(&real).unwrap();
        assert_eq!(all.len(), links.len());
        for (link, target, leads) in links {
            let path = format!("refs/{link}");
            let alias = all
                .iter()
                .find(|alias| alias.path.as_str() == path)
                .unwrap();
            let led = match &alias.way {
                Ok(way) => way.file.below(&RepoPath::refs()).unwrap(),
                Err(Lost::Nothing) => "nothing",
                Err(Lost::Circle) => "circle",
                Err(Lost::Outside) => "outside",
                Err(Lost::NoFile) => "no file",
            };
            assert_eq!(led, leads, "{link} -> {target}");
        }
        let far: Vec<_> = all
            .into_iter()
            .filter(|alias| alias.path.as_str() == "refs/remotes/o/r")
            .collect();
        let mut led: Vec<_> = targets(&far).into_keys().map(RepoPath::as_str).collect();
        led.sort_unstable();
        assert_eq!(
            led,
            ["refs/heads/chain", "refs/heads/direct", "refs/heads/os/x/1"]
        );
    }
}
