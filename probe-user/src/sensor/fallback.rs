//! The fallback for hooks that could not be attached.
//!
//! It reports less than the eBPF programs, and later: exits come from pidfds and the kernel's process connector
//! (`exits`), OOM kills from its log and its counters (`kmsg`, `oom_count`), listeners and connections from its list of
//! sockets (`sockets`). It opens only what replaces a missing hook, and the log: it is a second witness of what the kernel says of
//! the host.

mod connector;
mod describe;
mod exits;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod kernel_report;
mod kmsg;
mod oom_count;
mod pidfd;
mod scanner;
mod sockets;
#[cfg(test)]
mod tests;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::epoll;
use tokio::{select, time::timeout};

use connector::Connector;
use exits::Exits;
use kmsg::{Kmsg, LogLine};
use scanner::Scanner;
use sockets::{SocketScan, Wanted};

use crate::{
    clock::Timestamp,
    fact::ProcessKey,
    host::{ProcReader, sockdiag},
    sensor::{
        ebpf::Hook,
        loss::{Loss, LossClass, LossPlace},
        record::Record,
        wake::Wake,
    },
};

/// Events of descriptors that are not pidfds carry these instead of a pid.
const CONNECTOR: u64 = u64::MAX;
const KMSG: u64 = u64::MAX - 1;

/// Most descriptors handled in one round, and most rounds in one go.
const BATCH: usize = 256;
const ROUNDS: usize = 8;

/// What is used instead of one missing hook.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HookFallback {
    hook: Hook,
    /// What reports the same, and what it cannot report; None if nothing does.
    description: Option<String>,
}

#[derive(Debug)]
pub struct FallbackSensor {
    poll: OwnedFd,
    wake: Wake,
    exits: Option<Exits>,
    kmsg: Option<Kmsg>,
    /// OOM kills are read from the log.
    reads_ooms: bool,
    scanner: Option<Scanner>,
    reader: ProcReader,
    lost_log: u64,
    unidentified: u64,
    replaced: Vec<HookFallback>,
}

impl FallbackSensor {
    /// Opens what is needed where these hooks are missing. What cannot be opened shows in
    /// [`description_of`](Self::description_of). Fails only if the process has no descriptors left.
    ///
    /// With `host_reports`, what the kernel's log says of the host is reported as well. Of unwatched processes, at most so many
    /// exits a second are reported; of processes older than `began`, no listeners.
    pub fn open(
        (missing, host_reports): (&[Hook], bool),
        reader: &ProcReader,
        unwatched_per_second: u32,
        began: Timestamp,
    ) -> io::Result<Self> {
        let lacks = |hook| missing.contains(&hook);
        let connector = (lacks(Hook::Exit) || lacks(Hook::Exec)).then(Connector::open);
        let kmsg = lacks(Hook::Oom).then(|| open_log(reader));
        let host_log = (host_reports && !matches!(kmsg, Some(Ok(_)))).then(|| open_host_log(missing));
        let wanted = Wanted { listeners: lacks(Hook::Socket), retransmits: lacks(Hook::Retransmit) };
        let diag = wanted.any().then(sockdiag::listeners);
        let description = |hook: Hook| match hook {
            Hook::Exit => Some(describe::exits(connector.as_ref())),
            Hook::Exec => Some(describe::execs(connector.as_ref())),
            Hook::Oom => Some(describe::ooms(kmsg.as_ref())),
            Hook::Socket => Some(describe::listeners(diag.as_ref())),
            Hook::Signal => Some(describe::SIGNALS.to_owned()),
            Hook::Fork => Some(describe::FORKS.to_owned()),
            Hook::Cgroup => Some(describe::CGROUPS.to_owned()),
            Hook::Retransmit => Some(describe::RETRANSMITS.to_owned()),
            Hook::SocketReport => None,
            Hook::HungTask
            | Hook::BlockError
            | Hook::Ext4Error
            | Hook::XfsShutdown
            | Hook::MachineCheck
            | Hook::MemoryError => {
                let log = kmsg.as_ref().filter(|it| it.is_ok()).or(host_log.as_ref());
                log.is_some_and(Result::is_ok).then(|| describe::HOST_FAULTS.to_owned())
            }
        };
        let replaced = missing
            .iter()
            .map(|hook| HookFallback { hook: *hook, description: description(*hook) })
            .collect();
        let connector = connector.and_then(Result::ok);
        let execs = lacks(Hook::Exec) && connector.is_some();
        let ends = lacks(Hook::Exit);
        let exits = (ends || execs)
            .then(|| Exits::new(reader.clone(), connector, (ends, execs), unwatched_per_second));
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        if let Some(connector) = exits.as_ref().and_then(Exits::connector) {
            wait_for(&poll, connector.as_fd(), CONNECTOR)?;
        }
        let kmsg = kmsg.and_then(Result::ok);
        if let Some(kmsg) = &kmsg {
            wait_for(&poll, kmsg.as_fd(), KMSG)?;
        }
        let reads_ooms = kmsg.is_some();
        let kmsg = kmsg.or_else(|| host_log.and_then(Result::ok));
        let scanner = wanted.any().then(|| Scanner::new(SocketScan::new(reader.clone(), began, wanted)));
        Ok(Self {
            poll,
            wake: Wake::default(),
            exits,
            kmsg,
            reads_ooms,
            scanner,
            reader: reader.clone(),
            lost_log: 0,
            unidentified: 0,
            replaced,
        })
    }

