//! Cgroups: the mounted hierarchies, the groups of a process, and the meaning of their paths.

mod freezer;
mod handle;
mod name;
mod own;
mod owner;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use procfs::process::MountInfo;

pub use self::{
    name::{container_id, is_hexadecimal_id, own_unit_name, unit_name},
    own::OwnCgroup,
    owner::Owner,
};
use super::{ReadError, read_record, read_text};
use crate::fact::{Cgroup, CgroupMode};

/// `mountinfo` and `cgroup` files are far smaller, except on hosts with thousands of mounts.
pub(super) const TEXT_MAX: u64 = 16 << 20;

/// A v1 limit above this is the kernel's "no limit": the largest page-aligned number.
const V1_UNLIMITED: u64 = 1 << 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hierarchy {
    /// The unified hierarchy of cgroup v2.
    V2,
    /// The memory controller's hierarchy of cgroup v1.
    Memory,
    /// systemd's own named hierarchy of cgroup v1.
    Systemd,
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// The folder of the mount.
    point: PathBuf,
    /// The cgroup at the root of the mount: `/` unless only a part is mounted.
    shows: PathBuf,
}

/// The cgroup hierarchies of a host.
#[derive(Clone, Debug)]
pub struct Cgroups {
    proc: PathBuf,
    v2: Option<Mount>,
    memory: Option<Mount>,
    systemd: Option<Mount>,
    /// The v1 freezer's hierarchy.
    freezer: Option<Mount>,
    /// The number of the v1 memory hierarchy.
    memory_number: Option<u32>,
}

/// The cgroups of a process, as paths from the hierarchies' roots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Groups {
    pub v2: Option<String>,
    pub memory: Option<String>,
    pub systemd: Option<String>,
}

impl Groups {
    /// The group that identifies a process: of the v2 hierarchy, or of the v1 memory hierarchy where v2 is missing or
    /// has only its root, as on hosts that mount v2 but run on v1.
    pub fn main(&self) -> Option<(Hierarchy, &str)> {
        let v2 = self.v2.as_deref().map(|path| (Hierarchy::V2, path));
        let memory = self.memory.as_deref().map(|path| (Hierarchy::Memory, path));
        let below_root = |group: &(Hierarchy, &str)| group.1 != "/";
        v2.filter(below_root).or(memory.filter(below_root)).or(v2).or(memory)
    }

    /// All paths, the most specific first.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        [&self.v2, &self.systemd, &self.memory].into_iter().filter_map(|path| path.as_deref())
    }
}

impl Cgroups {
    /// Finds the mounted hierarchies of the host with this root folder.
    pub fn discover(root: &Path) -> Result<Self, ReadError> {
        let proc = root.join("proc");
        let path = proc.join("self/mountinfo");
        let text = read_text(&path, TEXT_MAX).map_err(ReadError::at(path))?;
        let memory_number = memory_number(&proc.join("self/cgroup"));
        let mut found = Self { proc, v2: None, memory: None, systemd: None, freezer: None, memory_number };
        // An unreadable line belongs to another kind of mount.
        for mount in text.lines().filter_map(|line| MountInfo::from_line(line).ok()) {
            let slot = match mount.fs_type.as_str() {
                "cgroup2" => &mut found.v2,
                "cgroup" if mount.super_options.contains_key("memory") => &mut found.memory,
                "cgroup" if mount.super_options.get("name") == Some(&Some("systemd".to_owned())) => {
                    &mut found.systemd
                }
                "cgroup" if mount.super_options.contains_key("freezer") => &mut found.freezer,
                _ => continue,
            };
            // The first is the usual place; later ones are bind mounts for containers.
            slot.get_or_insert_with(|| Mount {
                point: root.join(mount.mount_point.strip_prefix("/").unwrap_or(&mount.mount_point)),
                shows: PathBuf::from(mount.root),
            });
        }
        Ok(found)
    }

    /// Whether a hierarchy is mounted.
    pub fn has(&self, hierarchy: Hierarchy) -> bool {
        self.mount(hierarchy).is_some()
    }

    /// Whether a hierarchy has groups below its root. An unmounted hierarchy has none.
    pub fn has_groups(&self, hierarchy: Hierarchy) -> bool {
        // A folder has a link from itself, one from its parent, and one from each folder in it.
        let links = |mount: &Mount| fs::metadata(&mount.point).map(|folder| folder.nlink());
        self.mount(hierarchy).is_some_and(|mount| !links(mount).is_ok_and(|links| links == 2))
    }

    /// The mounted hierarchies.
    pub fn mode(&self) -> CgroupMode {
        let v1 = self.memory.is_some() || self.systemd.is_some();
        match (self.v2.is_some(), v1) {
            (true, true) => CgroupMode::Hybrid,
            (true, false) => CgroupMode::V2,
            (false, true) => CgroupMode::V1,
            (false, false) => CgroupMode::None,
        }
    }

