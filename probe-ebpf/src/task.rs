//! Reads from a `task_struct`.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task, generated, generated::bpf_get_current_task_btf,
    },
};
use probe_abi::COMM_LEN;

use crate::field::{is_typed, offsets, pointer, read, typed};

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
    /// `upid.ns`
    OFF_UPID_NS;
    /// `pid_namespace.ns.inum`
    OFF_PIDNS_INUM;
    /// Size of `upid`, not an offset
    SIZE_UPID;
}

/// Nesting depth of the daemon's pid namespace; 0 for the initial one, whose ids need no translation.
#[unsafe(no_mangle)]
static PIDNS_LEVEL: Global<u32> = Global::new(0);

/// Inode of the daemon's pid namespace; 0 for the initial one.
#[unsafe(no_mangle)]
static PIDNS_INODE: Global<u32> = Global::new(0);

/// Returns the nesting depth of the caller's pid namespace. The daemon never attaches it. It runs it once
/// (`BPF_PROG_TEST_RUN`), because no file tells a process in a namespace how many namespaces are above.
///
/// The macro for raw tracepoints would discard the returned value.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn pid_namespace_level(_: *mut c_void) -> u32 {
    level_of(pointer(current(), &OFF_TASK_THREAD_PID))
}

#[inline(always)]
pub fn current() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() }
}

/// Thread group id in the daemon's pid namespace; 0 for a process outside it.
#[inline(always)]
pub fn tgid(task: u64) -> u32 {
    // No branch for the verifier: the global is frozen.
    if PIDNS_LEVEL.load() == 0 { read(task, &OFF_TASK_TGID) } else { translated(leader(task)) }
}

/// [`tgid`] of the current task. In the initial namespace a helper returns it without a read.
#[inline(always)]
pub fn current_tgid(current: u64) -> u32 {
    if PIDNS_LEVEL.load() == 0 { (bpf_get_current_pid_tgid() >> 32) as u32 } else { tgid(current) }
}

/// Address of the current task, for [`typed`] reads.
#[inline(always)]
pub fn current_typed() -> u64 {
    if !is_typed() {
        return current();
    }
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task_btf() as u64 }
}

/// [`leader`], by typed reads. It does not test whether the task is the leader itself: the verifier would follow both
/// branches to the end of the program.
#[inline(always)]
pub fn typed_leader(task: u64) -> u64 {
    typed(task, &OFF_TASK_GROUP_LEADER)
}

/// [`parent`], by typed reads.
#[inline(always)]
pub fn typed_parent(task: u64) -> u64 {
    typed(task, &OFF_TASK_REAL_PARENT)
}

/// [`tgid`], by typed reads.
#[inline(always)]
pub fn typed_tgid(task: u64) -> u32 {
    if PIDNS_LEVEL.load() == 0 { typed(task, &OFF_TASK_TGID) } else { tgid(task) }
}

/// [`start_ns`], by typed reads.
#[inline(always)]
pub fn typed_start_ns(task: u64) -> u64 {
    typed(task, &OFF_TASK_START_BOOTTIME)
}

/// Thread id in the daemon's pid namespace; 0 like [`tgid`].
#[inline(always)]
pub fn tid(task: u64) -> u32 {
    if PIDNS_LEVEL.load() == 0 { read(task, &OFF_TASK_PID) } else { translated(task) }
}

/// Whether a [`tgid`] stands for a process outside the daemon's pid namespace.
#[inline(always)]
pub fn is_outside_namespace(tgid: u32) -> bool {
    PIDNS_LEVEL.load() != 0 && tgid == 0
}

/// A task's id in the daemon's pid namespace; 0 outside it.
#[inline(always)]
fn translated(task: u64) -> u32 {
    let level = PIDNS_LEVEL.load();
    let pid = pointer(task, &OFF_TASK_THREAD_PID);
    let entry = number_at(pid, level);
    let inode: u32 = read(pointer(entry, &OFF_UPID_NS), &OFF_PIDNS_INUM);
    // Past the end of a shorter list, memory may hold anything, this inode included.
    if level_of(pid) >= level && inode == PIDNS_INODE.load() { read(entry, &OFF_UPID_NR) } else { 0 }
}

/// Inode of the innermost pid namespace that a task is in.
#[inline(always)]
pub fn pid_namespace(task: u64) -> u32 {
    let pid = pointer(task, &OFF_TASK_THREAD_PID);
    read(pointer(number_at(pid, level_of(pid)), &OFF_UPID_NS), &OFF_PIDNS_INUM)
}

#[inline(always)]
fn level_of(pid: u64) -> u32 {
    read(pid, &OFF_PID_LEVEL)
}

/// Address of the `upid` at a level of a `pid`.
#[inline(always)]
fn number_at(pid: u64, level: u32) -> u64 {
    pid.wrapping_add(u64::from(OFF_PID_NUMBERS.load()))
        .wrapping_add(u64::from(level).wrapping_mul(u64::from(SIZE_UPID.load())))
}

/// First thread of the group, whose start and id identify the process.
#[inline(always)]
pub fn leader(task: u64) -> u64 {
    pointer(task, &OFF_TASK_GROUP_LEADER)
}

/// The real parent: not a debugger.
#[inline(always)]
pub fn parent(task: u64) -> u64 {
    pointer(task, &OFF_TASK_REAL_PARENT)
}

/// Start of the task, `CLOCK_BOOTTIME` nanoseconds.
#[inline(always)]
pub fn start_ns(task: u64) -> u64 {
    read(task, &OFF_TASK_START_BOOTTIME)
}

/// Real user id, in the initial user namespace.
#[inline(always)]
pub fn uid(task: u64) -> u32 {
    read(pointer(task, &OFF_TASK_REAL_CRED), &OFF_CRED_UID)
}

/// Nesting depth of the task's innermost pid namespace (0: the initial one), by typed reads.
#[inline(always)]
pub fn namespace_level(task: u64) -> u32 {
    typed(typed(task, &OFF_TASK_THREAD_PID), &OFF_PID_LEVEL)
}

/// The task's id in its own, innermost pid namespace.
#[inline(always)]
pub fn namespaced_pid(task: u64) -> u32 {
    let pid = pointer(task, &OFF_TASK_THREAD_PID);
    read(number_at(pid, level_of(pid)), &OFF_UPID_NR)
}

/// # Safety
/// `to` must be memory of this program.
#[inline(always)]
pub unsafe fn copy_current_comm(to: *mut [u8; COMM_LEN]) {
    // SAFETY: the caller guarantees `to`, which is COMM_LEN bytes long.
    unsafe { generated::bpf_get_current_comm(to.cast(), COMM_LEN as u32) };
}
