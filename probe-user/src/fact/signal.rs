//! The names of signals.

use std::borrow::Cow;

/// A signal's name with its prefix, such as `SIGSEGV`; real-time signals count from `SIGRTMIN`.
pub fn signal_name(number: u8) -> Cow<'static, str> {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    match usize::from(number) {
        at @ 1..=31 => NAMES[at - 1].into(),
        at @ 32..=64 => format!("SIGRTMIN+{}", at - 32).into(),
        _ => format!("signal {number}").into(),
    }
}
