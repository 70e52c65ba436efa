//! Faults planted on a real server: found, mended by the printed commands, and gone.
//!
//! The test starts itself again on the machine that `tests/doctor/machine` makes. `make test`
//! plants the faults of the first groups, those of a group at once; with `ARTIFACT_CACHE_EXTRA=1`
//! every fault is planted, and alone.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use artifact_tests::exec::{Ran, run};
use artifact_tests::programs;
use serde_json::Value;

#[test]
fn every_planted_fault_is_found_mended_by_the_printed_commands_and_gone() {
    if std::env::var_os(ON_MACHINE).is_some() {
        plant_all();
        return;
    }
    if !rustix::process::geteuid().is_root() {
        panic!("only root can make a machine to plant faults on: run the tests as root");
    }
    let programs = programs::receiver().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut machine = Command::new("unshare");
    machine
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--net", "--ipc", "--uts"])
        .arg(root.join("tests/doctor/machine"))
        .arg(programs.parent().unwrap())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", NAME])
        .env(ON_MACHINE, "1")
        .env("HOME", "/root");
    let said = run(&mut machine).unwrap();
    assert_eq!(said.code, Some(0), "{said}");
    assert!(said.stdout.contains("test result: ok. 1 passed"), "{said}");
}

/// Runs on the machine.
fn plant_all() {
    assert_eq!(
        FAULTS.iter().map(|f| f.id).collect::<BTreeSet<_>>().len(),
        KINDS
    );
    let before = Found::look(&[]);
    assert_eq!((before.code, before.ids()), (Some(0), BTreeSet::new()));
    let mut left: Vec<&Fault> = FAULTS.iter().collect();
    let alone = crate::extra();
    while let Some(first) = left.first() {
        let group = first.group;
        let (planted, others): (Vec<_>, Vec<_>) = left
            .iter()
            .partition(|f| f.group == group && group != ALONE);
        let (planted, others) = match (alone, planted.is_empty()) {
            (false, false) => (planted, others),
            _ => (vec![left[0]], left[1..].to_vec()),
        };
        if alone || (1..=QUICK_GROUPS).contains(&group) {
            plant(&planted);
        }
        left = others;
    }
}

/// Plants faults at once, and mends them.
fn plant(faults: &[&Fault]) {
    let planted: BTreeSet<_> = faults.iter().map(|fault| fault.id.to_owned()).collect();
    for fault in faults {
        must(&format!("set -eu; {VARIABLES} {}", fault.plant));
    }
    let arguments: Vec<_> = faults
        .iter()
        .flat_map(|fault| fault.arguments)
        .copied()
        .collect();
    let tree = must(TREE);
    let found = Found::look(&arguments);
    assert_eq!(must(TREE), tree, "the doctor has changed something");
    let ids = found.ids();
    assert!(
        planted.is_subset(&ids),
        "planted {planted:?}, found {}",
        found.said
    );
    let is_fault = found
        .findings
        .iter()
        .any(|finding| finding["severity"] == "fault");
    assert_eq!(
        found.code,
        Some(if is_fault { 11 } else { 10 }),
        "{}",
        found.said
    );
    // What hides others is mended first, and those then show themselves.
    let mut left = found;
    for _ in 0..ROUNDS {
        for finding in &left.findings {
            for command in finding["fix"].as_array().unwrap() {
                must(&format!("cd /root && {}", command.as_str().unwrap()));
            }
        }
        left = Found::look(&arguments);
        if left.ids().is_empty() {
            break;
        }
    }
    assert!(
        left.ids().is_empty(),
        "planted {planted:?}, left {}",
        left.said
    );
    for fault in faults {
        must(fault.undo);
    }
    must("restore");
}

fn must(script: &str) -> String {
    let ran = run(Command::new("sh").args(["-c", script])).unwrap();
    ran.success().unwrap()
}

/// What the doctor has found.
struct Found {
    code: Option<i32>,
    findings: Vec<Value>,
    said: Ran,
}

impl Found {
    fn look(arguments: &[&str]) -> Self {
        let mut doctor = Command::new("artifact-cache-admin");
        doctor
            .args(["doctor", "--json", "/home/artifacts/artifacts"])
            .args(arguments);
        let said = run(&mut doctor).unwrap();
        let lines = said
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut findings: Vec<_> = lines.collect();
        assert_eq!(findings.pop().unwrap()["event"], "checked", "{said}");
        Self {
            code: said.code,
            findings,
            said,
        }
    }

