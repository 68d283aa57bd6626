//! The built-in supervisor. It starts a command, writes its output to a file, and ends its whole process group.
//!
//! Each command runs in its own process group and, where the v2 hierarchy is writable, in its own cgroup below the
//! daemon's. The kernel then reports the cgroup with every record of every descendant, and a stop ends everything
//! that the command has started.

mod end;
mod ending;
mod error;
mod left;
mod lines;
mod orphans;
mod output;
mod running_command;
mod start;

use std::{sync::Arc, time::Duration};

pub use error::SupervisorError;
use left::{kill_members, remove};
pub use lines::LostLines;
pub use orphans::Orphans;
use output::Output;
use running_command::PipedOutput;
pub use running_command::{RunningCommand, Standing};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    bounded_thread::Threads,
    config::Exec,
    descriptors,
    fact::{ProcessKey, ServiceId},
    host::{FileId, OutputRun, OutputRuns, OwnCgroup, Owner, PidScope, ProcReader},
    progress::Awaited,
    spawn::Child,
};

/// The wait before a start that the daemon lacked something for is tried again.
const SHORTAGE_RETRY: Duration = Duration::from_secs(1);

/// How long a core dump may take before a restart: some 60 GB at 100 MB/s.
const DUMP_TIMEOUT: Duration = Duration::from_secs(600);

/// The same when the daemon ends. It still fits into the time that all stops have beyond the longest `stop_timeout`.
const LAST_DUMP_TIMEOUT: Duration = Duration::from_secs(3);

/// So many processes of an adopted command are asked for its output, if its main process does not write there.
const MOST_WRITERS: usize = 256;

/// Requests that may wait.
const REQUESTS_MAX: usize = 4;

#[derive(Debug)]
pub enum SupervisorReport {
    Started(ServiceId, Box<RunningCommand>),
    /// Another process of the command has taken the place of its main process.
    Adopted(ServiceId, Box<RunningCommand>),
    Failed(ServiceId, SupervisorError),
    /// The daemon lacks what a start takes. It is tried again.
    Delayed(ServiceId, SupervisorError),
    /// It was stopped for an operator, with all its descendants.
    Halted(ServiceId),
    /// With its wait status (`wait(2)`), which a process that another one started does not have.
    Ended(ServiceId, ProcessKey, Option<u32>),
    /// Its output file did not take these lines.
    OutputLost(ServiceId, LostLines),
}

/// Descendants of a command, by the kernel's record of forks.
type Descendants = Vec<u32>;

enum Request {
    Restart(Descendants, Option<Awaited>),
    Adopt(ProcessKey),
    Halt(Descendants),
    Stop(Descendants, oneshot::Sender<()>),
    Leave(oneshot::Sender<Option<Box<RunningCommand>>>),
}

/// What a command is supervised with.
#[derive(Debug)]
pub struct Supervision {
    pub service: ServiceId,
    pub name: String,
    pub exec: Exec,
    /// Its processes run in this one.
    pub cgroup: Option<OwnCgroup>,
    /// The cgroups that an earlier daemon left behind. They are emptied before the first start.
    pub left_behind: Vec<OwnCgroup>,
    /// The daemon itself.
    pub owner: Owner,
    /// Of the daemon; None without one.
    pub state_directory: Option<FileId>,
    pub processes: ProcReader,
    /// Commands are started on these.
    pub threads: Threads,
    /// Gets its starts and exits.
    pub reports: mpsc::Sender<SupervisorReport>,
}

/// One supervised command. Dropping it leaves the command running; [`SupervisedProcess::stop`] ends it.
#[derive(Debug)]
pub struct SupervisedProcess {
    requests: mpsc::Sender<Request>,
    configured: watch::Sender<Exec>,
    cgroup: Option<OwnCgroup>,
    runs: OutputRuns,
}

impl SupervisedProcess {
    /// Prepares a command without starting it.
    pub fn new(with: Supervision) -> Self {
        Self::begin(SupervisorTask::new(with))
    }

    /// Takes over a command that an earlier daemon started, with what is left of it. Returns also whether its main process
    /// runs.
    pub fn take_over(with: Supervision, command: &RunningCommand) -> (Self, bool) {
        let mut task = SupervisorTask::new(with);
        let process = command.process;
        // The descriptor first: then the check is about the process that it names.
        let adopted = descriptors::reserved(|| Child::adopt(process.pid), descriptors::is_exhausted);
        // What the daemon lacks says nothing of the process. Its end is then seen by the sensors alone.
        let may_run = adopted.as_ref().err().is_none_or(descriptors::is_shortage);
        let runs = may_run && task.processes.runs(process);
        let child = adopted.ok().filter(|_| runs);
        task.running = child.map(|child| (child, process));
        task.digest.clone_from(&command.digest);
        if let Some(output) = &command.output {
            task.follow_adopted(output.pipe, command.exec());
        }
        (Self::begin(task), runs)
    }