    /// The hierarchy with this number in `/proc/PID/cgroup`, if it is one of the three.
    pub fn numbered(&self, number: u32) -> Option<Hierarchy> {
        match number {
            0 => Some(Hierarchy::V2),
            memory if self.memory_number == Some(memory) => Some(Hierarchy::Memory),
            _ => None,
        }
    }

    /// Whether only a part of a hierarchy is mounted.
    pub fn show_a_part(&self) -> bool {
        [&self.v2, &self.memory, &self.systemd]
            .into_iter()
            .flatten()
            .any(|mount| mount.shows != Path::new("/"))
    }

    /// The path of an existing group, by its id alone. None if it is gone, or if the daemon lacks
    /// `CAP_DAC_READ_SEARCH`.
    pub fn path_of(&self, hierarchy: Hierarchy, id: u64) -> Option<String> {
        let mount = self.mount(hierarchy)?;
        self.path_below(hierarchy, &handle::path_of(&mount.point, id)?)
    }

    /// The path of a group by its folder.
    fn path_below(&self, hierarchy: Hierarchy, folder: &Path) -> Option<String> {
        let mount = self.mount(hierarchy)?;
        let below = folder.strip_prefix(&mount.point).ok()?;
        mount.shows.join(below).into_os_string().into_string().ok()
    }

    /// The groups of a process; none if it is gone.
    pub fn of(&self, pid: u32) -> Groups {
        self.groups(&self.proc.join(pid.to_string()))
    }

    /// The groups of this process.
    pub fn of_self(&self) -> Groups {
        self.groups(&self.proc.join("self"))
    }

    fn groups(&self, process: &Path) -> Groups {
        let text = read_record(&process.join("cgroup"), TEXT_MAX).unwrap_or_default();
        self.groups_in(&text)
    }

    /// The groups in the `cgroup` file of a process.
    pub(super) fn groups_in(&self, text: &[u8]) -> Groups {
        let text = String::from_utf8_lossy(text);
        let mut groups = Groups::default();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            // The kernel marks a group so if it was removed while a process in it died.
            let path = path.strip_suffix(" (deleted)").unwrap_or(path).to_owned();
            if id == "0" && controllers.is_empty() {
                groups.v2 = self.v2.is_some().then_some(path);
            } else if controllers == "name=systemd" {
                groups.systemd = Some(path);
            } else if controllers.split(',').any(|controller| controller == "memory") {
                groups.memory = Some(path);
            }
        }
        groups
    }

    /// A group with its id; the id is 0 if its folder is gone.
    pub fn group(&self, hierarchy: Hierarchy, path: &str) -> Cgroup {
        Cgroup { id: self.id(hierarchy, path).unwrap_or_default(), path: path.to_owned() }
    }

    /// A group's id, which is its folder's inode number; None if it is not there.
    pub fn id(&self, hierarchy: Hierarchy, path: &str) -> Option<u64> {
        Some(fs::metadata(self.folder(hierarchy, path)?).ok()?.ino())
    }

    /// A group's folder; None if its part of the hierarchy is not mounted.
    pub fn folder(&self, hierarchy: Hierarchy, path: &str) -> Option<PathBuf> {
        let mount = self.mount(hierarchy)?;
        let below = Path::new(path).strip_prefix(&mount.shows).ok()?;
        // A group outside the own cgroup namespace shows as a path with `..`, and is out of reach.
        let inside = below.components().all(|part| matches!(part, Component::Normal(_)));
        inside.then(|| mount.point.join(below))
    }

    /// The memory limit of the group itself, in bytes: v2 `memory.max`, v1 `memory.limit_in_bytes`. None without a
    /// limit, or if it is unreadable.
    pub fn memory_limit(&self, hierarchy: Hierarchy, path: &str) -> Option<u64> {
        limit_in(&self.folder(hierarchy, path)?)
    }

    /// The tightest memory limit for a process, in bytes: of its group or any group above it.
    pub fn memory_limit_of(&self, pid: u32) -> Option<u64> {
        let (mount, path) = self.memory_group_of(pid)?;
        let top = self.mount(mount)?.point.clone();
        let folder = self.folder(mount, &path)?;
        folder.ancestors().take_while(|folder| folder.starts_with(&top)).filter_map(limit_in).min()
    }

    /// The group of the memory controller that a process is in.
    pub(super) fn memory_group_of(&self, pid: u32) -> Option<(Hierarchy, String)> {
        let groups = self.of(pid);
        // On a hybrid host the memory controller is in its v1 hierarchy only.
        let of_v1 = groups.memory.filter(|_| self.memory.is_some()).map(|path| (Hierarchy::Memory, path));
        of_v1.or_else(|| Some((Hierarchy::V2, groups.v2?)))
    }

    fn mount(&self, hierarchy: Hierarchy) -> Option<&Mount> {
        match hierarchy {
            Hierarchy::V2 => self.v2.as_ref(),
            Hierarchy::Memory => self.memory.as_ref(),
            Hierarchy::Systemd => self.systemd.as_ref(),
        }
    }
}

