//! The paths of cgroups by their ids: records hold ids only, and a group may be gone when its last process's exit is
//! handled.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    mem,
};

use crate::{
    fact::Cgroup,
    host::{
        Cgroups,
        cgroup::{self, Hierarchy},
    },
    sensor::record,
};

/// Groups in a generation. So at least this many of the groups that were last asked for are known, whether they still
/// exist or not, and at most twice as many.
const GENERATION: usize = 2048;

#[derive(Debug)]
pub struct Groups {
    cgroups: Cgroups,
    known: RefCell<Known>,
    /// What `/proc` showed of a process in these; at most as many as a generation holds.
    shown: RefCell<HashMap<record::Cgroups, cgroup::Groups>>,
    /// Whether systemd was seen to have groups in a hierarchy of its own. It keeps them.
    systemd_has_groups: Cell<bool>,
}

/// A group that is asked for moves to the younger generation. When that is full, the older one is dropped.
#[derive(Debug, Default)]
struct Known {
    younger: HashMap<(Hierarchy, u64), String>,
    older: HashMap<(Hierarchy, u64), String>,
}

/// The container and unit of a process by its cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    pub container: Option<String>,
    /// The systemd unit.
    pub unit: Option<String>,
}

impl Home {
    fn of<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let mut home = Self::default();
        for path in paths {
            home.container = home.container.or_else(|| cgroup::container_id(path));
            home.unit = home.unit.or_else(|| cgroup::unit_name(path));
        }
        home
    }

    /// Whether this is another container or unit than `home`. An unknown one does not differ.
    pub fn is_away_from(&self, home: &Self) -> bool {
        let differs = |one: &Option<String>, other| one.is_some() && one != other;
        differs(&self.container, &home.container) || differs(&self.unit, &home.unit)
    }
}

impl Groups {
    pub fn new(cgroups: Cgroups) -> Self {
        Self {
            cgroups,
            known: RefCell::default(),
            shown: RefCell::default(),
            systemd_has_groups: Cell::default(),
        }
    }

    /// How many groups are known.
    pub fn len(&self) -> usize {
        let known = self.known.borrow();
        known.younger.len() + known.older.len()
    }

    /// The most groups that can be known.
    pub const fn limit() -> usize {
        2 * GENERATION
    }

    pub fn insert(&self, hierarchy: Hierarchy, group: Cgroup) {
        self.known.borrow_mut().insert((hierarchy, group.id), group.path);
    }

    /// Learns the groups that a process is in by `/proc`.
    pub fn learn(&self, groups: &cgroup::Groups) {
        for (hierarchy, path) in [(Hierarchy::V2, &groups.v2), (Hierarchy::Memory, &groups.memory)] {
            if let Some(path) = path
                && let Some(id) = self.cgroups.id(hierarchy, path)
            {
                self.known.borrow_mut().insert((hierarchy, id), path.clone());
            }
        }
    }

    /// The groups of a process that was in these a moment ago. `/proc` is read for one process of all in the same
    /// groups.
    pub fn of(&self, pid: u32, ids: &record::Cgroups) -> cgroup::Groups {
        if let Some(groups) = self.shown.borrow().get(ids) {
            return groups.clone();
        }
        let groups = self.cgroups.of(pid);
        self.learn(&groups);
        if self.all_share(ids, &groups) {
            let mut shown = self.shown.borrow_mut();
            if shown.len() >= GENERATION {
                shown.clear();
            }
            shown.insert(*ids, groups.clone());
        }
        groups
    }

    /// Whether all processes with these ids are in such groups. That does not hold if the process was moved meanwhile,
    /// nor for the roots, which processes share that another hierarchy separates.
    fn all_share(&self, ids: &record::Cgroups, groups: &cgroup::Groups) -> bool {
        let same = |id: Option<u64>, hierarchy, path: &Option<String>| {
            id == path.as_ref().and_then(|path| self.cgroups.id(hierarchy, path))
        };
        groups.main().is_some_and(|(_, path)| path != "/")
            && same(ids.v2, Hierarchy::V2, &groups.v2)
            && same(ids.memory_v1, Hierarchy::Memory, &groups.memory)
    }

    /// Whether the ids are enough: their paths are known, and systemd has no groups in a hierarchy of its own.
    pub fn say_all(&self, ids: &record::Cgroups) -> bool {
        let known = |id: Option<u64>, hierarchy| id.is_none_or(|id| self.path(hierarchy, id).is_some());
        (ids.v2.is_some() || ids.memory_v1.is_some())
            && known(ids.v2, Hierarchy::V2)
            && known(ids.memory_v1, Hierarchy::Memory)
            && !self.systemd_has_groups()
    }

