//! What is done to a service, and what hostprobe has to make of it.

/// What a service is, which says what can be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A small HTTP service that fails on request.
    Victim,
    /// The same with little memory.
    Limited,
    /// The same, which crashes at its start while there is a file.
    Looping,
    Redis,
    /// An HTTP service that needs a Redis.
    App,
    /// An nginx before an application, or one that answers by itself.
    Nginx,
    Postgres,
    Mariadb,
    Memcached,
    /// A small HTTP service that hostprobe did not start and cannot restart.
    Remote,
    /// A Redis of that kind.
    RemoteRedis,
}

/// Those that hostprobe starts, by a command each.
const STARTED: &[Role] = &[
    Role::Victim,
    Role::Limited,
    Role::Redis,
    Role::App,
    Role::Nginx,
    Role::Postgres,
    Role::Mariadb,
    Role::Memcached,
];

const VICTIM: &[Role] = &[Role::Victim];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Kill,
    Segfault,
    Abort,
    ExitFailure,
    ExitSuccess,
    OutOfMemory,
    AnswersErrors,
    Hangs,
    ClosesListener,
    Stopped,
    Slow,
    Frozen,
    WorkerKilled,
    CrashLoop,
    Burst,
    RemoteDown,
    OperatorRestarts,
    OperatorStops,
    Reloads,
}

/// What ends a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// hostprobe restarts the service.
    Restart,
    /// What did it undoes it once hostprobe has found it. A restart would be wrong.
    Undone,
    /// A crash loop: hostprobe restarts within the budget and then holds. An operator starts the service again.
    Operator,
    /// The service itself. A restart would be wrong.
    Itself,
    /// It is no fault: there is neither an incident nor a restart.
    NoFault,
}

/// A row of the table of faults.
#[derive(Debug)]
pub struct Kind {
    pub fault: Fault,
    pub name: &'static str,
    pub roles: &'static [Role],
    /// The verdicts with which its incident may open. None of them: there is to be no incident.
    pub verdicts: &'static [&'static str],
    pub end: End,
}

const fn kind(
    fault: Fault,
    name: &'static str,
    roles: &'static [Role],
    verdicts: &'static [&'static str],
    end: End,
) -> Kind {
    Kind { fault, name, roles, verdicts, end }
}

pub const KINDS: &[Kind] = &[
    kind(Fault::Kill, "SIGKILL", STARTED, &["killed"], End::Restart),
    kind(Fault::Segfault, "SIGSEGV", VICTIM, &["crashed"], End::Restart),
    kind(Fault::Abort, "abort()", VICTIM, &["crashed"], End::Restart),
    kind(Fault::ExitFailure, "exit 3", VICTIM, &["exited"], End::Restart),
    kind(Fault::ExitSuccess, "exit 0", VICTIM, &["exited"], End::Restart),
    kind(Fault::OutOfMemory, "out of memory in its cgroup", VICTIM, &["oom_killed"], End::Restart),
    kind(Fault::AnswersErrors, "answers 500", VICTIM, &["unhealthy"], End::Restart),
    kind(Fault::Hangs, "takes connections and never answers", VICTIM, &["hung"], End::Restart),
    kind(Fault::ClosesListener, "closes its listener", VICTIM, &["not_listening"], End::Restart),
    kind(
        Fault::Stopped,
        "SIGSTOP",
        &[Role::Victim, Role::Redis, Role::App, Role::Memcached],
        &["hung"],
        End::Restart,
    ),
    kind(Fault::Slow, "slow answers", VICTIM, &["slow"], End::Undone),
    kind(Fault::Frozen, "its cgroup is frozen", VICTIM, &["paused"], End::Undone),
    kind(Fault::WorkerKilled, "SIGKILL of a worker", &[Role::Nginx], &["worker_died"], End::Itself),
    kind(
        Fault::CrashLoop,
        "crashes at every start",
        &[Role::Looping],
        &["crashed", "crash_loop"],
        End::Operator,
    ),
    kind(
        Fault::Burst,
        "SIGKILL until its budget is spent",
        &[Role::Limited],
        &["killed", "exited", "crash_loop"],
        End::Operator,
    ),
    kind(
        Fault::RemoteDown,
        "down, and not ours to restart",
        &[Role::Remote, Role::RemoteRedis],
        &["unhealthy", "not_listening"],
        End::Undone,
    ),
    kind(Fault::OperatorRestarts, "an operator restarts it", STARTED, &[], End::NoFault),
    kind(Fault::OperatorStops, "an operator stops and starts it", VICTIM, &[], End::NoFault),
    kind(Fault::Reloads, "SIGHUP: it reloads", &[Role::Nginx], &[], End::NoFault),
];

impl Fault {
    /// Its row.
    ///
    /// # Panics
    /// If the table has none.
    pub fn kind(self) -> &'static Kind {
        KINDS.iter().find(|kind| kind.fault == self).expect("each fault has a row")
    }
}
