//! A process that acts when the check is ready.

use std::{
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A process that waits for [`release`](Self::release). Dropping it kills the process.
pub struct Workload {
    child: Child,
    /// Holds its core dump.
    _folder: TempDir,
}

pub fn program() -> Result<PathBuf> {
    std::env::current_exe().context("a running program has a path")
}

impl Workload {
    pub fn start(action: &[&str]) -> Result<Self> {
        Self::start_as(0, action)
    }

    pub fn start_as(uid: u32, action: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(program()?);
        command.arg("act").args(action).current_dir(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).uid(uid);
        let child = command.spawn().with_context(|| format!("cannot start {action:?}"))?;
        Ok(Self { child, _folder: folder })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it act.
    pub fn release(&mut self) {
        drop(self.child.stdin.take());
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for its exit and returns the status of wait(2).
    pub fn wait(&mut self) -> Result<u32> {
        Ok(self.child.wait()?.into_raw().cast_unsigned())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // In most cases it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
