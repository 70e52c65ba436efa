//! The system calls that fail with EPERM: those that lead to other programs, other processes, the
//! network or deeper into the kernel, and those that Landlock does not check.
//!
//! The list names denied calls, not allowed ones, because the next C library would break a list of
//! allowed ones.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen as ArgLen, SeccompCmpOp as CompareOp,
    SeccompCondition as Condition, SeccompFilter, SeccompRule as Rule, TargetArch,
};

/// Denies the calls of this machine's list, except those that accept connections if a program
/// `accepts` them, and those that make them if it `connects`.
pub(super) fn apply(accepts: bool, connects: bool) -> Result<(), Error> {
    seccompiler::apply_filter(&program(accepts, connects)?)
}

fn program(accepts: bool, connects: bool) -> Result<BpfProgram, Error> {
    let arch = if cfg!(target_arch = "x86_64") {
        TargetArch::x86_64
    } else {
        TargetArch::aarch64
    };
    let mut native = [EVERYWHERE, NEW, HERE].concat();
    native.retain(|number| !(accepts && ACCEPT.contains(number)));
    native.retain(|number| !(connects && CONNECT.contains(number)));
    let x32 = native.iter().chain(X32_OWN).map(|number| number | X32_BIT);
    let denied = native.iter().copied().chain(x32);
    let mut rules: BTreeMap<_, _> = denied.map(|number| (number, Vec::new())).collect();
    // With another process as the first argument.
    let own = std::process::id().into();
    for (number, allowed) in [(libc::SYS_prlimit64, 0), (libc::SYS_tgkill, own)] {
        let others = Condition::new(0, ArgLen::Dword, CompareOp::Ne, allowed)?;
        let rule = Rule::new(vec![others])?;
        for number in [number, number | X32_BIT] {
            rules.insert(number, vec![rule.clone()]);
        }
    }
    let (allow, deny) = (SeccompAction::Allow, SeccompAction::Errno(EPERM));
    Ok(SeccompFilter::new(rules, allow, deny, arch)?.try_into()?)
}

const EPERM: u32 = libc::EPERM.unsigned_abs();

const EVERYWHERE: &[i64] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // The network, and other programs through it. The connection is open already.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Files by other ways than a path.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // Attributes of files outside the repository, whose change Landlock does not stop. The store
    // opens files before it changes them, and cannot open any outside.
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    // The mounts, and the namespace.
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    // Much kernel code, in which holes tend to be.
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine as a whole.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
];

/// The calls that accept connections on an existing socket.
const ACCEPT: [i64; 2] = [libc::SYS_accept, libc::SYS_accept4];

/// The calls that make connections. The C library looks up names through a socket of the kernel's,
/// which it binds; a runtime wakes itself through a pair.
const CONNECT: [i64; 4] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
];

/// These have the same number everywhere, and are too new for the headers of some C libraries:
/// `fchmodat2`, `setxattrat`, `removexattrat`.
const NEW: &[i64] = &[452, 463, 466];

#[cfg(target_arch = "x86_64")]
const HERE: &[i64] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
#[cfg(target_arch = "aarch64")]
const HERE: &[i64] = &[];

/// A kernel with x32 accepts the calls under numbers with this bit as well, and a filter cannot
/// tell these from native ones by the architecture.
#[cfg(target_arch = "x86_64")]
const X32_BIT: i64 = 0x4000_0000;
#[cfg(target_arch = "aarch64")]
const X32_BIT: i64 = 0;