    /// The host is asked until it has some.
    fn systemd_has_groups(&self) -> bool {
        if !self.systemd_has_groups.get() {
            self.systemd_has_groups.set(self.cgroups.has_groups(Hierarchy::Systemd));
        }
        self.systemd_has_groups.get()
    }

    /// Learns a group that was just made.
    pub fn made(&self, record: record::CgroupMade) {
        if let Some(hierarchy) = self.cgroups.numbered(record.hierarchy).filter(|_| !record.path.is_empty()) {
            self.known.borrow_mut().insert((hierarchy, record.id), record.path);
        }
    }

    /// The group that stands for a process in these, with its path if that is known.
    pub fn main(&self, ids: &record::Cgroups) -> Option<Cgroup> {
        let v2 = ids.v2.map(|id| Cgroup { id, path: self.path(Hierarchy::V2, id).unwrap_or_default() });
        let memory =
            ids.memory_v1.map(|id| Cgroup { id, path: self.path(Hierarchy::Memory, id).unwrap_or_default() });
        // On a host that runs on v1, all processes are in the root of v2.
        let below_root = |group: &Cgroup| !matches!(group.path.as_str(), "" | "/");
        let known = |group: &Cgroup| !group.path.is_empty();
        v2.clone().filter(below_root).or(memory.filter(below_root)).or(v2.filter(known))
    }

    /// The home of a process in these groups, as far as their paths are known.
    pub fn home(&self, ids: &record::Cgroups) -> Home {
        let v2 = ids.v2.and_then(|id| self.path(Hierarchy::V2, id));
        let memory = ids.memory_v1.and_then(|id| self.path(Hierarchy::Memory, id));
        Home::of(v2.iter().chain(&memory).map(String::as_str))
    }

    /// The home of a living process.
    pub fn home_of(&self, pid: u32) -> Home {
        let groups = self.cgroups.of(pid);
        self.learn(&groups);
        Home::of(groups.paths())
    }

    fn path(&self, hierarchy: Hierarchy, id: u64) -> Option<String> {
        let mut known = self.known.borrow_mut();
        if let Some(path) = known.get((hierarchy, id)) {
            return Some(path);
        }
        let path = self.cgroups.path_of(hierarchy, id)?;
        known.insert((hierarchy, id), path.clone());
        Some(path)
    }
}

impl Known {
    fn get(&mut self, key: (Hierarchy, u64)) -> Option<String> {
        if let Some(path) = self.younger.get(&key) {
            return Some(path.clone());
        }
        let path = self.older.remove(&key)?;
        self.insert(key, path.clone());
        Some(path)
    }

