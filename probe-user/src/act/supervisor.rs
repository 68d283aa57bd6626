//! The built-in supervisor. It starts a command, writes its output to a file, and ends its whole process group.
//!
//! Each command runs in its own process group and, where the v2 hierarchy is writable, in its own cgroup below the
//! daemon's. The kernel then reports the cgroup with every record of every descendant, and a stop ends everything
//! that the command has started.

mod error;
mod left;
mod lines;
mod orphans;
mod output;
mod spawn;

use std::{path::Path, sync::Arc, time::Duration};

pub use error::SupervisorError;
use left::{Traces, kill_members, kill_without_cgroup, remove, signal_group, signal_process};
pub use lines::LostLines;
pub use orphans::Orphans;
use orphans::{MARK, mark};
use output::{Opened, Output, OutputError};
use rustix::process::Signal;
use spawn::{Child, spawn};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    bounded_thread,
    config::{Exec, Secret},
    descriptors,
    fact::{ProcessKey, ServiceId},
    host::{LeftProcesses, OwnCgroup, ProcReader, Survey},
    progress::Awaited,
};

/// How long a start may take until exec: the file system of the command, of its folder or of its output may not answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The wait before a start that the daemon lacked something for is tried again.
const SHORTAGE_RETRY: Duration = Duration::from_secs(1);

/// How long a core dump may take before a restart: some 60 GB at 100 MB/s.
const DUMP_TIMEOUT: Duration = Duration::from_secs(600);

/// The same when the daemon ends. It still fits into the time that all stops have beyond the longest `stop_timeout`.
const LAST_DUMP_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two checks whether a core dump is complete.
const DUMP_INTERVAL: Duration = Duration::from_millis(100);

/// Between two checks whether a program that the main process left behind has ended.
const LEFT_INTERVAL: Duration = Duration::from_millis(10);

/// Requests that may wait.
const REQUESTS_MAX: usize = 4;

#[derive(Debug)]
pub enum SupervisorReport {
    Started(ServiceId, ProcessKey),
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
}

/// One supervised command. Dropping it leaves the command running; [`SupervisedProcess::stop`] ends it.
#[derive(Debug)]
pub struct SupervisedProcess {
    requests: mpsc::Sender<Request>,
    configured: watch::Sender<Exec>,
    cgroup: Option<OwnCgroup>,
}