    fn begin(task: SupervisorTask) -> Self {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (configured, next_exec) = watch::channel(task.exec.clone());
        let (cgroup, runs) = (task.cgroup.clone(), task.output.runs.clone());
        tokio::spawn(SupervisorTask { next_exec, ..task }.run(inbox));
        Self { requests, configured, cgroup, runs }
    }

    /// A reload changed the command. The next start uses it, and the next stop its signal and time.
    pub fn configure(&self, exec: Exec) {
        self.configured.send_replace(exec);
    }

    /// Starts the command. Ends it first if it runs. `descendants` are those of a command without a cgroup. Both wait until the
    /// state file has what is `kept`; what a start takes besides is prepared meanwhile.
    pub fn restart(&self, descendants: Descendants, kept: Option<Awaited>) {
        // If the queue is full, a restart is waiting already.
        let _ = self.requests.try_send(Request::Restart(descendants, kept));
    }

    /// Ends the command with all its descendants; it can be started again. False if too many requests wait.
    pub fn halt(&self, descendants: Descendants) -> bool {
        self.requests.try_send(Request::Halt(descendants)).is_ok()
    }

    /// The output of the run that was started last.
    pub fn output_run(&self) -> OutputRun {
        self.runs.latest()
    }

    /// The cgroup that its processes are in.
    pub fn cgroup(&self) -> Option<&OwnCgroup> {
        self.cgroup.as_ref()
    }

    /// Takes a descendant of the command that ended for the command.
    pub fn adopt_descendant(&self, process: ProcessKey) {
        let _ = self.requests.try_send(Request::Adopt(process));
    }

    /// Ends the command with all its descendants, and waits for their end.
    pub async fn stop(&self, descendants: Descendants) {
        let (done, gone) = oneshot::channel();
        if self.requests.send(Request::Stop(descendants, done)).await.is_ok() {
            let _ = gone.await;
        }
    }

    /// Leaves the command running, for the next daemon. Returns what that has to know; None if nothing runs.
    pub async fn leave(&self) -> Option<Box<RunningCommand>> {
        let (done, left) = oneshot::channel();
        self.requests.send(Request::Leave(done)).await.ok()?;
        left.await.ok()?
    }
}

struct SupervisorTask {
    service: ServiceId,
    name: String,
    /// The command as it was started.
    exec: Exec,
    /// The command for the next start.
    next_exec: watch::Receiver<Exec>,
    cgroup: Option<OwnCgroup>,
    left_behind: Vec<OwnCgroup>,
    /// An earlier daemon may have left processes behind.
    is_first: bool,
    owner: Owner,
    state_directory: Option<FileId>,
    processes: ProcReader,
    threads: Threads,
    scope: PidScope,
    reports: mpsc::Sender<SupervisorReport>,
    output: Output,
    /// The pipe of the latest start, and the digest of its command.
    pipe: Option<FileId>,
    digest: String,
    /// The end of the thread that reads the output of the latest start.
    last_lines: Option<oneshot::Receiver<()>>,
    /// Shared with the thread of a start, so that a start that hangs is not followed by more of its kind.
    starting: Arc<()>,
    /// A start waits until the daemon has what it takes.
    delayed: bool,
    running: Option<(Child, ProcessKey)>,
    /// The process group of a command that ended by itself. Its children may be left in it; until they end, the
    /// kernel does not reuse its number.
    left_group: Option<u32>,
}

impl SupervisorTask {
    fn new(with: Supervision) -> Self {
        let Supervision {
            service,
            name,
            exec,
            cgroup,
            left_behind,
            owner,
            state_directory,
            processes,
            threads,
            reports,
        } = with;
        Self {
            service,
            name,
            next_exec: watch::channel(exec.clone()).1,
            exec,
            cgroup,
            left_behind,
            is_first: true,
            owner,
            state_directory,
            scope: processes.pid_scope(),
            processes,
            threads,
            reports,
            output: Output::default(),
            pipe: None,
            digest: String::new(),
            last_lines: None,
            starting: Arc::default(),
            delayed: false,
            running: None,
            left_group: None,
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            let request = match &mut self.running {
                None if self.delayed => tokio::select! {
                    request = inbox.recv() => request,
                    () = tokio::time::sleep(SHORTAGE_RETRY) => Some(Request::Restart(Vec::new(), None)),
                },
                None => inbox.recv().await,
                Some((child, key)) => tokio::select! {
                    request = inbox.recv() => request,
                    status = child.wait() => {
                        let (status, key) = (status.ok().flatten(), *key);
                        self.on_end(key, status).await;
                        continue;
                    }
                },
            };
            match request {
                Some(Request::Restart(descendants, kept)) => {
                    let started = self.restart(descendants, kept).await;
                    self.delayed = started.as_ref().is_err_and(SupervisorError::is_shortage);
                    let report = match started {
                        Ok(key) => SupervisorReport::Started(self.service, self.describe(key)),
                        Err(error) if self.delayed => SupervisorReport::Delayed(self.service, error),
                        Err(error) => SupervisorReport::Failed(self.service, error),
                    };
                    self.report(report).await;
                }
                Some(Request::Adopt(process)) => self.adopt_descendant(process).await,
                Some(Request::Halt(descendants)) => self.halt(descendants).await,
                Some(Request::Stop(descendants, done)) => {
                    self.delayed = false;
                    self.terminate(descendants, LAST_DUMP_TIMEOUT).await;
                    if let Some(cgroup) = &self.cgroup {
                        kill_members(cgroup, OwnCgroup::kill_for_good).await;
                        remove(cgroup).await;
                    }
                    output::await_last_lines(self.last_lines.take()).await;
                    let _ = done.send(());
                }
                Some(Request::Leave(done)) => {
                    self.delayed = false;
                    if !self.output.leave().await {
                        let output = self.exec.output.display();
                        tracing::warn!(
                            "{}: {output}: the last write takes too long; some lines may be lost",
                            self.name
                        );
                    }
                    let running = self.running.as_ref().map(|(_, key)| self.describe(*key));
                    let _ = done.send(running);
                }
                None => return,
            }
        }
    }

