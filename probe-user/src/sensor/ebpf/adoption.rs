//! Connections that a process made before it was watched.
//!
//! The kernel side notes the owner of a connection when it is made: those of watched processes in a map that evicts
//! nothing, all others in one from which the connections of any user displace them. Once a process is watched, its
//! earlier connections are copied to the first map. That is done on a thread: the second map has 4,096 rows, and each is a
//! system call.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use aya::maps::{Array, HashMap, MapData, MapError};
use probe_abi::{OWNERS_PLACES, OWNERS_ROWS};

use super::cgroup_id::CgroupId;
use crate::{bounded_thread, clock::Timestamp, fact::ProcessKey};

/// The layout of the programs' `Owner`: start, cgroups (v2, v1 memory), when it asked, process with parent.
pub(super) type Owner = [u64; 5];

/// The layout of the programs' `Row`: the sockets, each with the number of its place, then the owners.
type Row = [u64; OWNERS_PLACES + OWNERS_PLACES * size_of::<Owner>() / size_of::<u64>()];

/// The map of the owners of unwatched processes' connections.
pub(super) type UnwatchedOwners = Array<MapData, Row>;

/// The sockets in a row, with their owners.
fn connections(row: &Row) -> impl Iterator<Item = (u64, Owner)> + '_ {
    let (tags, owners) = row.split_at(OWNERS_PLACES);
    let owners = owners.as_chunks().0.iter().copied();
    let taken = tags.iter().zip(owners).filter(|(tag, _)| **tag != 0);
    taken.map(|(tag, owner)| (tag & !(OWNERS_PLACES as u64 - 1), owner))
}

/// A map of the owners of connections, by the address of the socket.
#[derive(Clone, Debug)]
pub(super) struct Owners(Arc<Mutex<HashMap<MapData, u64, Owner>>>);

/// `BPF_NOEXIST`: an entry of the kernel side is newer.
const IF_ABSENT: u64 = 1;

impl Owners {
    pub(super) fn new(map: HashMap<MapData, u64, Owner>) -> Self {
        Self(Arc::new(Mutex::new(map)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<MapData, u64, Owner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The process that owns a connection.
pub(super) fn process_of(owner: &Owner) -> u32 {
    owner[4] as u32
}

/// Whose connections are to be moved.
pub(super) struct Whose {
    pub(super) processes: HashSet<u32>,
    pub(super) cgroups: BTreeSet<CgroupId>,
    /// Whether a process was born into the lineage of a watched one.
    pub(super) is_descendant: Box<dyn Fn(ProcessKey) -> bool + Send>,
}

impl Whose {
    fn has(&self, owner: &Owner) -> bool {
        let [start, v2, memory_v1, ..] = *owner;
        let process = ProcessKey { pid: process_of(owner), start: Timestamp::from_nanos(start) };
        self.processes.contains(&process.pid)
            || self.cgroups.contains(&CgroupId::Unified(v2))
            || self.cgroups.contains(&CgroupId::MemoryV1(memory_v1))
            || (self.is_descendant)(process)
    }
}

/// Moves connections, one run at a time.
pub(super) struct Adoption {
    unwatched: Arc<UnwatchedOwners>,
    watched: Owners,
    is_under_way: Arc<AtomicBool>,
}

impl Adoption {
    pub(super) fn new(unwatched: UnwatchedOwners, watched: Owners) -> Self {
        Self { unwatched: Arc::new(unwatched), watched, is_under_way: Arc::default() }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.is_under_way.load(Ordering::Acquire)
    }

    /// Begins a run. False if no thread can be started.
    pub(super) fn begin(&self, whose: Whose) -> bool {
        let (unwatched, watched) = (Arc::clone(&self.unwatched), self.watched.clone());
        let is_under_way = Arc::clone(&self.is_under_way);
        self.is_under_way.store(true, Ordering::Release);
        let started = bounded_thread::start("owners", move || {
            let left_out = adopt(&unwatched, &watched, &whose);
            if left_out > 0 {
                tracing::warn!(
                    "{left_out} connections of services are watched among those of all other processes: the map of \
                     watched ones is full"
                );
            }
            is_under_way.store(false, Ordering::Release);
        });
        if started.is_err() {
            self.is_under_way.store(false, Ordering::Release);
        }
        started.is_ok()
    }
}

/// Copies what belongs to watched processes, and returns how many there was no room for.
fn adopt(unwatched: &UnwatchedOwners, watched: &Owners, whose: &Whose) -> usize {
    let mut left_out = 0;
    for index in 0..OWNERS_ROWS {
        let Ok(row) = unwatched.get(&index, 0) else { continue };
        for (socket, owner) in connections(&row).filter(|(_, owner)| whose.has(owner)) {
            // The lock is not held for long: the loop waits for it when it sweeps.
            let inserted = watched.lock().insert(socket, owner, IF_ABSENT);
            if let Err(error) = inserted {
                left_out += usize::from(is_full(&error));
                continue;
            }
            // The kernel side removes a closed connection from both maps. One that was closed before the insertion is not
            // in the first map any more, and would stay in the second.
            let is_open =
                unwatched.get(&index, 0).is_ok_and(|row| connections(&row).any(|it| it == (socket, owner)));
            let mut watched = watched.lock();
            if !is_open && watched.get(&socket, 0).is_ok_and(|now| now == owner) {
                let _ = watched.remove(&socket);
            }
        }
    }
    left_out
}

fn is_full(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::E2BIG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_connections_of_its_taken_places() {
        let mut row: Row = [0; 48];
        assert_eq!(connections(&row).count(), 0);
        row[3] = 0xffff_8880_0000_1000 | 3;
        row[8 + 3 * 5..8 + 4 * 5].copy_from_slice(&[1, 2, 3, 4, 5]);
        let found: Vec<_> = connections(&row).collect();
        assert_eq!(found, [(0xffff_8880_0000_1000, [1, 2, 3, 4, 5])]);
    }
}
