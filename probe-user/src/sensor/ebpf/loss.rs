//! What the eBPF programs counted: records that were lost, and exits without a record.

use aya::maps::{MapData, PerCpuArray};
use probe_abi::{DROP_CLASSES, DropClass, EXITS_FILTERED, EXITS_OUTSIDE_NAMESPACE, EXITS_WANTED, OWNERS_MAX};

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
    }
}

/// The counters in the kernel, and what they read the last time.
pub struct Tally {
    drops: PerCpuArray<MapData, u64>,
    exits: PerCpuArray<MapData, u64>,
    owners_balance: PerCpuArray<MapData, u64>,
    reported: [u64; DROP_CLASSES as usize],
    evicted: Evicted,
}

/// The owners of unwatched processes' connections that the kernel's map had no room for, as far as they are reported.
#[derive(Debug, Default)]
struct Evicted(u64);

impl Evicted {
    /// How many more are known now. `balance` is the number of entries that the map would have if it had evicted none.
    ///
    /// While the map is full, that is exact. If entries are removed before the next call, it is too few.
    fn more(&mut self, balance: u64) -> u64 {
        // Before the sum is complete it may be negative: CPUs add and remove meanwhile.
        let evicted = balance.cast_signed().saturating_sub(i64::from(OWNERS_MAX)).max(0).cast_unsigned();
        let more = evicted.saturating_sub(self.0);
        self.0 += more;
        more
    }
}

impl Tally {
    pub fn new(
        drops: PerCpuArray<MapData, u64>,
        exits: PerCpuArray<MapData, u64>,
        owners_balance: PerCpuArray<MapData, u64>,
    ) -> Self {
        let (reported, evicted) = ([0; DROP_CLASSES as usize], Evicted::default());
        Self { drops, exits, owners_balance, reported, evicted }
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
        let evicted = self.evicted.more(sum(&self.owners_balance, 0));
        if evicted > 0 {
            losses.push(Loss {
                class: LossClass::SocketOwnerUnwatched,
                place: LossPlace::Map("OWNERS"),
                count: evicted,
            });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evictions_are_what_does_not_fit_and_are_reported_once() {
        let most = u64::from(OWNERS_MAX);
        let mut evicted = Evicted::default();
        // The last of these is -1: a CPU removed what another one is about to have added.
        for balance in [0, most, u64::MAX] {
            assert_eq!(evicted.more(balance), 0);
        }
        assert_eq!(evicted.more(most + 100), 100);
        assert_eq!(evicted.more(most + 100), 0);
        // Entries are removed, and the map is filled again: what was evicted before stays in the balance.
        assert_eq!(evicted.more(most - 500), 0);
        assert_eq!(evicted.more(most + 130), 30);
    }
}
