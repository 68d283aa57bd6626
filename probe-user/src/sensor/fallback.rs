//! What stands in for the hooks that could not be attached.
//!
//! Less than the eBPF programs tell, and later: ends of processes come from pidfds and the kernel's process connector
//! (`deaths`), OOM kills from its log and its counters (`kmsg`, `oom_count`), listeners and connections from its list
//! of sockets ([`sockets`]). Only what is missing is stood in for; with every hook attached nothing here is even opened.

mod connector;
mod deaths;
mod kmsg;
mod oom_count;
mod pidfd;
pub mod sockets;
#[cfg(test)]
mod tests;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::epoll;
use tokio::time::timeout;

use connector::Connector;
use deaths::Deaths;
use kmsg::Kmsg;
pub use kmsg::OomLine;

use crate::{
    clock::Timestamp,
    fact::{ExitStatus, ProcessKey, Source},
    host::{ProcReader, Remains, sockdiag},
    sensor::{
        ebpf::{Hook, Loss},
        wake::Wake,
    },
};

/// What the events of the descriptors that are no processes' carry instead of a pid.
const CONNECTOR: u64 = u64::MAX;
const KMSG: u64 = u64::MAX - 1;

/// Most descriptors handled in one round, and most rounds in one go.
const BATCH: usize = 256;
const ROUNDS: usize = 8;

/// What stands in where nothing has to be opened for it.
const SIGNALS: &str = "/proc: a process that is stopped is found when its probe times out, and who sent a signal is not \
                       known";
const BIRTHS: &str = "cgroups and parents: a process that has lost its parent and has no cgroup of its service is \
                      nobody's";
const CGROUPS: &str = "a look at a cgroup when a process in it is first told of, if it is still there";
const RETRANSMITS: &str = "the counts of segments sent again of each open socket, read every few seconds";

/// Something that was seen without an eBPF program.
#[derive(Clone, Debug)]
pub enum Sighting {
    /// A process executed a program.
    Exec {
        /// Its pid in the initial namespace.
        pid: u32,
        /// When.
        at: Timestamp,
    },
    /// The OOM killer chose a process.
    Oom(OomLine),
    /// A process ended.
    Death(Death),
}

/// The end of a process.
#[derive(Clone, Debug)]
pub struct Death {
    /// When.
    pub at: Timestamp,
    /// Who told: [`Source::Netlink`] with its status, or [`Source::Proc`].
    pub source: Source,
    /// Its pid in the initial namespace.
    pub pid: u32,
    /// The process; None where it was collected before anybody could look.
    pub key: Option<ProcessKey>,
    /// How it ended.
    pub status: ExitStatus,
    /// Its parent, where that was told.
    pub parent_pid: Option<u32>,
    /// What was left of it.
    pub remains: Option<Remains>,
    /// It was killed, and the counter of OOM kills of its cgroup has risen.
    pub oom: bool,
}

/// What stands in for one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// The hook.
    pub hook: Hook,
    /// What tells instead, and what it cannot tell; None if nothing does.
    pub what: Option<String>,
}

/// The stand-ins that are needed.
#[derive(Debug)]
pub struct StandIns {
    poll: OwnedFd,
    wake: Wake,
    deaths: Option<Deaths>,
    kmsg: Option<Kmsg>,
    /// What of sockets is to be looked at.
    sockets: sockets::Wanted,
    lost_log: u64,
    unidentified: u64,
    told: Vec<StandIn>,
}

