//! sshd's configuration as it is in force for one user: the output of `sshd -T -C user=...`.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The settings in force, by keyword in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effective(BTreeMap<String, Vec<String>>);

impl Effective {
    /// Parses the output of `sshd -T`.
    pub(super) fn parse(text: &str) -> Self {
        let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            let values = settings.entry(keyword.to_ascii_lowercase()).or_default();
            values.push(value.trim().to_owned());
        }
        Self(settings)
    }

    /// Returns the value of a keyword, and nothing for `none`.
    pub(super) fn get(&self, keyword: &str) -> Option<&str> {
        let value = self.0.get(keyword)?.first()?.as_str();
        (value != "none").then_some(value)
    }

    pub(super) fn is_yes(&self, keyword: &str) -> bool {
        self.get(keyword) == Some("yes")
    }

    /// Returns the words of all lines of a keyword.
    pub(super) fn words(&self, keyword: &str) -> impl Iterator<Item = &str> {
        let lines = self.0.get(keyword).into_iter().flatten();
        lines.flat_map(|line| line.split_ascii_whitespace())
    }

    /// Returns the PATH that sshd gives to a session of a user, before the user's shell runs.
    pub(super) fn path(&self, environment: &str, is_root: bool) -> String {
        let set = self.0.get("setenv").into_iter().flatten();
        let set = set.filter_map(|line| line.strip_prefix("PATH=")).next();
        let of_pam = self.is_yes("usepam").then_some(environment);
        let of_pam = of_pam.and_then(|text| {
            let path = |line: &str| Some(line.trim().strip_prefix("PATH=")?.to_owned());
            text.lines().filter_map(path).next_back()
        });
        let default = if is_root { ROOT_PATH } else { USER_PATH };
        let path = set.map(str::to_owned).or(of_pam);
        let path = path.unwrap_or_else(|| default.to_owned());
        path.trim_matches('"').to_owned()
    }

    /// Returns the files of the keys that let a user in.
    pub(super) fn key_files(&self, user: &nix::unistd::User) -> Vec<PathBuf> {
        let files = self.words("authorizedkeysfile").filter(|f| *f != "none");
        let expanded = files.map(|file| {
            let file = file.replace("%h", &user.dir.to_string_lossy());
            let file = file.replace("%u", &user.name);
            let file = file.replace("%U", &user.uid.to_string());
            user.dir.join(file.replace("%%", "%"))
        });
        expanded.collect()
    }

    /// Returns whether `AllowUsers`, `AllowGroups` and their opposites let a user in.
    pub(super) fn lets_in(&self, user: &str, groups: &[String]) -> Result<(), &'static str> {
        let named = |keyword: &str, names: &[&str]| {
            let mut patterns = self.words(keyword);
            patterns.any(|pattern| {
                let pattern = pattern.split('@').next().unwrap_or_default();
                names.iter().any(|name| matches(pattern, name))
            })
        };
        let lists = |keyword: &str| self.words(keyword).next().is_some();
        let groups: Vec<_> = groups.iter().map(String::as_str).collect();
        if named("denyusers", &[user]) {
            return Err("DenyUsers");
        }
        if lists("allowusers") && !named("allowusers", &[user]) {
            return Err("AllowUsers");
        }
        if named("denygroups", &groups) {
            return Err("DenyGroups");
        }
        if lists("allowgroups") && !named("allowgroups", &groups) {
            return Err("AllowGroups");
        }
        Ok(())
    }
}

/// Matches a name with `*` and `?`, as sshd does.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            matches(&pattern[1..], name)
                || name
                    .char_indices()
                    .nth(1)
                    .map_or(!name.is_empty() && matches(pattern, ""), |(next, _)| {
                        matches(pattern, &name[next..])
                    })
        }
        (Some('?'), Some(c)) => matches(&pattern[1..], &name[c.len_utf8()..]),
        (Some(p), Some(c)) if p == c => matches(&pattern[p.len_utf8()..], &name[c.len_utf8()..]),
        _ => false,
    }
}

/// The PATH that Debian's sshd is built with; others' differs little.
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/games";
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_sshd_prints_them() {
        let text = "usepam yes\nforcecommand none\nacceptenv LANG\nacceptenv LC_*\n\
                    allowusers a*s root@10.*\n";
        let settings = Effective::parse(text);
        assert_eq!(settings.get("forcecommand"), None);
        assert!(settings.is_yes("usepam"));
        assert_eq!(
            settings.words("acceptenv").collect::<Vec<_>>(),
            ["LANG", "LC_*"]
        );
        assert_eq!(settings.lets_in("artifacts", &[]), Ok(()));
        assert_eq!(settings.lets_in("root", &[]), Ok(()));
        assert_eq!(settings.lets_in("bob", &[]), Err("AllowUsers"));
        assert_eq!(
            settings.path("PATH=\"/opt/bin:/bin\"\n", false),
            "/opt/bin:/bin"
        );
        assert_eq!(Effective::default().path("PATH=/x", false), USER_PATH);
    }

    #[test]
    fn patterns_match_as_in_sshd_config() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("?b", "ab", true),
            ("?", "", false),
            ("LD_*", "LD_PRELOAD", true),
            ("LC_*", "LD_PRELOAD", false),
            ("**", "ab", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
