//! The system calls that threads wait in, by number.

/// Those of all machines.
const COMMON: &[(i64, &str)] = &[
    (libc::SYS_accept, "accept"),
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"),
    (libc::SYS_clone, "clone"),
    (libc::SYS_clone3, "clone3"),
    (libc::SYS_close, "close"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_epoll_pwait, "epoll_pwait"),
    (libc::SYS_epoll_pwait2, "epoll_pwait2"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_io_getevents, "io_getevents"),
    (libc::SYS_io_uring_enter, "io_uring_enter"),
    (libc::SYS_msgrcv, "msgrcv"),
    (libc::SYS_msgsnd, "msgsnd"),
    (libc::SYS_msync, "msync"),
    (libc::SYS_nanosleep, "nanosleep"),
    (libc::SYS_newfstatat, "newfstatat"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_ppoll, "ppoll"),
    (libc::SYS_pread64, "pread64"),
    (libc::SYS_pselect6, "pselect6"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_read, "read"),
    (libc::SYS_readv, "readv"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmmsg, "recvmmsg"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_restart_syscall, "restart_syscall"),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend"),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait"),
    (libc::SYS_semop, "semop"),
    (libc::SYS_semtimedop, "semtimedop"),
    (libc::SYS_sendfile, "sendfile"),
    (libc::SYS_sendmmsg, "sendmmsg"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_statx, "statx"),
    (libc::SYS_sync, "sync"),
    (libc::SYS_syncfs, "syncfs"),
    (libc::SYS_wait4, "wait4"),
    (libc::SYS_waitid, "waitid"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
];

/// Those that newer machines do without.
#[cfg(target_arch = "x86_64")]
const OLDER: &[(i64, &str)] = &[
    (libc::SYS_epoll_wait, "epoll_wait"),
    (libc::SYS_lstat, "lstat"),
    (libc::SYS_open, "open"),
    (libc::SYS_pause, "pause"),
    (libc::SYS_poll, "poll"),
    (libc::SYS_select, "select"),
    (libc::SYS_stat, "stat"),
    (libc::SYS_vfork, "vfork"),
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[(i64, &str)] = &[];

/// Waits for work: events, connections, signals.
const IDLE: [&str; 15] = [
    "accept",
    "accept4",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "io_getevents",
    "io_uring_enter",
    "msgrcv",
    "pause",
    "pselect6",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "select",
    "restart_syscall",
    "ppoll",
];

/// Calls that end with `EINTR` when a thread was stopped and goes on, although no signal was handled (`signal(7)`,
/// "Interruption of system calls and library functions by stop signals"). A socket with a timeout of its own
/// (`SO_RCVTIMEO`, `SO_SNDTIMEO`) does so as well, which only its process knows.
const ENDS_IF_STOPPED: [&str; 10] = [
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "io_getevents",
    "io_uring_enter",
    "msgrcv",
    "msgsnd",
    "rt_sigtimedwait",
    "semop",
    "semtimedop",
];

pub fn of(number: i64) -> Option<&'static str> {
    COMMON.iter().chain(OLDER).find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// Whether a server waits in it while it has nothing to do.
pub fn is_idle(name: &str) -> bool {
    IDLE.contains(&name)
}

pub fn ends_if_stopped(number: i64) -> bool {
    of(number).is_some_and(|name| ENDS_IF_STOPPED.contains(&name))
}

/// Whether its first argument is the descriptor of a file that it reads or writes.
pub fn has_descriptor(name: &str) -> bool {
    let of_files =
        ["read", "write", "pread64", "pwrite64", "fsync", "fdatasync", "readv", "writev", "close", "syncfs"];
    of_files.contains(&name)
}
