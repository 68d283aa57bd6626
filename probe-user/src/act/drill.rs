//! The faults of drills: real ones, done to one service and to nothing else.
//!
//! [`prepare`] looks at everything that a fault needs, and changes nothing. [`PreparedFault::cause`] then causes it. What has
//! to be undone is in a file of the state directory before the fault is caused, so that the next daemon undoes it if this
//! one is killed ([`Undo`]).
//!
//! | fault | how | undone |
//! |---|---|---|
//! | kill | SIGKILL to the main process, by its pidfd | - |
//! | hang | SIGSTOP to the main process and its descendants, by their pidfds | SIGCONT to those that live |
//! | refuse | `shutdown(2)` on duplicates of its listeners | `listen(2)` on them |
//! | oom | the limit of its memory cgroup falls below what it uses | the limit is what it was |
//!
//! A frozen cgroup would look more like a hang than SIGSTOP does, which the state `T` of the processes shows: but what is
//! started in it is frozen as well, so that a restart would end in a second outage, and SIGTERM waits until it is thawed.
//! The engine knows of its own stop and looks away from that state, so that probes have to find the hang.

mod error;
mod interruptible_write;
mod listeners;
mod memory;
mod process;
mod undo;

use std::path::Path;

pub use self::{error::DrillError, undo::Undo};
use self::{listeners::OpenListener, memory::MemoryGroup, process::ProcessHandle};
use crate::{
    clock::Timestamp,
    fact::{DrillFault, ProcessKey},
    host::ProcReader,
};
use rustix::process::Signal;

/// The most processes that a drill stops.
const PROCESSES_MAX: usize = 1024;

/// How often the descendants are looked for while they are stopped: those that are not stopped yet can fork.
const ROUNDS: usize = 16;

/// The service that a fault is done to.
#[derive(Clone, Debug)]
pub struct DrillTarget {
    pub service: String,
    pub main: ProcessKey,
    /// The ports that its probes connect to.
    pub ports: Vec<u16>,
}

/// A fault that can be caused.
#[derive(Debug)]
pub struct PreparedFault {
    target: DrillTarget,
    name: String,
    /// The main process comes first.
    family: Vec<ProcessKey>,
    means: Means,
}

#[derive(Debug)]
enum Means {
    Kill(ProcessHandle),
    Hang,
    Refuse(Vec<OpenListener>),
    Oom(MemoryGroup),
}

/// A fault that was caused.
#[derive(Debug)]
pub struct Caused {
    /// Just before it.
    pub at: Timestamp,
    /// What was done, for people.
    pub what: String,
    /// None if there is nothing to undo any more.
    pub undo: Option<Undo>,
}

/// Finds out whether a fault can be caused, and how. Reads of `/proc` can block.
pub fn prepare(
    fault: DrillFault,
    target: DrillTarget,
    reader: &ProcReader,
) -> Result<PreparedFault, DrillError> {
    let main = ProcessHandle::open(target.main, reader)?;
    let family = process::family(target.main, reader);
    if family.iter().any(|key| key.pid == std::process::id() || key.pid == 1) {
        return Err(DrillError::Own);
    }
    let name = reader.read(target.main.pid).map(|process| process.name).unwrap_or_default();
    let means = match fault {
        DrillFault::Kill => {
            main.may_signal()?;
            Means::Kill(main)
        }
        DrillFault::Hang => {
            if family.len() > PROCESSES_MAX {
                return Err(DrillError::TooMany { count: family.len(), most: PROCESSES_MAX });
            }
            for key in &family {
                ProcessHandle::open(*key, reader)?.may_signal()?;
            }
            Means::Hang
        }
        DrillFault::Refuse => Means::Refuse(listeners::find(&family, &target.ports, reader)?),
        DrillFault::Oom => Means::Oom(memory::find(target.main, &family, reader)?),
    };
    Ok(PreparedFault { target, name, family, means })
}

impl PreparedFault {
    /// The pid of the main process.
    pub fn main(&self) -> u32 {
        self.target.main.pid
    }

    /// The processes that it may be done to.
    pub fn family(&self) -> &[ProcessKey] {
        &self.family
    }

