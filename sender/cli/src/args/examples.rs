//! What the help of each command ends with.

pub(super) const PUSH_EXAMPLES: &str = "\
Examples:
  artifact-cache push --repo ~/repo --remote ssh://artifacts@example.com/cache os/x86_64/stable
  artifact-cache push --repo ~/repo --remote /srv/cache --dry-run app/one app/two";

pub(super) const PULL_EXAMPLES: &str = "\
Examples:
  artifact-cache pull --repo ~/repo project/element/key
  artifact-cache pull --repo ~/repo --all 'project/*/main'
  artifact-cache pull --repo ~/repo --remote https://cache.example.com/artifacts os/x86_64/stable";

pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  artifact-cache list
  artifact-cache list --remote https://cache.example.com/artifacts 'project/**'
  artifact-cache list --json 'os/*/stable' | jq .size";

pub(super) const CHECK_EXAMPLES: &str = "\
Examples:
  artifact-cache check
  artifact-cache check --remote ssh://artifacts@cache.example.com/artifacts";

pub(super) const JOIN_EXAMPLES: &str = "\
Examples:
  artifact-cache join ssh://artifacts@cache.example.com/artifacts
  artifact-cache join --fingerprint SHA256:u7m... ssh://artifacts@cache.example.com/artifacts
  artifact-cache join https://cache.example.com/artifacts";

pub(super) const CONFIG_EXAMPLES: &str = "\
Examples:
  artifact-cache config check
  artifact-cache config show --effective
  artifact-cache --config new.yaml config check";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  artifact-cache completions bash >~/.local/share/bash-completion/completions/artifact-cache
  artifact-cache completions zsh >~/.zfunc/_artifact-cache      # a directory of fpath
  artifact-cache completions fish >~/.config/fish/completions/artifact-cache.fish";

pub(super) const HELP: &str = "\
Name caches with --remote, or once and for all in ~/.config/artifact-cache.yaml:

  artifacts:                      # one cache
    url: ssh://artifacts@cache.example.com/artifacts

  artifacts:                      # or several: tried in this order; only some are pushed to
  - url: https://near.example.com/artifacts
  - url: ssh://artifacts@cache.example.com/artifacts
    push: true

The client also reads the `artifacts` of ~/.config/buildstream.conf and, after these two
files, artifact-cache.yaml in /etc/xdg.

Exit codes:
  0  done, or already there          6  the other side does not speak this protocol
  1  output cannot be written, or    7  the local repository lacks something, or is damaged
     a bug                           8  the data is wrong, or not signed as demanded
  2  wrong usage or configuration    9  the server's repository cannot be used: full, locked,
  3  some refs were refused             damaged, missing
  4  no cache has the ref          130  interrupted (143 by SIGTERM); it says what was kept
  5  no connection, or it was lost";
