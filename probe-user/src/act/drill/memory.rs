//! A real OOM kill, within a service's own memory cgroup and nowhere else.
//!
//! In v2, a write of `memory.max` below what the group uses has the kernel reclaim and then kill, before the write returns
//! (`memory_max_write` in mm/memcontrol.c). `memory.oom.group` has it kill all processes of the group together, so that the
//! main process is among them and none is killed later than it. In v1, the kernel refuses such a limit once it can reclaim no
//! more (`mem_cgroup_resize_max` in mm/memcontrol-v1.c). The limit is then set to what the group uses, so that the
//! service's next allocation has the kernel kill it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{error::DrillError, interruptible_write::Write, process::ProcessHandle};
use crate::{
    clock::Timestamp,
    fact::ProcessKey,
    host::{
        OwnCgroup, ProcReader,
        cgroup::{Groups, Hierarchy},
    },
    spawn::has_ended,
};

/// How long the limit is lowered at most. In v1 the service has to allocate something first, as for a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts to lower the limit in v1.
const INTERVAL: Duration = Duration::from_millis(20);

/// The group's files hold less.
const FILE_MAX: u64 = 64 * 1024;

/// The files of a group and what was in them, in the order in which they are restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLimits {
    folder: PathBuf,
    /// The inode of the folder: a later group may have its path.
    id: u64,
    /// Each with its value before the drill.
    files: Vec<(String, String)>,
}

/// The memory cgroup of a service, which no other process is in.
#[derive(Debug)]
pub(super) struct MemoryGroup {
    limits: GroupLimits,
    is_v1: bool,
    /// What its processes use, in bytes.
    used: u64,
}

/// The own memory cgroup of a service with this main process.
pub(super) fn find(
    main: ProcessKey,
    family: &[ProcessKey],
    reader: &ProcReader,
) -> Result<MemoryGroup, DrillError> {
    let refuse = |why: String| Err(DrillError::Memory(why));
    let groups: Groups = reader.cgroups().of(main.pid);
    let of = |hierarchy, path: &Option<String>, file: &str| {
        let path = path.as_deref().filter(|path| *path != "/")?;
        let folder = reader.cgroups().folder(hierarchy, path)?;
        folder.join(file).exists().then_some(folder)
    };
    let v2 = of(Hierarchy::V2, &groups.v2, MAX).map(|folder| (folder, false));
    let v1 = || of(Hierarchy::Memory, &groups.memory, V1_LIMIT).map(|folder| (folder, true));
    let Some((folder, is_v1)) = v2.or_else(v1) else {
        return refuse(
            "its main process is in no memory cgroup of its own, so that an OOM kill would not stay within the service; \
             MemoryAccounting=yes gives a unit one"
                .to_owned(),
        );
    };
    let others = strangers(&folder, family)?;
    if let Some(pid) = others {
        let name = reader.read(pid).map(|process| process.name).unwrap_or_default();
        return refuse(format!(
            "process {pid} ({name}) is in its memory cgroup {} and is no descendant of its main process, so that an OOM \
             kill could end what is not the service's",
            folder.display()
        ));
    }
    let adjustment = fs::read_to_string(reader.folder(main.pid).join("oom_score_adj")).unwrap_or_default();
    if adjustment.trim() == "-1000" {
        return refuse(
            "its oom_score_adj is -1000: the kernel never kills its main process for memory".to_owned(),
        );
    }
    let names: &[&str] = if is_v1 { &[V1_LIMIT] } else { &[MAX, SWAP, GROUP] };
    let mut files = Vec::new();
    for name in names {
        match fs::read_to_string(folder.join(name)) {
            Ok(value) => files.push(((*name).to_owned(), value.trim().to_owned())),
            // A kernel without swap has none.
            Err(error) if *name == SWAP && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return refuse(format!("{}: {error}", folder.join(name).display())),
        }
        if let Err(error) = fs::OpenOptions::new().write(true).open(folder.join(name))
            && !(*name == SWAP && error.kind() == io::ErrorKind::NotFound)
        {
            return refuse(format!(
                "the daemon may not change {}: {error}; the sandbox of its unit keeps it from that \
                 (ProtectControlGroups=), or it is not root",
                folder.join(name).display()
            ));
        }
    }
    let id = fs::metadata(&folder).map_err(|error| DrillError::Memory(error.to_string()))?.ino();
    let used = if is_v1 { number(&folder, "memory.usage_in_bytes") } else { anonymous(&folder) };
    let Some(used) = used.filter(|used| *used > 0) else {
        return refuse(format!("{}: what the group uses cannot be read", folder.display()));
    };
    Ok(MemoryGroup { limits: GroupLimits { folder, id, files }, is_v1, used })
}

