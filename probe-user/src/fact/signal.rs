//! The names of signals.

/// A signal's name with its prefix, such as `SIGSEGV`; real-time signals count from `SIGRTMIN`.
pub fn signal_name(number: u8) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match usize::from(number) {
        at @ 1..=31 => format!("SIG{}", NAMES[at - 1]),
        at @ 32..=64 => format!("SIGRTMIN+{}", at - 32),
        _ => format!("signal {number}"),
    }
}
