//! A host's `/proc` and cgroup files in a temporary folder, for tests.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};

use tempfile::TempDir;

use super::{Cgroups, ProcReader};

pub(crate) struct FakeHost {
    root: TempDir,
}

impl FakeHost {
    /// A host with cgroup v2 alone.
    pub fn v2() -> Self {
        Self::with_mounts("30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    }

    /// A host with the controllers on cgroup v1, and v2 beside them.
    pub fn hybrid() -> Self {
        Self::with_mounts(concat!(
            "25 20 0:5 / /proc rw - proc proc rw\n",
            "31 20 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            "34 20 0:30 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n",
            "32 20 0:28 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,name=systemd\n",
            "33 20 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        ))
    }

    /// A host that does not mount cgroup v2.
    pub fn v1() -> Self {
        Self::with_mounts("31 20 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory,cpu\n")
    }

    fn with_mounts(mounts: &str) -> Self {
        let host = Self { root: TempDir::new().unwrap() };
        host.write("proc/self/mountinfo", mounts.as_bytes());
        host
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Has `/proc/self` lead to a process, as it does for that one; with the mounts that everybody sees.
    pub fn become_process(&self, pid: u32) {
        let proc = self.root.path().join("proc");
        fs::create_dir_all(proc.join(pid.to_string())).unwrap();
        fs::rename(proc.join("self/mountinfo"), proc.join(format!("{pid}/mountinfo"))).unwrap();
        fs::remove_dir_all(proc.join("self")).unwrap();
        symlink(pid.to_string(), proc.join("self")).unwrap();
    }

    pub fn reader(&self) -> ProcReader {
        ProcReader::new(self.root.path()).unwrap()
    }

    pub fn cgroups(&self) -> Cgroups {
        Cgroups::discover(self.root.path()).unwrap()
    }

    pub fn write(&self, path: &str, bytes: &[u8]) {
        self.write_at(&self.root.path().join(path), bytes);
    }

    pub fn write_at(&self, path: &Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Makes a folder; its inode number.
    pub fn folder(&self, path: &str) -> u64 {
        let path = self.root.path().join(path);
        fs::create_dir_all(&path).unwrap();
        fs::metadata(path).unwrap().ino()
    }

    pub fn remove(&self, path: &str) {
        let path = self.root.path().join(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    pub fn cgroup_file(&self, pid: u32, text: &str) {
        self.write(&format!("proc/{pid}/cgroup"), text.as_bytes());
    }

    /// A process of user 105 that started at tick 100 × `pid`, with 3 threads, 20 ticks of user and 5 of system
    /// time, and 50 resident pages.
    pub fn process(&self, pid: u32, parent: u32, name: &str, exe: &str) {
        self.process_started_at(pid, parent, name, exe, pid * 100);
    }

    /// The same, with another start tick.
    pub fn process_started_at(&self, pid: u32, parent: u32, name: &str, exe: &str, start: u32) {
        let stat = format!(
            "{pid} ({name}) S {parent} {pid} {pid} 0 -1 4194560 0 0 0 0 20 5 0 0 20 0 3 0 {start} 1000000 50 \
             18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        );
        self.write(&format!("proc/{pid}/stat"), stat.as_bytes());
        let status = format!("Name:\t{name}\nUid:\t105\t0\t0\t0\nNSpid:\t{pid}\n");
        self.write(&format!("proc/{pid}/status"), status.as_bytes());
        self.write(&format!("proc/{pid}/cmdline"), format!("{exe}\0").as_bytes());
        self.folder(&format!("proc/{pid}/fd"));
        symlink(exe, self.root.path().join(format!("proc/{pid}/exe"))).unwrap();
    }

    /// The kernel has reported the end of a process, which still has its descriptors.
    pub fn exits(&self, pid: u32) {
        self.flags(pid, 0x40_0104);
    }

    /// A process that has forked and not executed a program since.
    pub fn forked(&self, pid: u32) {
        self.flags(pid, 0x40_0140);
    }

    fn flags(&self, pid: u32, flags: u32) {
        let path = self.root().join(format!("proc/{pid}/stat"));
        let stat = fs::read_to_string(&path).unwrap().replace(" 4194560 ", &format!(" {flags} "));
        fs::write(path, stat).unwrap();
    }

    /// Gives a process an open file descriptor.
    pub fn fd(&self, pid: u32, number: u32, target: &str) {
        symlink(target, self.root.path().join(format!("proc/{pid}/fd/{number}"))).unwrap();
    }

    /// A thread that started at tick 100 × `tid` and used these ticks of user and of system time.
    pub fn thread(&self, pid: u32, tid: u32, name: &str, state: char, ticks: (u64, u64)) {
        let (user, system) = ticks;
        let start = tid * 100;
        let stat = format!(
            "{tid} ({name}) {state} 1 {pid} {pid} 0 -1 4194560 0 0 0 0 {user} {system} 0 0 20 0 3 0 {start} 0 0\n"
        );
        self.write(&format!("proc/{pid}/task/{tid}/stat"), stat.as_bytes());
    }

    /// A symbolic link, as those of a process's namespaces.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// The path of a file that blocks its readers until a writer opens it.
    pub fn blocking_file(&self, path: &str) -> std::path::PathBuf {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        path
    }
}
