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

use ending::Ending;
pub use error::SupervisorError;
use left::{kill_members, remove};
pub use lines::LostLines;
pub use orphans::Orphans;
use orphans::{MARK, mark};
use output::{Followed, Output};
use running_command::{PipedOutput, digest};
pub use running_command::{RunningCommand, Standing};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};

use crate::{
    bounded_thread::Threads,
    clock::Timestamp,
    config::{Exec, Secret},
    descriptors,
    fact::{ProcessKey, ServiceId},
    host::{FileId, OutputRun, OutputRuns, OwnCgroup, Owner, PidScope, ProcReader},
    progress::Awaited,
    spawn::Child,
};

/// How long a start may take until exec: the file system of the command, of its folder or of its output may not answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);

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

    /// Ends what runs of the command, and starts it.
    async fn restart(
        &mut self,
        mut descendants: Vec<u32>,
        kept: Option<Awaited>,
    ) -> Result<ProcessKey, SupervisorError> {
        let mut ending = self.ending();
        loop {
            if ending.is_none() {
                if let (Some((child, _)), Some(kept)) = (&self.running, &kept)
                    && !child.has_ended()
                {
                    kept.done().await;
                }
                self.terminate(std::mem::take(&mut descendants), DUMP_TIMEOUT).await;
            }
            match self.start(kept.clone(), ending.take()).await {
                Ok(Some(started)) => return Ok(started),
                // Something is left.
                Ok(None) => {}
                Err(error) => {
                    if self.may_have_left() {
                        self.terminate(descendants, DUMP_TIMEOUT).await;
                    }
                    self.forget_ended();
                    return Err(error);
                }
            }
        }
    }

    /// Starts the command on a thread of its own: it opens the paths of the configuration, and the fork waits until the
    /// child has entered its folder and executed the command. With an `ending`, it waits for that too, and returns None if
    /// something is left.
    async fn start(
        &mut self,
        kept: Option<Awaited>,
        ending: Option<Ending>,
    ) -> Result<Option<ProcessKey>, SupervisorError> {
        self.exec = self.next_exec.borrow_and_update().clone();
        self.digest = digest(&self.exec);
        if self.cgroup.is_none() {
            let mark = Secret::new(mark(&self.processes, self.owner, &self.name));
            self.exec.environment.push((MARK.to_owned(), mark));
        }
        let command = self.exec.command.first().cloned().unwrap_or_default();
        let output = self.exec.output.display().to_string();
        if Arc::strong_count(&self.starting) > 1 {
            self.forget_note();
            return Err(SupervisorError::HangsStill { command, output });
        }
        let (exec, processes) = (self.exec.clone(), self.processes.clone());
        let cgroup = self.cgroup.as_ref().map(|cgroup| cgroup.path.clone());
        let (runtime, starting) = (Handle::current(), Arc::clone(&self.starting));
        let (service, reports, files) = (self.service, self.reports.clone(), self.output.clone());
        let none = ProcessKey { pid: 0, start: Timestamp::default() };
        let (mut noted, state) =
            (RunningCommand { output: None, ..*self.describe(none) }, self.state_directory);
        let work = move || {
            let _entered = runtime.enter();
            let open = || files.open(&exec, lost_lines(service, reports.clone()));
            let may_start = || {
                let is_over = ending.as_ref().is_none_or(Ending::leaves_nothing);
                if is_over {
                    kept.iter().for_each(Awaited::wait);
                }
                is_over
            };
            let started = start::start(&exec, open, may_start, cgroup.as_deref(), &processes);
            if matches!(started, Ok(Some(_))) {
                files.runs.started();
            }
            if let (Ok(Some(started)), Some(cgroup), Some(state)) = (&started, &cgroup, state) {
                // At once: a daemon that is killed before its state file has it takes no service along.
                let pipe = started.followed.as_ref().map(|followed| followed.pipe);
                noted.process = started.key;
                noted.output = pipe.map(|pipe| PipedOutput::of(&exec, pipe));
                noted.note(&processes, cgroup, state);
            }
            drop(starting);
            started
        };
        let started = self.threads.answer(START_TIMEOUT, work).await;
        if !matches!(started, Ok(Ok(_))) {
            self.forget_note();
        }
        let started = started.map_err(|source| SupervisorError::Hangs { command, output, source })??;
        let Some(mut started) = started else { return Ok(None) };
        self.forget_ended();
        let key = started.key;
        self.running = started.child.take().map(|child| (child, key));
        let followed = started.followed.take();
        self.pipe = followed.as_ref().map(|followed| followed.pipe);
        self.last_lines = followed.map(|Followed { end, .. }| end);
        Ok(Some(key))
    }
}

/// Reports the lines of its output that a service loses.
fn lost_lines(service: ServiceId, reports: mpsc::Sender<SupervisorReport>) -> impl Fn(LostLines) + Send {
    move |lost| _ = reports.blocking_send(SupervisorReport::OutputLost(service, lost))
}
