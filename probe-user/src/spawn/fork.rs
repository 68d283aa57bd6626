//! A fork that shares the daemon's memory until the child executes a program, as vfork(2) does, or one that copies it.
//!
//! A copy of the daemon's page tables takes a millisecond or two, and the child has to free it before exec: most of
//! the time between a death and the successor's exec. The C library's `posix_spawn` cannot start a process inside a
//! cgroup before glibc 2.39, and its `clone` never can.

use std::{
    ffi::c_void,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

/// Signals that have a handler get their default action back (`linux/sched.h`, Linux 5.5).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// The child starts in the cgroup of `clone_args.cgroup` (`linux/sched.h`, Linux 5.7).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Whose memory a child has until its exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The daemon's. The calling thread waits for the exec.
    Shared,
    /// A copy of its own. A child that becomes another user must not share the daemon's: that user could stop or trace
    /// it there, and the change of the user would have the kernel refuse core dumps of the daemon.
    Copied,
}

impl Memory {
    fn flags(self) -> libc::c_int {
        match self {
            Self::Shared => libc::CLONE_VM | libc::CLONE_VFORK,
            Self::Copied => 0,
        }
    }
}

/// The child's stack, in bytes. Its calls need a few words each.
const STACK: usize = 64 * 1024;

/// The code of the child.
pub type ChildMain = unsafe extern "C" fn(*const c_void) -> !;

/// Whether a system call filter refused clone3(2). Filters cannot read its flags, so those against namespaces refuse all
/// of it: systemd's with ENOSYS, others with EPERM.
pub fn is_filtered(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// Forks into a cgroup and returns the child's pid. The child runs `child_main` on its own stack.
///
/// # Safety
/// The child shares the daemon's memory with running threads. `child_main` may make only async-signal-safe calls
/// (`signal-safety(7)`), must not write to memory that others use, and must end by exec or `_exit`. It may read
/// what `argument` points to.
pub unsafe fn clone3(
    memory: Memory,
    cgroup: Option<&OwnedFd>,
    child_main: ChildMain,
    argument: *const c_void,
) -> io::Result<i32> {
    let mut stack = Box::<[u128]>::new_uninit_slice(STACK / size_of::<u128>());
    // SAFETY: all zeros are valid for this structure of integers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    // Handlers of the daemon must not run in the child, least of all in the daemon's memory.
    arguments.flags = memory.flags() as u64 | CLONE_CLEAR_SIGHAND;
    arguments.stack = stack.as_mut_ptr() as u64;
    arguments.stack_size = STACK as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: the stack has the given size and outlives its use: with CLONE_VFORK the call returns after that, and
    // without CLONE_VM the child has a copy. The caller guarantees the rest.
    let pid = unsafe { call_clone3(&arguments, child_main, argument) };
    match i32::try_from(pid) {
        Ok(pid) if pid >= 0 => Ok(pid),
        Ok(errno) => Err(io::Error::from_raw_os_error(-errno)),
        Err(_) => Err(io::Error::other("the kernel returned no pid")),
    }
}

/// The same by clone(2), without a cgroup.
///
/// # Safety
/// As for [`clone3`]. `child_main` must give signals their default action before it unblocks them.
pub unsafe fn clone(memory: Memory, child_main: ChildMain, argument: *const c_void) -> io::Result<i32> {
    let mut stack = Box::<[u128]>::new_uninit_slice(STACK / size_of::<u128>());
    let start = Start { child_main, argument };
    // SAFETY: the stack and `start` outlive their use: the call returns after the child's exec, or the child has a copy.
    // All signals are blocked meanwhile, so that no handler of the daemon runs in the child. The caller guarantees the
    // rest.
    let pid = unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before);
        let flags = memory.flags() | libc::SIGCHLD;
        let end = stack.as_mut_ptr_range().end;
        let pid = libc::clone(begin, end.cast(), flags, (&raw const start).cast_mut().cast());
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        if pid < 0 { Err(error) } else { Ok(pid) }
    };
    drop(stack);
    pid
}

/// What a child of [`clone`] runs.
struct Start {
    child_main: ChildMain,
    argument: *const c_void,
}

extern "C" fn begin(start: *mut c_void) -> i32 {
    // SAFETY: `clone` passes a `Start` that outlives the child's use of it.
    unsafe {
        let Start { child_main, argument } = &*start.cast::<Start>();
        child_main(*argument)
    }
}

/// The system call; a negative errno if it failed. It does not return in the child, because the frame belongs to
/// the parent. The child calls `child_main` right after the system call, on the new stack.
///
/// # Safety
/// As for [`clone3`]; the arguments must name a stack.
#[cfg(target_arch = "x86_64")]
unsafe fn call_clone3(arguments: &libc::clone_args, child_main: ChildMain, argument: *const c_void) -> isize {
    let result: isize;
    // SAFETY: the parent sees a system call that changes `rax`, `rcx` and `r11`. The child finds `child_main` and its
    // argument in registers, as they are copied; its stack pointer is the end of the new stack, which is aligned.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            // The first frame on this stack.
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") arguments,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") child_main,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// The same for this architecture.
///
/// # Safety
/// As for [`clone3`]; the arguments must name a stack.
#[cfg(target_arch = "aarch64")]
unsafe fn call_clone3(arguments: &libc::clone_args, child_main: ChildMain, argument: *const c_void) -> isize {
    let result: isize;
    // SAFETY: the parent sees a system call that changes `x0`. The child finds `child_main` and its argument in registers,
    // as they are copied; its stack pointer is the end of the new stack, which is aligned.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            // The first frame on this stack.
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "brk #1",
            "2:",
            inlateout("x0") arguments => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x8") libc::SYS_clone3,
            in("x20") child_main,
            in("x21") argument,
        );
    }
    result
}