    /// Its end was seen.
    pub(super) fn forget_note(&self) {
        if let Some(cgroup) = &self.cgroup {
            self.processes.cgroups().remove_command(&cgroup.path);
        }
    }

    /// What a later daemon has to know of the command.
    fn describe(&self, process: ProcessKey) -> Box<RunningCommand> {
        Box::new(RunningCommand {
            process,
            scope: self.scope.clone(),
            cgroup: self.cgroup.as_ref().and_then(|cgroup| self.processes.cgroups().described(cgroup)),
            program: self.exec.command.first().cloned().unwrap_or_default(),
            digest: self.digest.clone(),
            stop_signal: self.exec.stop_signal.as_raw(),
            stop_timeout: self.exec.stop_timeout,
            output: self.pipe.map(|pipe| PipedOutput::of(&self.exec, pipe)),
        })
    }

    /// Reads on from the pipe of a command that an earlier daemon started.
    fn follow_adopted(&mut self, pipe: FileId, exec: Exec) {
        let members = self.cgroup.as_ref().and_then(|cgroup| cgroup.members().ok()).unwrap_or_default();
        let main = self.running.as_ref().map(|(_, key)| key.pid);
        let mut writers = main.into_iter().chain(members.into_iter().take(MOST_WRITERS));
        let Some(end) = writers.find_map(|pid| self.processes.output_pipe(pid, pipe)) else {
            // Without a writer, nothing waits to be read.
            if self.running.is_some() {
                tracing::warn!(
                    "{}: its processes do not show the pipe of their output: they have closed it, or hostprobe may not \
                     read their descriptors; if it is still there, the service waits once it is full",
                    self.name
                );
            }
            return;
        };
        self.pipe = Some(pipe);
        match self.output.follow_adopted(end, exec, lost_lines(self.service, self.reports.clone())) {
            Ok(end) => self.last_lines = Some(end),
            Err(error) => tracing::error!("{}: {error}; it waits once its pipe is full", self.name),
        }
    }

    /// The command ended by itself.
    async fn on_end(&mut self, key: ProcessKey, status: Option<u32>) {
        self.left_group = Some(key.pid);
        self.running = None;
        self.forget_note();
        self.report(SupervisorReport::Ended(self.service, key, status)).await;
    }

    async fn halt(&mut self, descendants: Descendants) {
        self.delayed = false;
        let key = self.running.as_ref().map(|(_, key)| *key);
        self.terminate(descendants, DUMP_TIMEOUT).await;
        if let Some(key) = key {
            self.report(SupervisorReport::Ended(self.service, key, None)).await;
        }
        self.report(SupervisorReport::Halted(self.service)).await;
    }

    async fn adopt_descendant(&mut self, process: ProcessKey) {
        // The kernel reported the end of the former one before its parent could wait for it.
        if let Some((mut child, key)) = self.running.take() {
            let status = child.wait().await.ok().flatten();
            self.on_end(key, status).await;
        }
        match Child::adopt(process.pid) {
            Ok(child) if self.processes.key_of(process.pid) == Some(process) => {
                self.running = Some((child, process));
                let command = self.describe(process);
                if let (Some(cgroup), Some(state)) = (&self.cgroup, self.state_directory) {
                    command.note(&self.processes, &cgroup.path, state);
                }
                self.report(SupervisorReport::Adopted(self.service, command)).await;
            }
            // The sensors report its end.
            Ok(_) | Err(_) => {}
        }
    }

    async fn report(&self, report: SupervisorReport) {
        // The channel closes when the daemon stops.
        let _ = self.reports.send(report).await;
    }
}

/// Reports the lines of its output that a service loses.
fn lost_lines(service: ServiceId, reports: mpsc::Sender<SupervisorReport>) -> impl Fn(LostLines) + Send {
    move |lost| _ = reports.blocking_send(SupervisorReport::OutputLost(service, lost))
}
