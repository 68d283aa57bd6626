//! `signal_generate`: a process was sent a signal that may end or stop it.
//!
//! The exit record names the sender of the signal that the process died of, so this program stores deadly signals
//! ([`sent_signal`]). A stop of a watched process is a record of its own, because the process lives on and no other hook
//! reports it. So is the signal of a core dump, which can take minutes until the exit. If the process's own thread causes
//! it, the record says where ([`crash`]).

use aya_ebpf::{
    helpers::{bpf_get_current_cgroup_id, bpf_get_current_uid_gid, bpf_ktime_get_boot_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use probe_abi::{
    ABSENT, COMM_LEN, DropClass, KIND_CORE_SIGNAL, KIND_STOP, ORIGIN_KERNEL, ORIGIN_USER, ReceivedSignal,
    SentSignal,
};

use crate::{
    budget, crash,
    field::{self, offsets, pointer, read},
    oom,
    ring::{self, URGENT},
    sent_signal::{self, Target},
    task, watch,
};

offsets! {
    /// `kernel_siginfo.si_code`
    OFF_SIGINFO_CODE;
    /// `task_struct.sighand`
    OFF_TASK_SIGHAND;
    /// `sighand_struct.action`, an array of `k_sigaction`
    OFF_SIGHAND_ACTION;
    /// `k_sigaction.sa.sa_handler`
    OFF_ACTION_HANDLER;
    /// Size of `k_sigaction`, not an offset
    SIZE_ACTION;
}

/// `TRACE_SIGNAL_DELIVERED`: the signal is queued, neither ignored nor already pending.
const DELIVERED: u64 = 0;
/// `SEND_SIG_NOINFO`: from a process, without a `siginfo`.
const SEND_SIG_NOINFO: u64 = 0;
/// `SEND_SIG_PRIV`: from the kernel, without a `siginfo`.
const SEND_SIG_PRIV: u64 = 1;
/// `kill(2)`.
const SI_USER: i32 = 0;
/// `sigqueue(3)`.
const SI_QUEUE: i32 = -1;
/// `tgkill(2)`.
const SI_TKILL: i32 = -6;
/// A signal that the kernel raised.
const SI_KERNEL: i32 = 0x80;

/// The handler that stands for the default action.
const SIG_DFL: u64 = 0;

const SIGKILL: u32 = 9;
/// Signals that do not end a process by default, so they take no map entry: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 28;
/// Signals that stop a process by default: STOP, TSTP, TTIN, TTOU.
const STOPS: u64 = 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22;
/// Signals that end a process with a core dump by default: QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV, XCPU, XFSZ, SYS.
const DUMPS: u64 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 24 | 1 << 25 | 1 << 31;

/// Program for the raw tracepoint `signal_generate(int sig, siginfo *info, task *task, int group, int result)`.
#[raw_tracepoint(tracepoint = "signal_generate")]
pub fn signal_generate(ctx: RawTracePointContext) -> i32 {
    let signal = ctx.arg::<u64>(0) as u32;
    let info = ctx.arg::<u64>(1);
    if ctx.arg::<u64>(4) as u32 as u64 != DELIVERED || signal > 64 {
        return 0;
    }
    // The mask turns signal 64 into bit 0, which no signal uses.
    let stop = STOPS >> (signal & 63) & 1 == 1;
    if HARMLESS >> (signal & 63) & 1 == 1 && !stop {
        return 0;
    }
    let receiver = ctx.arg::<u64>(2);
    let target = Target { tgid: task::tgid(receiver), signal };
    if task::is_outside_namespace(target.tgid) || (stop && !watch::process(target.tgid)) {
        return 0;
    }
    let (origin, code) = origin(info);
    if signal == SIGKILL && info == SEND_SIG_PRIV {
        oom::remember_candidate(receiver);
    }

    let sender = task::leader(task::current());
    let sender_tgid = task::tgid(sender);
    debug!(&ctx, "signal {} to {} from {}", signal, target.tgid, sender_tgid);
    // SAFETY: the helpers have no preconditions.
    let (at_ns, sender_cgroup_v2) = unsafe { (bpf_ktime_get_boot_ns(), bpf_get_current_cgroup_id()) };
    let mut sent = SentSignal {
        at_ns,
        sender_start_ns: task::start_ns(sender),
        sender_cgroup_v2,
        signal,
        code,
        sender_tgid,
        sender_uid: bpf_get_current_uid_gid() as u32,
        origin,
        pad: 0,
        sender_comm: [0; COMM_LEN],
    };
    // SAFETY: the value is on this program's stack.
    unsafe { field::copy(&raw mut sent.sender_comm, sender, &task::OFF_TASK_COMM) };
    if stop {
        submit(KIND_STOP, receiver, target.tgid, &sent);
        return 0;
    }
    sent_signal::store(&target, &sent);
    if dumps_core(receiver, &target) {
        // Another process's stack says nothing of the receiver.
        if sender_tgid == target.tgid {
            crash::submit(&ctx, info, receiver, target.tgid, &sent);
        } else {
            submit(KIND_CORE_SIGNAL, receiver, target.tgid, &sent);
        }
    }
    0
}

/// Whether a signal ends a watched process with a core dump. A runtime that handles its faults by itself gets thousands of
/// such signals a second.
#[inline(always)]
fn dumps_core(receiver: u64, target: &Target) -> bool {
    if DUMPS >> (target.signal & 63) & 1 == 0 || !watch::process(target.tgid) {
        return false;
    }
    let size = SIZE_ACTION.load();
    if size == ABSENT {
        return false;
    }
    let actions = pointer(receiver, &OFF_TASK_SIGHAND).wrapping_add(u64::from(OFF_SIGHAND_ACTION.load()));
    // The actions begin with that of signal 1.
    let action = actions.wrapping_add(u64::from(target.signal - 1).wrapping_mul(u64::from(size)));
    pointer(action, &OFF_ACTION_HANDLER) == SIG_DFL
}

#[inline(always)]
fn submit(kind: u32, receiver: u64, tgid: u32, sent: &SentSignal) {
    if !budget::take_signal(tgid) {
        ring::count_drop(DropClass::Signal);
        return;
    }
    let Some(mut entry) = URGENT.reserve::<ReceivedSignal>(0) else {
        ring::count_drop(DropClass::Signal);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of a `ReceivedSignal`; every field is written.
    unsafe {
        ring::write_header(record, kind);
        (*record).start_ns = task::start_ns(task::leader(receiver));
        (*record).tgid = tgid;
        (*record).pad = 0;
        sent_signal::write(&raw mut (*record).signal, Some(sent));
    }
    entry.submit(ring::WAKEUP);
}

/// Origin and `si_code` of a signal, from the way it was sent. The program ignores `si_pid`, which a process can choose.
#[inline(always)]
fn origin(info: u64) -> (u32, i32) {
    if info == SEND_SIG_NOINFO {
        return (ORIGIN_USER, SI_USER);
    }
    if info == SEND_SIG_PRIV {
        return (ORIGIN_KERNEL, SI_KERNEL);
    }
    let code = read::<i32>(info, &OFF_SIGINFO_CODE);
    if code == SI_USER || code == SI_QUEUE || code == SI_TKILL {
        (ORIGIN_USER, code)
    } else {
        (ORIGIN_KERNEL, code)
    }
}
