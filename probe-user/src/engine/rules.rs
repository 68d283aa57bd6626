//! The consequences of each verdict: one table for the handlers and for the README.
//!
//! A new verdict does not compile before it has a row here.

mod failure;
#[cfg(test)]
mod markdown;

pub use failure::{
    Impact, Mend, NEVER_RIGHT, NEVER_WELL, Obstacle, Origin, UNANSWERED, of as of_failure, of_obstacle,
};

use crate::fact::Verdict;

/// The common properties of all incidents of a verdict.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub action: DefaultAction,
    pub severity: SeverityRule,
    pub alert: AlertRule,
    pub ends: EndRule,
    pub blocks: BlockRule,
    pub blame: BlameRule,
    /// The engine judges the probes again while the incident is open, so the verdict can change.
    pub rejudged: bool,
    pub extra: Extra,
}

/// What the engine does unless the policy says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    Restart,
    /// No restart, because it would not help or would do harm.
    Hold,
    /// An alert only.
    Alert,
    /// An event only.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeverityRule {
    Info,
    Warning,
    Critical,
    /// Critical for a service that the configuration calls critical, else a warning.
    OfService,
    /// Critical once nothing is left, else a warning.
    WhenExhausted,
}

/// How long an incident lasts before its receivers are alerted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertRule {
    Never,
    /// It has lasted already, and no restart is in progress.
    AtOnce,
    /// It may soon be over by itself.
    Delayed,
    /// Delayed while a restart may mend it; at once without a restart.
    DelayedIfRestarted,
    /// Delayed if the master has to replace the worker, at once if the worker failed by itself.
    AtOnceIfOwnFault,
    /// As soon as the holders of its connections are known.
    WithHolders,
    /// The cause's incident alerts. Delayed if it does not.
    WithCause,
    /// As soon as the budget is spent.
    WhenBudgetIsSpent,
}

/// What ends an incident besides right answers of all probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndRule {
    Answer,
    /// It has a main process again.
    Running,
    /// It listens again, or was restarted.
    Listening,
    /// No answer is slow.
    InTime,
    WithinLimits,
    /// Its main process is not stopped.
    NotStopped,
    /// No listener of it is full.
    Accepts,
    /// No resource of it grows towards its limit.
    LevelsOff,
    /// No worker has died for a while, if several did in a row.
    WorkersLive,
    /// Nothing else has restarted it for a while.
    Undisturbed,
    /// hostprobe can probe and restart again.
    Able,
    /// No restart waits for the budget of all services.
    Room,
    /// What the host has too much or too little of is within its limit again.
    BelowLimit,
    /// The host reports no more of it for a while.
    Quiet,
    /// Each host of the fleet is heard again.
    Heard,
}

/// Whether the service's incident is a cause for those that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockRule {
    Never,
    Always,
    /// A slow service still answers. One that times out is of no use to others.
    UnlessDegraded,
    /// The cause is a third service.
    Held,
}

/// Whether a failed dependency explains the incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlameRule {
    Never,
    /// Only when the incident opens, and only by a dependency that is no guess.
    WhenFound,
    /// Also by a dependency whose failure is found later.
    Always,
}

/// Properties of few verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    None,
    /// A start waits until the dependencies are healthy.
    AwaitsDependencies,
    /// The daemon takes a snapshot of the processes before a restart.
    Snapshot,
    /// The incident names the holders of its connections. The policy `pool_exhausted` decides.
    Holders,
    /// The policy `memory_full` decides.
    MemoryPolicy,
    /// The policy `backlog_full` decides.
    BacklogPolicy,
    /// The policy `exhausting` decides, and a restart waits for a window of maintenance.
    InMaintenance,
}

impl EndRule {
    /// Whether the first right answer ends the incident.
    pub fn is_answer(self) -> bool {
        match self {
            Self::Answer | Self::Running | Self::Listening | Self::NotStopped => true,
            Self::InTime
            | Self::WithinLimits
            | Self::Accepts
            | Self::LevelsOff
            | Self::WorkersLive
            | Self::Undisturbed
            | Self::Able
            | Self::Room
            | Self::BelowLimit
            | Self::Quiet
            | Self::Heard => false,
        }
    }
}

impl AlertRule {
    /// Whether an incident that is over in time causes no alert.
    pub fn is_silent(self) -> bool {
        matches!(self, Self::Never | Self::WithCause)
    }
}