/// The denied calls that have numbers of their own in x32: `execve`, `ptrace`, `rt_sigqueueinfo`,
/// `kexec_load`, `move_pages`, `rt_tgsigqueueinfo`, `process_vm_readv`, `process_vm_writev`,
/// `execveat`.
#[cfg(target_arch = "x86_64")]
const X32_OWN: &[i64] = &[520, 521, 524, 528, 533, 536, 539, 540, 545];
#[cfg(target_arch = "aarch64")]
const X32_OWN: &[i64] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: u32 = 0x7fff_0000;
    const DENIED: u32 = 0x0005_0000 | EPERM;

    /// Answers as the kernel does for a call on this machine.
    fn judge(program: &BpfProgram, number: i64, args: [u64; 6]) -> u32 {
        let arch: u32 = if cfg!(target_arch = "x86_64") {
            0xc000_003e
        } else {
            0xc000_00b7
        };
        // `struct seccomp_data`: the number, the architecture, the calling address, the arguments.
        let number = u32::try_from(number).unwrap();
        let mut data = [number.to_le_bytes(), arch.to_le_bytes()].concat();
        data.extend([0; 8]);
        data.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = &program[at];
            let skip = |yes: bool| usize::from(if yes { step.jt } else { step.jf });
            at += 1;
            match u32::from(step.code) {
                LOAD => {
                    let from = step.k as usize;
                    loaded = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
                }
                AND => loaded &= step.k,
                JUMP => at += step.k as usize,
                JUMP_IF_EQUAL => at += skip(loaded == step.k),
                JUMP_IF_GREATER => at += skip(loaded > step.k),
                JUMP_IF_NOT_LESS => at += skip(loaded >= step.k),
                RETURN => return step.k,
                other => panic!("an instruction that no filter of ours had: {other:#x}"),
            }
        }
    }

    const LOAD: u32 = 0x20;
    const AND: u32 = 0x54;
    const JUMP: u32 = 0x05;
    const JUMP_IF_EQUAL: u32 = 0x15;
    const JUMP_IF_GREATER: u32 = 0x25;
    const JUMP_IF_NOT_LESS: u32 = 0x35;
    const RETURN: u32 = 0x06;

    #[test]
    fn limits_and_signals_are_for_this_process_alone() {
        let program = program(false, false).unwrap();
        let own = u64::from(std::process::id());
        let first = |pid| [pid, 7, 0, 0, 0, 0];
        // The kernel ignores the upper half of a pid.
        let high = 1 << 32;
        for bit in [0, X32_BIT] {
            let limits = libc::SYS_prlimit64 | bit;
            let signal = libc::SYS_tgkill | bit;
            for pid in [0, high] {
                assert_eq!(judge(&program, limits, first(pid)), ALLOWED, "{pid:#x}");
            }
            for pid in [1, own - 1, own + 1, high | 1, u64::from(u32::MAX)] {
                assert_eq!(judge(&program, limits, first(pid)), DENIED, "{pid:#x}");
                assert_eq!(judge(&program, signal, first(pid)), DENIED, "{pid:#x}");
            }
            for pid in [own, high | own] {
                assert_eq!(judge(&program, signal, first(pid)), ALLOWED, "{pid:#x}");
            }
            assert_eq!(judge(&program, signal, first(0)), DENIED);
        }
    }

    #[test]
    fn what_is_on_a_list_is_denied_whatever_its_arguments_and_the_rest_is_allowed() {
        let programs = [(false, false), (true, false), (false, true)];
        let [program, accepting, connecting] =
            programs.map(|(accepts, connects)| program(accepts, connects).unwrap());
        for number in [EVERYWHERE, NEW, HERE].concat() {
            let (taken, made) = (ACCEPT.contains(&number), CONNECT.contains(&number));
            for number in [number, number | X32_BIT] {
                for args in [[0; 6], [u64::MAX; 6]] {
                    assert_eq!(judge(&program, number, args), DENIED, "{number}");
                    let judged = judge(&accepting, number, args);
                    assert_eq!(judged, if taken { ALLOWED } else { DENIED }, "{number}");
                    let judged = judge(&connecting, number, args);
                    assert_eq!(judged, if made { ALLOWED } else { DENIED }, "{number}");
                }
            }
        }
        for number in X32_OWN {
            assert_eq!(judge(&program, number | X32_BIT, [0; 6]), DENIED);
        }
        for number in [
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_linkat,
            libc::SYS_futex,
        ] {
            assert_eq!(judge(&program, number, [0; 6]), ALLOWED);
        }
    }
}
