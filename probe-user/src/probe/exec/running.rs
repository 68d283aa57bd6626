//! A program that runs, and its end: nothing of it outlives this value.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    fs::{Mode, OFlags, fcntl_setfl, open},
    pipe::{PipeFlags, pipe_with},
    process::Signal,
};
use tokio::{net::unix::pipe, runtime::Handle, sync::OwnedSemaphorePermit, time::timeout};

use super::output::Output;
use crate::{
    config::Exec,
    descriptors,
    spawn::{Child, RunCgroup, SpawnError, spawn},
};

/// Most programs end within this time, and what they write fits into the pipe. It is read after their end, and does not wake
/// the daemon before.
const SOON: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Running {
    /// None once its end was seen.
    child: Option<Child>,
    cgroup: Option<RunCgroup>,
    /// A pipe that does not block; None once it is read.
    output: Option<OwnedFd>,
    /// Lets the next run begin once the process is gone.
    alone: Option<OwnedSemaphorePermit>,
    /// Reaps the program, and removes the cgroup, wherever this value is dropped.
    runtime: Handle,
}

/// Starts the program. Needs the context of a runtime.
pub(super) fn start(
    exec: &Exec,
    cgroup: Option<RunCgroup>,
    alone: Option<OwnedSemaphorePermit>,
) -> Result<Running, SpawnError> {
    let is_exhausted = |error: &SpawnError| error.shortage().is_some_and(descriptors::is_exhausted);
    let (child, output) = descriptors::reserved(|| start_once(exec, cgroup.as_ref()), is_exhausted)?;
    let (child, output) = (Some(child), Some(output));
    Ok(Running { child, cgroup, output, alone, runtime: Handle::current() })
}

fn start_once(exec: &Exec, cgroup: Option<&RunCgroup>) -> Result<(Child, OwnedFd), SpawnError> {
    let of_call = |error: rustix::io::Errno| SpawnError::Call(error.into());
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(of_call)?;
    // The program's end of it blocks, as programs expect.
    fcntl_setfl(&read, OFlags::NONBLOCK).map_err(of_call)?;
    let errors: OwnedFd =
        open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(of_call)?;
    let folder = cgroup.and_then(RunCgroup::cgroup).map(|cgroup| cgroup.path.as_path());
    Ok((spawn(exec, &write, &errors, folder)?, read))
}

impl Running {
    /// Waits for the end of the program: its wait status, and what it wrote. What it has started ends with it.
    pub(super) async fn end(&mut self) -> io::Result<(u32, Output)> {
        let mut output = Output::default();
        let (Some(child), Some(pipe)) = (&mut self.child, self.output.take()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        // Another process may hold the pipe for ever, so only what it has at the program's end is read.
        if let Ok(ended) = timeout(SOON, child.ended()).await {
            ended?;
            output.read_now(|part| Ok(rustix::io::read(&pipe, part)?))?;
        } else {
            let pipe = pipe::Receiver::from_owned_fd(pipe)?;
            tokio::select! {
                ended = child.ended() => ended?,
                read = output.read(&pipe) => {
                    read?;
                    child.ended().await?;
                }
            }
            output.read_now(|part| pipe.try_read(part))?;
        }
        // The ended process is not reaped yet, so that its group is still its own.
        child.signal(Signal::KILL);
        let status = child.wait().await?.unwrap_or_default();
        self.child = None;
        Ok((status, output))
    }

    /// The cgroup for the next run, unless something is left in it: a cgroup whose processes were killed cannot be used again.
    pub(super) fn into_cgroup(mut self) -> Option<RunCgroup> {
        let cgroup = self.cgroup.take()?;
        Some(cgroup).filter(|cgroup| self.child.is_none() && cgroup.is_empty())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        if let Some(mut child) = self.child.take() {
            child.signal(Signal::KILL);
            let alone = self.alone.take();
            self.runtime.spawn(async move {
                // An error leaves nothing to wait for.
                let _ = child.wait().await;
                drop(alone);
            });
        }
        drop(self.cgroup.take());
    }
}
