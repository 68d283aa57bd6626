//! A host's `/proc` and cgroup files, in a folder that is in memory, from the bytes of an input.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::{Path, PathBuf},
};

use crate::split;

/// Begins a part of an input: the name of a file follows, and then a line feed and its content.
const PART: &[u8] = b"@@";

/// The files that an input may have, by their names in it.
const FILES: [(&str, &str); 36] = [
    ("mountinfo", "proc/self/mountinfo"),
    ("own-cgroup", "proc/self/cgroup"),
    ("stat", "proc/10/stat"),
    ("status", "proc/10/status"),
    ("cmdline", "proc/10/cmdline"),
    ("cgroup", "proc/10/cgroup"),
    ("children", "proc/10/task/10/children"),
    ("task", "proc/10/task/10/stat"),
    ("schedstat", "proc/10/task/10/schedstat"),
    ("task-status", "proc/10/task/10/status"),
    ("wchan", "proc/10/task/10/wchan"),
    ("syscall", "proc/10/task/10/syscall"),
    ("maps", "proc/10/maps"),
    ("program", "program"),
    ("tcp", "proc/10/net/tcp"),
    ("child-stat", "proc/11/stat"),
    ("child-status", "proc/11/status"),
    ("child-cmdline", "proc/11/cmdline"),
    ("child-cgroup", "proc/11/cgroup"),
    ("child-children", "proc/11/task/11/children"),
    ("init-environ", "proc/1/environ"),
    ("own-tcp", "proc/net/tcp"),
    ("own-tcp6", "proc/net/tcp6"),
    ("fib-trie", "proc/net/fib_trie"),
    ("if-inet6", "proc/net/if_inet6"),
    ("meminfo", "proc/meminfo"),
    ("vmstat", "proc/vmstat"),
    ("kallsyms", "proc/kallsyms"),
    ("pressure", "proc/pressure/cpu"),
    ("hostname", "proc/sys/kernel/hostname"),
    ("uuid", "proc/sys/kernel/random/uuid"),
    ("memory-max", "sys/fs/cgroup/memory.max"),
    ("memory-events", "sys/fs/cgroup/memory.events"),
    ("freeze", "sys/fs/cgroup/cgroup.freeze"),
    ("containerenv", "run/.containerenv"),
    ("pidfile", "run/pid"),
];

/// The links that an input may have.
const LINKS: [(&str, &str); 6] = [
    ("exe", "proc/10/exe"),
    ("fd", "proc/10/fd/3"),
    ("child-exe", "proc/11/exe"),
    ("child-fd", "proc/11/fd/3"),
    ("pid-namespace", "proc/self/ns/pid"),
    ("cgroup-namespace", "proc/self/ns/cgroup"),
];

pub struct Host {
    root: PathBuf,
}

impl Host {
    pub fn new() -> Self {
        let root = PathBuf::from(format!("/dev/shm/hostprobe-fuzz-{}", std::process::id()));
        for (_, path) in FILES.iter().chain(&LINKS) {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder in memory");
        }
        Self { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Has the files of an input, and no others.
    pub fn become_like(&self, input: &[u8]) {
        for (_, path) in FILES.iter().chain(&LINKS) {
            let _ = fs::remove_file(self.root.join(path));
        }
        for part in split(input, PART) {
            let Some(end) = part.iter().position(|byte| *byte == b'\n') else { continue };
            let (name, content) = (&part[..end], &part[end + 1..]);
            let path_of = |table: &[(&str, &'static str)]| {
                table.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, path)| self.root.join(path))
            };
            if let Some(path) = path_of(&FILES) {
                fs::write(path, content).expect("a file in memory");
            } else if let Some(path) = path_of(&LINKS) {
                // A target with a NUL, or an empty one, is none.
                let _ = symlink(OsStr::from_bytes(content.strip_suffix(b"\n").unwrap_or(content)), path);
            }
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}
