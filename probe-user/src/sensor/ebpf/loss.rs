//! What the kernel side counted: records that were lost, and exits that nobody asked for.

use aya::maps::{MapData, PerCpuArray};
use probe_abi::{DROP_CLASSES, DropClass, EXITS_FILTERED, EXITS_OUTSIDE_NAMESPACE, EXITS_WANTED};

/// The ring that wakes the daemon, and the one that is collected now and then.
const URGENT: &str = "urgent ring";
const BULK: &str = "bulk ring";

/// Records of one class that never arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Stable name: `exit_watched`, `exit_throttled`, …
    pub class: &'static str,
    /// Where they were lost: the ring they were meant for, or the hook.
    pub place: &'static str,
    /// How many since the last call, or, where the kernel does not say how many, how often.
    pub count: u64,
}

/// Process ends counted since the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// All of them.
    pub exits_seen: u64,
    /// Those no record was wanted for.
    pub exits_filtered: u64,
    /// Those of processes that the daemon's pid namespace does not have.
    pub exits_elsewhere: u64,
}

const CLASSES: [DropClass; DROP_CLASSES as usize] = [
    DropClass::ExitWatched,
    DropClass::ExitUnwatched,
    DropClass::ExitThrottled,
    DropClass::Oom,
    DropClass::Exec,
    DropClass::Listen,
    DropClass::ListenThrottled,
    DropClass::SocketError,
    DropClass::SocketErrorThrottled,
    DropClass::Connect,
    DropClass::AcceptQueue,
    DropClass::Stop,
    DropClass::Cgroup,
];

const fn describe(class: DropClass) -> (&'static str, &'static str) {
    match class {
        DropClass::ExitWatched => ("exit_watched", URGENT),
        DropClass::ExitUnwatched => ("exit_unwatched", URGENT),
        DropClass::ExitThrottled => ("exit_throttled", URGENT),
        DropClass::Oom => ("oom", URGENT),
        DropClass::Exec => ("exec", BULK),
        DropClass::Listen => ("listen", URGENT),
        DropClass::ListenThrottled => ("listen_throttled", URGENT),
        DropClass::SocketError => ("socket_error", URGENT),
        DropClass::SocketErrorThrottled => ("socket_error_throttled", URGENT),
        DropClass::Connect => ("connect", BULK),
        DropClass::AcceptQueue => ("accept_queue", URGENT),
        DropClass::Stop => ("stop", URGENT),
        DropClass::Cgroup => ("cgroup", BULK),
    }
}

/// The counters in the kernel, and what they read the last time.
pub struct Tally {
    drops: PerCpuArray<MapData, u64>,
    exits: PerCpuArray<MapData, u64>,
    reported: [u64; DROP_CLASSES as usize],
}

impl Tally {
    pub fn new(drops: PerCpuArray<MapData, u64>, exits: PerCpuArray<MapData, u64>) -> Self {
        Self { drops, exits, reported: [0; DROP_CLASSES as usize] }
    }

    /// Losses since the last call; `undecodable` are records that arrived but made no sense.
    pub fn losses(&mut self, undecodable: u64) -> Vec<Loss> {
        let mut losses = Vec::new();
        for class in CLASSES {
            let total = sum(&self.drops, class as u32);
            let before = std::mem::replace(&mut self.reported[class as usize], total);
            let (name, place) = describe(class);
            if total > before {
                losses.push(Loss { class: name, place, count: total - before });
            }
        }
        if undecodable > 0 {
            losses.push(Loss { class: "undecodable", place: URGENT, count: undecodable });
        }
        losses
    }

    pub fn counters(&self) -> Counters {
        let [wanted, exits_filtered, exits_elsewhere] =
            [EXITS_WANTED, EXITS_FILTERED, EXITS_OUTSIDE_NAMESPACE].map(|index| sum(&self.exits, index));
        Counters { exits_seen: wanted + exits_filtered + exits_elsewhere, exits_filtered, exits_elsewhere }
    }
}

/// A counter over all CPUs. One that cannot be read counts as 0: the map is ours and has the index.
fn sum(counters: &PerCpuArray<MapData, u64>, index: u32) -> u64 {
    counters.get(&index, 0).map(|it| it.iter().sum()).unwrap_or(0)
}
