//! Frozen cgroups: the kernel does not let their processes run until the group is thawed.
//!
//! A container engine's pause, `systemctl freeze` and batch systems freeze a group. Its processes look like any that
//! sleep, and their listeners still take connections.

use std::path::Path;

use super::{Cgroups, Mount, TEXT_MAX, container_id, unit_name};
use crate::{
    fact::FrozenCgroup,
    host::{read_record, read_text},
};

/// The files hold one word.
const WORD_MAX: u64 = 256;

impl Cgroups {
    /// The frozen group that a process is in, by itself or by a group above; None if it may run.
    pub fn frozen(&self, pid: u32) -> Option<FrozenCgroup> {
        let text = read_record(&self.proc.join(format!("{pid}/cgroup")), TEXT_MAX).ok()?;
        let text = String::from_utf8_lossy(&text);
        let groups = text.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?, parts.next()?))
        });
        let frozen = |(controllers, path): (&str, &str)| match controllers {
            "" => frozen_above(self.v2.as_ref()?, path, |group| word(group, "cgroup.freeze") == "1"),
            // `self_freezing` is the group's own setting. The groups below it inherit the state, but not the setting
            // (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).
            v1 if v1.split(',').any(|controller| controller == "freezer") => {
                frozen_above(self.freezer.as_ref()?, path, |group| {
                    word(group, "freezer.self_freezing") == "1"
                })
            }
            _ => None,
        };
        let path = groups.into_iter().find_map(frozen)?;
        Some(FrozenCgroup { container: container_id(&path), unit: unit_name(&path), path })
    }
}

/// The path of the group, or of the nearest above it, that is set to be frozen.
fn frozen_above(mount: &Mount, path: &str, is_set: impl Fn(&Path) -> bool) -> Option<String> {
    let path = Path::new(path);
    path.ancestors().take_while(|group| group.starts_with(&mount.shows)).find_map(|group| {
        let folder = mount.point.join(group.strip_prefix(&mount.shows).ok()?);
        is_set(&folder).then(|| group.display().to_string())
    })
}

fn word(group: &Path, file: &str) -> String {
    read_text(&group.join(file), WORD_MAX).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use crate::host::fake::FakeHost;

    fn frozen(host: &FakeHost) -> Option<String> {
        host.cgroups().frozen(10).map(|frozen| frozen.path)
    }

    #[test]
    fn a_group_that_is_frozen_by_itself_or_by_one_above_is_named() {
        let host = FakeHost::v2();
        host.cgroup_file(10, "0::/system.slice/web.service/workers\n");
        host.write("sys/fs/cgroup/system.slice/web.service/workers/cgroup.freeze", b"0\n");
        assert_eq!(frozen(&host), None);
        host.write("sys/fs/cgroup/system.slice/web.service/cgroup.freeze", b"1\n");
        assert_eq!(frozen(&host).as_deref(), Some("/system.slice/web.service"));
        assert_eq!(host.cgroups().frozen(10).unwrap().unit.as_deref(), Some("web.service"));
        host.write("sys/fs/cgroup/system.slice/web.service/cgroup.freeze", b"0\n");
        host.write("sys/fs/cgroup/system.slice/web.service/workers/cgroup.freeze", b"1\n");
        assert_eq!(frozen(&host).as_deref(), Some("/system.slice/web.service/workers"));
    }

    #[test]
    fn a_paused_container_is_named_on_both_versions_of_cgroups() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let v2 = FakeHost::v2();
        v2.cgroup_file(10, &format!("0::/system.slice/docker-{id}.scope\n"));
        v2.write(&format!("sys/fs/cgroup/system.slice/docker-{id}.scope/cgroup.freeze"), b"1\n");
        assert_eq!(v2.cgroups().frozen(10).unwrap().container.as_deref(), Some(id));

        let v1 = FakeHost::hybrid();
        v1.cgroup_file(10, &format!("6:freezer:/docker/{id}\n4:memory:/docker/{id}\n0::/\n"));
        v1.write(&format!("sys/fs/cgroup/freezer/docker/{id}/freezer.self_freezing"), b"0\n");
        assert_eq!(frozen(&v1), None);
        v1.write(&format!("sys/fs/cgroup/freezer/docker/{id}/freezer.self_freezing"), b"1\n");
        assert_eq!(v1.cgroups().frozen(10).unwrap().container.as_deref(), Some(id));
    }

    #[test]
    fn a_process_outside_of_what_is_mounted_is_not_frozen() {
        let host = FakeHost::v2();
        host.write("sys/fs/cgroup/cgroup.freeze", b"1\n");
        host.cgroup_file(10, "0::/../elsewhere\n");
        assert_eq!(frozen(&host), Some("/".to_owned()));
        assert_eq!(host.cgroups().frozen(99), None);
    }
}