impl SupervisedProcess {
    /// Prepares a command without starting it. `reports` gets its starts and exits. It runs in the first cgroup.
    /// The cgroups that an earlier daemon left behind are emptied before the first start.
    pub fn new(
        (service, name): (ServiceId, &str),
        exec: Exec,
        (cgroup, left_behind): (Option<OwnCgroup>, Vec<OwnCgroup>),
        processes: ProcReader,
        reports: mpsc::Sender<SupervisorReport>,
    ) -> Self {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (own_cgroup, (configured, next_exec)) = (cgroup.clone(), watch::channel(exec.clone()));
        let work = SupervisorTask {
            service,
            name: name.to_owned(),
            exec,
            next_exec,
            cgroup,
            left_behind,
            is_first: true,
            processes,
            reports,
            output: Output::default(),
            last_lines: None,
            starting: Arc::default(),
            delayed: false,
            running: None,
            left_group: None,
        };
        tokio::spawn(work.run(inbox));
        Self { requests, configured, cgroup: own_cgroup }
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

    /// The cgroup that its processes are in.
    pub fn cgroup(&self) -> Option<&OwnCgroup> {
        self.cgroup.as_ref()
    }

    /// Takes a descendant of the command that ended for the command.
    pub fn adopt(&self, process: ProcessKey) {
        let _ = self.requests.try_send(Request::Adopt(process));
    }

    /// Ends the command with all its descendants, and waits for their end.
    pub async fn stop(&self, descendants: Descendants) {
        let (done, gone) = oneshot::channel();
        if self.requests.send(Request::Stop(descendants, done)).await.is_ok() {
            let _ = gone.await;
        }
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
    processes: ProcReader,
    reports: mpsc::Sender<SupervisorReport>,
    output: Output,
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
                    if let (Some((child, _)), Some(kept)) = (&self.running, &kept)
                        && !child.has_ended()
                    {
                        kept.done().await;
                    }
                    self.terminate(descendants, DUMP_TIMEOUT).await;
                    let started = self.start(kept).await;
                    self.delayed = started.as_ref().is_err_and(SupervisorError::is_shortage);
                    let report = match started {
                        Ok(key) => SupervisorReport::Started(self.service, key),
                        Err(error) if self.delayed => SupervisorReport::Delayed(self.service, error),
                        Err(error) => SupervisorReport::Failed(self.service, error),
                    };
                    self.report(report).await;
                }
                Some(Request::Adopt(process)) => self.adopt(process).await,
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
                None => return,
            }
        }
    }

    /// The command ended by itself.
    async fn on_end(&mut self, key: ProcessKey, status: Option<u32>) {
        self.left_group = Some(key.pid);
        self.running = None;
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

    async fn adopt(&mut self, process: ProcessKey) {
        // The kernel reported the end of the former one before its parent could wait for it.
        if let Some((mut child, key)) = self.running.take() {
            let status = child.wait().await.ok().flatten();
            self.on_end(key, status).await;
        }
        match Child::adopt(process.pid) {
            Ok(child) if self.processes.key_of(process.pid) == Some(process) => {
                self.running = Some((child, process));
            }
            // The sensors report its end.
            Ok(_) | Err(_) => {}
        }
    }

    async fn report(&self, report: SupervisorReport) {
        // The channel closes when the daemon stops.
        let _ = self.reports.send(report).await;
    }

    /// Starts the command on a thread of its own: it opens the paths of the configuration, and the fork waits until the
    /// child has entered its folder and executed the command.
    async fn start(&mut self, kept: Option<Awaited>) -> Result<ProcessKey, SupervisorError> {
        self.exec = self.next_exec.borrow_and_update().clone();
        if self.cgroup.is_none() {
            let mark = Secret::new(mark(&self.processes, &self.name));
            self.exec.environment.push((MARK.to_owned(), mark));
        }
        let command = self.exec.command.first().cloned().unwrap_or_default();
        let output = self.exec.output.display().to_string();
        if Arc::strong_count(&self.starting) > 1 {
            return Err(SupervisorError::HangsStill { command, output });
        }
        let (exec, processes) = (self.exec.clone(), self.processes.clone());
        let cgroup = self.cgroup.as_ref().map(|cgroup| cgroup.path.clone());
        let (runtime, starting) = (Handle::current(), Arc::clone(&self.starting));
        let (service, reports, files) = (self.service, self.reports.clone(), self.output.clone());
        let work = move || {
            let _entered = runtime.enter();
            let open = || {
                let reports = reports.clone();
                let lost = move |lost| _ = reports.blocking_send(SupervisorReport::OutputLost(service, lost));
                let opened = files.open(&exec, lost);
                if let Some(kept) = &kept {
                    kept.wait();
                }
                opened
            };
            let started = start(&exec, open, cgroup.as_deref(), &processes);
            drop(starting);
            started
        };
        let started = bounded_thread::answer("exec", START_TIMEOUT, work).await;
        let mut started = started.map_err(|source| SupervisorError::Hangs { command, output, source })??;
        let key = started.key;
        self.running = started.child.take().map(|child| (child, key));
        self.last_lines = started.last_lines.take();
        Ok(key)
    }

    /// The descendants of a command without a cgroup, before its end takes their parents away.
    fn living(&self, descendants: Descendants) -> Vec<ProcessKey> {
        if self.cgroup.is_some() {
            return Vec::new();
        }
        let main = self.running.as_ref().map(|(_, key)| key.pid);
        let below = main.map(|pid| self.processes.descendants(pid, |_| false)).unwrap_or_default();
        descendants.into_iter().filter_map(|pid| self.processes.key_of(pid)).chain(below).collect()
    }

    /// Waits until no process of the command writes a core dump. SIGKILL would cut the dump off.
    async fn await_core_dumps(&self, limit: Duration) {
        let dumps = || {
            let members = self.cgroup.as_ref().and_then(|cgroup| cgroup.members().ok()).unwrap_or_default();
            self.processes.standstill(&members).dumping_core.is_some()
        };
        let complete = async {
            while dumps() {
                tokio::time::sleep(DUMP_INTERVAL).await;
            }
        };
        let _ = timeout(limit, complete).await;
    }

    /// Ends in order what a main process left behind: a wrapper may end before its server does. Workers that only forked
    /// have nothing of their own to save. The group `asked` has got its signal.
    async fn end_left_programs(
        &self,
        main: u32,
        descendants: &[ProcessKey],
        asked: Option<u32>,
        deadline: Instant,
    ) {
        let left = match &self.cgroup {
            Some(cgroup) => LeftProcesses::InCgroup(cgroup.clone()),
            None => {
                let living = descendants.iter().filter(|key| self.processes.runs(**key));
                LeftProcesses::OfGroup(main, living.map(|key| key.pid).collect())
            }
        };
        let survey = Survey::new(self.processes.clone());
        let mut programs = survey.programs_left(&left);
        for program in programs.iter().filter(|program| Some(program.group) != asked) {
            signal_process(program.pid, self.exec.stop_signal);
            signal_process(program.pid, Signal::CONT);
        }
        while Instant::now() < deadline && !programs.is_empty() {
            tokio::time::sleep(LEFT_INTERVAL).await;
            programs = survey.programs_left(&left);
        }
    }

    /// Whether a process of the command may run.
    fn may_have_left(&self) -> bool {
        self.cgroup.as_ref().is_none_or(|cgroup| cgroup.is_populated().unwrap_or(true))
    }

    /// How a command is stopped does not depend on how it was started: what a reload changed holds at once.
    fn configure_stop(&mut self) {
        let next = self.next_exec.borrow();
        self.exec.stop_signal = next.stop_signal;
        self.exec.stop_timeout = next.stop_timeout;
    }

    /// Ends the command and everything it left behind, also under an earlier run of the daemon. A core dump has this
    /// time to be written.
    async fn terminate(&mut self, descendants: Descendants, dump: Duration) {
        self.configure_stop();
        let descendants = self.living(descendants);
        let mut group = self.left_group;
        let deadline = Instant::now() + self.exec.stop_timeout;
        if let Some((mut child, key)) = self.running.take() {
            child.signal(self.exec.stop_signal);
            // A stopped process takes the signal only after SIGCONT.
            child.signal(Signal::CONT);
            if timeout_at(deadline, child.wait()).await.is_err() {
                let is_dumping = || self.processes.dumps_core(key.pid);
                if !is_dumping() || timeout(dump, child.wait()).await.is_err() {
                    child.signal(Signal::KILL);
                    let _ = child.wait().await;
                }
            }
            if self.may_have_left() {
                self.end_left_programs(key.pid, &descendants, child.group(), deadline).await;
                self.await_core_dumps(dump).await;
            }
            child.signal(Signal::KILL);
            group = Some(key.pid);
        }
        if let Some(group) = self.left_group.take() {
            self.end_left_programs(group, &descendants, None, deadline).await;
            signal_group(group, Signal::KILL);
        }
        match &self.cgroup {
            Some(cgroup) if self.may_have_left() => kill_members(cgroup, OwnCgroup::kill_members).await,
            Some(_) => {}
            None => {
                let earlier = std::mem::take(&mut self.is_first);
                let traces = Traces { service: self.name.clone(), group, descendants, earlier };
                kill_without_cgroup(&self.processes, traces).await;
            }
        }
        for cgroup in std::mem::take(&mut self.left_behind) {
            kill_members(&cgroup, OwnCgroup::kill_for_good).await;
            remove(&cgroup).await;
        }
    }
}

