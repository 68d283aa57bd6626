//! A cgroup for each service that hostprobe starts, so that it finds all of the service's processes.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Cgroups, Hierarchy, TEXT_MAX,
    owner::{Owner, PREFIX},
};
use crate::{
    fact::{Cgroup, ProcessKey},
    host::{FileId, ProcReader, read_text},
};

/// A v2 cgroup that hostprobe made for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCgroup {
    pub path: PathBuf,
    /// Its id: the folder's inode number. 0 for one that is only looked into, emptied or removed.
    pub id: u64,
}

impl ProcReader {
    /// The cgroups of a service that no daemon supervises, and that a daemon with the state directory `own` may end.
    pub fn abandoned_cgroups(&self, service: &str, own: Option<FileId>) -> Vec<OwnCgroup> {
        self.cgroups().left_behind(service, |owner| owner.has_abandoned(own, |daemon| self.is_there(daemon)))
    }

    /// Removes the cgroups of ended daemons in which nothing runs any more. A daemon that leaves its services running leaves
    /// their cgroups, and each life of a daemon would leave some more.
    pub fn remove_empty_cgroups(&self) {
        let cgroups = self.cgroups();
        let has_ended = |owner: Owner| !self.is_there(owner.daemon);
        let is_abandoned = |path: &PathBuf| cgroups.owner_of(path).is_some_and(has_ended);
        for folder in cgroups.own_folder().and_then(|own| folders(&own)).unwrap_or_default() {
            for path in folders(&folder).unwrap_or_default().into_iter().filter(is_abandoned) {
                let group = OwnCgroup::at(path);
                if group.is_populated().is_ok_and(|is_populated| !is_populated) {
                    // A process may have come meanwhile, so that it cannot be removed.
                    let _ = group.remove();
                }
            }
            let is_daemons =
                folder.file_name().and_then(OsStr::to_str).and_then(|name| cgroups.owner_named(name));
            if is_daemons.is_some_and(has_ended) {
                // It goes if nothing is left in it.
                let _ = fs::remove_dir(&folder);
            }
        }
    }

    /// Whether a daemon still has its pid, if only as a zombie.
    fn is_there(&self, daemon: ProcessKey) -> bool {
        self.key_of(daemon.pid) == Some(daemon)
    }

    /// The cgroups of hooks and checks whose daemon has ended.
    pub fn abandoned_runs(&self) -> Vec<OwnCgroup> {
        let cgroups = self.cgroups();
        let daemons = cgroups.own_folder().and_then(|own| folders(&own)).unwrap_or_default();
        let prefixes = [OwnCgroup::OF_HOOKS, OwnCgroup::OF_CHECKS].map(folder_name);
        let is_run = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
        };
        let runs = daemons.iter().flat_map(|folder| folders(folder).unwrap_or_default()).filter(is_run);
        let abandoned =
            runs.filter(|path| cgroups.owner_of(path).is_some_and(|owner| !self.is_there(owner.daemon)));
        abandoned.map(OwnCgroup::at).collect()
    }
}

impl Cgroups {
    /// Makes the cgroup of a service of the daemon `owner`, below this process's own in the v2 hierarchy.
    ///
    /// The owner is part of its path, so that two daemons on a host never mistake each other's services for
    /// their own.
    pub fn create_for(&self, owner: ProcessKey, service: &str) -> io::Result<OwnCgroup> {
        let path = self.own_folder()?.join(self.daemon_name(owner)).join(folder_name(service));
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot create {}: {error}", path.display()))
        };
        fs::create_dir_all(&path).map_err(failed)?;
        let id = fs::metadata(&path)?.ino();
        Ok(OwnCgroup { path, id })
    }

    /// The cgroups of a service that are abandoned. No daemon supervises the processes in them.
    fn left_behind(&self, service: &str, is_abandoned: impl Fn(&Owner) -> bool) -> Vec<OwnCgroup> {
        let daemons = self.own_folder().and_then(|own| folders(&own)).unwrap_or_default();
        let groups = daemons.into_iter().map(|folder| folder.join(folder_name(service)));
        let left =
            groups.filter(|path| path.is_dir() && self.owner_of(path).as_ref().is_some_and(&is_abandoned));
        left.map(OwnCgroup::at).collect()
    }

    /// The cgroup that an earlier daemon made for a service, if it is still there.
    pub fn made_before(&self, cgroup: &Cgroup, service: &str) -> Option<OwnCgroup> {
        let path = self.folder(Hierarchy::V2, &cgroup.path)?;
        let daemon = path.parent()?.file_name()?.to_str()?;
        let is_own = path.file_name()? == folder_name(service).as_str() && self.owner_named(daemon).is_some();
        let id = fs::metadata(&path).ok()?.ino();
        let found = OwnCgroup { path, id };
        (is_own && id == cgroup.id).then_some(found)
    }

    /// A cgroup of a service as `/proc/PID/cgroup` gives it; None if its path is not UTF-8.
    pub fn described(&self, own: &OwnCgroup) -> Option<Cgroup> {
        let path = self.path_below(Hierarchy::V2, &own.path)?;
        Some(Cgroup { id: own.id, path })
    }

    fn own_folder(&self) -> io::Result<PathBuf> {
        let own = self.of_self().v2.and_then(|path| self.folder(Hierarchy::V2, &path));
        own.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "cgroup v2 is not mounted"))
    }
}

