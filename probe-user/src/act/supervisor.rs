//! The built-in supervisor. It starts a command, writes its output to a file, and ends its whole process group.
//!
//! Each command runs in its own process group and, where the v2 hierarchy is writable, in its own cgroup below the
//! daemon's. The kernel then reports the cgroup with every record of every descendant, and a stop ends everything
//! that the command has started.

mod spawn;

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use spawn::{Child, spawn};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    config::Exec,
    fact::{ProcessKey, ServiceId},
    host::{OwnCgroup, ProcReader},
};

/// From SIGTERM to SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The wait until killed processes have left their cgroup.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// Requests that may wait.
const REQUESTS_MAX: usize = 4;

#[derive(Debug)]
pub enum SupervisorReport {
    Started(ServiceId, ProcessKey),
    Failed(ServiceId, SupervisorError),
    /// With its wait status (`wait(2)`).
    Ended(ServiceId, ProcessKey, u32),
}

#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error("{path}: cannot open the output file: {source}")]
    Output { path: String, source: io::Error },
    #[error("{command}: {source}")]
    Spawn { command: String, source: io::Error },
    /// It ended before the daemon could read its start time.
    #[error("{command}: pid {pid} ended at once")]
    Gone { command: String, pid: u32 },
}

enum Request {
    Restart,
    Stop(oneshot::Sender<()>),
}

/// One supervised command. Dropping it leaves the command running; [`SupervisedProcess::stop`] ends it.
#[derive(Debug)]
pub struct SupervisedProcess {
    requests: mpsc::Sender<Request>,
}

impl SupervisedProcess {
    /// Prepares a command without starting it. `reports` gets its starts and exits. It runs in the first cgroup.
    /// The cgroups that an earlier daemon left behind are emptied before the first start.
    pub fn new(
        service: ServiceId,
        exec: Exec,
        (cgroup, left_behind): (Option<OwnCgroup>, Vec<OwnCgroup>),
        processes: ProcReader,
        reports: mpsc::Sender<SupervisorReport>,
    ) -> Self {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let work = SupervisorTask {
            service,
            exec,
            cgroup,
            left_behind,
            processes,
            reports,
            running: None,
            left_group: None,
        };
        tokio::spawn(work.run(inbox));
        Self { requests }
    }

    /// Starts the command. Ends it first if it runs.
    pub fn restart(&self) {
        // If the queue is full, a restart is waiting already.
        let _ = self.requests.try_send(Request::Restart);
    }

    /// Ends the command with all its descendants, and waits for their end.
    pub async fn stop(&self) {
        let (done, gone) = oneshot::channel();
        if self.requests.send(Request::Stop(done)).await.is_ok() {
            let _ = gone.await;
        }
    }
}

struct SupervisorTask {
    service: ServiceId,
    exec: Exec,
    cgroup: Option<OwnCgroup>,
    left_behind: Vec<OwnCgroup>,
    processes: ProcReader,
    reports: mpsc::Sender<SupervisorReport>,
    running: Option<(Child, ProcessKey)>,
    /// The process group of a command that ended by itself. Its children may be left in it; until they end, the
    /// kernel does not reuse its number.
    left_group: Option<u32>,
}

impl SupervisorTask {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            let request = match &mut self.running {
                None => inbox.recv().await,
                Some((child, key)) => tokio::select! {
                    request = inbox.recv() => request,
                    status = child.wait() => {
                        let ended = SupervisorReport::Ended(self.service, *key, status.unwrap_or_default());
                        self.left_group = Some(key.pid);
                        self.running = None;
                        self.report(ended).await;
                        continue;
                    }
                },
            };
            match request {
                Some(Request::Restart) => {
                    self.terminate().await;
                    let report = match self.start() {
                        Ok(key) => SupervisorReport::Started(self.service, key),
                        Err(error) => SupervisorReport::Failed(self.service, error),
                    };
                    self.report(report).await;
                }
                Some(Request::Stop(done)) => {
                    self.terminate().await;
                    if let Some(cgroup) = &self.cgroup {
                        kill_members(cgroup, OwnCgroup::kill_for_good).await;
                        remove(cgroup).await;
                    }
                    let _ = done.send(());
                }
                None => return,
            }
        }
    }

    async fn report(&self, report: SupervisorReport) {
        // The channel closes when the daemon stops.
        let _ = self.reports.send(report).await;
    }

    fn start(&mut self) -> Result<ProcessKey, SupervisorError> {
        let output = self.output()?;
        let command = || self.exec.command.first().cloned().unwrap_or_default();
        let cgroup = self.cgroup.as_ref().map(|cgroup| cgroup.path.as_path());
        let child = spawn(&self.exec, &output, cgroup)
            .map_err(|source| SupervisorError::Spawn { command: command(), source })?;
        let Some(key) = self.processes.key_of(child.pid) else {
            return Err(SupervisorError::Gone { command: command(), pid: child.pid });
        };
        self.running = Some((child, key));
        Ok(key)
    }

    fn output(&self) -> Result<std::fs::File, SupervisorError> {
        let path = &self.exec.output;
        let failed = |source| SupervisorError::Output { path: path.display().to_string(), source };
        let open = || OpenOptions::new().create(true).append(true).mode(0o640).open(path);
        match (open(), path.parent()) {
            (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder).map_err(failed)?;
                open().map_err(failed)
            }
            (opened, _) => opened.map_err(failed),
        }
    }

    /// Ends the command and everything it left behind, also under an earlier run of the daemon.
    async fn terminate(&mut self) {
        if let Some((mut child, key)) = self.running.take() {
            signal_group(key.pid, Signal::TERM);
            // A stopped process takes SIGTERM only after SIGCONT.
            signal_group(key.pid, Signal::CONT);
            if timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
                signal_group(key.pid, Signal::KILL);
                let _ = child.wait().await;
            }
            signal_group(key.pid, Signal::KILL);
        }
        if let Some(group) = self.left_group.take() {
            signal_group(group, Signal::KILL);
        }
        if let Some(cgroup) = &self.cgroup {
            kill_members(cgroup, OwnCgroup::kill_members).await;
        }
        for cgroup in std::mem::take(&mut self.left_behind) {
            kill_members(&cgroup, OwnCgroup::kill_for_good).await;
            remove(&cgroup).await;
        }
    }
}

/// Kills until the cgroup is empty.
async fn kill_members(cgroup: &OwnCgroup, kill: fn(&OwnCgroup) -> io::Result<()>) {
    let emptied = async {
        while !cgroup.members()?.is_empty() {
            kill(cgroup)?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok::<(), io::Error>(())
    };
    match timeout(REST_TIMEOUT, emptied).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!("{}: cannot kill the processes left in the cgroup: {error}", cgroup.path.display())
        }
        Err(_) => {
            tracing::warn!("{}: killed processes do not end: {:?}", cgroup.path.display(), cgroup.members())
        }
    }
}

/// Removes a cgroup. A killed process disappears from the list of members before it has left the cgroup, so the
/// removal can fail for a while.
async fn remove(cgroup: &OwnCgroup) {
    let removed = async {
        while let Err(error) = cgroup.remove() {
            if error.kind() != io::ErrorKind::ResourceBusy {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    };
    match timeout(REST_TIMEOUT, removed).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("{}: cannot remove the cgroup: {error}", cgroup.path.display()),
        Err(_) => tracing::debug!("{}: cannot remove the cgroup: it is in use", cgroup.path.display()),
    }
}

/// Signals a process group, which may be gone already.
fn signal_group(pid: u32, signal: Signal) {
    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}
