//! The daemon's own place: a host or a container, and what it can observe from there.

use std::{fs, path::Path};

use super::{Cgroups, cgroup::container_id, read_text};
use crate::fact::{CgroupMode, Container, INITIAL_PID_NAMESPACE, Place};

/// The inode of the initial cgroup namespace (`PROC_CGROUP_INIT_INO`).
const INITIAL_CGROUP_NAMESPACE: u32 = 4_026_531_835;

/// A longer file or environment is not a container's mark.
const TEXT_MAX: u64 = 64 * 1024;

/// The place of the process with this pid, which is this one. `root` is `/`, or a copy of its files.
pub fn find(root: &Path, pid: u32) -> Place {
    let proc = root.join("proc");
    let cgroups = Cgroups::discover(root).ok();
    let own = fs::read_link(proc.join("self")).ok();
    let foreign = match own.as_deref().and_then(Path::to_str) {
        Some(name) if name == pid.to_string() => None,
        Some(name) => Some(format!("it is process {name} there")),
        None => Some("it is not there".to_owned()),
    };
    let in_namespace = namespace(&proc, "cgroup").is_some_and(|inode| inode != INITIAL_CGROUP_NAMESPACE);
    Place {
        pid_namespace: namespace(&proc, "pid"),
        foreign_proc: foreign,
        container: container(root, cgroups.as_ref(), is_apart(&proc)),
        cgroups: cgroups.as_ref().map_or(CgroupMode::None, Cgroups::mode),
        cgroups_are_a_part: in_namespace || cgroups.as_ref().is_some_and(Cgroups::show_a_part),
    }
}

/// The inode of a namespace of this process, such as its `pid` namespace.
pub(super) fn namespace(proc: &Path, kind: &str) -> Option<u32> {
    namespace_of(&proc.join("self"), kind)
}