    fn insert(&mut self, key: (Hierarchy, u64), path: String) {
        if self.younger.len() >= GENERATION {
            mem::swap(&mut self.older, &mut self.younger);
            self.younger.clear();
        }
        self.younger.insert(key, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn ids(v2: Option<u64>, memory_v1: Option<u64>) -> record::Cgroups {
        record::Cgroups { v2, memory_v1 }
    }

    #[test]
    fn a_group_that_is_gone_is_still_known_by_its_id() {
        for (host, mount, line, memory) in [
            (FakeHost::v2(), "sys/fs/cgroup", "0::", false),
            (FakeHost::hybrid(), "sys/fs/cgroup/unified", "4:memory:/\n0::", false),
            (FakeHost::v1(), "sys/fs/cgroup/memory", "3:cpu,memory:", true),
        ] {
            let path = format!("/system.slice/docker-{ID}.scope");
            let id = host.folder(&format!("{mount}{path}"));
            host.cgroup_file(5, &format!("{line}{path}\n"));
            let groups = Groups::new(host.cgroups());
            groups.learn(&host.cgroups().of(5));
            host.remove(&format!("{mount}{path}"));
            let record = if memory { ids(None, Some(id)) } else { ids(Some(id), None) };
            assert_eq!(groups.main(&record), Some(Cgroup { id, path: path.clone() }), "{mount}");
            let home = groups.home(&record);
            assert_eq!(home.container.as_deref(), Some(ID), "{mount}");
            assert_eq!(home.unit, Some(format!("docker-{ID}.scope")), "{mount}");
            assert_eq!(groups.main(&ids(Some(u64::MAX), None)), None);
        }
    }

    #[test]
    fn proc_is_read_for_one_process_of_all_in_the_same_group() {
        let host = FakeHost::hybrid();
        let unified = host.folder("sys/fs/cgroup/unified");
        let jobs = host.folder("sys/fs/cgroup/memory/jobs");
        host.cgroup_file(5, "4:memory:/jobs\n1:name=systemd:/\n0::/\n");
        let groups = Groups::new(host.cgroups());
        let memory = |pid, id| groups.of(pid, &ids(Some(unified), Some(id))).memory;
        assert_eq!(memory(5, jobs).as_deref(), Some("/jobs"));
        assert_eq!(memory(6, jobs).as_deref(), Some("/jobs"), "it is gone already");
        // A process that was moved meanwhile does not show where it was.
        assert_eq!(memory(5, jobs + 1).as_deref(), Some("/jobs"));
        assert_eq!(memory(6, jobs + 1), None);
    }

    #[test]
    fn the_roots_do_not_show_what_another_hierarchy_separates() {
        let host = FakeHost::hybrid();
        let unified = host.folder("sys/fs/cgroup/unified");
        let memory = host.folder("sys/fs/cgroup/memory");
        host.folder("sys/fs/cgroup/systemd");
        let root = ids(Some(unified), Some(memory));
        let groups = Groups::new(host.cgroups());
        for unit in ["/system.slice/a.service", "/system.slice/b.service"] {
            host.cgroup_file(5, &format!("4:memory:/\n1:name=systemd:{unit}\n0::/\n"));
            assert_eq!(groups.of(5, &root).systemd.as_deref(), Some(unit));
        }
        assert!(groups.say_all(&root), "systemd has no groups there");
        host.folder("sys/fs/cgroup/systemd/system.slice");
        assert!(!groups.say_all(&root));
        assert!(!groups.say_all(&ids(None, None)), "nothing is known");
    }

    #[test]
    fn a_group_that_was_made_is_known_in_the_hierarchies_that_matter() {
        let host = FakeHost::hybrid();
        host.write("proc/self/cgroup", b"9:name=systemd:/\n4:memory:/\n3:cpuset:/\n0::/\n");
        let groups = Groups::new(host.cgroups());
        let make = |hierarchy, id, path: &str| {
            groups.made(record::CgroupMade { at_ns: 1, id, hierarchy, path: path.to_owned() });
        };
        make(0, 70, "/v2");
        make(4, 71, "/memory");
        make(3, 72, "/cpuset");
        let path = |v2, memory| groups.main(&ids(v2, memory)).map(|group| group.path);
        assert_eq!(path(Some(70), None).as_deref(), Some("/v2"));
        assert_eq!(path(None, Some(71)).as_deref(), Some("/memory"));
        assert_eq!((path(Some(72), None), groups.len()), (None, 2));
    }

    #[test]
    fn the_root_of_v2_does_not_stand_for_a_process_that_v1_places() {
        let host = FakeHost::hybrid();
        let root = host.folder("sys/fs/cgroup/unified");
        let docker = host.folder(&format!("sys/fs/cgroup/memory/docker/{ID}"));
        host.cgroup_file(5, &format!("4:memory:/docker/{ID}\n0::/\n"));
        let groups = Groups::new(host.cgroups());
        groups.learn(&host.cgroups().of(5));
        let main = groups.main(&ids(Some(root), Some(docker))).unwrap();
        assert_eq!((main.id, main.path), (docker, format!("/docker/{ID}")));
        assert_eq!(groups.home(&ids(Some(root), Some(docker))).container.as_deref(), Some(ID));
        assert_eq!(groups.main(&ids(Some(root), None)).unwrap().path, "/");
    }

    #[test]
    fn only_so_many_are_known_and_those_asked_for_stay() {
        let mut known = Known::default();
        let key = |id| (Hierarchy::V2, id);
        for id in 0..20 * GENERATION as u64 {
            known.insert(key(id), id.to_string());
            assert_eq!(known.get(key(0)).as_deref(), Some("0"));
            assert!(known.younger.len() + known.older.len() <= Groups::limit());
        }
        assert_eq!(known.get(key(1)), None);
    }

    #[test]
    fn a_container_s_process_is_away_from_the_engine_s_unit() {
        let home = |path: &str| Home::of([path].into_iter());
        let containerd = home("/system.slice/containerd.service");
        let container = home(&format!("/system.slice/cri-containerd-{ID}.scope"));
        assert!(container.is_away_from(&containerd));
        assert!(containerd.is_away_from(&container));
        assert!(
            home("/user.slice/user-0.slice/session-3.scope").is_away_from(&home("/system.slice/ssh.service"))
        );
        assert!(!home("/system.slice/ssh.service/worker").is_away_from(&home("/system.slice/ssh.service")));
        assert!(!home("/limited").is_away_from(&home("/system.slice/ssh.service")), "it says nothing");
        assert!(!home("/").is_away_from(&container), "it is not known where it is");
    }
}