    /// What reports the same as a missing hook, and what it cannot report.
    pub fn description_of(&self, hook: Hook) -> Option<&str> {
        self.replaced.iter().find(|it| it.hook == hook)?.description.as_deref()
    }

    /// Waits until there is something to [`drain`](Self::drain). Needs a Tokio runtime with I/O enabled.
    ///
    /// Cancel safe: dropped in a `select!`, it loses nothing.
    pub async fn readable(&mut self) -> io::Result<()> {
        let Self { poll, wake, exits, reads_ooms, scanner, .. } = self;
        let events = async {
            // What the log says of the host is read every second.
            if exits.is_none() && !*reads_ooms {
                return std::future::pending().await;
            }
            let ready = wake.readable(&*poll);
            match exits.as_ref().and_then(Exits::due) {
                None => ready.await,
                // An exit is due by then, whether anything else happens or not.
                Some(due) => timeout(due.since(Timestamp::now()), ready).await.unwrap_or(Ok(())),
            }
        };
        let Some(scanner) = scanner else { return events.await };
        select! {
            ready = events => ready,
            () = scanner.readable() => Ok(()),
        }
    }

    /// Appends the execs, OOM kills and exits that were seen to `out`; never waits. An OOM kill comes before the exit
    /// that follows it.
    pub fn drain(&mut self, out: &mut Vec<Record>) {
        if self.exits.is_none() && !self.reads_ooms {
            return;
        }
        // What is left after so many rounds is still ready, and blocks the daemon from nothing else.
        for _ in 0..ROUNDS {
            let ready = self.ready();
            let whole = self.exits.as_mut().is_none_or(|exits| exits.read(out));
            if self.reads_ooms {
                self.read_log(out);
            }
            let Some(exits) = &mut self.exits else { break };
            for pid in ready.iter().flatten() {
                if let Some(process) = exits.descriptor(*pid) {
                    // It stays readable for as long as it is open.
                    let _ = epoll::delete(&self.poll, process);
                }
                exits.has_ended(*pid);
            }
            if whole {
                out.extend(exits.due_by(Timestamp::now()).into_iter().map(Record::Exit));
            }
            if ready.is_none() {
                break;
            }
        }
    }

    /// Appends the OOM kills that the log has had since the last [`drain`](Self::drain), where they are read from it.
    pub fn drain_ooms(&mut self, out: &mut Vec<Record>) {
        if self.reads_ooms {
            self.read_log(out);
        }
    }

    /// Appends what the kernel's log says of the host, where nothing waits for the log. Meant to be called about once a second.
    pub fn drain_host_log(&mut self, out: &mut Vec<Record>) {
        if !self.reads_ooms {
            self.read_log(out);
        }
    }

