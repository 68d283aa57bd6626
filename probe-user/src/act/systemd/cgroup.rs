//! The cgroups of systemd's units on this host.
//!
//! `ControlGroup` is relative to the manager's root, which is below the host's root for a systemd in a container.
//! The hierarchy differs too: v2 alone, v2 beside v1 ("hybrid"), or v1.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The manager's cgroup, without this last part, is the root of its units.
const MANAGER_SCOPE: &str = "/init.scope";

/// The manager's part of a cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where the hierarchy is mounted.
    mount: PathBuf,
    /// The path of the mounted cgroup; `/` unless only a part is mounted.
    mounted: String,
    /// The path of the manager's root; empty if it is the hierarchy's.
    root: String,
    /// Whether it is the v2 hierarchy.
    v2: bool,
}

impl Hierarchy {
    /// The hierarchy that the manager with pid `manager` uses. None if it is not mounted here.
    pub(super) fn of(manager: u32, proc: &Path) -> Option<Self> {
        let membership = fs::read_to_string(proc.join(manager.to_string()).join("cgroup")).ok()?;
        let mounts = fs::read_to_string(proc.join("self/mountinfo")).ok()?;
        Self::parse(&membership, &mounts)
    }

    fn parse(membership: &str, mounts: &str) -> Option<Self> {
        let path = |controllers: &str| {
            membership
                .lines()
                .find_map(|line| line.split_once(':')?.1.strip_prefix(controllers)?.strip_prefix(':'))
        };
        let v2 = path("").map(|path| (path, true));
        let v1 = path("name=systemd").map(|path| (path, false));
        // A host that uses v1 alone shows a v2 path for the manager too, which is "/". The manager's scope marks
        // its hierarchy. A manager without a scope (in a container with a cgroup namespace of an old kind) uses the
        // newest.
        let (path, v2) =
            [v2, v1].into_iter().flatten().find(|(path, _)| path.ends_with(MANAGER_SCOPE)).or(v2).or(v1)?;
        let (mounted, mount) = mounts.lines().find_map(|line| mount_of(line, v2))?;
        let root = path.strip_suffix(MANAGER_SCOPE).unwrap_or(path).trim_end_matches('/').to_owned();
        Some(Self { mount, mounted, root, v2 })
    }

    /// The path on this host of the cgroup that the manager calls `control_group`. None for an empty name, which
    /// means that the unit has no cgroup.
    pub(super) fn path(&self, control_group: &str) -> Option<String> {
        match (control_group, self.root.as_str()) {
            ("", _) => None,
            ("/", "") => Some("/".to_owned()),
            ("/", root) => Some(root.to_owned()),
            (below, root) => Some(format!("{root}{below}")),
        }
    }

    /// Inode number of a cgroup's directory, where the hierarchy is v2.
    pub(super) fn id(&self, path: &str) -> Option<u64> {
        if !self.v2 {
            return None;
        }
        fs::metadata(self.directory(path)?).ok().map(|found| found.ino())
    }

    /// The processes of a cgroup and of those below it, by pids of the daemon's namespace.
    pub(super) fn members(&self, path: &str) -> Vec<u32> {
        let mut found = Vec::new();
        let mut open: Vec<PathBuf> = self.directory(path).into_iter().collect();
        while let Some(directory) = open.pop() {
            if let Ok(list) = fs::read_to_string(directory.join("cgroup.procs")) {
                found.extend(list.lines().filter_map(|pid| pid.parse::<u32>().ok()));
            }
            let below = fs::read_dir(&directory).into_iter().flatten().flatten();
            open.extend(below.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        }
        found
    }

    fn directory(&self, path: &str) -> Option<PathBuf> {
        let below = path.strip_prefix(self.mounted.trim_end_matches('/'))?;
        Some(self.mount.join(below.trim_start_matches('/')))
    }
}

/// The mounted cgroup and the mount point in a line of `mountinfo`, if it is the wanted hierarchy.
fn mount_of(line: &str, v2: bool) -> Option<(String, PathBuf)> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    let (kind, options) = (back.next()?, back.nth(1)?);
    let wanted = if v2 {
        kind == "cgroup2"
    } else {
        kind == "cgroup" && options.split(',').any(|o| o == "name=systemd")
    };
    let mut front = front.split(' ').skip(3);
    wanted.then_some((front.next()?.to_owned(), PathBuf::from(front.next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "25 24 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "30 29 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                          31 29 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                          32 29 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn at(membership: &str, mounts: &str) -> (Option<String>, Option<PathBuf>) {
        let hierarchy = Hierarchy::parse(membership, mounts).unwrap();
        let path = hierarchy.path("/system.slice/api.service");
        let directory = path.as_deref().and_then(|path| hierarchy.directory(path));
        (path, directory)
    }

    #[test]
    fn each_kind_of_host_has_its_hierarchy() {
        let unit = "/system.slice/api.service";
        for (membership, mounts, folder) in [
            ("0::/init.scope\n", UNIFIED, "/sys/fs/cgroup"),
            ("1:name=systemd:/init.scope\n0::/init.scope\n", HYBRID, "/sys/fs/cgroup/unified"),
            ("2:memory:/\n1:name=systemd:/init.scope\n0::/\n", HYBRID, "/sys/fs/cgroup/systemd"),
            ("1:name=systemd:/init.scope\n", HYBRID, "/sys/fs/cgroup/systemd"),
        ] {
            let (path, directory) = at(membership, mounts);
            assert_eq!(path.as_deref(), Some(unit), "{membership}");
            assert_eq!(directory, Some(PathBuf::from(format!("{folder}{unit}"))), "{membership}");
        }
    }

    #[test]
    fn a_containers_units_are_below_its_own_root() {
        let (path, directory) = at("0::/machine.slice/web/payload/init.scope\n", UNIFIED);
        assert_eq!(path.as_deref(), Some("/machine.slice/web/payload/system.slice/api.service"));
        assert_eq!(
            directory.unwrap(),
            Path::new("/sys/fs/cgroup").join(path.unwrap().trim_start_matches('/'))
        );
    }

    #[test]
    fn a_unit_without_a_cgroup_has_no_path() {
        let hierarchy = Hierarchy::parse("0::/a/init.scope\n", UNIFIED).unwrap();
        assert_eq!(hierarchy.path(""), None);
        assert_eq!(hierarchy.path("/").as_deref(), Some("/a"));
        assert_eq!(Hierarchy::parse("0::/init.scope\n", ""), None);
    }
}