/// The rule of a verdict.
#[rustfmt::skip] // A table reads best as one.
pub const fn of(verdict: Verdict) -> Rule {
    use AlertRule::{AtOnce, AtOnceIfOwnFault, Delayed, DelayedIfRestarted, WhenBudgetIsSpent, WithCause, WithHolders};
    use BlameRule::WhenFound;
    use BlockRule::{Held, UnlessDegraded};
    use DefaultAction::{Alert, Hold, Nothing, Restart};
    use EndRule::{Able, Accepts, Answer, BelowLimit, Heard, InTime, LevelsOff, Listening, NotStopped, Quiet, Room, Running, Undisturbed, WithinLimits, WorkersLive};
    use Extra::{AwaitsDependencies, BacklogPolicy, Holders, InMaintenance, MemoryPolicy, None, Snapshot};
    use SeverityRule::{Critical, Info, OfService, Warning, WhenExhausted};
    type Block = BlockRule;
    type Blame = BlameRule;

    //                            action   severity   alert               ends          blocks others   may be another's fault
    let (action, severity, alert, ends, blocks, blame, rejudged, extra) = match verdict {
        Verdict::Crashed        => (Restart, OfService, DelayedIfRestarted, Answer,       Block::Always,  Blame::Never,  false, None),
        Verdict::Exited         => (Restart, OfService, DelayedIfRestarted, Answer,       Block::Always,  Blame::Always, false, AwaitsDependencies),
        Verdict::OomKilled      => (Restart, OfService, DelayedIfRestarted, Answer,       Block::Always,  Blame::Never,  false, None),
        Verdict::Killed         => (Restart, OfService, DelayedIfRestarted, Answer,       Block::Always,  Blame::Never,  false, None),
        Verdict::Stopped        => (Nothing, Info,      AlertRule::Never,   Running,      Block::Always,  Blame::Never,  false, None),
        Verdict::StartFailed    => (Hold,    OfService, DelayedIfRestarted, Answer,       Block::Always,  Blame::Always, false, None),
        Verdict::NotListening   => (Restart, OfService, DelayedIfRestarted, Listening,    Block::Always,  Blame::Always, false, None),
        Verdict::Hung           => (Restart, OfService, DelayedIfRestarted, NotStopped,   Block::Always,  Blame::Always, false, Snapshot),
        Verdict::Paused         => (Hold,    Warning,   Delayed,            NotStopped,   Block::Always,  Blame::Never,  true,  None),
        Verdict::Unhealthy      => (Restart, OfService, DelayedIfRestarted, Answer,       Block::Always,  Blame::Always, false, None),
        Verdict::WorkerDied     => (Alert,   Warning,   AtOnceIfOwnFault,   WorkersLive,  Block::Never,   Blame::Never,  true,  None),
        Verdict::Slow           => (Alert,   Warning,   AtOnce,             InTime,       Block::Never,   Blame::Never,  true,  None),
        Verdict::LimitExceeded  => (Alert,   Warning,   Delayed,            WithinLimits, Block::Never,   Blame::Never,  true,  None),
        Verdict::Exhausting     => (Alert,   Warning,   AtOnce,             LevelsOff,    Block::Never,   Blame::Never,  true,  InMaintenance),
        Verdict::BacklogFull    => (Alert,   OfService, AtOnce,             Accepts,      Block::Never,   Blame::Never,  true,  BacklogPolicy),
        Verdict::Overloaded     => (Hold,    Warning,   Delayed,            InTime,       UnlessDegraded, WhenFound,     true,  None),
        Verdict::DependencyDown => (Hold,    OfService, WithCause,          Answer,       Held,           Blame::Never,  true,  None),
        Verdict::Unhealed       => (Restart, OfService, DelayedIfRestarted, Answer,       Block::Always,  Blame::Always, false, None),
        Verdict::PoolExhausted  => (Alert,   OfService, WithHolders,        Answer,       Block::Always,  Blame::Never,  true,  Holders),
        Verdict::MemoryFull     => (Alert,   OfService, AtOnce,             Answer,       Block::Always,  Blame::Never,  true,  MemoryPolicy),
        Verdict::Network        => (Alert,   OfService, AtOnce,             Answer,       Block::Always,  Blame::Always, true,  None),
        Verdict::CrashLoop      => (Hold,    Critical,  WhenBudgetIsSpent,  Answer,       Block::Always,  Blame::Never,  false, None),
        Verdict::RestartedByOther => (Hold,  Warning,   AtOnce,             Undisturbed,  Block::Never,   Blame::Never,  true,  None),
        Verdict::AgentImpaired  => (Alert,   Critical,  AtOnce,             Able,         Block::Never,   Blame::Never,  false, None),
        Verdict::RestartStorm   => (Hold,    Critical,  AtOnce,             Room,         Block::Never,   Blame::Never,  false, None),
        Verdict::HostSilent       => (Alert,   Critical,      AtOnce,             Heard,        Block::Never,   Blame::Never,  false, None),
        Verdict::HostDiskFull     => (Hold,    WhenExhausted, AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostInodes       => (Hold,    WhenExhausted, AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostReadOnly     => (Hold,    WhenExhausted, AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostMemory       => (Alert,   Warning,       AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostPressure     => (Alert,   Warning,       AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostCpuSteal     => (Alert,   Warning,       AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostPids         => (Hold,    WhenExhausted, AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostFiles        => (Alert,   WhenExhausted, AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostConntrack    => (Hold,    WhenExhausted, AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostPorts        => (Alert,   WhenExhausted, AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostNeighbours   => (Alert,   WhenExhausted, AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostClock        => (Alert,   Warning,       AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
        Verdict::HostRebooted     => (Alert,   Warning,       AtOnce,             Quiet,        Block::Never,   Blame::Never,  false, None),
        Verdict::HostHungTask     => (Alert,   Warning,       AtOnce,             Quiet,        Block::Never,   Blame::Never,  false, None),
        Verdict::HostBlockErrors  => (Alert,   Warning,       AtOnce,             Quiet,        Block::Never,   Blame::Never,  false, None),
        Verdict::HostFsErrors     => (Alert,   Critical,      AtOnce,             Quiet,        Block::Never,   Blame::Never,  false, None),
        Verdict::HostMemoryErrors => (Alert,   Critical,      AtOnce,             Quiet,        Block::Never,   Blame::Never,  false, None),
        Verdict::HostThermal      => (Alert,   Warning,       AtOnce,             BelowLimit,   Block::Never,   Blame::Never,  false, None),
    };
    Rule { action, severity, alert, ends, blocks, blame, rejudged, extra }
}