const MAX: &str = "memory.max";
const SWAP: &str = "memory.swap.max";
const GROUP: &str = "memory.oom.group";
const V1_LIMIT: &str = "memory.limit_in_bytes";

/// A process in a group, or below it, that is none of these.
fn strangers(folder: &Path, family: &[ProcessKey]) -> Result<Option<u32>, DrillError> {
    let group = OwnCgroup::at(folder.to_owned());
    let members =
        group.members().map_err(|error| DrillError::Memory(format!("{}: {error}", folder.display())))?;
    Ok(members.into_iter().find(|pid| !family.iter().any(|key| key.pid == *pid)))
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    crate::host::read_text(&folder.join(file), FILE_MAX).ok()?.trim().parse().ok()
}

/// The anonymous memory of a v2 group, which cannot be reclaimed without swap.
fn anonymous(folder: &Path) -> Option<u64> {
    let text = crate::host::read_text(&folder.join("memory.stat"), FILE_MAX).ok()?;
    text.lines().find_map(|line| line.strip_prefix("anon ")?.trim().parse().ok())
}

impl MemoryGroup {
    pub(super) fn limits(&self) -> GroupLimits {
        self.limits.clone()
    }

    pub(super) fn words(&self, pid: u32, name: &str) -> Vec<String> {
        let folder = self.limits.folder.display();
        let limit = if self.is_v1 { V1_LIMIT } else { MAX };
        vec![
            format!(
                "lower {limit} of its own cgroup {folder} below the {:.1} MiB that it uses, so that the kernel's OOM killer \
                 ends its main process {pid} ({name}) and whatever else is in that cgroup",
                self.used as f64 / 1_048_576.0
            ),
            format!(
                "set {limit} back as soon as the main process has ended, and after {PATIENCE:?} at the latest"
            ),
        ]
    }

    /// Lowers the limit until the main process has ended. The caller restores it.
    pub(super) fn exhaust(self, main: &ProcessHandle) -> Result<(Timestamp, String), DrillError> {
        let folder = self.limits.folder.clone();
        let failed = |file: &str, error: io::Error| {
            DrillError::Memory(format!("{}: {error}", folder.join(file).display()))
        };
        let until = Instant::now() + PATIENCE;
        let at = Timestamp::now();
        let mut write = None;
        let what = if self.is_v1 {
            let mut lowered = false;
            while !has_ended(main, INTERVAL) && Instant::now() < until {
                lowered |= fs::write(folder.join(V1_LIMIT), "0").is_ok();
                // What it has left over cannot be reclaimed.
                if let Some(used) = number(&folder, "memory.usage_in_bytes") {
                    lowered |= fs::write(folder.join(V1_LIMIT), used.to_string()).is_ok();
                }
            }
            if !lowered {
                return Err(failed(V1_LIMIT, io::Error::other("the kernel takes no lower limit")));
            }
            V1_LIMIT
        } else {
            fs::write(folder.join(GROUP), "1").map_err(|error| failed(GROUP, error))?;
            if self.limits.files.iter().any(|(name, _)| name == SWAP) {
                fs::write(folder.join(SWAP), "0").map_err(|error| failed(SWAP, error))?;
            }
            let page = rustix::param::page_size() as u64;
            let (file, limit) = (folder.join(MAX), self.used / 2 / page * page);
            let start = Write::start(&file, limit.to_string().into_bytes());
            write = Some(start.map_err(|error| failed(MAX, error))?);
            MAX
        };
        let has_ended = has_ended(main, until.saturating_duration_since(Instant::now()));
        if write.is_some_and(|write| !write.cancel()) {
            tracing::warn!("{}: the kernel still reclaims memory for a drill", folder.join(what).display());
        }
        if !has_ended {
            return Err(DrillError::Memory(format!(
                "the kernel killed nothing within {PATIENCE:?} although {} was lowered; it is restored",
                folder.join(what).display()
            )));
        }
        Ok((at, format!("lowered {} until the kernel killed its main process", folder.join(what).display())))
    }
}