/// The number of the v1 memory hierarchy in a process's `cgroup` file; None where the memory controller has none of its own.
pub fn memory_number(file: &Path) -> Option<u32> {
    let text = read_text(file, TEXT_MAX).unwrap_or_default();
    text.lines().find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let controllers = rest.split(':').next()?;
        controllers.split(',').any(|controller| controller == "memory").then(|| number.parse().ok())?
    })
}

fn limit_in(folder: &Path) -> Option<u64> {
    let text = ["memory.max", "memory.limit_in_bytes"]
        .into_iter()
        .find_map(|name| read_text(&folder.join(name), 64).ok())?;
    text.trim().parse().ok().filter(|limit| *limit < V1_UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn a_group_is_of_v2_and_of_v1_memory_where_v2_has_none() {
        let main = |host: &FakeHost, text| {
            host.cgroup_file(5, text);
            let groups = host.cgroups().of(5);
            groups.main().map(|(hierarchy, path)| (hierarchy, path.to_owned()))
        };
        let hybrid = FakeHost::hybrid();
        let both = "9:name=systemd:/a.service\n4:memory:/mem\n0::/a.service\n";
        assert_eq!(main(&hybrid, both), Some((Hierarchy::V2, "/a.service".to_owned())));
        assert_eq!(main(&hybrid, "4:memory:/mem\n0::/\n"), Some((Hierarchy::Memory, "/mem".to_owned())));
        assert_eq!(main(&hybrid, "4:memory:/\n0::/\n"), Some((Hierarchy::V2, "/".to_owned())));
        let v1 = FakeHost::v1();
        assert_eq!(main(&v1, "3:cpu,memory:/x\n0::/y\n"), Some((Hierarchy::Memory, "/x".to_owned())));
        let v2 = FakeHost::v2();
        assert_eq!(main(&v2, "0::/x.service (deleted)\n"), Some((Hierarchy::V2, "/x.service".to_owned())));
        assert_eq!(main(&v2, "\u{0}garbage\n::\n:\n"), None);
        assert_eq!(v2.cgroups().of(999), Groups::default());
    }

    #[test]
    fn an_id_is_the_folder_s_inode_in_its_own_hierarchy() {
        let host = FakeHost::hybrid();
        let v2 = host.folder("sys/fs/cgroup/unified/a");
        let memory = host.folder("sys/fs/cgroup/memory/a");
        let cgroups = host.cgroups();
        assert_eq!(cgroups.id(Hierarchy::V2, "/a"), Some(v2));
        assert_eq!(cgroups.id(Hierarchy::Memory, "/a"), Some(memory));
        assert_eq!(cgroups.id(Hierarchy::Systemd, "/a"), None);
        assert_eq!(cgroups.group(Hierarchy::V2, "/gone"), Cgroup { id: 0, path: "/gone".to_owned() });
        assert_eq!(cgroups.folder(Hierarchy::V2, "/../../etc"), None);
    }

    #[test]
    fn a_mount_of_a_part_shows_only_that_part() {
        let host = FakeHost::v2();
        host.write(
            "proc/self/mountinfo",
            b"garbage\n30 20 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n",
        );
        let folder = host.cgroups().folder(Hierarchy::V2, "/docker/x/y").unwrap();
        assert!(folder.ends_with("sys/fs/cgroup/y"));
        assert_eq!(host.cgroups().folder(Hierarchy::V2, "/docker"), None);
    }

    #[test]
    fn the_tightest_memory_limit_holds() {
        let v2 = FakeHost::v2();
        v2.write("sys/fs/cgroup/a/memory.max", b"1048576\n");
        v2.write("sys/fs/cgroup/a/b/memory.max", b"max\n");
        v2.cgroup_file(5, "0::/a/b\n");
        assert_eq!(v2.cgroups().memory_limit(Hierarchy::V2, "/a/b"), None);
        assert_eq!(v2.cgroups().memory_limit(Hierarchy::V2, "/a"), Some(1 << 20));
        assert_eq!(v2.cgroups().memory_limit_of(5), Some(1 << 20));

        let hybrid = FakeHost::hybrid();
        hybrid.write("sys/fs/cgroup/memory/memory.limit_in_bytes", b"9223372036854771712\n");
        hybrid.write("sys/fs/cgroup/memory/m/memory.limit_in_bytes", b"4096\n");
        hybrid.cgroup_file(5, "4:memory:/m\n0::/a.service\n");
        assert_eq!(hybrid.cgroups().memory_limit_of(5), Some(4096));
        hybrid.cgroup_file(5, "4:memory:/\n0::/\n");
        assert_eq!(hybrid.cgroups().memory_limit_of(5), None);
    }
}
