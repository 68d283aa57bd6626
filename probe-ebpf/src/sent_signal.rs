//! The last signal of each number that a process was sent.
//!
//! `signal_generate` stores the signals, and `sched_process_exit` takes the one that matches the wait status.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::LruHashMap};
use probe_abi::SentSignal;

/// Signals that ask a process to end in order: HUP, INT, QUIT, TERM.
const REQUESTS: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 15;
/// In place of a signal number: the last signal of any number in [`REQUESTS`].
const ANY_REQUEST: u32 = 0;

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
    let _ = SIGNALS.insert(target, sent, u64::from(BPF_ANY));
    if REQUESTS >> (target.signal & 63) & 1 == 1 {
        let any = Target { tgid: target.tgid, signal: ANY_REQUEST };
        let _ = SIGNALS.insert(&any, sent, u64::from(BPF_ANY));
    }
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
