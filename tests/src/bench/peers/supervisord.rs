//! supervisor, the process manager in Python.

use std::{fs, process::Command, time::Duration};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{bench::outage::until_well, process::Running, victim::Victim};

/// Its program, of the Debian package supervisor.
pub const PROGRAM: &str = "/usr/bin/supervisord";

/// The longest it may take to begin.
const START: Duration = Duration::from_secs(30);

/// A supervisord in the foreground with a victim that it keeps running, and ends when it ends.
#[derive(Debug)]
pub struct Supervisord {
    process: Running,
    _folder: TempDir,
}

impl Supervisord {
    /// Starts both; `autorestart=true`, all else as it is by itself.
    pub fn start(port: u16) -> Result<Self> {
        ensure!(fs::exists(PROGRAM)?, "{PROGRAM} is missing: apt-get install supervisor");
        let folder = tempfile::Builder::new().prefix("hostprobe-bench-supervisord-").tempdir()?;
        let (own, program) = (folder.path().display(), Victim::program());
        let config = folder.path().join("supervisord.conf");
        let text = format!(
            "[supervisord]\nnodaemon=true\nuser=root\nlogfile={own}/log\npidfile={own}/pid\nchildlogdir={own}\n\
             [program:victim]\ncommand={} --port {port}\nautorestart=true\n",
            program.display()
        );
        fs::write(&config, text)?;
        let process = Running::start(Command::new(PROGRAM).arg("-n").arg("-c").arg(&config), Signal::TERM);
        let peer = Self { process, _folder: folder };
        until_well(port, None, START)?;
        Ok(peer)
    }

    /// How often it has found the victim running for as long as it wants a start to last (a second).
    pub fn starts(&self) -> usize {
        let running = |line: &&String| line.contains("entered RUNNING state");
        self.process.stdout.all().iter().filter(running).count()
    }
}
