//! The faults themselves: what ends or fills a process.

use std::thread;

/// Waits for ever.
pub fn hang() -> ! {
    loop {
        thread::park();
    }
}

/// Dies of SIGSEGV. The address is that of a field in a structure at null, because Rust's own checks would
/// turn a write to null itself into an abort.
pub fn write_to_nothing() {
    let nothing = std::ptr::without_provenance_mut::<u8>(std::hint::black_box(8));
    // SAFETY: the page at null is never mapped, so the write changes no memory: it ends the process.
    unsafe { nothing.write_volatile(1) }
}

/// Takes and touches so many megabytes, and keeps them.
pub fn allocate(megabytes: i32) {
    for _ in 0..megabytes {
        let mut block = vec![0_u8; 1 << 20];
        // A page that is never written costs no memory.
        block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        std::mem::forget(std::hint::black_box(block));
    }
}

/// Ends the calling thread alone: the process lives on while another thread does.
pub fn exit_this_thread(code: i32) -> ! {
    // SAFETY: nothing on this thread's stack is borrowed by another one, and no thread joins it.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("the thread has ended")
}

extern "C" fn end_on_signal(_: libc::c_int) {
    exit_this_thread(0);
}

/// Ends every thread but this one, each by itself, and returns when they are gone.
pub fn end_other_threads() {
    let handler = end_on_signal as extern "C" fn(libc::c_int);
    // SAFETY: the handler makes one system call, which is allowed in a signal handler. The threads wait in
    // system calls, so none of them holds a lock that this one needs.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    let (process, own) = (std::process::id() as libc::c_int, rustix::thread::gettid());
    for thread in threads().into_iter().filter(|&thread| thread != own.as_raw_nonzero().get()) {
        // SAFETY: sends a signal that has a handler to a thread of this process.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
    }
    wait_for_main_thread();
    // What is left in the list is this thread and the dead main thread, which stays until the very end.
    while threads().len() > 2 {
        thread::yield_now();
    }
}

fn threads() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Waits until the main thread is a zombie.
pub fn wait_for_main_thread() {
    let stat = format!("/proc/self/task/{}/stat", std::process::id());
    let state = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
    while !std::fs::read_to_string(&stat).is_ok_and(state) {
        thread::yield_now();
    }
}

/// Has a forked child die of SIGSEGV, and waits for its end.
pub fn crash_in_a_child() {
    // SAFETY: the child only writes to memory that is not there, which ends it; it takes no lock.
    match unsafe { libc::fork() } {
        0 => write_to_nothing(),
        child => {
            // SAFETY: waits for the child just made; its status is not asked for.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
    }
}
