//! A cgroup with a weight of its own in the competition for the CPUs.

use std::{
    fs, io,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

/// A cgroup of the cpu controller, of either version; its members go back to the root when it is dropped.
#[derive(Debug)]
pub struct CpuCgroup {
    directory: PathBuf,
}

impl CpuCgroup {
    /// Makes one below the root of the hierarchy with the controller; `shares` as cgroup v1 counts them, 2 to 262144
    /// with 1024 as the usual.
    pub fn new(shares: u64) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (mount, unified) = hierarchy()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = mount.join(format!("hostprobe-test-cpu-{}-{number}", std::process::id()));
        fs::create_dir(&directory)?;
        let cgroup = Self { directory };
        if unified {
            // The conversion that container engines use: 2 is 1 and 262144 is 10000.
            let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
            fs::write(cgroup.directory.join("cpu.weight"), weight.to_string())?;
        } else {
            fs::write(cgroup.directory.join("cpu.shares"), shares.to_string())?;
        }
        Ok(cgroup)
    }

    /// Moves a process in, with all its threads.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for CpuCgroup {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        let root = self.directory.with_file_name("cgroup.procs");
        for member in members.lines() {
            let _ = fs::write(&root, member);
        }
        if let Err(error) = fs::remove_dir(&self.directory) {
            eprintln!("cannot remove {}: {error}", self.directory.display());
        }
    }
}

/// Where the controller is mounted, and whether that is cgroup v2.
fn hierarchy() -> io::Result<(PathBuf, bool)> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(mount), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let mount = PathBuf::from(mount);
        if kind == "cgroup" && options.split(',').any(|option| option == "cpu") {
            return Ok((mount, false));
        }
        let controllers = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        if kind == "cgroup2" && controllers.split_whitespace().any(|name| name == "cpu") {
            fs::write(mount.join("cgroup.subtree_control"), "+cpu")?;
            return Ok((mount, true));
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy has the controller cpu"))
}
