//! The system calls that a receiver makes in an undisturbed push, and where to kill it so that
//! every state of the disk between two of them is met.
//!
//! strace counts calls for each thread separately, so the third call of a name hits the first
//! thread that makes a third one. A call hidden in this way is reached through another call between
//! the same two changes, which finds the disk in the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::exec::Failure;

/// A system call of a run: the `nth` of its name in its thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The call's name.
    pub name: String,
    /// Counted from 1.
    pub nth: u32,
}

/// The calls of one run, in the order they began.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    events: Vec<Event>,
}

#[derive(Clone, Debug)]
struct Event {
    thread: u32,
    call: Call,
    changes: bool,
}

impl Survey {
    /// The calls to trace: those that change something, take locks or sync, and others that lie
    /// between them.
    pub const CALLS: &str = "openat,openat2,write,pwrite64,writev,fsync,fdatasync,syncfs,\
        sync_file_range,rename,renameat,renameat2,link,linkat,symlinkat,unlink,unlinkat,rmdir,\
        mkdir,mkdirat,fchmod,fchmodat,fchownat,fsetxattr,lsetxattr,utimensat,ftruncate,fallocate,fcntl,flock,copy_file_range,\
        close,newfstatat,statx,getdents64";

    /// Parses the output of `strace -f -e trace=CALLS`.
    pub fn parse(trace: &str) -> Result<Self, Failure> {
        let mut counts: BTreeMap<(u32, String), u32> = BTreeMap::new();
        let mut events = Vec::new();
        for line in trace.lines() {
            // `1234 write(5, "..."...`; skips the second half of a call, a signal and an exit.
            let Some((thread, rest)) = line.split_once(' ') else {
                continue;
            };
            let (Ok(thread), Some((name, arguments))) =
                (thread.parse(), rest.trim_start().split_once('('))
            else {
                continue;
            };
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !name.chars().all(is_name) {
                continue;
            }
            let nth = counts.entry((thread, name.to_owned())).or_default();
            *nth += 1;
            events.push(Event {
                thread,
                call: Call {
                    name: name.to_owned(),
                    nth: *nth,
                },
                changes: changes(name, arguments),
            });
        }
        if events.iter().any(|event| event.changes) {
            Ok(Self { events })
        } else {
            Err(Failure::new(format!("strace saw nothing:\n{trace}")))
        }
    }

    /// Returns the number of calls that change something.
    pub fn changes(&self) -> usize {
        self.events.iter().filter(|event| event.changes).count()
    }

    /// Returns a call for every state between two changes, including the states before the first
    /// and after the last, if one can be hit; and the number of states that cannot be met.
    pub fn kills(&self) -> (Vec<Call>, usize) {
        let first = self.first_of_each();
        let mut kills = Vec::new();
        let mut unmet = 0;
        let mut found: Option<&Call> = None;
        for (index, event) in self.events.iter().enumerate() {
            // A call that changes something is hit before it does so.
            if found.is_none() && first[&event.call] == index {
                found = Some(&event.call);
            }
            if event.changes {
                match found.take() {
                    Some(call) => kills.push(call.clone()),
                    None => unmet += 1,
                }
            }
        }
        kills.extend(found.cloned());
        (kills, unmet)
    }

    /// Returns the calls that a fault of the disk or of a limit can make fail. Opening stands for
    /// all calls that only read.
    pub fn failing(&self) -> Vec<Call> {
        let of_interest = |event: &&Event| {
            event.call.name == "openat2" || event.changes && event.call.name != "openat"
        };
        let calls: BTreeSet<_> = self
            .events
            .iter()
            .filter(of_interest)
            .map(|event| event.call.clone())
            .collect();
        calls.into_iter().collect()
    }

    /// Returns how often each changing call is made.
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.changes) {
            *counts.entry(event.call.name.as_str()).or_default() += 1;
        }
        counts
    }

    /// Returns how many threads change something.
    pub fn threads(&self) -> usize {
        let threads = self.events.iter().filter(|event| event.changes);
        threads
            .map(|event| event.thread)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Returns the first event of each call, in whichever thread.
    fn first_of_each(&self) -> BTreeMap<Call, usize> {
        let mut first = BTreeMap::new();
        for (index, event) in self.events.iter().enumerate() {
            first.entry(event.call.clone()).or_insert(index);
        }
        first
    }
}

impl Call {
    /// Returns `NAME:...:when=NTH`, an expression for `strace --inject`, with a `+` if `on`
    /// includes the calls after it.
    pub fn inject(&self, what: &str, on: bool) -> String {
        let plus = if on { "+" } else { "" };
        format!("{}:{what}:when={}{plus}", self.name, self.nth)
    }
}

/// Returns whether a call changes the disk, a lock or what the client knows.
fn changes(name: &str, arguments: &str) -> bool {
    match name {
        "openat" | "openat2" => arguments.contains("O_CREAT"),
        "fcntl" => arguments.contains("SETLK"),
        "close" | "newfstatat" | "statx" | "getdents64" => false,
        _ => true,
    }
}

/// Reads a trace that strace left.
pub fn read(path: &std::path::Path) -> Result<Survey, Failure> {
    let trace = fs::read_to_string(path).map_err(Failure::doing(format!("read {path:?}")))?;
    Survey::parse(&trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, nth: u32) -> Call {
        let name = name.to_owned();
        Call { name, nth }
    }

    #[test]
    fn a_call_that_another_thread_hides_is_met_through_its_neighbour() {
        let trace = "\
1 write(3, \"a\"...) = 1
1 close(3) = 0
2 openat2(3, \"x\", {flags=O_WRONLY|O_CREAT}, 24 <unfinished ...>
2 <... openat2 resumed>) = 4
2 write(4, \"b\"...) = 1
2 close(4) = 0
2 close(5) = 0
2 mkdirat(4, \"d\", 0700) = 0
2 mkdirat(4, \"e\", 0700) = 0
2 write(4, \"c\"...) = 1
1 mkdirat(4, \"hidden\", 0700) = 0
1 mkdirat(4, \"hidden\", 0700) = 0
1 +++ exited with 0 +++
";
        let survey = Survey::parse(trace).unwrap();
        assert_eq!((survey.changes(), survey.threads()), (8, 2));
        let (kills, unmet) = survey.kills();
        let expected = [
            call("write", 1),
            call("close", 1),
            // The first thread's write hides the second one's, so it is not met.
            call("close", 2),
            call("mkdirat", 2),
            call("write", 2),
        ];
        assert_eq!(kills, expected);
        assert_eq!(unmet, 3);
        assert_eq!(
            call("write", 2).inject("signal=KILL", false),
            "write:signal=KILL:when=2"
        );
        assert_eq!(
            call("fsync", 2).inject("error=EIO", true),
            "fsync:error=EIO:when=2+"
        );
    }

    #[test]
    fn a_run_without_changes_is_a_failure_of_the_harness() {
        assert!(Survey::parse("1 close(3) = 0\n").is_err());
    }
}
