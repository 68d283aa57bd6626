//! What a restart can mend: one table for the verdicts on failed probes and for the documentation.
//!
//! A new failure does not compile before it has a row here. The reason of a hold is in the incident.

use crate::fact::{ProbeFailure, Verdict};

/// What a failure says about a service, and whether a restart could mend it.
#[derive(Clone, Copy, Debug)]
pub struct FailureRule {
    /// The verdict if the service's main process is known to live.
    pub alive: Verdict,
    /// The verdict if no main process is known.
    pub unknown: Verdict,
    /// The verdict if the service is on another host, where nothing is restarted.
    pub remote: Verdict,
    pub mend: Mend,
    pub origin: Origin,
    pub impact: Impact,
    pub reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// A restart can mend it if the probe has succeeded once since the configuration was loaded, or if something else
    /// proves the service at fault. Before that, the probe's address, protocol or expectation may be wrong.
    Restart,
    /// A restart cannot mend it, or would do harm.
    Hold,
    /// The service works, so that no restart is considered.
    Nothing,
}

/// Where such a failure can come from besides the service itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Here,
    /// Another service that does not answer this one can cause it.
    OrElsewhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impact {
    /// The service is of no use to this probe.
    Fails,
    /// The service works, but not as it should.
    Degraded,
    /// Nothing is known of the service: hostprobe could not ask it. It is an incident of hostprobe itself, and the service
    /// keeps its last known state.
    Unknown,
}

/// What keeps a service from answering without a fault of its own. It goes before the failure's own rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A fatal signal ended a process of it, which writes its core dump.
    CoreDump,
    /// Its cgroup is frozen.
    Frozen,
    /// A debugger or another tracer examines its processes.
    Tracer,
    /// Its only event loop is idle while a request waits for its answer.
    KeptBack,
    /// The service lacks the CPU, memory or disk time that others use.
    Overload,
    /// Its connections to other hosts fail.
    Network,
    /// What it connects to refuses it or does not answer it, and hostprobe does not watch that.
    Backend,
    /// Something on the way drops or refuses the connections to its port.
    Filter,
    /// Its main process writes a file from its beginning to its end.
    Writing,
    /// A session of another client holds a lock that each login waits for.
    LockedOut,
    /// More clients connect than it accepts.
    Backlog,
    /// A resource of it grows towards its limit.
    Growth,
}

/// Why [`Mend::Restart`] is a hold before the probe's first right answer.
pub const UNANSWERED: &str =
    "it has never answered this probe: a restart changes neither its address nor its protocol";

/// The same where there are answers.
pub const NEVER_RIGHT: &str =
    "it has never answered this probe rightly: a restart changes neither the question nor what is expected";

/// The same for a check of the user's.
pub const NEVER_WELL: &str =
    "its check has never succeeded: a restart changes neither the check nor its arguments";

impl Obstacle {
    pub const ALL: [Self; 12] = [
        Self::CoreDump,
        Self::Frozen,
        Self::Tracer,
        Self::KeptBack,
        Self::Overload,
        Self::Network,
        Self::Backend,
        Self::Filter,
        Self::Writing,
        Self::LockedOut,
        Self::Backlog,
        Self::Growth,
    ];
}

#[derive(Clone, Copy, Debug)]
pub struct ObstacleRule {
    pub verdict: Verdict,
    pub confidence: f32,
    /// Why a restart does not mend it.
    pub reason: &'static str,
    pub words: &'static str,
}

