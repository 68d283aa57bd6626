//! What the kernel side counts: records it could not deliver, and process exits.

/// Why a record was not delivered: the index into the map `DROPS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DropClass {
    /// The urgent ring was full for the exit of a watched process.
    ExitWatched = 0,
    /// The urgent ring was half full for the exit of a process that is unwatched, or watched only for its lineage.
    ExitUnwatched = 1,
    /// A cgroup's budget of such exits, or of those of a service's other processes than its main one, was spent for this
    /// second.
    ExitThrottled = 2,
    /// The urgent ring was full for an OOM kill.
    Oom = 3,
    /// The bulk ring was full for an exec, or half full for that of an unwatched process.
    Exec = 4,
    /// The urgent ring was full for a listener, or half full for that of an unwatched process.
    Listen = 5,
    /// A cgroup's budget of listener changes for this second was spent.
    ListenThrottled = 6,
    /// The urgent ring was half full for the first error of its kind.
    SocketError = 7,
    /// A cgroup's budget of socket errors for this second was spent.
    SocketErrorThrottled = 8,
    /// The bulk ring was half full for a connection.
    Connect = 9,
    /// The urgent ring was half full for a full accept queue.
    AcceptQueue = 10,
    /// The urgent ring was full for a signal to a watched process, or the process's budget for this second was spent.
    Signal = 11,
    /// The bulk ring was half full for a new cgroup.
    Cgroup = 12,
    /// No room for the owner of a watched process's connection: `WATCHED_OWNERS` was full.
    SocketOwner = 13,
    /// No room for a descendant of a watched process: `DESCENDANTS` was full.
    Descendant = 14,
    /// The urgent ring was half full for the first fault of its kind of the host.
    HostFault = 15,
    /// The budget of faults of the host for this second was spent.
    HostFaultThrottled = 16,
    /// The bulk ring was half full for the memory of a stack.
    CrashMemory = 17,
    /// No room for the owner of an unwatched process's connection: it displaced another one from its row of `OWNERS`.
    SocketOwnerUnwatched = 18,
}

/// Number of [`DropClass`] classes.
pub const DROP_CLASSES: u32 = 19;

/// Index into the map `EXITS`: exits of thread groups that a record was wanted for. Each exit is counted once.
pub const EXITS_WANTED: u32 = 0;
/// Index into `EXITS`: exits that no record was wanted for.
pub const EXITS_FILTERED: u32 = 1;
/// Index into `EXITS`: exits of processes outside the daemon's pid namespace.
pub const EXITS_OUTSIDE_NAMESPACE: u32 = 2;
/// Number of counters in `EXITS`.
pub const EXITS_COUNTERS: u32 = 3;
