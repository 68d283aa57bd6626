//! What the eBPF programs counted: records that were lost, and exits without a record.

use aya::maps::{MapData, PerCpuArray};
use probe_abi::{DROP_CLASSES, DropClass, EXITS_FILTERED, EXITS_OUTSIDE_NAMESPACE, EXITS_WANTED};

use crate::sensor::loss::{Loss, LossClass, LossPlace};

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
    DropClass::Signal,
    DropClass::Cgroup,
    DropClass::SocketOwner,
    DropClass::Descendant,
    DropClass::HostFault,
    DropClass::HostFaultThrottled,
    DropClass::CrashMemory,
    DropClass::SocketOwnerUnwatched,
];

/// What a record of this class is about, and the ring that it is meant for.
const fn describe(class: DropClass) -> (LossClass, LossPlace) {
    match class {
        DropClass::ExitWatched => (LossClass::ExitWatched, LossPlace::UrgentRing),
        DropClass::ExitUnwatched => (LossClass::ExitUnwatched, LossPlace::UrgentRing),
        DropClass::ExitThrottled => (LossClass::ExitThrottled, LossPlace::UrgentRing),
        DropClass::Oom => (LossClass::Oom, LossPlace::UrgentRing),
        DropClass::Exec => (LossClass::Exec, LossPlace::BulkRing),
        DropClass::Listen => (LossClass::Listen, LossPlace::UrgentRing),
        DropClass::ListenThrottled => (LossClass::ListenThrottled, LossPlace::UrgentRing),
        DropClass::SocketError => (LossClass::SocketError, LossPlace::UrgentRing),
        DropClass::SocketErrorThrottled => (LossClass::SocketErrorThrottled, LossPlace::UrgentRing),
        DropClass::Connect => (LossClass::Connect, LossPlace::BulkRing),
        DropClass::AcceptQueue => (LossClass::AcceptQueue, LossPlace::UrgentRing),
        DropClass::Signal => (LossClass::Signal, LossPlace::UrgentRing),
        DropClass::Cgroup => (LossClass::Cgroup, LossPlace::BulkRing),
        DropClass::SocketOwner => (LossClass::SocketOwner, LossPlace::Map("WATCHED_OWNERS")),
        DropClass::Descendant => (LossClass::Descendant, LossPlace::Map("DESCENDANTS")),
        DropClass::HostFault => (LossClass::HostFault, LossPlace::UrgentRing),
        DropClass::HostFaultThrottled => (LossClass::HostFaultThrottled, LossPlace::UrgentRing),
        DropClass::CrashMemory => (LossClass::CrashMemory, LossPlace::BulkRing),
        DropClass::SocketOwnerUnwatched => (LossClass::SocketOwnerUnwatched, LossPlace::Map("OWNERS")),
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
            let (class, place) = describe(class);
            if total > before {
                losses.push(Loss { class, place, count: total - before });
            }
        }
        if undecodable > 0 {
            losses.push(Loss {
                class: LossClass::Undecodable,
                place: LossPlace::UrgentRing,
                count: undecodable,
            });
        }
        losses
    }

    pub fn counters(&self) -> Counters {
        let [wanted, exits_filtered, exits_elsewhere] =
            [EXITS_WANTED, EXITS_FILTERED, EXITS_OUTSIDE_NAMESPACE].map(|index| sum(&self.exits, index));
        Counters { exits_seen: wanted + exits_filtered + exits_elsewhere, exits_filtered, exits_elsewhere }
    }
}

/// A counter over all CPUs. A read that fails counts as 0: the map is ours and has the index.
fn sum(counters: &PerCpuArray<MapData, u64>, index: u32) -> u64 {
    counters.get(&index, 0).map(|it| it.iter().copied().fold(0, u64::wrapping_add)).unwrap_or(0)
}
