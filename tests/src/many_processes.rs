//! Many small processes: HTTP servers that record each request's time, and sleepers (see `src/bin/many_processes.rs`).

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::NamedTempFile;

use crate::{cgroup, parts::built, process::Running};

/// Longest wait for the last process to be there, on a busy machine.
const START: Duration = Duration::from_secs(120);

/// HTTP servers, each a process with a loopback port of its own.
#[derive(Debug)]
pub struct Servers {
    pub ports: Vec<u16>,
    stamps: NamedTempFile,
    /// The process that ends all of them.
    _process: Running,
}

/// A connection to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The place of the server among [`Servers::ports`].
    pub server: usize,
    /// When it was taken, nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
}

impl Servers {
    /// Starts so many.
    ///
    /// # Panics
    /// If they cannot be started.
    pub fn start(count: usize) -> Self {
        let stamps = NamedTempFile::new().expect("a temporary file");
        let (process, ready) = start(&["serve", &count.to_string(), &stamps.path().display().to_string()]);
        let ports = ready.split(' ').filter_map(|port| port.parse().ok()).collect();
        Self { ports, stamps, _process: process }
    }

    /// How much was noted so far, for [`Self::between`].
    pub fn mark(&self) -> io::Result<u64> {
        // Only whole stamps: they are appended one by one.
        Ok(fs::metadata(self.stamps.path())?.len() / 16 * 16)
    }

    /// The arrivals between two marks.
    pub fn between(&self, from: u64, to: u64) -> io::Result<Vec<Arrival>> {
        let mut stamps = File::open(self.stamps.path())?;
        stamps.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        stamps.take(to.saturating_sub(from)).read_to_end(&mut bytes)?;
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default();
        let arrival = |stamp: &[u8]| Arrival { server: word(&stamp[..8]) as usize, at_ns: word(&stamp[8..]) };
        Ok(bytes.chunks_exact(16).map(arrival).collect())
    }
}

/// Processes that sleep.
#[derive(Debug)]
pub struct Sleepers {
    // In this order: the groups can be removed when they are empty.
    _process: Running,
    _groups: Option<Groups>,
}

impl Sleepers {
    /// Starts so many.
    ///
    /// # Panics
    /// If they cannot be started.
    pub fn start(count: usize) -> Self {
        Self { _process: start(&["idle", &count.to_string()]).0, _groups: None }
    }

    /// Starts so many, spread over so many cgroups.
    pub fn in_groups(count: usize, groups: usize) -> io::Result<Self> {
        let made = Groups::new(groups)?;
        let folder = made.folder.display().to_string();
        let process = start(&["idle", &count.to_string(), &folder, &groups.to_string()]).0;
        Ok(Self { _process: process, _groups: Some(made) })
    }
}

/// Cgroups in a cgroup, named by their numbers.
#[derive(Debug)]
struct Groups {
    folder: PathBuf,
    made: usize,
}

impl Groups {
    fn new(count: usize) -> io::Result<Self> {
        let Some(mount) = cgroup::telling().into_iter().next() else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted"));
        };
        let folder = mount.join(format!("hostprobe-many_processes-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let mut groups = Self { folder, made: 0 };
        for number in 0..count {
            fs::create_dir(groups.group(number))?;
            groups.made += 1;
        }
        Ok(groups)
    }

    fn group(&self, number: usize) -> PathBuf {
        self.folder.join(number.to_string())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for number in 0..self.made {
            remove(&self.group(number));
        }
        remove(&self.folder);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir(folder) {
        eprintln!("cannot remove {}: {error}", folder.display());
    }
}

/// Starts the program; it and what it says when all are there.
fn start(arguments: &[&str]) -> (Running, String) {
    let process = Running::start(Command::new(built("many_processes")).args(arguments), Signal::TERM);
    let ready =
        |lines: &[String]| lines.iter().find_map(|line| line.strip_prefix("ready").map(str::to_owned));
    let said = process.stdout.wait_for(START, ready);
    let said = said.unwrap_or_else(|| panic!("not all processes are there: {:?}", process.stderr.all()));
    (process, said)
}