impl OwnCgroup {
    /// What the names of the cgroups of hooks and of checks begin with. No service has a colon in its name.
    pub const OF_HOOKS: &str = "hook:";
    pub const OF_CHECKS: &str = "check:";

    /// The one in this folder, to look into it, to empty it or to remove it.
    pub fn at(path: PathBuf) -> Self {
        Self { path, id: 0 }
    }

    /// A pid that is written to this file moves the process in.
    pub fn procs_file(&self) -> PathBuf {
        procs_file(&self.path)
    }

    /// The pids of all its processes, those in groups below it included.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        collect(&self.path, &mut pids)?;
        Ok(pids)
    }

    /// Whether a process runs in it or in a group below it. Costs one read, [`Self::members`] some for each group.
    pub fn is_populated(&self) -> io::Result<bool> {
        match read_text(&self.path.join("cgroup.events"), TEXT_MAX) {
            Ok(text) => Ok(!text.lines().any(|line| line == "populated 0")),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends SIGKILL to each of its processes. They may take a moment to end, and processes that they fork meanwhile
    /// are missed.
    ///
    /// `cgroup.kill` would miss nothing, but it leaves the group unfit for a next start: Linux 6.18 compares the
    /// kills of the parent's group with those of the child's (`kill_seq` in `cgroup_post_fork`), and so kills
    /// every process that is cloned into a group that was ever killed.
    pub fn kill_members(&self) -> io::Result<()> {
        for pid in self.members()? {
            // A process that cannot be killed is gone already.
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        Ok(())
    }

    /// Kills all its processes and those that they fork meanwhile. The cgroup cannot be used for a start afterwards.
    pub fn kill_for_good(&self) -> io::Result<()> {
        match fs::write(self.path.join("cgroup.kill"), "1") {
            // Before Linux 5.14 this file is missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.kill_members(),
            done => done,
        }
    }

    /// Removes the cgroup; it must be empty.
    pub fn remove(&self) -> io::Result<()> {
        // The groups that a service made below its own must go first.
        for below in folders(&self.path)? {
            Self::at(below).remove()?;
        }
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
        // The daemon's last group removes the daemon's folder; while there is another one, the folder stays.
        let is_daemons = |folder: &&Path| {
            folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
        };
        if let Some(folder) = self.path.parent().filter(is_daemons) {
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

/// The folder's name for a service: the kernel's own files have no such prefix, and two services never share one.
fn folder_name(service: &str) -> String {
    let mut name = "service-".to_owned();
    for char in service.chars() {
        if char.is_ascii_alphanumeric() || "-_.@".contains(char) {
            name.push(char);
        } else {
            name.push_str(&format!("\\x{:x}", u32::from(char)));
        }
    }
    name
}

fn procs_file(group: &Path) -> PathBuf {
    group.join("cgroup.procs")
}

fn collect(folder: &Path, pids: &mut Vec<u32>) -> io::Result<()> {
    let text = match read_text(&procs_file(folder), TEXT_MAX) {
        Ok(text) => text,
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
    folders(folder)?.iter().try_for_each(|below| collect(below, pids))
}

/// Whether the group was removed meanwhile, so that it has no processes.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    Ok(entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::{clock::Timestamp, host::fake::FakeHost};

    const OWNER: ProcessKey = ProcessKey { pid: 7, start: Timestamp::from_nanos(90_000_000) };

    #[test]
    fn what_a_dead_daemon_left_is_found_and_what_a_living_one_has_is_not() {
        let host = FakeHost::v2();
        host.write("proc/self/cgroup", b"0::/\n");
        let living = ProcessKey { pid: 8, ..OWNER };
        let left = host.cgroups().create_for(OWNER, "api").unwrap();
        host.cgroups().create_for(OWNER, "web").unwrap();
        host.cgroups().create_for(living, "api").unwrap();
        host.folder("sys/fs/cgroup/hostprobe-x");
        let found = host.cgroups().left_behind("api", |owner| owner.daemon != living);
        assert_eq!(found.iter().map(|group| &group.path).collect::<Vec<_>>(), [&left.path]);
    }

    #[test]
    fn empty_cgroups_of_daemons_that_have_ended_are_removed() {
        let host = FakeHost::v2();
        host.write("proc/self/cgroup", b"0::/\n");
        host.process_started_at(8, 1, "hostprobe", "/usr/bin/hostprobe", 9);
        let reader = host.reader();
        let living = reader.key_of(8).unwrap();
        let cgroups = host.cgroups();
        let make = |owner, service| cgroups.create_for(owner, service).unwrap().path;
        let [ended, waits, runs, adopted] = [
            make(OWNER, "ended"),
            make(living, "waits"),
            make(ProcessKey { pid: 9, ..OWNER }, "runs"),
            make(ProcessKey { pid: 10, ..OWNER }, "adopted"),
        ];
        fs::create_dir(ended.join("workers")).unwrap();
        fs::write(runs.join("cgroup.events"), "populated 1\n").unwrap();
        cgroups.set_owner(&adopted, Owner { daemon: living, state: None }).unwrap();
        reader.remove_empty_cgroups();
        assert!(!ended.parent().unwrap().exists());
        assert!(waits.is_dir() && runs.is_dir() && adopted.is_dir());
    }

    #[test]
    fn a_daemon_of_another_pid_namespace_is_left_alone() {
        let host = FakeHost::v2();
        host.write("proc/self/cgroup", b"0::/\n");
        host.link("proc/self/ns/pid", "pid:[4026532777]");
        let inside = host.cgroups().create_for(OWNER, "api").unwrap();
        assert!(inside.path.ends_with("hostprobe-ns4026532777-7-90000000/service-api"), "{inside:?}");
        assert_eq!(host.cgroups().left_behind("api", |_| true).len(), 1);
        host.remove("proc/self/ns/pid");
        host.link("proc/self/ns/pid", "pid:[4026531836]");
        assert_eq!(host.cgroups().left_behind("api", |_| true), []);
        host.remove("proc/self/ns/pid");
        host.link("proc/self/ns/pid", "pid:[4026532778]");
        assert_eq!(host.cgroups().left_behind("api", |_| true), []);
    }

    #[test]
    fn a_service_s_group_lies_below_our_own() {
        let host = FakeHost::v2();
        host.write("proc/self/cgroup", b"0::/system.slice/hostprobe.service\n");
        host.folder("sys/fs/cgroup/system.slice/hostprobe.service");
        let group = host.cgroups().create_for(OWNER, "api/v2 é").unwrap();
        let path = r"hostprobe.service/hostprobe-7-90000000/service-api\x2fv2\x20\xe9";
        assert!(group.path.ends_with(path), "{group:?}");
        host.write_at(&group.procs_file(), b"12\n13\n0\nx\n");
        assert_eq!(group.members().unwrap(), [12, 13]);

        let v1 = FakeHost::v1();
        assert_eq!(v1.cgroups().create_for(OWNER, "api").unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    /// A real cgroup with a real process in it, or None if this host does not allow it.
    fn with_a_process(name: &str) -> Option<(OwnCgroup, Child)> {
        let made = Cgroups::discover(Path::new("/")).unwrap().create_for(OWNER, name);
        let group = match made {
            Ok(group) => group,
            Err(error) if std::env::var_os("CI").is_none() => {
                eprintln!("skipped: it needs root and a writable cgroup v2: {error}");
                return None;
            }
            Err(error) => panic!("this test needs root and a writable cgroup v2: {error}"),
        };
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(group.procs_file(), child.id().to_string()).unwrap();
        assert_eq!(group.members().unwrap(), [child.id()]);
        Some((group, child))
    }

    #[test]
    fn killing_a_group_ends_its_processes() {
        use std::os::unix::process::ExitStatusExt;

        let Some((group, mut child)) = with_a_process(&format!("test-{}", std::process::id())) else {
            return;
        };
        group.kill_members().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert_eq!(group.members().unwrap(), Vec::<u32>::new());
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(group.procs_file(), child.id().to_string()).unwrap();
        group.kill_for_good().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        group.remove().unwrap();
        assert!(!group.path.exists());
        group.remove().unwrap();
    }
}
