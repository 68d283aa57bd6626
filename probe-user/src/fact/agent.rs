//! The daemon itself: how it starts, and what it can see.

use std::time::Duration;

use super::Place;

/// How the daemon starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStart {
    /// The configuration file, if there is one.
    pub config_file: Option<String>,
}

/// What the daemon can see, once it watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReady {
    /// Where the daemon runs.
    pub place: Place,
    pub coverage: Vec<HookCoverage>,
    /// The result of the self-test: the delay of a child's exit through the ring, or the reason of a failure.
    pub self_test: Result<Duration, String>,
    /// The number of watched services.
    pub services: u32,
    /// The number of them that hostprobe may restart.
    pub restartable: u32,
}

/// One kernel hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCoverage {
    /// The tracepoint's name.
    pub hook: &'static str,
    /// None if the hook is attached; else the reason.
    pub missing: Option<String>,
    /// The kernel has no such tracepoint, as it lacks what the hook reports about. Nothing is lost by it.
    pub absent: bool,
    /// What reports the same instead, and what it cannot report; None if the hook is attached, or nothing does.
    pub fallback: Option<String>,
    /// What its records lack on this kernel, each with the reason.
    pub lacking: Vec<String>,
}

impl HookCoverage {
    /// How many hooks are attached, and how many could be.
    pub fn counts(coverage: &[Self]) -> (usize, usize) {
        let attached = coverage.iter().filter(|hook| hook.missing.is_none()).count();
        (attached, coverage.iter().filter(|hook| !hook.absent).count())
    }
}
