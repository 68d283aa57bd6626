//! A memory cgroup with a limit, to have the kernel's OOM killer at hand.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A memory cgroup of either version, removed when it is dropped.
#[derive(Debug)]
pub struct MemoryCgroup {
    directory: PathBuf,
}

impl MemoryCgroup {
    /// Makes one below the root of the memory hierarchy, with a limit in bytes and no swap.
    pub fn new(limit_bytes: u64) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let hierarchy = hierarchy()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = hierarchy.mount.join(format!("hostprobe-test-{}-{number}", std::process::id()));
        fs::create_dir(&directory)?;
        let cgroup = Self { directory };
        let limit = limit_bytes.to_string();
        if hierarchy.unified {
            fs::write(cgroup.directory.join("memory.max"), limit)?;
            write_if_there(&cgroup.directory.join("memory.swap.max"), "0")?;
        } else {
            fs::write(cgroup.directory.join("memory.limit_in_bytes"), &limit)?;
            write_if_there(&cgroup.directory.join("memory.memsw.limit_in_bytes"), &limit)?;
        }
        Ok(cgroup)
    }

    /// Makes one below this one, without a limit of its own.
    pub fn below(&self, name: &str) -> io::Result<Self> {
        let control = self.directory.join("cgroup.subtree_control");
        if control.exists() {
            fs::write(control, "+memory")?;
        }
        let directory = self.directory.join(name);
        fs::create_dir(&directory)?;
        Ok(Self { directory })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its path from the root of its hierarchy, as `/proc/PID/cgroup` gives it.
    pub fn path(&self) -> String {
        let below =
            hierarchy().ok().and_then(|it| self.directory.strip_prefix(it.mount).ok().map(Path::to_owned));
        format!("/{}", below.unwrap_or_default().display())
    }

    /// The name of the file that has its limit.
    pub fn limit_file(&self) -> &'static str {
        if self.directory.join("memory.max").exists() { "memory.max" } else { "memory.limit_in_bytes" }
    }

    /// Moves a process in; its children follow.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // A cgroup with members cannot be removed; they go back to the root.
        let members = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        let root = hierarchy().map(|it| it.mount.join("cgroup.procs")).unwrap_or_default();
        for member in members.lines() {
            let _ = fs::write(&root, member);
        }
        if let Err(error) = fs::remove_dir(&self.directory) {
            eprintln!("cannot remove {}: {error}", self.directory.display());
        }
    }
}

struct Hierarchy {
    mount: PathBuf,
    unified: bool,
}

fn hierarchy() -> io::Result<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?, fields.next()?))
    });
    for (mount, kind, options) in mounts {
        let mount = PathBuf::from(mount);
        if kind == "cgroup" && options.split(',').any(|option| option == "memory") {
            return Ok(Hierarchy { mount, unified: false });
        }
        let controllers = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        if kind == "cgroup2" && controllers.split_whitespace().any(|name| name == "memory") {
            fs::write(mount.join("cgroup.subtree_control"), "+memory")?;
            return Ok(Hierarchy { mount, unified: true });
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "no memory cgroup hierarchy is mounted"))
}

fn write_if_there(path: &Path, value: &str) -> io::Result<()> {
    match fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
