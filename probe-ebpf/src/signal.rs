//! `signal_generate`: who sent the signal that a process is about to die of.
//!
//! The last signal of each number is remembered per process, and its exit takes the one that fits. Signals that do
//! nothing or only stop a process by default are not worth the map entry. A stop of a watched process has a record of its
//! own: the process lives, and nothing else would tell.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_cgroup_id, bpf_get_current_uid_gid, bpf_ktime_get_boot_ns},
    macros::{map, raw_tracepoint},
    maps::LruHashMap,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use probe_abi::{COMM_LEN, DropClass, KIND_STOP, ORIGIN_KERNEL, ORIGIN_USER, SignalNote, Stop};

use crate::{
    exit,
    field::{self, offsets, read},
    oom,
    ring::{self, URGENT},
    task, watch,
};

offsets! {
    /// `kernel_siginfo.si_code`
    OFF_SIGINFO_CODE;
}

/// `TRACE_SIGNAL_DELIVERED`: the signal was queued, not ignored or already pending.
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
/// Raised by the kernel.
const SI_KERNEL: i32 = 0x80;

const SIGKILL: u32 = 9;
/// Signals that ask a process to end in order: HUP, INT, QUIT, TERM.
const REQUESTS: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 15;
/// In place of a signal number: the last of [`REQUESTS`], whichever it was.
const ANY_REQUEST: u32 = 0;
/// Signals that do not end a process by default: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 28;

/// Signals that stop a process by default: STOP, TSTP, TTIN, TTOU.
const STOPS: u64 = 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22;

/// A process and the number of a signal it was sent.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Target {
    /// Thread group id of the receiver.
    pub tgid: u32,
    /// Signal number, or [`ANY_REQUEST`].
    pub signal: u32,
}

/// The last signal by receiver and number, so that one the process handles does not hide the one it dies of.
#[map]
static SIGNALS: LruHashMap<Target, SignalNote> = LruHashMap::with_max_entries(8192, 0);

/// Program for the raw tracepoint `signal_generate(int sig, siginfo *info, task *task, int group, int result)`.
#[raw_tracepoint(tracepoint = "signal_generate")]
pub fn signal_generate(ctx: RawTracePointContext) -> i32 {
    let signal = ctx.arg::<u64>(0) as u32;
    let info = ctx.arg::<u64>(1);
    if ctx.arg::<u64>(4) as u32 as u64 != DELIVERED || signal > 64 {
        return 0;
    }
    // The shift is masked, so 64 stands for bit 0, which is free.
    let stop = STOPS >> (signal & 63) & 1 == 1;
    if HARMLESS >> (signal & 63) & 1 == 1 && !stop {
        return 0;
    }
    let receiver = ctx.arg::<u64>(2);
    let target = Target { tgid: task::tgid(receiver), signal };
    if task::is_elsewhere(target.tgid) || (stop && !watch::process(target.tgid)) {
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
    let mut note = SignalNote {
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
    // SAFETY: the note is on this program's stack.
    unsafe { field::copy(&raw mut note.sender_comm, sender, &task::OFF_TASK_COMM) };
    if stop {
        tell_stop(receiver, target.tgid, &note);
        return 0;
    }
    let _ = SIGNALS.insert(&target, &note, u64::from(BPF_ANY));
    if REQUESTS >> (signal & 63) & 1 == 1 {
        let any = Target { tgid: target.tgid, signal: ANY_REQUEST };
        let _ = SIGNALS.insert(&any, &note, u64::from(BPF_ANY));
    }
    0
}

#[inline(always)]
fn tell_stop(receiver: u64, tgid: u32, note: &SignalNote) {
    let Some(mut entry) = URGENT.reserve::<Stop>(0) else {
        ring::count_drop(DropClass::Stop);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is the size of a `Stop`; every field is written.
    unsafe {
        ring::write_header(record, KIND_STOP);
        (*record).start_ns = task::start_ns(task::leader(receiver));
        (*record).tgid = tgid;
        (*record).pad = 0;
        exit::write_note(&raw mut (*record).signal, Some(note));
    }
    entry.submit(ring::WAKE);
}

/// Who is behind a signal, from the way it was sent. What a process says about itself in `si_pid` is not asked.
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

/// The signal a process ended by, or for a `signal` of 0 the last request to end that it got: what an exit by code may
/// be the answer to. One sent before `start_ns` was for somebody else who had the same process id.
#[inline(always)]
pub fn last(tgid: u32, signal: u32, start_ns: u64) -> Option<*const SignalNote> {
    let note = SIGNALS.get_ptr(Target { tgid, signal })?;
    // SAFETY: the lookup returned a valid entry.
    if unsafe { (*note).at_ns } < start_ns { None } else { Some(note) }
}
