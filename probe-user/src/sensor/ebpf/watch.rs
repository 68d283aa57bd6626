//! Tells the kernel side which processes, cgroups and ports matter.

use std::{
    io::ErrorKind::PermissionDenied,
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::{HashMap, MapData, MapError};
use probe_abi::{FAMILIES_MAX, HIERARCHY_MEMORY_V1, HIERARCHY_UNIFIED, START_UNIT_NS};

use super::known::Known;
use crate::fact::ProcessKey;

/// The most processes that can be watched.
const PROCESSES_MAX: usize = 4096;

/// A cgroup: the inode of its directory, and whose numbering that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CgroupId {
    /// In the unified (v2) hierarchy.
    Unified(u64),
    /// In the v1 memory hierarchy.
    MemoryV1(u64),
}

/// A watch could not be set or taken back: the map is full (4096 entries; of ports 1024), or the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot change what is watched ({what}): {source}")]
pub struct WatchError {
    what: String,
    source: MapError,
}

/// A local TCP port, where it means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchedPort {
    /// Inode of the network namespace (`/proc/PID/ns/net`).
    pub netns: u32,
    /// The port.
    pub port: u16,
}

/// Who was born into which family, as far as they live: the kernel side notes it at every fork.
#[derive(Clone, Debug)]
pub struct Families(
    // The layout of `probe_abi::Kin`: start, family.
    Arc<Mutex<HashMap<MapData, u32, [u64; 2]>>>,
);

impl Families {
    pub(super) fn new(map: HashMap<MapData, u32, [u64; 2]>) -> Self {
        Self(Arc::new(Mutex::new(map)))
    }

    /// How many processes there are of all families: a look at every entry.
    pub fn count(&self) -> usize {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the entry that was looked at last is gone, the kernel begins anew.
        map.keys().take(Self::limit()).filter(Result::is_ok).count()
    }

    /// Their ids; `None` if the map changes faster than it can be looked at.
    fn ids(&self) -> Option<Vec<u32>> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all(map.keys(), Self::limit())
    }

    /// The most processes that can be known.
    pub const fn limit() -> usize {
        FAMILIES_MAX as usize
    }

    /// The family that a living process was born into.
    pub fn of(&self, process: ProcessKey) -> Option<u32> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [start, family] = map.get(&process.pid, 0).ok()?;
        let same = start == process.start.as_nanos() / START_UNIT_NS;
        u32::try_from(family).ok().filter(|family| same && *family != 0)
    }
}

/// The maps the kernel side looks into.
pub struct Watched {
    processes: HashMap<MapData, u32, u32>,
    families: Families,
    // The layout of `probe_abi::CgroupKey`: hierarchy, id.
    cgroups: HashMap<MapData, [u64; 2], u32>,
    // The layout of `probe_abi::PortKey`: namespace, port.
    ports: HashMap<MapData, [u32; 2], u32>,
    known: Known,
}

impl Watched {
    pub fn new(
        processes: HashMap<MapData, u32, u32>,
        families: Families,
        cgroups: HashMap<MapData, [u64; 2], u32>,
        ports: HashMap<MapData, [u32; 2], u32>,
        known: Known,
    ) -> Self {
        Self { processes, families, cgroups, ports, known }
    }

    /// Whether even a look is not permitted.
    pub fn is_refused(&self) -> bool {
        let looked = self.processes.get(&0, 0);
        matches!(looked, Err(MapError::SyscallError(error)) if error.io_error.kind() == PermissionDenied)
    }

    pub fn add_process(&mut self, pid: u32, family: u32) -> Result<(), WatchError> {
        self.processes
            .insert(pid, family, 0)
            .and_then(|()| self.known.process(pid))
            .map_err(|it| failed(&pid, it))
    }

    pub fn add_kin(&mut self, process: ProcessKey, family: u32) -> Result<(), WatchError> {
        let kin = [process.start.as_nanos() / START_UNIT_NS, family.into()];
        let mut families = self.families.0.lock().unwrap_or_else(PoisonError::into_inner);
        families
            .insert(process.pid, kin, 0)
            .and_then(|()| self.known.process(process.pid))
            .map_err(|it| failed(&process.pid, it))
    }

    pub fn remove_kin(&mut self, pid: u32) -> Result<(), WatchError> {
        let mut families = self.families.0.lock().unwrap_or_else(PoisonError::into_inner);
        absent_is_fine(families.remove(&pid)).map_err(|it| failed(&pid, it))
    }

    pub fn families(&self) -> Families {
        self.families.clone()
    }

    pub fn remove_process(&mut self, pid: u32) -> Result<(), WatchError> {
        absent_is_fine(self.processes.remove(&pid)).map_err(|it| failed(&pid, it))
    }

    pub fn add_cgroup(&mut self, cgroup: CgroupId) -> Result<(), WatchError> {
        self.cgroups
            .insert(key(cgroup), 1, 0)
            .and_then(|()| self.known.cgroup(cgroup))
            .map_err(|it| failed(&cgroup, it))
    }

    pub fn remove_cgroup(&mut self, cgroup: CgroupId) -> Result<(), WatchError> {
        absent_is_fine(self.cgroups.remove(&key(cgroup))).map_err(|it| failed(&cgroup, it))?;
        self.known.not_cgroup(cgroup);
        Ok(())
    }

    /// Has the kernel side look for those alone who are in the maps now, or are born from now on. Where that cannot be
    /// said, all stays as it is.
    pub fn sweep(&mut self) -> Result<(), WatchError> {
        let watched = all(self.processes.keys(), PROCESSES_MAX);
        let (Some(mut ids), Some(kin)) = (watched, self.families.ids()) else { return Ok(()) };
        ids.extend(kin);
        self.known.sweep(&ids).map_err(|it| failed(&"what is known", it))
    }

    pub fn add_port(&mut self, port: WatchedPort) -> Result<(), WatchError> {
        self.ports.insert([port.netns, u32::from(port.port)], 1, 0).map_err(|it| failed(&port, it))
    }
}

/// All keys of a map of at most `limit`; `None` if somebody changes it so fast that the look begins anew all the time.
fn all(mut keys: impl Iterator<Item = Result<u32, MapError>>, limit: usize) -> Option<Vec<u32>> {
    let mut found = Vec::new();
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
