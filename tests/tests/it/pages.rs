//! Manual pages and completions: what the command line offers before anything is run.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use artifact_tests::exec::run;
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};

use crate::place::Place;

#[test]
fn every_command_has_a_page_that_man_and_mandoc_find_no_fault_with() {
    let dir = tempfile::tempdir().unwrap();
    let mut write = Command::new(programs::man().unwrap());
    run(write.arg(dir.path()).arg("2026-01-31"))
        .unwrap()
        .success()
        .unwrap();
    let mut pages = BTreeSet::new();
    for section in fs::read_dir(dir.path()).unwrap() {
        for page in fs::read_dir(section.unwrap().path()).unwrap() {
            pages.insert(page.unwrap().path());
        }
    }
    let names: BTreeSet<String> = pages.iter().map(|page| name_of(page)).collect();
    for (program, section) in [
        (programs::client(), 1),
        (programs::admin(), 8),
        (programs::serve(), 8),
        (programs::receiver(), 8),
    ] {
        let program = program.unwrap();
        let name = name_of(&program);
        let help = run(Command::new(&program).arg("--help"))
            .unwrap()
            .success()
            .unwrap();
        let commands = help.split("Commands:\n").nth(1).unwrap_or_default();
        let commands = commands.lines().take_while(|line| line.starts_with("  "));
        let commands = commands.filter_map(|line| line.split_whitespace().next());
        let expected = commands.filter(|command| *command != "help");
        let expected = expected.map(|command| format!("{name}-{command}.{section}"));
        for page in expected.chain([format!("{name}.{section}")]) {
            assert!(names.contains(&page), "{page} is not in {names:?}");
        }
    }
    for page in &pages {
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l"])
            .arg(page)
            .env("MANWIDTH", "80");
        let shown = run(&mut man).unwrap();
        assert_eq!(shown.stderr, "", "{}", page.display());
        assert!(shown.success().unwrap().lines().count() > 10);
    }
    let mut lint = Command::new("mandoc");
    let lint = run(lint.args(["-Tlint", "-Wwarning"]).args(&pages)).unwrap();
    assert_eq!(lint.stdout, "");
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// A cache with refs, the configuration that names it, and a directory with the programs.
struct User {
    place: Place,
    path: String,
}

impl User {
    fn new() -> Self {
        let place = Place::new();
        place.admin(&["init", "server"]).success().unwrap();
        place.commit("alpha/greeting/one", "one");
        place.commit("beta/greeting/one", "two");
        place
            .push(&["alpha/greeting/one", "beta/greeting/one"])
            .must_exit(0)
            .unwrap();
        Repo::init(&place.dir.path().join("empty"), Mode::Archive).unwrap();
        place.commit("gamma/local", "three");
        let config = place.dir.path().join("artifact-cache.yaml");
        let server = place.server.path().display();
        fs::write(
            config,
            format!("artifacts:\n- url: {server}\n- url: https://a.invalid\n"),
        )
        .unwrap();
        let programs = programs::client().unwrap().parent().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", programs.display());
        Self { place, path }
    }

    /// Runs a script in a shell, after the program's own script for that shell.
    fn shell(&self, shell: &str, program: &str, script: &str) -> String {
        let completions = self.place.dir.path().join(format!("{program}.{shell}"));
        let mut print = Command::new(program);
        print.args(["completions", shell]).env("PATH", &self.path);
        let text = run(&mut print).unwrap().success().unwrap();
        fs::write(&completions, text).unwrap();
        let mut command = Command::new(shell);
        command
            .arg("-c")
            .arg(format!("source {}\n{script}", completions.display()));
        command
            .env("PATH", &self.path)
            .env("XDG_CONFIG_HOME", self.place.dir.path());
        let ran = run(command.current_dir(self.place.dir.path())).unwrap();
        assert_eq!(ran.stderr, "", "{script}");
        ran.success().unwrap()
    }

    /// Returns the completions of the last word in bash.
    fn bash(&self, program: &str, words: &[&str]) -> BTreeSet<String> {
        let function = format!("_clap_complete_{}", program.replace('-', "_"));
        let last = words.last().unwrap();
        let script = format!(
            "COMP_WORDS=({program} {}); COMP_CWORD={}; COMP_TYPE=9\n\
             {function} {program} '{last}' x 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words
                .iter()
                .map(|word| format!("'{word}' "))
                .collect::<String>(),
            words.len(),
        );
        let said = self.shell("bash", program, &script);
        said.lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn refs_and_caches_complete_to_what_is_there_now() {
    let user = User::new();
    let server = user.place.server.path().to_string_lossy().into_owned();
    let client = |words: &[&str]| user.bash("artifact-cache", words);
    // Of the local repository.
    assert_eq!(
        client(&["push", "--repo", "source", "g"]),
        set(&["gamma/local"])
    );
    assert_eq!(
        client(&["push", "--repo", "=", "source", "g"]),
        set(&["gamma/local"])
    );
    assert_eq!(client(&["push", "--repo", "empty", "g"]), set(&[]));
    assert_eq!(client(&["push", "--repo", "missing", "g"]), set(&[]));
    // Of the caches: the configured ones, of which one cannot be reached, and another.
    assert_eq!(
        client(&["pull", "--remote", &server, "al"]),
        set(&["alpha/greeting/one"])
    );
    assert_eq!(client(&["list", "b"]), set(&["beta/greeting/one"]));
    assert_eq!(
        client(&["list", "--remote", "https", ":", "//a.invalid", "b"]),
        set(&[])
    );
    assert_eq!(
        client(&["push", "--remote", "https"]),
        set(&["https://a.invalid"])
    );
    let admin = |words: &[&str]| user.bash("artifact-cache-admin", words);
    assert_eq!(
        admin(&["remove", "server", "al"]),
        set(&["alpha/greeting/one"])
    );
    assert_eq!(admin(&["rem"]), set(&["remove"]));
}

#[test]
fn the_three_shells_take_the_scripts_and_complete_commands_and_refs() {
    let user = User::new();
    assert_eq!(user.bash("artifact-cache", &["pus"]), set(&["push"]));
    let line = |words: &str| format!("complete -C 'artifact-cache {words}'");
    let fish = |words: &str| user.shell("fish", "artifact-cache", &line(words));
    assert!(fish("pus").starts_with("push\t"), "{}", fish("pus"));
    assert_eq!(fish("push --repo source al"), "alpha/greeting/one\n");
    // zsh completes at a terminal only: what its functions would be given is enough.
    let zsh = "compdef() { print registered $2 }\n";
    let zsh = format!(
        "{zsh} source {}/artifact-cache.zsh",
        user.place.dir.path().display()
    );
    let mut print = Command::new("artifact-cache");
    print.args(["completions", "zsh"]).env("PATH", &user.path);
    let text = run(&mut print).unwrap().success().unwrap();
    fs::write(user.place.dir.path().join("artifact-cache.zsh"), text).unwrap();
    let zsh = format!(
        "{zsh}\nwords=(artifact-cache push --repo source al); CURRENT=5\n\
         _describe() {{ print -l -- ${{(P)3}} ${{(P)4}} }}\n_clap_dynamic_completer_artifact_cache"
    );
    let mut command = Command::new("zsh");
    command.args(["-f", "-c", &zsh]).env("PATH", &user.path);
    let ran = run(command.current_dir(user.place.dir.path())).unwrap();
    let said = ran.success().unwrap();
    assert!(said.contains("registered artifact-cache"), "{said}");
    assert!(said.contains("alpha/greeting/one"), "{said}");
}