/// The rule of a failure.
#[rustfmt::skip] // A table reads best as one.
pub const fn of(failure: ProbeFailure) -> FailureRule {
    use Impact::{Degraded, Fails, Unknown};
    use Mend::{Hold, Nothing, Restart};
    use Origin::{Here, OrElsewhere};
    use Verdict::{AgentImpaired, Hung, LimitExceeded, MemoryFull, Network, NotListening, PoolExhausted, Unhealthy};
    type Failure = ProbeFailure;

    //                                 process lives  none is known  other host     mend     origin       impact    reason
    let (alive, unknown, remote, mend, origin, impact, reason) = match failure {
        Failure::Refused            => (NotListening,  Unhealthy,     Unhealthy,     Restart, Here,        Fails,    "nothing listens, and a start opens the listener again"),
        Failure::Timeout            => (Hung,          Unhealthy,     Unhealthy,     Restart, OrElsewhere, Fails,    "a process that answers no more may answer after a start"),
        Failure::ConnectTimeout     => (Hung,          Unhealthy,     Network,       Restart, OrElsewhere, Fails,    "a process that accepts no more may accept after a start"),
        Failure::Reset              => (Unhealthy,     Unhealthy,     Unhealthy,     Restart, OrElsewhere, Fails,    "it breaks off its connections, which a start may end"),
        Failure::Unreachable        => (Network,       Network,       Network,       Hold,    Here,        Fails,    "a restart does not mend the network"),
        Failure::Dns                => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "a restart does not make a name resolve"),
        Failure::Tls                => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "a restart does not change what the two sides accept: certificates, names, versions"),
        Failure::Status             => (Unhealthy,     Unhealthy,     Unhealthy,     Restart, OrElsewhere, Fails,    "it reports a failure of its own, which a start may end"),
        Failure::Body               => (Unhealthy,     Unhealthy,     Unhealthy,     Restart, OrElsewhere, Fails,    "it reports something else than health, which a start may end"),
        Failure::Protocol           => (Unhealthy,     Unhealthy,     Unhealthy,     Restart, OrElsewhere, Fails,    "its answers make no sense, which a start may end"),
        Failure::Auth               => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "the service works and does not let the probe in: a restart gives the probe no rights"),
        Failure::Rejected           => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "the service works and refuses what the probe asks for: a restart does not change the question"),
        Failure::Busy               => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "the service asks for time: a restart would take it"),
        Failure::Upstream           => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    OrElsewhere, Fails,    "the service works, and what is behind it fails: a restart of the one does not mend the other"),
        Failure::TooManyConnections => (PoolExhausted, PoolExhausted, PoolExhausted, Hold,    Here,        Fails,    "a restart would end the connections that it serves"),
        Failure::AccountLimit       => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "only the probe's account has no connection left: a restart would end those of all others"),
        Failure::Connections        => (PoolExhausted, PoolExhausted, PoolExhausted, Hold,    Here,        Degraded, "a restart would end the connections that it serves"),
        Failure::Memory             => (LimitExceeded, LimitExceeded, LimitExceeded, Nothing, Here,        Degraded, "it works, above its limit"),
        Failure::MemoryFull         => (MemoryFull,    MemoryFull,    MemoryFull,    Hold,    Here,        Degraded, "a restart could lose what it stores"),
        Failure::Storage            => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "a restart mends neither its files nor the disk, and a start from damaged files may fail"),
        Failure::Replication        => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "a restart neither brings the primary back nor mends what stopped the replication"),
        Failure::Persistence        => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Degraded, "a restart would lose what the server cannot save"),
        Failure::Cluster            => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    OrElsewhere, Fails,    "the members that lack are others: a restart of this one does not bring them back"),
        Failure::Role               => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "a restart does not change its role"),
        Failure::Lag                => (LimitExceeded, LimitExceeded, LimitExceeded, Nothing, Here,        Degraded, "it works, and a restart would put it further behind"),
        Failure::Transaction        => (LimitExceeded, LimitExceeded, LimitExceeded, Nothing, Here,        Degraded, "it works, and a restart would end the transactions of all"),
        Failure::Wait               => (LimitExceeded, LimitExceeded, LimitExceeded, Nothing, Here,        Degraded, "it works, and a restart would end the work of those that do not wait"),
        Failure::Wraparound         => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Degraded, "only VACUUM frees transaction ids: a restart interrupts it"),
        Failure::PluginWarning      => (LimitExceeded, LimitExceeded, LimitExceeded, Nothing, Here,        Degraded, "its check warns, and does not say that it fails"),
        Failure::PluginCritical     => (Unhealthy,     Unhealthy,     Unhealthy,     Restart, OrElsewhere, Fails,    "its check reports a failure, which a start may end"),
        Failure::PluginUnknown      => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "its check does not know how it is: a restart does not change the check"),
        Failure::PluginTimeout      => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "its check does not end, which says nothing of the service"),
        Failure::Answer             => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "the server works and has other data: a restart does not change it"),
        Failure::NoEcho             => (Network,       Network,       Network,       Hold,    Here,        Fails,    "a restart does not mend the network"),
        Failure::Silent             => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "a restart does not make a job report in"),
        Failure::CannotAsk          => (Unhealthy,     Unhealthy,     Unhealthy,     Hold,    Here,        Fails,    "the probe cannot ask the service anything: a restart does not change the probe"),
        Failure::Local              => (AgentImpaired, AgentImpaired, AgentImpaired, Nothing, Here,        Unknown,  "the daemon lacked what the probe takes before it asked the service anything"),
    };
    FailureRule { alive, unknown, remote, mend, origin, impact, reason }
}

/// The rule of an obstacle.
#[rustfmt::skip]
pub const fn of_obstacle(obstacle: Obstacle) -> ObstacleRule {
    use Verdict::{BacklogFull, Crashed, Exhausting, Network, Overloaded, Paused, Unhealthy};

    let (verdict, confidence, reason, words) = match obstacle {
        Obstacle::CoreDump => (Crashed,    1.0, "the restart waits until the core dump is complete",              "its main process writes its core dump, or timeouts while another process of it does"),
        Obstacle::Frozen   => (Paused,     1.0, "a restart would undo the pause",                                 "timeouts while its cgroup is frozen"),
        Obstacle::Tracer   => (Paused,     1.0, "a restart would end the process that the tracer examines",       "timeouts while a process outside of the service traces it"),
        Obstacle::KeptBack => (Paused,     0.8, "a restart would undo the pause",                                 "a Redis times out while its event loop runs and waits for events: it keeps its answers back, as `CLIENT PAUSE` has it do"),
        Obstacle::Overload => (Overloaded, 0.8, "a restart would take more of what is short",                     "timeouts while the host is pressed or its threads wait for a CPU"),
        Obstacle::Network  => (Network,    0.8, "a restart does not mend the network",                            "a failure of origin *or elsewhere* while its connections to other hosts fail"),
        Obstacle::Backend  => (Unhealthy,  0.8, "a restart does not mend what it connects to",                    "a failure of origin *or elsewhere* while an unwatched server of this host refuses its connections, or a timeout while it waits for an unwatched server"),
        Obstacle::Filter   => (Network,    0.9, "a restart does not open the way to its port",                    "`connect_timeout` while its accept queue has room, or `refused` while it listens: the kernel would have answered"),
        Obstacle::Writing  => (Unhealthy,  0.8, "a restart would cut off what it writes",                         "a timeout while its main process gets ahead in a file that is no log, such as a dump of its data"),
        Obstacle::LockedOut => (Unhealthy, 0.9, "a restart would end all sessions for one that holds a lock",     "a PostgreSQL times out while a process of it says that its client's login waits for a lock"),
        Obstacle::Backlog  => (BacklogFull, 1.0, "a restart refuses the clients that wait, and as many come again", "its accept queue is full for a while, and no probe fails"),
        Obstacle::Growth   => (Exhausting, 0.9, "it works until then, so a restart can wait for a window of maintenance", "a resource will reach its limit within `growth`"),
    };
    ObstacleRule { verdict, confidence, reason, words }
}
