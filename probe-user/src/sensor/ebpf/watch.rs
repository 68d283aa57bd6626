//! The maps through which the daemon says what the eBPF programs watch.

use std::{
    io::ErrorKind::PermissionDenied,
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::{HashMap, MapData, MapError};
use probe_abi::{DESCENDANTS_MAX, HIERARCHY_MEMORY_V1, HIERARCHY_UNIFIED, START_UNIT_NS, WATCHED_OWNERS_MAX};

use super::{
    adoption::{Adoption, Owners, UnwatchedOwners, Whose, process_of},
    cgroup_id::CgroupId,
    prefilter::Prefilter,
};
use crate::{fact::ProcessKey, host::is_there};

/// Size of the map `WATCHED_TGID`.
const PROCESSES_MAX: usize = 4096;

/// The map is full (4096 entries; ports 1024), or the kernel refused the change.
#[derive(Debug, thiserror::Error)]
#[error("{what}: cannot change its watch: {source}")]
pub struct WatchError {
    what: String,
    source: MapError,
}

/// A local TCP port in its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchedPort {
    /// Inode of the network namespace (`/proc/PID/ns/net`).
    pub netns: u32,
    pub port: u16,
}

/// The living descendants of watched processes, with their lineages. The eBPF programs add them at fork.
#[derive(Clone, Debug)]
pub struct Lineages(
    // The layout of `probe_abi::Descendant`: start, lineage.
    Arc<Mutex<HashMap<MapData, u32, [u64; 2]>>>,
);

impl Lineages {
    pub(super) fn new(map: HashMap<MapData, u32, [u64; 2]>) -> Self {
        Self(Arc::new(Mutex::new(map)))
    }

    /// Number of descendants in all lineages. It reads every entry.
    pub fn count(&self) -> usize {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // If the last key was removed meanwhile, the kernel starts again at the first one.
        map.keys().take(Self::limit()).filter(Result::is_ok).count()
    }

    /// Ids of all descendants; `None` if the map changes faster than it can be read.
    fn ids(&self) -> Option<Vec<u32>> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all_keys(map.keys(), Self::limit())
    }

    /// Ids of the descendants in a lineage. It reads every entry.
    pub fn members(&self, lineage: u32) -> Vec<u32> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = map.iter().take(Self::limit()).filter_map(Result::ok);
        entries.filter(|(_, [_, of])| *of == u64::from(lineage)).map(|(pid, _)| pid).collect()
    }

    /// Size of the map.
    pub const fn limit() -> usize {
        DESCENDANTS_MAX as usize
    }

    /// The lineage that a living process was born into.
    pub fn of(&self, process: ProcessKey) -> Option<u32> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [start, lineage] = map.get(&process.pid, 0).ok()?;
        let same = start == process.start.as_nanos() / START_UNIT_NS;
        u32::try_from(lineage).ok().filter(|lineage| same && *lineage != 0)
    }
}

pub struct Watched {
    processes: HashMap<MapData, u32, u32>,
    lineages: Lineages,
    // The layout of `probe_abi::CgroupKey`: hierarchy, id.
    cgroups: HashMap<MapData, [u64; 2], u32>,
    // The layout of `probe_abi::PortKey`: namespace, port.
    ports: HashMap<MapData, [u32; 2], u32>,
    owners: Owners,
    adoption: Adoption,
    /// A process or a cgroup is watched since the last adoption.
    has_new: bool,
    prefilter: Prefilter,
}

impl Watched {
    pub fn new(
        processes: HashMap<MapData, u32, u32>,
        lineages: Lineages,
        cgroups: HashMap<MapData, [u64; 2], u32>,
        ports: HashMap<MapData, [u32; 2], u32>,
        owners: Owners,
        unwatched_owners: UnwatchedOwners,
        prefilter: Prefilter,
    ) -> Self {
        let adoption = Adoption::new(unwatched_owners, owners.clone());
        Self { processes, lineages, cgroups, ports, owners, adoption, has_new: false, prefilter }
    }

    /// Whether the kernel denies even a lookup.
    pub fn is_refused(&self) -> bool {
        let lookup = self.processes.get(&0, 0);
        matches!(lookup, Err(MapError::SyscallError(error)) if error.io_error.kind() == PermissionDenied)
    }

    pub fn add_process(&mut self, pid: u32, lineage: u32) -> Result<(), WatchError> {
        self.has_new = true;
        self.processes
            .insert(pid, lineage, 0)
            .and_then(|()| self.prefilter.add_process(pid))
            .map_err(|it| failed(&pid, it))
    }

    pub fn add_descendant(&mut self, process: ProcessKey, lineage: u32) -> Result<(), WatchError> {
        self.has_new = true;
        let descendant = [process.start.as_nanos() / START_UNIT_NS, lineage.into()];
        let mut descendants = self.lineages.0.lock().unwrap_or_else(PoisonError::into_inner);
        descendants
            .insert(process.pid, descendant, 0)
            .and_then(|()| self.prefilter.add_process(process.pid))
            .map_err(|it| failed(&process.pid, it))
    }

