//! The last signal of each number that a process was sent.
//!
//! `signal_generate` stores the signals, and `sched_process_exit` takes the one that matches the wait status.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::LruHashMap};
use probe_abi::SentSignal;

/// Signals that ask a process to end in order: HUP, INT, QUIT, TERM.
const REQUESTS: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 15;
/// In place of a signal number: the last signal of any number in [`REQUESTS`].
const ANY_REQUEST: u32 = 0;

/// The longest time a program may clean up between a request to end and its end, in nanoseconds: ten minutes, as for an
/// exit by code.
const CLEANUP_NS: u64 = 600_000_000_000;

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Target {
    pub tgid: u32,
    /// Signal number, or [`ANY_REQUEST`].
    pub signal: u32,
}

/// By receiver and number, so that a signal the process handles does not hide the one it dies of.
#[map]
static SIGNALS: LruHashMap<Target, SentSignal> = LruHashMap::with_max_entries(8192, 0);

#[inline(always)]
pub fn store(target: &Target, sent: &SentSignal) {
    if is_repeated(target, sent) {
        return;
    }
    let _ = SIGNALS.insert(target, sent, u64::from(BPF_ANY));
    if REQUESTS >> (target.signal & 63) & 1 == 1 {
        let any = Target { tgid: target.tgid, signal: ANY_REQUEST };
        let _ = SIGNALS.insert(&any, sent, u64::from(BPF_ANY));
    }
}

/// Whether a process sends itself the request to end that another process sent it shortly before. Programs that clean up
/// first end themselves by the same signal, and the other process is the reason.
#[inline(always)]
fn is_repeated(target: &Target, sent: &SentSignal) -> bool {
    if REQUESTS >> (target.signal & 63) & 1 == 0 || sent.sender_tgid != target.tgid {
        return false;
    }
    let Some(earlier) = SIGNALS.get_ptr(target) else { return false };
    // SAFETY: the lookup returned a valid entry.
    let (by, at_ns) = unsafe { ((*earlier).sender_tgid, (*earlier).at_ns) };
    // The sender is the process itself, so its start is that of the receiver.
    by != target.tgid && at_ns >= sent.sender_start_ns && sent.at_ns.wrapping_sub(at_ns) < CLEANUP_NS
}

/// The signal a process died of. For a `signal` of 0, the last request to end that it got: an exit by code may be the
/// answer to it. A signal sent before `start_ns` was for an earlier process with the same id.
#[inline(always)]
pub fn last(tgid: u32, signal: u32, start_ns: u64) -> Option<*const SentSignal> {
    let sent = SIGNALS.get_ptr(Target { tgid, signal })?;
    // SAFETY: the lookup returned a valid entry.
    if unsafe { (*sent).at_ns } < start_ns { None } else { Some(sent) }
}

/// Copies a signal into a record, or zeros for none.
///
/// # Safety
/// `to` must be in a ring reservation, `from` a map value or on the stack.
#[inline(always)]
pub unsafe fn write(to: *mut SentSignal, from: Option<*const SentSignal>) {
    // SAFETY: the caller guarantees both.
    unsafe {
        match from {
            Some(from) => {
                (*to).at_ns = (*from).at_ns;
                (*to).sender_start_ns = (*from).sender_start_ns;
                (*to).sender_cgroup_v2 = (*from).sender_cgroup_v2;
                (*to).signal = (*from).signal;
                (*to).code = (*from).code;
                (*to).sender_tgid = (*from).sender_tgid;
                (*to).sender_uid = (*from).sender_uid;
                (*to).origin = (*from).origin;
                (*to).pad = 0;
                (*to).sender_comm = (*from).sender_comm;
            }
            None => {
                (*to).at_ns = 0;
                (*to).sender_start_ns = 0;
                (*to).sender_cgroup_v2 = 0;
                (*to).signal = 0;
                (*to).code = 0;
                (*to).sender_tgid = 0;
                (*to).sender_uid = 0;
                (*to).origin = 0;
                (*to).pad = 0;
                (*to).sender_comm = [0; 16];
            }
        }
    }
}