/// A command that was started. It is killed if its start took so long that the supervisor has given it up.
struct Started {
    key: ProcessKey,
    child: Option<Child>,
    last_lines: Option<oneshot::Receiver<()>>,
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.child.is_some() {
            signal_group(self.key.pid, Signal::KILL);
        }
    }
}

fn start(
    exec: &Exec,
    open: impl Fn() -> Result<Opened, OutputError>,
    cgroup: Option<&Path>,
    processes: &ProcReader,
) -> Result<Started, SupervisorError> {
    let start = || start_once(exec, open(), cgroup, processes);
    descriptors::reserved(start, SupervisorError::is_exhausted)
}

fn start_once(
    exec: &Exec,
    output: Result<Opened, OutputError>,
    cgroup: Option<&Path>,
    processes: &ProcReader,
) -> Result<Started, SupervisorError> {
    let (output, last_lines) = output.map_err(SupervisorError::Output)?;
    let command = || exec.command.first().cloned().unwrap_or_default();
    let child = spawn(exec, &output, cgroup)
        .map_err(|source| SupervisorError::Spawn { command: command(), source })?;
    let Some(key) = processes.key_of(child.pid) else {
        return Err(SupervisorError::Gone { command: command(), pid: child.pid });
    };
    Ok(Started { key, child: Some(child), last_lines })
}