    /// Returns the ids of warnings and faults.
    fn ids(&self) -> BTreeSet<String> {
        let bad = self
            .findings
            .iter()
            .filter(|finding| finding["severity"] != "unseen");
        bad.map(|finding| finding["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// A fault, and how to plant it.
struct Fault {
    id: &'static str,
    /// Faults of one group neither hide nor disturb each other.
    group: u8,
    plant: &'static str,
    arguments: &'static [&'static str],
    undo: &'static str,
}

const fn fault(group: u8, id: &'static str, plant: &'static str) -> Fault {
    Fault {
        id,
        group,
        plant,
        arguments: &[],
        undo: "true",
    }
}

const ON_MACHINE: &str = "ARTIFACT_TESTS_DOCTOR";
const NAME: &str = "doctor::every_planted_fault_is_found_mended_by_the_printed_commands_and_gone";
const ROUNDS: usize = 3;
/// What nothing else may be planted beside, and takes time.
const ALONE: u8 = 0;
/// The groups that `make test` plants.
const QUICK_GROUPS: u8 = 5;
/// The state of all files that the doctor looks at.
const TREE: &str =
    "find /home /etc /root /srv -printf '%p %m %u %n %s %T@ %C@\\n' | sort | sha256sum";
/// Takes away a disk and the better one over it, which the https server has open.
const UNMOUNT: &str = "umount -l /home/artifacts/artifacts && umount -l /home/artifacts/artifacts && \
    systemctl restart artifact-cache-serve.service && rm -r /srv/artifact-cache";
const VARIABLES: &str = "R=/home/artifacts/artifacts H=/home/artifacts C=/etc/artifact-cache.toml \
    D=/etc/ssh/sshd_config.d/artifacts.conf K=/home/artifacts/.ssh/authorized_keys; \
    as() { runuser -u artifacts -- \"$@\"; };";
/// All kinds of faults but `disk-network`, for which a kernel needs NFS or the like.
const KINDS: usize = 84;

const FAULTS: &[Fault] = &[
    // sshd: what is missing or wrong beside a ForceCommand that is right.
    fault(1, "sshd-expose-auth-info", "sed -i /ExposeAuthInfo/d $D"),
    fault(1, "sshd-passwords", "sed -i /AuthenticationMethods/d $D"),
    fault(1, "sshd-forwarding", "sed -i /DisableForwarding/d $D"),
    fault(1, "sshd-tty", "sed -i /PermitTTY/d $D"),
    fault(1, "sshd-no-keys", "echo '    PubkeyAuthentication no' >>$D"),
    fault(1, "sshd-max-sessions", "echo '    MaxSessions 0' >>$D"),
    fault(
        1,
        "sshd-user-rc",
        "sed -i /PermitUserRC/d $D; echo 'echo hello' >$H/.ssh/rc",
    ),
    fault(
        1,
        "sshd-user-environment",
        "sed -i '1i PermitUserEnvironment yes' /etc/ssh/sshd_config",
    ),
    fault(
        1,
        "sshd-accept-env",
        "printf 'AcceptEnv LANG\\nAcceptEnv LD_* X\\n' >/etc/ssh/sshd_config.d/env.conf",
    ),
    fault(
        1,
        "sshd-shut-out",
        "sed -i '1i AllowUsers alice' /etc/ssh/sshd_config",
    ),
    fault(
        16,
        "sshd-shut-out",
        "sed -i '1i DenyUsers art*' /etc/ssh/sshd_config",
    ),
    fault(
        17,
        "sshd-shut-out",
        "echo 'AllowGroups staff' >/etc/ssh/sshd_config.d/groups.conf",
    ),
    fault(
        18,
        "sshd-shut-out",
        "sed -i '1i DenyGroups artifacts' /etc/ssh/sshd_config",
    ),
    fault(
        1,
        "sshd-max-startups-of-a-source",
        "sed -i '1i PerSourceMaxStartups 1' /etc/ssh/sshd_config",
    ),
    fault(
        1,
        "sshd-max-startups",
        "for n in $(seq 10 21); do echo \"restrict ssh-ed25519 \
         AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA$n\" >>$K; done; \
         printf '[[identity]]\\nname = \"rest\"\\nkeys = [\"*\"]\\n' >>$C",
    ),
    fault(
        1,
        "sshd-both-commands",
        "sed -i '1s/^restrict /restrict,command=\"bst-artifact-receive --identity \\\\\"a\\\\\" x\",no-pty /' $K",
    ),
    // Of several files the first counts, also where sshd reads no drop-ins.
    fault(
        2,
        "sshd-no-command",
        "sed -i /ForceCommand/d $D; sed -i /^Include/d /etc/ssh/sshd_config",
    ),
    fault(
        3,
        "sshd-other-command",
        "sed -i 's/ForceCommand.*/ForceCommand \\/bin\\/true/' $D",
    ),
    fault(
        4,
        "sshd-other-repository",
        "sed -i 's/verbose artifacts/verbose elsewhere/' $D",
    ),
    fault(
        5,
        "sshd-config-invalid",
        "echo '    ExposAuthInfo yes' >>$D",
    ),
    Fault {
        arguments: &["--pull-url", "https://cache.example.com/artifacts"],
        ..fault(
            13,
            "pull-url-announced",
            "sed -i s,example.com/artifacts,example.com/old, $D",
        )
    },
    // Keys.
    fault(3, "keys-owner", "chown daemon $K"),
    fault(4, "keys-writable", "chmod g+w $H"),
    fault(2, "keys-unreadable", "chown root $K; chmod 600 $K"),
    fault(4, "keys-malformed", "echo 'ssh-ed25519 AAAA broken' >>$K"),
    fault(
        4,
        "keys-without-rights",
        "echo \"restrict $(cut -d' ' -f-2 /root/KEY.pub)\" >>$K",
    ),
    fault(ALONE, "keys-none", ": >$K"),
    fault(
        7,
        "keys-without-command",
        "sed -i /ForceCommand/d $D; \
         sed -i '1s/^restrict /restrict,command=\"bst-artifact-receive --identity alice artifacts\" /' $K",
    ),
    fault(
        7,
        "keys-of-nobody",
        "sed -i /ForceCommand/d $D; sed -i '2s/^restrict /restrict,command=\"bst-artifact-receive --identity nobody artifacts\" /' $K; \
         sed 's/--identity nobody/--identity bob/' $K | tail -n 1 >$K.more; cat $K.more >>$K; rm $K.more; \
         echo \"restrict $(cut -d' ' -f-2 /root/KEY.pub)\" >>$K",
    ),
    // The account.
    fault(
        2,
        "shell-refuses",
        "usermod --shell /usr/sbin/nologin artifacts",
    ),
    fault(
        3,
        "shell-missing",
        "usermod --shell /bin/nosuch artifacts 2>/dev/null",
    ),
    fault(
        4,
        "shell-prints",
        "usermod --shell /bin/bash artifacts; echo 'echo hello' >$H/.bashrc",
    ),
    fault(
        6,
        "shell-umask",
        "usermod --shell /bin/bash artifacts; echo 'umask 002' >$H/.bashrc",
    ),
    fault(
        5,
        "shell-fails",
        "usermod --shell /bin/bash artifacts; echo 'exit 3' >$H/.bashrc",
    ),
    fault(
        ALONE,
        "shell-slow",
        "usermod --shell /bin/bash artifacts; echo 'sleep 60' >$H/.bashrc",
    ),
    fault(
        6,
        "account-locked",
        "sed -i 's/^UsePAM yes/UsePAM no/' /etc/ssh/sshd_config",
    ),
    fault(6, "account-expired", "chage --expiredate 1 artifacts"),
    fault(
        7,
        "receiver-missing",
        "mkdir -p /root/.cargo/bin; mv /usr/local/bin/bst-artifact-receive /root/.cargo/bin",
    ),
    fault(
        8,
        "receiver-version",
        "mkdir -p /root/.cargo/bin; mv /usr/local/bin/bst-artifact-receive /root/.cargo/bin; \
         printf '#!/bin/sh\\necho bst-artifact-receive 0.0.1\\n' >/usr/local/bin/bst-artifact-receive; \
         chmod 755 /usr/local/bin/bst-artifact-receive",
    ),
    fault(15, "repository-out-of-reach", "chmod o-x /home"),
    Fault {
        undo: "rm -r /home/gone",
        ..fault(ALONE, "home-missing", "usermod --home /home/gone artifacts")
    },
    // The configuration.
    fault(3, "config-unreadable", "chmod 600 $C"),
    fault(6, "config-untrusted", "chmod o+w $C"),
    fault(8, "config-invalid", "sed -i '1i pul-url = \"x\"' $C"),
    fault(
        ALONE,
        "config-missing",
        "sed -i 's/--verbose/--config \\/etc\\/missing.toml --verbose/' $D",
    ),
    fault(2, "audit-missing", "rm /var/log/artifact-cache.jsonl"),
    fault(
        4,
        "audit-unwritable",
        "chown root /var/log/artifact-cache.jsonl",
    ),
    fault(
        2,
        "sign-key-unreadable",
        "cat /mnt/summary.key >/etc/summary.key; chmod 600 /etc/summary.key; \
         printf '[summary]\\nsign-key = \"/etc/summary.key\"\\n' >>$C",
    ),
    fault(
        5,
        "sign-key-unusable",
        "printf '[summary]\\nsign-key = \"/etc/no.key\"\\n' >>$C",
    ),
    fault(
        7,
        "summary-unsigned",
        "install -o artifacts -m 600 /mnt/summary.key /etc/summary.key; \
         printf '[summary]\\nsign-key = \"/etc/summary.key\"\\n' >>$C",
    ),
    // The disk.
    Fault {
        undo: UNMOUNT,
        ..fault(
            10,
            "disk-overlay",
            "mkdir /mnt/upper /mnt/work; chown artifacts /mnt/upper; \
         mount -t overlay -o lowerdir=$R,upperdir=/mnt/upper,workdir=/mnt/work overlay $R",
        )
    },
    Fault {
        undo: UNMOUNT,
        ..fault(
            11,
            "disk-memory",
            "mkdir /mnt/memory; cp -a $R/. /mnt/memory; \
         chown artifacts: /mnt/memory; mount --bind /mnt/memory $R",
        )
    },
    Fault {
        undo: UNMOUNT,
        ..fault(
            ALONE,
            "disk-fuse",
            "mkdir /mnt/below; cp -a $R/. /mnt/below; chown artifacts: /mnt/below; \
             bindfs -o nonempty /mnt/below $R",
        )
    },
    Fault {
        undo: UNMOUNT,
        ..fault(
            ALONE,
            "disk-no-journal",
            "truncate -s 16M /mnt/ext2; mkfs.ext2 -q /mnt/ext2; mkdir /mnt/on-ext2; \
             mount -o loop /mnt/ext2 /mnt/on-ext2; rmdir /mnt/on-ext2/lost+found; \
             cp -a $R/. /mnt/on-ext2; chown artifacts: /mnt/on-ext2; mount --bind /mnt/on-ext2 $R",
        )
    },
    Fault {
        undo: UNMOUNT,
        ..fault(
            ALONE,
            "disk-no-journal",
            "truncate -s 16M /mnt/ext4; mkfs.ext4 -q -O ^has_journal /mnt/ext4; \
             mkdir /mnt/on-ext4; mount -o loop /mnt/ext4 /mnt/on-ext4; \
             rmdir /mnt/on-ext4/lost+found; cp -a $R/. /mnt/on-ext4; \
             chown artifacts: /mnt/on-ext4; mount --bind /mnt/on-ext4 $R",
        )
    },
    Fault {
        undo: UNMOUNT,
        ..fault(
            ALONE,
            "disk-unknown",
            "mksquashfs $R /mnt/squashfs -quiet -no-progress; mount -o loop /mnt/squashfs $R",
        )
    },
    fault(9, "disk-barriers", "mount -o remount,nobarrier /home"),
    fault(12, "disk-read-only", "mount -o remount,ro /home"),
    fault(
        9,
        "disk-space",
        "as mkdir $R/extensions/artifact-cache/staging/dead; \
         as fallocate -l 50M $R/extensions/artifact-cache/staging/dead/x; \
         printf '[limits]\\nmin-free-space = \"20MB\"\\n' >>$C",
    ),
    fault(
        13,
        "disk-inodes",
        "as mkdir $R/extensions/artifact-cache/staging/dead; cd $R/extensions/artifact-cache/staging/dead; \
         as sh -c 'seq 3500 | xargs touch'; printf '[limits]\\nmin-free-inodes = 2000\\n' >>$C",
    ),
    // The repository.
    fault(8, "repository-config", "echo x >$R/config"),
    fault(
        ALONE,
        "repository-mode",
        "as mv $R $R.archive; as ostree init --repo=$R --mode=bare-user; \
         as ostree pull-local --repo=$R $R.archive; rm -r $R.archive",
    ),
    fault(
        2,
        "repository-fsync",
        "as ostree config --repo=$R set core.fsync false",
    ),
    fault(
        2,
        "repository-locking",
        "as ostree config --repo=$R set core.locking false",
    ),
    fault(
        2,
        "repository-lock-timeout",
        "as ostree config --repo=$R set core.lock-timeout-secs -- -1",
    ),
    fault(
        2,
        "repository-parent",
        "as ostree config --repo=$R set core.parent /srv",
    ),
    fault(3, "repository-directories", "rmdir $R/refs/remotes"),
    fault(3, "repository-owner", "chown root $R/state"),
    fault(3, "repository-writable", "chmod g+w $R/summary"),
    fault(3, "repository-links", "cp -al $R/objects /home/backup"),
    fault(
        3,
        "staging-stale",
        "as mkdir -p $R/extensions/artifact-cache/staging/old; \
         as touch -d '3 days ago' $R/extensions/artifact-cache/staging/old",
    ),
    fault(3, "tmp-stale", "as touch -d '3 days ago' $R/tmp/left"),
    fault(
        3,
        "quarantine",
        "as mkdir -p $R/extensions/artifact-cache/quarantine; \
         as touch $R/extensions/artifact-cache/quarantine/x",
    ),
    fault(
        1,
        "refs-stray",
        "as mkdir -p $R/refs/heads/p/e; as sh -c \"echo junk >$R/refs/heads/p/e/junk; \
         ln -s nowhere $R/refs/heads/p/e/lost; cp $R/refs/heads/alpha/greeting/1 $R/refs/heads/p/e/tmp.ABC123\"",
    ),
    fault(
        1,
        "refs-dangling",
        "as mkdir -p $R/refs/heads/q/e; \
         as sh -c \"printf '%064d\\n' 7 >$R/refs/heads/q/e/1\"",
    ),
    fault(
        6,
        "refs-partial",
        "as touch $R/state/$(cat $R/refs/heads/alpha/greeting/3).commitpartial",
    ),
    fault(
        6,
        "refs-in-the-future",
        "as touch -d tomorrow $R/refs/heads/alpha/greeting/2",
    ),
    fault(
        ALONE,
        "refs-unreadable",
        "as mv $R/refs/heads $H/heads; as ln -s $H/heads $R/refs/heads",
    ),
    fault(5, "summary-missing", "rm $R/summary"),
    // Names of two files, since the disk has few inodes. The older half may go.
    fault(
        ALONE,
        "summary-long",
        "for age in old new; do as mkdir -p $R/refs/heads/$age/e; cd $R/refs/heads/$age/e; \
         as cp ../../alpha/greeting/1 0; [ $age = new ] || as touch -d 'last year' 0; \
         as /usr/bin/python3 -c \"import os
for n in range(18000): os.link('0', 'k' * 130 + str(n))\"; done; artifact-cache-admin summary $R",
    ),
    fault(
        4,
        "summary-stale",
        "as cp $R/refs/heads/alpha/greeting/1 $R/refs/heads/alpha/greeting/9",
    ),
    fault(2, "summary-malformed", "as sh -c \"echo x >$R/summary\""),
    // The web server and the clock.
    fault(4, "clock-unsynchronized", "timedatectl set-ntp false"),
    fault(
        8,
        "pull-url-unreachable",
        "systemctl stop artifact-cache-serve.service",
    ),
    fault(14, "pull-url-empty", "chmod o-rx $R"),
    fault(
        7,
        "pull-url-other",
        "ostree init --repo=/home/artifacts/other --mode=archive; \
         sed -i s,artifacts/artifacts,artifacts/other, /etc/systemd/system/artifact-cache-serve.service; \
         systemctl restart artifact-cache-serve.service",
    ),
    fault(
        3,
        "certificate-expires",
        "certify 10; systemctl reload artifact-cache-serve.service",
    ),
    fault(
        6,
        "certificate-expired",
        "certify -1; systemctl reload artifact-cache-serve.service",
    ),
];
