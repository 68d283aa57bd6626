//! What is read from a `task_struct`, wherever a hook gets one from.

use aya_ebpf::helpers::{bpf_get_current_task, generated};
use probe_abi::COMM_LEN;

use crate::field::{offsets, pointer, read};

offsets! {
    /// `task_struct.tgid`
    OFF_TASK_TGID;
    /// `task_struct.pid`
    OFF_TASK_PID;
    /// `task_struct.group_leader`
    OFF_TASK_GROUP_LEADER;
    /// `task_struct.real_parent`
    OFF_TASK_REAL_PARENT;
    /// `task_struct.start_boottime`, once called `real_start_time`
    OFF_TASK_START_BOOTTIME;
    /// `task_struct.comm`
    OFF_TASK_COMM;
    /// `task_struct.mm`
    OFF_TASK_MM;
    /// `task_struct.signal`
    OFF_TASK_SIGNAL;
    /// `task_struct.thread_pid`
    OFF_TASK_THREAD_PID;
    /// `task_struct.real_cred`
    OFF_TASK_REAL_CRED;
    /// `task_struct.exit_code`
    OFF_TASK_EXIT_CODE;
    /// `cred.uid`
    OFF_CRED_UID;
    /// `pid.level`
    OFF_PID_LEVEL;
    /// `pid.numbers`, an array of `upid`
    OFF_PID_NUMBERS;
    /// `upid.nr`
    OFF_UPID_NR;
    /// Size of `upid`, not an offset
    SIZE_UPID;
}

/// Deepest nesting of pid namespaces, the kernel's `MAX_PID_NS_LEVEL`.
const MAX_PID_NS_LEVEL: u32 = 32;

/// Address of the task this program runs in.
#[inline(always)]
pub fn current() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() }
}

/// Thread group id.
#[inline(always)]
pub fn tgid(task: u64) -> u32 {
    read(task, &OFF_TASK_TGID).unwrap_or(0)
}

/// First thread of the group, which carries the identity of the process.
#[inline(always)]
pub fn leader(task: u64) -> u64 {
    pointer(task, &OFF_TASK_GROUP_LEADER)
}

/// The parent by birth or adoption; a debugger does not count.
#[inline(always)]
pub fn parent(task: u64) -> u64 {
    pointer(task, &OFF_TASK_REAL_PARENT)
}

/// Start of the task, `CLOCK_BOOTTIME` nanoseconds.
#[inline(always)]
pub fn start_ns(task: u64) -> u64 {
    read(task, &OFF_TASK_START_BOOTTIME).unwrap_or(0)
}

/// Real user id in the initial user namespace.
#[inline(always)]
pub fn uid(task: u64) -> u32 {
    read(pointer(task, &OFF_TASK_REAL_CRED), &OFF_CRED_UID).unwrap_or(0)
}

/// The task's id in its own, innermost pid namespace, and how deep that is nested (0: the initial one).
#[inline(always)]
pub fn namespaced_pid(task: u64) -> (u32, u32) {
    let pid = pointer(task, &OFF_TASK_THREAD_PID);
    let level: u32 = read(pid, &OFF_PID_LEVEL).unwrap_or(0);
    if pid == 0 || level > MAX_PID_NS_LEVEL {
        return (0, 0);
    }
    let entry = pid
        .wrapping_add(u64::from(OFF_PID_NUMBERS.load()))
        .wrapping_add(u64::from(level) * u64::from(SIZE_UPID.load()));
    (read(entry, &OFF_UPID_NR).unwrap_or(0), level)
}

/// Writes the current thread's `comm`.
///
/// # Safety
/// `to` must be memory of this program's.
#[inline(always)]
pub unsafe fn copy_current_comm(to: *mut [u8; COMM_LEN]) {
    // SAFETY: the caller vouches for `to`, which is COMM_LEN bytes long.
    unsafe { generated::bpf_get_current_comm(to.cast(), COMM_LEN as u32) };
}
