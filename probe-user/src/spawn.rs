//! Starts a command inside a cgroup.
//!
//! The standard library can only start a process and then move it. The move waits for an RCU grace period
//! (measured: 7 to 15 ms; `cgroup_threadgroup_rwsem` in the kernel's `cgroup_attach_lock`), which would be most of
//! a recovery. clone3(2) with `CLONE_INTO_CGROUP` (Linux 5.7) starts a process inside the cgroup.

mod child;
mod credentials;
mod environment;
mod fork;
mod pidfd;
mod run_cgroup;
mod step;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::Once,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpgid, kill_process_group, pidfd_open,
        pidfd_send_signal, waitid,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use self::{
    child::{Job, Plan, exec_command},
    fork::Memory,
    step::{Report, Step},
};
use crate::config::Exec;
pub use pidfd::has_ended;
pub use run_cgroup::RunCgroup;
pub use step::SpawnError;

/// A child process.
#[derive(Debug)]
pub struct Child {
    pub pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    group: Option<Pid>,
    /// Another process started it, so its status cannot be read.
    adopted: bool,
}

impl Child {
    /// A process that runs already.
    pub fn adopt(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: an `OwnedFd` is an open descriptor, always the same one, until it is dropped.
        let pidfd = unsafe {
            AsyncFd::register_with_interest(pidfd_open(raw, PidfdFlags::NONBLOCK)?, Interest::READABLE)
        }?;
        Ok(Self { pid, pidfd, group: getpgid(Some(raw)).ok(), adopted: true })
    }

    /// Signals the process and its process group, which may be gone already.
    pub fn signal(&self, signal: Signal) {
        if self.adopted {
            let _ = pidfd_send_signal(self.pidfd.get_ref(), signal);
        }
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
    }

    /// The process group that [`Self::signal`] reaches.
    pub fn group(&self) -> Option<u32> {
        self.group.map(|group| group.as_raw_nonzero().get().cast_unsigned())
    }

    /// Its pidfd.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.get_ref().as_fd()
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        has_ended(self.pidfd.get_ref(), Duration::ZERO)
    }

    /// Waits until the process has ended, and leaves it to be reaped. Cancel safe.
    pub async fn ended(&self) -> io::Result<()> {
        // A pidfd becomes readable once the process has ended (`pidfd_open(2)`).
        self.pidfd.readable().await?.retain_ready();
        Ok(())
    }

    /// Waits until the process has ended, reaps it, and returns its wait status (`wait(2)`). None if another process
    /// started it. Cancel safe.
    pub async fn wait(&mut self) -> io::Result<Option<u32>> {
        self.ended().await?;
        if self.adopted {
            return Ok(None);
        }
        let status = waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), WaitIdOptions::EXITED)?;
        let status = status.ok_or_else(|| io::Error::other("an ended child has no status"))?;
        Ok(Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => (code.cast_unsigned() & 0xff) << 8,
            (None, Some(signal)) => signal.cast_unsigned() | if status.dumped() { 0x80 } else { 0 },
            (None, None) => 0,
        }))
    }
}

/// A command that is ready to be started: all that may take time, or need memory, is done.
pub struct Prepared<'e> {
    exec: &'e Exec,
    plan: Plan,
    cgroup: Option<&'e Path>,
    /// That of the cgroup.
    folder: Option<OwnedFd>,
    /// A failed start is reported through this pipe.
    failure: OwnedFd,
    report: OwnedFd,
}

/// Prepares the start of `exec` in its own session and, if one is given, in the cgroup with this folder. Its standard output
/// and its standard error go to `output` and `errors`, which stay open until it is started; its input is empty. It inherits
/// nothing else of the daemon: no descriptor, no signal's action, and of the environment only what describes the host and
/// the user.
pub fn prepare<'e>(
    exec: &'e Exec,
    output: &'e OwnedFd,
    errors: &'e OwnedFd,
    cgroup: Option<&'e Path>,
) -> Result<Prepared<'e>, SpawnError> {
    let plan = Plan::new(exec, output, errors)?;
    let of_call = |error: Errno| SpawnError::Call(error.into());
    let open = |path| open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let folder = cgroup.map(open).transpose().map_err(of_call)?;
    let (failure, report) = pipe_with(PipeFlags::CLOEXEC).map_err(of_call)?;
    Ok(Prepared { exec, plan, cgroup, folder, failure, report })
}

/// Starts a command that needs no preparation before.
pub fn spawn(
    exec: &Exec,
    output: &OwnedFd,
    errors: &OwnedFd,
    cgroup: Option<&Path>,
) -> Result<Child, SpawnError> {
    prepare(exec, output, errors, cgroup)?.start()
}

impl Prepared<'_> {
    /// Starts it. An error names the step that failed, exec included.
    pub fn start(self) -> Result<Child, SpawnError> {
        let Self { exec, plan, cgroup, folder, failure, report } = self;
        let forked = fork(&plan, cgroup, folder.as_ref(), &report);
        let child = forked.map_err(SpawnError::Call)?;
        drop(report);
        let Some(report) = failed_step(failure).map_err(SpawnError::Call)? else { return Ok(child) };
        // The child ends by itself at once. Its status says no more than the error.
        let _ = waitid(WaitId::PidFd(child.pidfd.get_ref().as_fd()), WaitIdOptions::EXITED);
        let (step, source) = Step::read(report);
        Err(SpawnError::of(step, source, exec, &plan.limit_names()))
    }
}

/// Forks a child that executes its command, or reports why it could not.
fn fork(plan: &Plan, cgroup: Option<&Path>, folder: Option<&OwnedFd>, report: &OwnedFd) -> io::Result<Child> {
    let memory = if plan.credentials.is_some() { Memory::Copied } else { Memory::Shared };
    let mut job = Job { plan, report: report.as_raw_fd(), processes: None, has_handlers: false };
    // SAFETY: `exec_command` makes only calls that are allowed between fork and exec, and the job outlives the
    // call.
    let forked = unsafe { fork::clone3(memory, folder, exec_command, (&raw const job).cast()) };
    let pid = match forked {
        Err(error) if fork::is_filtered(&error) => {
            report_filter(&error);
            let processes = cgroup.map(|path| OpenOptions::new().write(true).open(path.join("cgroup.procs")));
            let processes = processes.transpose()?;
            job.processes = processes.as_ref().map(File::as_raw_fd);
            job.has_handlers = true;
            // SAFETY: as above; the file outlives the call too.
            unsafe { fork::clone(memory, exec_command, (&raw const job).cast()) }?
        }
        forked => forked?,
    };
    let raw = Pid::from_raw(pid).ok_or_else(|| io::Error::other("a child without a pid"))?;
    let pidfd = pidfd_open(raw, PidfdFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` is an open descriptor, always the same one, until it is dropped.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
    Ok(Child { pid: pid.cast_unsigned(), pidfd, group: Some(raw), adopted: false })
}

/// Waits until the child has executed its command. Otherwise returns the step that failed.
fn failed_step(failure: OwnedFd) -> io::Result<Option<Report>> {
    let mut report = Report::default();
    // A successful exec closed the pipe.
    let failed = File::from(failure).read(&mut report)? > 0;
    Ok(failed.then_some(report))
}

/// Logs once that services start in the slower way.
fn report_filter(error: &io::Error) {
    static LOGGED: Once = Once::new();
    LOGGED.call_once(|| {
        tracing::warn!(
            "clone3: a system call filter refuses it ({error}): services under `exec` start some milliseconds later; \
             under systemd, install the drop-in exec.conf of the package, which also gives them rights of their own"
        );
    });
}

#[cfg(test)]
mod tests;
