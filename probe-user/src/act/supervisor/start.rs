//! The start of a command, on a thread that waits until it has executed.

use std::{path::Path, sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::runtime::Handle;

use super::{
    DUMP_TIMEOUT, SupervisorTask,
    ending::Ending,
    error::SupervisorError,
    left::signal_group,
    lost_lines,
    orphans::{MARK, mark},
    output::{Followed, Opened, OutputError},
    running_command::{PipedOutput, RunningCommand, digest},
};
use crate::{
    clock::Timestamp,
    config::{Exec, Secret},
    descriptors,
    fact::ProcessKey,
    host::ProcReader,
    progress::Awaited,
    spawn::{Child, prepare},
};

/// How long a start may take until exec: the file system of the command, of its folder or of its output may not answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A command that was started. It is killed if its start took so long that the supervisor has given it up.
struct Started {
    key: ProcessKey,
    child: Option<Child>,
    followed: Option<Followed>,
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.child.is_some() {
            signal_group(self.key.pid, Signal::KILL);
        }
    }
}

impl SupervisorTask {
    /// Ends what runs of the command, and starts it.
    pub(super) async fn restart(
        &mut self,
        mut descendants: Vec<u32>,
        kept: Option<Awaited>,
    ) -> Result<ProcessKey, SupervisorError> {
        let mut ending = self.ending();
        loop {
            let is_terminated = ending.is_none();
            if is_terminated {
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
                    if !is_terminated && self.may_have_left() {
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
            let started = start(&exec, open, may_start, cgroup.as_deref(), &processes);
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

/// Starts a command. All that it takes is prepared before `may_start`, which waits until that is known. None if it may not.
fn start(
    exec: &Exec,
    open: impl Fn() -> Result<Opened, OutputError>,
    may_start: impl Fn() -> bool,
    cgroup: Option<&Path>,
    processes: &ProcReader,
) -> Result<Option<Started>, SupervisorError> {
    let start = || start_once(exec, open(), &may_start, cgroup, processes);
    descriptors::reserved(start, SupervisorError::is_exhausted)
}

fn start_once(
    exec: &Exec,
    output: Result<Opened, OutputError>,
    may_start: impl Fn() -> bool,
    cgroup: Option<&Path>,
    processes: &ProcReader,
) -> Result<Option<Started>, SupervisorError> {
    let Opened { descriptor, followed } = output.map_err(SupervisorError::Output)?;
    let command = || exec.command.first().cloned().unwrap_or_default();
    let failed = |source| SupervisorError::Spawn { command: command(), source };
    let prepared = prepare(exec, &descriptor, &descriptor, cgroup).map_err(failed)?;
    if !may_start() {
        return Ok(None);
    }
    let child = prepared.start().map_err(failed)?;
    let Some(key) = processes.key_of(child.pid) else {
        return Err(SupervisorError::Gone { command: command(), pid: child.pid });
    };
    Ok(Some(Started { key, child: Some(child), followed }))
}