impl StandIns {
    /// Opens what is needed where these hooks are missing. What cannot be opened is said by
    /// [`StandIns::told`]. Fails only if the process has no descriptors left.
    ///
    /// Of strangers, at most so many ends a second are told.
    pub fn open(missing: &[Hook], reader: &ProcReader, strangers_per_second: u32) -> io::Result<Self> {
        let lacks = |hook| missing.contains(&hook);
        let connector = (lacks(Hook::Exit) || lacks(Hook::Exec)).then(Connector::open);
        let kmsg = lacks(Hook::Oom).then(|| open_log(reader));
        let sockets =
            sockets::Wanted { listeners: lacks(Hook::Socket), retransmits: lacks(Hook::Retransmit) };
        let diag = sockets.any().then(sockdiag::listeners);
        let what = |hook: Hook| match hook {
            Hook::Exit => Some(exits(connector.as_ref())),
            Hook::Exec => Some(execs(connector.as_ref())),
            Hook::Oom => Some(ooms(kmsg.as_ref())),
            Hook::Socket => Some(listeners(diag.as_ref())),
            Hook::Signal => Some(SIGNALS.to_owned()),
            Hook::Fork => Some(BIRTHS.to_owned()),
            Hook::Cgroup => Some(CGROUPS.to_owned()),
            Hook::Retransmit => Some(RETRANSMITS.to_owned()),
            Hook::SocketReport => None,
        };
        let told = missing.iter().map(|hook| StandIn { hook: *hook, what: what(*hook) }).collect();
        let connector = connector.and_then(Result::ok);
        let execs = lacks(Hook::Exec) && connector.is_some();
        let ends = lacks(Hook::Exit);
        let deaths = (ends || execs)
            .then(|| Deaths::new(reader.clone(), connector, (ends, execs), strangers_per_second));
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        if let Some(connector) = deaths.as_ref().and_then(Deaths::connector) {
            wait_for(&poll, connector.as_fd(), CONNECTOR)?;
        }
        let kmsg = kmsg.and_then(Result::ok);
        if let Some(kmsg) = &kmsg {
            wait_for(&poll, kmsg.as_fd(), KMSG)?;
        }
        Ok(Self { poll, wake: Wake::default(), deaths, kmsg, sockets, lost_log: 0, unidentified: 0, told })
    }

    /// Hook by hook, what stands in for those that are missing.
    pub fn told(&self) -> &[StandIn] {
        &self.told
    }

    /// What of sockets has to be looked at, with [`sockets::Look`].
    pub fn wanted_of_sockets(&self) -> sockets::Wanted {
        self.sockets
    }

    /// Waits until there is something to [`StandIns::drain`]. Needs a Tokio runtime with I/O enabled.
    ///
    /// Cancel safe: dropped in a `select!`, it loses nothing.
    pub async fn readable(&mut self) -> io::Result<()> {
        if self.deaths.is_none() && self.kmsg.is_none() {
            std::future::pending::<()>().await;
        }
        let due = self.deaths.as_ref().and_then(Deaths::due);
        let ready = self.wake.readable(&self.poll);
        match due {
            None => ready.await,
            // An end is to be told by then, whether anything else happens or not.
            Some(due) => timeout(due.since(Timestamp::now()), ready).await.unwrap_or(Ok(())),
        }
    }

    /// Appends what was seen to `out`; never waits. An OOM kill comes before the death that follows it.
    pub fn drain(&mut self, out: &mut Vec<Sighting>) {
        // What is left after so many rounds is still ready, and keeps the daemon from nothing else.
        for _ in 0..ROUNDS {
            let ready = self.ready();
            let whole = self.deaths.as_mut().is_none_or(|deaths| deaths.hear(out));
            self.read_log(out);
            let Some(deaths) = &mut self.deaths else { break };
            for pid in ready.iter().flatten() {
                if let Some(process) = deaths.descriptor(*pid) {
                    // It stays readable for as long as it is open.
                    let _ = epoll::delete(&self.poll, process);
                }
                deaths.has_ended(*pid);
            }
            if whole {
                out.extend(deaths.told_by(Timestamp::now()).into_iter().map(Sighting::Death));
            }
            if ready.is_none() {
                break;
            }
        }
    }