    /// What it is going to do, for people, a sentence each.
    pub fn words(&self) -> Vec<String> {
        let (pid, name) = (self.target.main.pid, &self.name);
        match &self.means {
            Means::Kill(_) => vec![format!("send SIGKILL to its main process {pid} ({name})")],
            Means::Hang => {
                let others = self.family.len().saturating_sub(1);
                let and = if others == 0 { String::new() } else { format!(" and its {others} descendants") };
                vec![
                    format!(
                        "send SIGSTOP to its main process {pid} ({name}){and}, so that it answers nothing"
                    ),
                    "send SIGCONT to those that still live at the end of the drill".to_owned(),
                ]
            }
            Means::Refuse(listeners) => {
                let mut words = vec![format!(
                    "shut down the TCP listeners of its main process {pid} ({name}) and its descendants: {}",
                    listeners::words(listeners)
                )];
                words.push("have those listen again that still exist at the end of the drill".to_owned());
                words
            }
            Means::Oom(group) => group.words(pid, name),
        }
    }

    /// Causes the fault. `directory` is the state directory, for the record of what is to be undone.
    pub fn cause(self, directory: &Path, reader: &ProcReader) -> Result<Caused, DrillError> {
        let Self { target, name, means, .. } = self;
        let undo = Undo::of(&target.service);
        let pid = target.main.pid;
        match means {
            Means::Kill(main) => {
                let at = Timestamp::now();
                main.signal(Signal::KILL)?;
                Ok(Caused { at, what: format!("SIGKILL to its main process {pid} ({name})"), undo: None })
            }
            Means::Hang => stop(target.main, &name, undo, directory, reader),
            Means::Refuse(listeners) => {
                let undo = undo.with_listeners(&listeners);
                undo.keep(directory)?;
                let at = Timestamp::now();
                let what = format!("shut down its listeners: {}", listeners::words(&listeners));
                for listener in listeners {
                    listener.shut_down(reader).inspect_err(|_| _ = undo.carry_out(directory, reader))?;
                }
                Ok(Caused { at, what, undo: Some(undo) })
            }
            Means::Oom(group) => {
                let main = ProcessHandle::open(target.main, reader)?;
                let undo = undo.with_limits(group.limits());
                undo.keep(directory)?;
                let caused = group.exhaust(&main);
                undo.carry_out(directory, reader);
                let (at, what) = caused?;
                Ok(Caused { at, what, undo: None })
            }
        }
    }
}

/// Stops a process and its descendants. The parent comes first, so that it does not see its children stop.
///
/// The kernel sends SIGHUP to a stopped process group whose last parent in the session ends (`setpgid(2)`). What systemd or the
/// supervisor starts leads a session of its own, in which there is no such parent.
fn stop(
    main: ProcessKey,
    name: &str,
    mut undo: Undo,
    directory: &Path,
    reader: &ProcReader,
) -> Result<Caused, DrillError> {
    let at = Timestamp::now();
    for _ in 0..ROUNDS {
        let family = process::family(main, reader);
        let fresh: Vec<ProcessKey> = family.into_iter().filter(|key| !undo.processes.contains(key)).collect();
        if fresh.is_empty() || undo.processes.len() + fresh.len() > PROCESSES_MAX {
            break;
        }
        undo.processes.extend(&fresh);
        let stopped = undo.keep(directory).and_then(|()| {
            for key in &fresh {
                match ProcessHandle::open(*key, reader).and_then(|process| process.signal(Signal::STOP)) {
                    // A child may end at any time.
                    Err(DrillError::Gone { .. }) if *key != main => {}
                    done => done?,
                }
            }
            Ok(())
        });
        stopped.inspect_err(|_| _ = undo.carry_out(directory, reader))?;
    }
    let others = undo.processes.len().saturating_sub(1);
    let and = if others == 0 { String::new() } else { format!(" and {others} descendants") };
    Ok(Caused {
        at,
        what: format!("SIGSTOP to its main process {} ({name}){and}", main.pid),
        undo: Some(undo),
    })
}
