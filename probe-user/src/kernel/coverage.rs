//! Which hooks there are, and whether this kernel lets us have them.

/// One place in the kernel we listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// A process ended.
    Exit,
    /// The OOM killer chose a victim.
    Oom,
    /// A deadly signal was sent; adds the sender to exits.
    Signal,
    /// A process executed a program.
    Exec,
    /// A TCP listener came or went.
    Listen,
}

impl Hook {
    /// Every hook. The ones that add to the records of others come first, so that these are complete from the start.
    pub const ALL: [Self; 5] = [Self::Signal, Self::Exec, Self::Oom, Self::Listen, Self::Exit];

    /// The kernel's name for the place, which is also the name of our program there.
    pub const fn tracepoint(self) -> &'static str {
        match self {
            Self::Exit => "sched_process_exit",
            Self::Oom => "mark_victim",
            Self::Signal => "signal_generate",
            Self::Exec => "sched_process_exec",
            Self::Listen => "inet_sock_set_state",
        }
    }

    /// Short name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Oom => "oom",
            Self::Signal => "signal",
            Self::Exec => "exec",
            Self::Listen => "listen",
        }
    }
}

/// What became of one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCoverage {
    /// The hook.
    pub hook: Hook,
    /// Whether its program is loaded and attached.
    pub attached: bool,
    /// Why not, if not.
    pub reason: Option<String>,
    /// Details its records lack on this kernel, each with the reason. Empty on a kernel that has everything.
    pub lacking: Vec<String>,
}