    pub fn remove_descendant(&mut self, pid: u32) -> Result<(), WatchError> {
        let mut descendants = self.lineages.0.lock().unwrap_or_else(PoisonError::into_inner);
        absent_is_fine(descendants.remove(&pid)).map_err(|it| failed(&pid, it))
    }

    pub fn lineages(&self) -> Lineages {
        self.lineages.clone()
    }

    pub fn remove_process(&mut self, pid: u32) -> Result<(), WatchError> {
        absent_is_fine(self.processes.remove(&pid)).map_err(|it| failed(&pid, it))
    }

    pub fn add_cgroup(&mut self, cgroup: CgroupId) -> Result<(), WatchError> {
        self.has_new = true;
        self.cgroups
            .insert(key(cgroup), 1, 0)
            .and_then(|()| self.prefilter.add_cgroup(cgroup))
            .map_err(|it| failed(&cgroup, it))
    }

    pub fn remove_cgroup(&mut self, cgroup: CgroupId) -> Result<(), WatchError> {
        absent_is_fine(self.cgroups.remove(&key(cgroup))).map_err(|it| failed(&cgroup, it))?;
        self.prefilter.remove_cgroup(cgroup);
        Ok(())
    }

    /// Reduces the prefilter to the ids that are in the maps now. If a map cannot be read, the prefilter stays as it
    /// is.
    pub fn sweep(&mut self) -> Result<(), WatchError> {
        let watched = all_keys(self.processes.keys(), PROCESSES_MAX);
        self.sweep_owners();
        let (Some(mut ids), Some(mut descendants)) = (watched, self.lineages.ids()) else { return Ok(()) };
        if descendants.len() > Lineages::limit() / 2 {
            // The kernel does not run a program on a CPU that is already running it, so some exits are missed.
            descendants.retain(|&pid| is_there(pid) || self.remove_descendant(pid).is_err());
        }
        ids.extend(descendants);
        self.prefilter.sweep(&ids).map_err(|it| failed(&"prefilter", it))
    }

    /// Begins to move the connections that processes made before they were watched to where no other process's displace
    /// them. Meant to be called about once a second.
    pub fn adopt_connections(&mut self) {
        if !self.has_new || self.adoption.is_under_way() {
            return;
        }
        // A map that cannot be read now is read the next time.
        let Some(processes) = all_keys(self.processes.keys(), PROCESSES_MAX) else { return };
        let lineages = self.lineages();
        let whose = Whose {
            processes: processes.into_iter().collect(),
            cgroups: self.prefilter.cgroups().clone(),
            is_descendant: Box::new(move |process| lineages.of(process).is_some()),
        };
        self.has_new = !self.adoption.begin(whose);
    }

    /// Drops the sockets of processes that are gone, once there are many: a close that was missed leaves its entry.
    fn sweep_owners(&mut self) {
        let limit = WATCHED_OWNERS_MAX as usize;
        let mut owners = self.owners.lock();
        let Some(sockets) = all_keys(owners.keys(), limit).filter(|them| them.len() > limit / 2) else {
            return;
        };
        for socket in sockets {
            let owner = owners.get(&socket, 0);
            if owner.is_ok_and(|owner| !is_there(process_of(&owner))) {
                // It may have been closed meanwhile.
                let _ = owners.remove(&socket);
            }
        }
    }

    pub fn add_port(&mut self, port: WatchedPort) -> Result<(), WatchError> {
        self.ports.insert([port.netns, u32::from(port.port)], 1, 0).map_err(|it| failed(&port, it))
    }
}

/// All keys of a map of at most `limit` entries; `None` if the map changes so fast that the kernel keeps starting
/// again.
fn all_keys<K>(keys: impl Iterator<Item = Result<K, MapError>>, limit: usize) -> Option<Vec<K>> {
    let mut found = Vec::new();
    // After its end, the map's iterator would start again.
    let mut keys = keys.fuse();
    for key in keys.by_ref().take(2 * limit) {
        found.push(key.ok()?);
    }
    keys.next().is_none().then_some(found)
}

fn key(cgroup: CgroupId) -> [u64; 2] {
    match cgroup {
        CgroupId::Unified(id) => [HIERARCHY_UNIFIED, id],
        CgroupId::MemoryV1(id) => [HIERARCHY_MEMORY_V1, id],
    }
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn failed(what: &impl std::fmt::Debug, source: MapError) -> WatchError {
    WatchError { what: format!("{what:?}"), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys as a map gives them: after the last one, the next call begins at the first.
    struct Keys(Vec<u32>, usize);

    impl Iterator for Keys {
        type Item = Result<u32, MapError>;

        fn next(&mut self) -> Option<Self::Item> {
            let key = self.0.get(self.1).copied();
            self.1 = key.map_or(0, |_| self.1 + 1);
            key.map(Ok)
        }
    }

    #[test]
    fn all_keys_of_a_map_are_those_up_to_its_end() {
        assert_eq!(all_keys(Keys(vec![], 0), 2), Some(vec![]));
        assert_eq!(all_keys(Keys(vec![1, 2], 0), 2), Some(vec![1, 2]));
        assert_eq!(all_keys(Keys(vec![1, 2, 3, 4, 5], 0), 2), None, "the kernel keeps starting again");
    }
}
