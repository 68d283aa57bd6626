//! Processes of this program's own making, at a gate until a check is ready for what they do.

use std::{
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A process with a deed before it. Killed when it is dropped.
pub struct Doer {
    child: Child,
    // Its core dump goes there.
    _folder: TempDir,
}

/// This program's file.
pub fn program() -> Result<PathBuf> {
    std::env::current_exe().context("a running program has a path")
}

impl Doer {
    /// Starts one that waits at its gate.
    pub fn start(deed: &[&str]) -> Result<Self> {
        Self::start_as(0, deed)
    }

    /// Starts one of another user.
    pub fn start_as(uid: u32, deed: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(program()?);
        command.arg("do").args(deed).current_dir(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).uid(uid);
        let child = command.spawn().with_context(|| format!("cannot start {deed:?}"))?;
        Ok(Self { child, _folder: folder })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens the gate.
    pub fn go(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for its end: the status of wait(2).
    pub fn wait(&mut self) -> Result<u32> {
        Ok(self.child.wait()?.into_raw().cast_unsigned())
    }
}

impl Drop for Doer {
    fn drop(&mut self) {
        // It has ended, in most cases.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