impl GroupLimits {
    /// Writes back what was there, if the group is. Returns what was done.
    pub(super) fn restore(&self, service: &str) -> Option<String> {
        let is_there = fs::metadata(&self.folder).is_ok_and(|folder| folder.ino() == self.id);
        if !is_there {
            return None;
        }
        let mut restored = Vec::new();
        for (name, value) in &self.files {
            let file = self.folder.join(name);
            // In v1, no limit is the largest number, and -1 says so.
            match fs::write(&file, value) {
                Ok(()) => restored.push(format!("{name} is {value} again")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::error!(
                    "{service}: a drill lowered {}, which cannot be restored: {error}; write {value:?} to it",
                    file.display()
                ),
            }
        }
        (!restored.is_empty()).then(|| restored.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    const FOLDER: &str = "sys/fs/cgroup/system.slice/api.service";

    /// A service of two processes in a memory cgroup.
    fn host() -> (FakeHost, Vec<ProcessKey>) {
        let host = FakeHost::v2();
        host.process(10, 1, "api", "/api");
        host.process(11, 10, "worker", "/api");
        host.cgroup_file(10, "0::/system.slice/api.service\n");
        let files: [(&str, &[u8]); 5] = [
            ("memory.max", b"max\n"),
            ("memory.swap.max", b"max\n"),
            ("memory.oom.group", b"0\n"),
            ("memory.stat", b"anon 10485760\nfile 4096\n"),
            ("cgroup.procs", b"10\n11\n"),
        ];
        for (name, text) in files {
            host.write(&format!("{FOLDER}/{name}"), text);
        }
        let family = [10, 11].map(|pid| host.reader().key_of(pid).unwrap());
        (host, family.to_vec())
    }

    fn found(host: &FakeHost, family: &[ProcessKey]) -> Result<MemoryGroup, String> {
        find(family[0], family, &host.reader()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_limit_falls_in_a_cgroup_that_no_other_process_is_in() {
        let (host, family) = host();
        let group = found(&host, &family).unwrap();
        assert_eq!((group.used, group.is_v1), (10 << 20, false));
        let words = group.words(10, "api").join("; ");
        assert!(
            words.contains("lower memory.max of its own cgroup") && words.contains("10.0 MiB"),
            "{words}"
        );
        host.write(&format!("{FOLDER}/cgroup.procs"), b"10\n11\n12\n");
        host.process(12, 1, "shim", "/shim");
        assert!(found(&host, &family).unwrap_err().starts_with("process 12 (shim) is in its memory cgroup "));
    }

    #[test]
    fn a_service_that_the_kernel_would_not_kill_alone_is_refused() {
        let (host, family) = host();
        host.write("proc/10/oom_score_adj", b"-1000\n");
        assert!(found(&host, &family).unwrap_err().contains("never kills its main process"));
        host.cgroup_file(10, "0::/\n");
        assert!(found(&host, &family).unwrap_err().contains("in no memory cgroup of its own"));
        host.cgroup_file(10, "0::/system.slice/other.service\n");
        host.folder("sys/fs/cgroup/system.slice/other.service");
        assert!(found(&host, &family).unwrap_err().contains("in no memory cgroup of its own"));
    }

    #[test]
    fn limits_are_restored_in_the_group_that_they_are_of_and_in_no_later_one() {
        let (host, family) = host();
        let limits = found(&host, &family).unwrap().limits();
        let max = limits.folder.join(MAX);
        fs::write(&max, "4096").unwrap();
        assert_eq!(
            limits.restore("api").as_deref(),
            Some("memory.max is max again, memory.swap.max is max again, memory.oom.group is 0 again")
        );
        assert_eq!(fs::read_to_string(&max).unwrap(), "max");
        fs::write(&max, "4096").unwrap();
        let later = GroupLimits { id: limits.id + 1, ..limits };
        assert_eq!((later.restore("api"), fs::read_to_string(&max).unwrap()), (None, "4096".to_owned()));
    }
}
