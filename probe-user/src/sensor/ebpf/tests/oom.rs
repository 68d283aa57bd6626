//! A real OOM kill, in a cgroup of its own.

use std::os::unix::{fs::MetadataExt, process::ExitStatusExt};

use super::*;

/// A memory cgroup with a limit, removed when dropped.
struct MemoryCgroup(std::path::PathBuf);

impl MemoryCgroup {
    /// `None` if this host does not allow one, or has no memory controller.
    fn new(limit: u64) -> Option<Self> {
        let name = format!("hostprobe-test-{}", std::process::id());
        let tries = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        for (root, file) in tries {
            let path = std::path::Path::new(root).join(&name);
            if std::fs::create_dir(&path).is_ok() {
                let cgroup = Self(path);
                if std::fs::write(cgroup.0.join(file), limit.to_string()).is_ok() {
                    return Some(cgroup);
                }
            }
        }
        None
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn an_oom_kill_in_a_cgroup_has_victim_scope_and_sizes() {
    let test = "an_oom_kill_in_a_cgroup_has_victim_scope_and_sizes";
    let Some(mut fixture) = fixture(test) else { return };
    let Some(cgroup) = MemoryCgroup::new(32 << 20) else {
        assert!(std::env::var_os("CI").is_none(), "{test}: needs a writable memory cgroup");
        eprintln!("skipped {test}: needs a writable memory cgroup");
        return;
    };
    // Doubles a string until it reaches the limit.
    let mut child = shell("x=xxxxxxxx; while :; do x=$x$x; done");
    std::fs::write(cgroup.0.join("cgroup.procs"), child.id().to_string()).unwrap();
    drop(child.stdin.take());
    let oom = fixture.wait_for("OOM kill", |record| {
        if let Record::Oom(oom) = record { Some(oom).filter(|it| it.pid == Some(child.id())) } else { None }
    });
    let exit = fixture.wait_for("exit", exit_of(child.id()));
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!((oom.scope, oom.tid, oom.comm.as_str()), (OomScope::Memcg, child.id(), "sh"), "{oom:x?}");
    // The kernel's counters are estimates, off by some dozen pages for every CPU.
    let limit_pages = (32 << 20) / rustix::param::page_size() as u64;
    assert!(oom.anon_pages > limit_pages / 8 && oom.anon_pages < limit_pages * 2, "{oom:?}");
    assert!(oom.file_pages + oom.shmem_pages + oom.swap_pages < limit_pages * 2, "{oom:?}");
    assert_eq!((oom.trigger_pid, oom.start_ns), (child.id(), exit.start_ns));
    let id = std::fs::metadata(&cgroup.0).unwrap().ino();
    assert_eq!(oom.cgroups.memory_v1.or(oom.cgroups.v2), Some(id));
    assert!(exit.oom_victim && !exit.watched && exit.max_rss_pages >= oom.anon_pages / 2, "{exit:?}");
    assert_eq!((exit.cgroups, exit.signal.unwrap().sender), (oom.cgroups, None));
}