    /// Appends what the latest scan of sockets has found.
    pub fn drain_sockets(&mut self, out: &mut Vec<Record>) {
        if let Some(scanner) = &mut self.scanner {
            scanner.drain(out);
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

    fn read_log(&mut self, out: &mut Vec<Record>) {
        let Some(kmsg) = &mut self.kmsg else { return };
        let read = kmsg.read(|line| match line {
            LogLine::Oom(kill) if self.reads_ooms => {
                let mut kill = kill.record(self.reader.cgroups());
                if let Some(exits) = &self.exits {
                    exits.identify(&mut kill);
                }
                out.push(Record::Oom(kill));
            }
            LogLine::Oom(_) => {}
            LogLine::Host(line) => out.push(Record::Host(line.record(Timestamp::now()))),
        });
        match read {
            Ok(lost) => self.lost_log += lost,
            Err(error) => {
                tracing::error!(
                    %error,
                    "the kernel's log can no longer be read; where hooks are missing, OOM kills are only counted, and faults of \
                     the host are missed"
                );
                self.kmsg = None;
            }
        }
    }

    /// Reports the exit of this process and, where there is a connector, the failures of its descendants.
    pub fn watch_process(&mut self, main: ProcessKey) {
        if let Some(exits) = &mut self.exits {
            exits.watch(main, |pid, process| wait_for(&self.poll, process, pid.into()).is_ok());
        }
    }

    /// A watched process has ended for certain: the next [`drain`](Self::drain) reports it.
    pub fn settle(&mut self, pid: u32) {
        if let Some(exits) = &mut self.exits {
            exits.settle(pid);
        }
    }

    pub fn unwatch_process(&mut self, pid: u32) {
        if let Some(exits) = &mut self.exits {
            exits.unwatch(pid);
        }
    }

    /// Counts the exit of a process that could not be identified.
    pub fn count_unidentified(&mut self) {
        self.unidentified += 1;
    }

    /// Checks what it is not woken for, and starts a scan of the sockets of these main processes. Meant to be called
    /// about once a second, after a [`drain`](Self::drain).
    pub fn every_second(&mut self, mains: Vec<ProcessKey>) {
        if let Some(exits) = &mut self.exits {
            exits.every_second();
        }
        if let Some(scanner) = &mut self.scanner {
            scanner.start(mains);
        }
    }

    /// What was lost since the last call; classes without a loss are left out.
    pub fn losses(&mut self) -> Vec<Loss> {
        let (exits, throttled) = self.exits.as_mut().map_or((0, 0), Exits::take_lost);
        let log = std::mem::take(&mut self.lost_log);
        let unidentified = std::mem::take(&mut self.unidentified);
        let connector = LossPlace::ProcessConnector;
        let all = [
            Loss { class: LossClass::ExitUnidentified, count: unidentified, place: connector },
            Loss { class: LossClass::ExitConnector, count: exits, place: connector },
            Loss { class: LossClass::ExitThrottled, count: throttled, place: connector },
            Loss { class: LossClass::Kmsg, count: log, place: LossPlace::KernelLog },
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

/// Whether the kernel's log can be read.
pub fn log_can_be_read() -> io::Result<()> {
    Kmsg::open().map(drop)
}

/// The kernel's log for what it says of the host, which is the same in each container of it. Nothing waits for it.
fn open_host_log(missing: &[Hook]) -> io::Result<Kmsg> {
    Kmsg::open().inspect_err(|error| {
        let only_in_log = ["critical temperatures", "full tables"].map(str::to_owned);
        let lost =
            missing.iter().filter(|hook| hook.host_check().is_some()).map(|hook| hook.sees().to_owned());
        let lost: Vec<String> = lost.chain(only_in_log).collect();
        tracing::info!(
            "host: the kernel's log cannot be read: {error}; not reported: {}; under systemd, install host-checks.conf",
            lost.join(", ")
        );
    })
}

fn wait_for(poll: &OwnedFd, descriptor: BorrowedFd<'_>, data: u64) -> io::Result<()> {
    Ok(epoll::add(poll, descriptor, epoll::EventData::new_u64(data), epoll::EventFlags::IN)?)
}