    /// The main processes whose descriptors are readable; None if nothing is.
    fn ready(&self) -> Option<Vec<u32>> {
        let mut events = Vec::with_capacity(BATCH);
        let nothing = self.wake.empty(|| {
            events.clear();
            // A wait for no time at all cannot be interrupted.
            let _ = epoll::wait(
                &self.poll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }),
            );
            events.is_empty()
        });
        let pids = events.iter().filter_map(|event| u32::try_from(event.data.u64()).ok());
        (!nothing).then(|| pids.collect())
    }

    fn read_log(&mut self, out: &mut Vec<Sighting>) {
        let Some(kmsg) = &mut self.kmsg else { return };
        match kmsg.read(|line| out.push(Sighting::Oom(line))) {
            Ok(lost) => self.lost_log += lost,
            Err(error) => {
                tracing::error!(%error, "the kernel's log can no longer be read; OOM kills are only counted");
                self.kmsg = None;
            }
        }
    }

    /// Asks for the end of this process and, where the connector tells of them, for the failures of its descendants.
    pub fn watch_process(&mut self, main: ProcessKey) {
        if let Some(deaths) = &mut self.deaths {
            deaths.watch(main, |pid, process| wait_for(&self.poll, process, pid.into()).is_ok());
        }
    }

    /// A watched process has ended for certain: the next [`StandIns::drain`] tells of it.
    pub fn settle(&mut self, pid: u32) {
        if let Some(deaths) = &mut self.deaths {
            deaths.settle(pid);
        }
    }

    /// Takes [`StandIns::watch_process`] back.
    pub fn unwatch_process(&mut self, pid: u32) {
        if let Some(deaths) = &mut self.deaths {
            deaths.unwatch(pid);
        }
    }

    /// Counts the end of a process that nobody could tell the identity of.
    pub fn count_unidentified(&mut self) {
        self.unidentified += 1;
    }

    /// Looks at what can only be looked at now and then. Meant to be called about once a second, after a
    /// [`StandIns::drain`].
    pub fn every_second(&mut self) {
        if let Some(deaths) = &mut self.deaths {
            deaths.every_second();
        }
    }

    /// What was lost since the last call; classes without a loss are left out.
    pub fn losses(&mut self) -> Vec<Loss> {
        let (exits, strangers) = self.deaths.as_mut().map_or((0, 0), Deaths::take_lost);
        let log = std::mem::take(&mut self.lost_log);
        let unidentified = std::mem::take(&mut self.unidentified);
        let all = [
            Loss { class: "exit_unidentified", count: unidentified, place: "process connector" },
            Loss { class: "exit_connector", count: exits, place: "process connector" },
            Loss { class: "exit_throttled", count: strangers, place: "process connector" },
            Loss { class: "kmsg", count: log, place: "kernel log" },
        ];
        all.into_iter().filter(|loss| loss.count > 0).collect()
    }
}

/// The kernel's log, where its pids are the daemon's own.
fn open_log(reader: &ProcReader) -> io::Result<Kmsg> {
    match reader.is_in_initial_pid_namespace() {
        Some(false) => {
            Err(io::Error::other("it names processes as the host does, and this is another pid namespace"))
        }
        Some(true) | None => Kmsg::open(),
    }
}

fn wait_for(poll: &OwnedFd, descriptor: BorrowedFd<'_>, data: u64) -> io::Result<()> {
    Ok(epoll::add(poll, descriptor, epoll::EventData::new_u64(data), epoll::EventFlags::IN)?)
}

fn exits(connector: Option<&io::Result<Connector>>) -> String {
    match connector {
        Some(Err(error)) => format!(
            "pidfds of main processes: how one ended is not always known, and other processes are not seen, as the \
             process connector cannot be opened: {error}"
        ),
        Some(Ok(_)) | None => {
            "the process connector and pidfds: who sent a signal is not known, nor how much memory it had"
                .to_owned()
        }
    }
}

fn execs(connector: Option<&io::Result<Connector>>) -> String {
    match connector {
        Some(Err(_)) => "/proc, read when a process is of interest".to_owned(),
        Some(Ok(_)) | None => "the process connector and /proc".to_owned(),
    }
}

fn ooms(kmsg: Option<&io::Result<Kmsg>>) -> String {
    match kmsg {
        Some(Err(error)) => format!(
            "the memory cgroups' counts of OOM kills: only of main processes, without numbers, as the kernel's log \
             cannot be read: {error}"
        ),
        Some(Ok(_)) | None => "the kernel's log and the memory cgroups' counts of OOM kills".to_owned(),
    }
}

fn listeners(diag: Option<&io::Result<Vec<sockdiag::ListenQueue>>>) -> String {
    let how = match diag {
        Some(Err(_)) => "/proc/net/tcp",
        Some(Ok(_)) | None => "the kernel's list of sockets",
    };
    format!(
        "{how}, read every second: listeners and dependencies are seen later, errors of connections are not"
    )
}
