//! Cgroups of a test's own, in the hierarchies that this host has.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{parts::available, process::until};

/// The longest that the last process of a cgroup may take to be gone.
const EMPTY: Duration = Duration::from_secs(20);

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Whether it is that of cgroup v2.
    pub v2: bool,
    /// Whether it is one of cgroup v1 with the memory controller.
    pub memory_v1: bool,
}

/// Every hierarchy that is mounted.
pub fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroups = mounts.filter(|fields| ["cgroup", "cgroup2"].contains(&fields[2]));
    let hierarchy = |fields: Vec<&str>| Hierarchy {
        mount: PathBuf::from(fields[1]),
        v2: fields[2] == "cgroup2",
        memory_v1: fields[2] == "cgroup" && fields[3].split(',').any(|option| option == "memory"),
    };
    cgroups.map(hierarchy).collect()
}

/// Those hierarchies by which the daemon knows where a process is.
pub fn telling() -> Vec<PathBuf> {
    let telling = hierarchies().into_iter().filter(|hierarchy| hierarchy.v2 || hierarchy.memory_v1);
    telling.map(|hierarchy| hierarchy.mount).collect()
}

/// Where cgroup v2 is mounted. Without it the test is skipped.
pub fn v2() -> Option<PathBuf> {
    let mount = hierarchies().into_iter().find(|hierarchy| hierarchy.v2).map(|hierarchy| hierarchy.mount);
    available(mount.is_some(), "a mounted cgroup v2").then_some(mount).flatten()
}

/// The folder of the v2 cgroup that a process is in.
///
/// # Panics
/// If there is none.
#[track_caller]
pub fn v2_of(pid: u32) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).expect("a v2 cgroup");
    let v2 = hierarchies().into_iter().find(|hierarchy| hierarchy.v2).expect("a v2 hierarchy");
    v2.mount.join(path)
}

/// A cgroup, removed when it is dropped, as soon as it is empty.
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    /// Makes one below the root of a hierarchy.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(mount: &Path, name: &str) -> Self {
        let folder = mount.join(name);
        fs::create_dir(&folder).expect("a cgroup is made");
        Self(folder)
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Moves a process in.
    ///
    /// # Panics
    /// If it cannot be moved.
    pub fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("it is moved");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = fs::remove_dir(&self.0);
        } else {
            until("the cgroup is empty", EMPTY, || fs::remove_dir(&self.0).ok());
        }
    }
}