/// The same of the process with this folder in `/proc`.
pub(super) fn namespace_of(process: &Path, kind: &str) -> Option<u32> {
    let link = fs::read_link(process.join("ns").join(kind)).ok()?;
    link.to_str()?.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

/// Whether this process is outside the host's: in another pid namespace, or with other mounts and in another cgroup
/// namespace than process 1. A service's sandbox has other mounts alone.
fn is_apart(proc: &Path) -> bool {
    let link = |process: &str, kind: &str| fs::read_link(proc.join(process).join("ns").join(kind)).ok();
    let differs = |kind| link("1", kind).zip(link("self", kind)).is_some_and(|(first, own)| own != first);
    let own = namespace(proc, "pid").is_some_and(|inode| inode != INITIAL_PID_NAMESPACE);
    own || (differs("mnt") && differs("cgroup"))
}

/// The container, by the marks of its runtime and by this process's cgroup. A host that was made from a container's
/// image keeps the files, so they count only if this process is `apart`.
fn container(root: &Path, cgroups: Option<&Cgroups>, apart: bool) -> Option<Container> {
    let groups = cgroups.map(Cgroups::of_self).unwrap_or_default();
    let path = groups.paths().find(|path| container_id(path).is_some());
    let by_cgroup = path.and_then(container_id);
    // Podman's file has content if the container is privileged.
    let podman = read_text(&root.join("run/.containerenv"), TEXT_MAX).ok().filter(|_| apart);
    let podman_id = podman.as_ref().and_then(|text| {
        let id = text.lines().find_map(|line| line.strip_prefix("id="))?;
        Some(id.trim_matches('"').to_owned()).filter(|id| !id.is_empty())
    });
    // systemd-nspawn, LXC and others set this for the first process (systemd's "Container Interface").
    let environment = read_text(&root.join("proc/1/environ"), TEXT_MAX).unwrap_or_default();
    let passed = environment.split('\0').find_map(|entry| entry.strip_prefix("container="));
    let runtime = if podman.is_some() {
        "podman".to_owned()
    } else if apart && root.join(".dockerenv").exists() {
        "docker".to_owned()
    } else if let Some(passed) = passed.filter(|passed| !passed.is_empty()) {
        passed.to_owned()
    } else {
        path.and_then(runtime_of).unwrap_or_default().to_owned()
    };
    let id = by_cgroup.or(podman_id);
    (id.is_some() || !runtime.is_empty()).then_some(Container { runtime, id })
}

/// The runtime that names cgroups like this.
fn runtime_of(path: &str) -> Option<&'static str> {
    const MARKS: [(&str, &str); 7] = [
        ("/libpod-", "podman"),
        ("/crio-", "cri-o"),
        ("containerd", "containerd"),
        ("/docker", "docker"),
        ("/lxc", "lxc"),
        ("systemd-nspawn@", "systemd-nspawn"),
        ("/kubepods", "kubernetes"),
    ];
    MARKS.into_iter().find(|(mark, _)| path.contains(mark)).map(|(_, runtime)| runtime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const ME: u32 = 42;

    /// A place with these namespaces, and this process in this cgroup.
    fn at(host: &FakeHost, pid: u32, cgroup: u32, group: &str) -> Place {
        host.write(&format!("proc/{ME}/cgroup"), format!("0::{group}\n").as_bytes());
        host.link(&format!("proc/{ME}/ns/pid"), &format!("pid:[{pid}]"));
        host.link(&format!("proc/{ME}/ns/cgroup"), &format!("cgroup:[{cgroup}]"));
        host.become_process(ME);
        find(host.root(), ME)
    }

    /// Gives process 1 and this one these mount namespaces, and process 1 the host's cgroup namespace.
    fn mounts(host: &FakeHost, first: u32, own: u32) {
        host.link("proc/1/ns/mnt", &format!("mnt:[{first}]"));
        host.link(&format!("proc/{ME}/ns/mnt"), &format!("mnt:[{own}]"));
        host.link("proc/1/ns/cgroup", &format!("cgroup:[{INITIAL_CGROUP_NAMESPACE}]"));
    }

    #[test]
    fn a_host_is_no_container() {
        for (host, mode, said) in [
            (FakeHost::v2(), CgroupMode::V2, "on the host itself; cgroup v2"),
            (FakeHost::v1(), CgroupMode::V1, "on the host itself; cgroup v1"),
            (FakeHost::hybrid(), CgroupMode::Hybrid, "on the host itself; cgroup v1 and v2 (hybrid)"),
        ] {
            let place = at(&host, INITIAL_PID_NAMESPACE, INITIAL_CGROUP_NAMESPACE, "/a.service");
            assert_eq!((place.container.clone(), place.cgroups), (None, mode));
            assert!(place.sees_the_host() && !place.cgroups_are_a_part && place.foreign_proc.is_none());
            assert_eq!(place.to_string(), said);
        }
    }

    #[test]
    fn a_container_is_known_by_what_its_runtime_leaves() {
        let docker = FakeHost::v2();
        docker.write(".dockerenv", b"");
        let place = at(&docker, 4_026_532_777, 4_026_532_778, "/");
        assert_eq!(
            place.to_string(),
            "in a docker container, where only processes of its own pid namespace are seen; cgroup v2, a part of it"
        );
        assert!(!place.sees_the_host());

        let podman = FakeHost::v2();
        mounts(&podman, 1, 2);
        podman.write("run/.containerenv", format!("engine=\"podman-4.3.1\"\nid=\"{ID}\"\n").as_bytes());
        let place = at(&podman, INITIAL_PID_NAMESPACE, 4_026_532_778, "/");
        assert_eq!(
            place.to_string(),
            "in a podman container (0123456789ab), in the host's pid namespace; cgroup v2, a part of it"
        );

        // A host that was made from a container's image, also in a service's sandbox.
        for own in [1, 2] {
            let host = FakeHost::v2();
            mounts(&host, 1, own);
            host.write(".dockerenv", b"");
            assert_eq!(at(&host, INITIAL_PID_NAMESPACE, INITIAL_CGROUP_NAMESPACE, "/").container, None);
        }

        let nspawn = FakeHost::v2();
        nspawn.write("proc/1/environ", b"TERM=vt220\0container=systemd-nspawn\0");
        let place = at(&nspawn, 4_026_532_777, INITIAL_CGROUP_NAMESPACE, "/init.scope");
        assert_eq!(place.container, Some(Container { runtime: "systemd-nspawn".to_owned(), id: None }));

        for (path, runtime) in [
            (format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"), "containerd"),
            (format!("/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope"), "cri-o"),
            (format!("/kubepods/pod1/{ID}"), "kubernetes"),
            (format!("/system.slice/docker-{ID}.scope"), "docker"),
            (format!("/machine.slice/libpod-{ID}.scope"), "podman"),
        ] {
            let place = at(&FakeHost::v2(), 4_026_532_777, INITIAL_CGROUP_NAMESPACE, &path);
            let container = Container { runtime: runtime.to_owned(), id: Some(ID.to_owned()) };
            assert_eq!(place.container, Some(container), "{path}");
        }
    }

    #[test]
    fn a_proc_of_another_namespace_is_noticed() {
        let host = FakeHost::v2();
        host.become_process(977);
        let place = find(host.root(), ME);
        assert_eq!(place.foreign_proc.as_deref(), Some("it is process 977 there"));
        assert_eq!(place.pid_namespace, None);
        let place = find(FakeHost::v2().root(), ME);
        assert_eq!(place.foreign_proc.as_deref(), Some("it is not there"));
    }

    #[test]
    fn the_pid_namespace_of_a_process_is_known_by_its_inode() {
        let host = FakeHost::v2();
        host.link("proc/42/ns/pid", "pid:[4026532777]");
        assert_eq!(host.reader().pid_namespace(42), Some(4_026_532_777));
        assert_eq!(host.reader().pid_namespace(43), None);
    }

    #[test]
    fn this_very_process_is_somewhere() {
        let place = find(Path::new("/"), std::process::id());
        assert_eq!(place.foreign_proc, None);
        assert!(place.pid_namespace.is_some() && place.cgroups != CgroupMode::None, "{place:?}");
    }
}
