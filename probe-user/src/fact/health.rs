//! Measurements of processes, services and the host, read when a probe fails and at intervals.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{AcceptQueue, Holder, ServerReport};
use crate::clock::Timestamp;

/// The progress of a service's processes between two samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Examination {
    /// The time of the second sample.
    pub at: Timestamp,
    /// The time between the samples.
    pub over: Duration,
    /// The first sample was taken early, while probes still waited.
    #[serde(default)]
    pub ahead: bool,
    /// Threads of all its processes.
    pub threads: u32,
    /// The main process is stopped by a signal (state `T`).
    pub stopped: bool,
    /// A debugger holds the main process (state `t`).
    pub traced: bool,
    /// The process that traces one of them, if that is none of them.
    #[serde(default)]
    pub tracer: Option<Tracer>,
    /// The frozen cgroup that one of them is in.
    #[serde(default)]
    pub frozen: Option<FrozenCgroup>,
    /// The process that writes its core dump: a fatal signal has ended it.
    #[serde(default)]
    pub dumping_core: Option<u32>,
    /// Threads in uninterruptible sleep (state `D`) in both samples.
    pub uninterruptible: u32,
    /// What such a thread waits for (`/proc/PID/wchan`), where that can be read.
    pub wait_channel: Option<String>,
    /// CPU time all of them used.
    pub cpu: Duration,
    /// Time they were ready to run and had no CPU (`/proc/PID/schedstat`).
    pub run_delay: Duration,
    /// Threads that are ready to run (state `R`) and have not run since the first sample. The kernel adds their wait
    /// to `run_delay` only at its end.
    pub starving: u32,
    /// Context switches of all of them.
    pub switches: u64,
    /// The fullest accept queue of its listeners in the first sample.
    pub queue_before: Option<AcceptQueue>,
    /// The same listener's queue in the second sample.
    pub queue: Option<AcceptQueue>,
    /// The clients that wait in that queue in the first sample, and in the second one: without the daemon's own probes, and
    /// without those that have closed their connection. None if the kernel does not list them.
    #[serde(default)]
    pub clients_before: Option<u32>,
    #[serde(default)]
    pub clients: Option<u32>,
    /// Connections of clients that a process of the service has accepted.
    #[serde(default)]
    pub served: u32,
    /// Connections that their client has closed, and the service has not.
    #[serde(default)]
    pub abandoned: u32,
    /// Connections of the daemon that the service has accepted or can accept, and over which no answer waits for the daemon.
    #[serde(default)]
    pub unanswered: u32,
    /// Each thread waits for a lock that only the process itself can release, or for a new connection.
    #[serde(default)]
    pub locked: bool,
    /// The server that it waited for while a probe of it waited: it had read what the probe asked, had asked that server
    /// since, and had no answer. Not a service that is watched.
    #[serde(default)]
    pub awaits: Option<SocketAddr>,
    /// In one of the samples the main process's first thread waited for events of its connections, as an event loop does that
    /// has nothing to do. A loop that is stuck in a command is in neither.
    #[serde(default)]
    pub waits_for_events: bool,
    /// A file that it wrote more of meanwhile, from its beginning to its end: a dump of its data, not a log.
    #[serde(default)]
    pub writes: Option<String>,
    /// A process of it whose client waits to be let in, because another session holds a lock on what a login reads.
    #[serde(default)]
    pub locked_out: Option<u32>,
    /// Share of the time, 0 to 1, that some task of its cgroup waited for a CPU (PSI), where that can be read.
    pub cgroup_pressure: Option<f64>,
}

/// Where DNS servers listen.
pub const DNS_PORT: u16 = 53;

/// A process that traces another one (`ptrace(2)`), such as a debugger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracer {
    pub pid: u32,
    pub name: String,
}

/// A cgroup whose processes the kernel does not let run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenCgroup {
    pub path: String,
    pub container: Option<String>,
    /// The systemd unit that it is of.
    pub unit: Option<String>,
}

impl Examination {
    /// The usual time between the samples.
    pub const OVER: Duration = Duration::from_millis(200);

    /// The time between them if the service may be judged before an attempt has timed out. Nothing of it may have run meanwhile.
    pub const OVER_BEFORE_TIMEOUT: Duration = Duration::from_millis(300);

    /// Whether its processes did anything at all.
    pub fn progressed(&self) -> bool {
        self.switches > 0 || !self.cpu.is_zero()
    }

    /// Whether its processes work: they used a twentieth of a CPU or more, or waited for a disk all the time.
    pub fn is_at_work(&self) -> bool {
        self.cpu >= self.over / 20 || self.uninterruptible > 0 || self.writes.is_some()
    }

    /// Whether its processes did nothing although nothing kept them from it.
    pub fn idled(&self) -> bool {
        !self.progressed() && self.starving == 0
    }

    /// Whether more clients wait to be accepted than before.
    pub fn queue_grows(&self) -> bool {
        self.clients_before.zip(self.clients).is_some_and(|(before, after)| after > before)
    }

    /// Whether its processes can do nothing more by themselves: each thread waits for another one, and there is a client
    /// that gave up and was not noticed, or the daemon waits twice. A service that waits for a disk, a server or a timer is
    /// none of those.
    pub fn is_stuck(&self) -> bool {
        self.idled() && self.locked && (self.abandoned > 0 || self.is_asked_twice())
    }

    /// Whether that is so of requests that have not timed out. A further connection could still wake it, and the second
    /// request was one. A client that gave up may have done so long ago.
    pub fn is_stuck_before_timeout(&self) -> bool {
        self.is_stuck() && self.is_asked_twice() && self.over >= Self::OVER_BEFORE_TIMEOUT
    }

    fn is_asked_twice(&self) -> bool {
        self.unanswered >= 2
    }

    /// Whether it takes no further connection while it serves those that it has accepted.
    pub fn is_busy(&self) -> bool {
        self.queue.is_some_and(|queue| queue.waiting > 0) && self.served > 0 && !self.is_stuck()
    }

    /// Whether its listeners have room for a connection. The kernel answers then, whatever the processes do.
    pub fn has_room(&self) -> bool {
        let has_room =
            |queue: &AcceptQueue| queue.waiting == 0 || queue.backlog != u32::MAX && !queue.is_full();
        self.queue.as_ref().is_some_and(has_room) && self.queue_before.as_ref().is_none_or(has_room)
    }
}

/// The host's pressure since the last reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// When it was read.
    pub at: Timestamp,
    /// Share of the time, 0 to 1, that some task waited for a CPU (PSI `some`); None where there is no PSI.
    pub cpu: Option<f64>,
    /// Share of the time that all tasks waited for memory (PSI `full`).
    pub memory: Option<f64>,
    /// Share of the time that all tasks waited for a disk (PSI `full`).
    pub io: Option<f64>,
    /// By how much the daemon's own control probe was late.
    pub late: Duration,
}

/// A database's report of its own resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerUsage {
    /// Connections in use, and their limit.
    pub connections: Option<Share>,
    /// Memory in use, and how much there may be, in bytes.
    pub memory: Option<Share>,
    /// The largest holders of its connections, largest first.
    pub holders: Vec<Holder>,
    /// Its numbers besides.
    #[serde(default)]
    pub report: ServerReport,
}

/// A part of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// In use.
    pub used: u64,
    pub most: u64,
}

impl Share {
    /// Percent in use; 0 of nothing.
    pub fn percent(self) -> f64 {
        if self.most == 0 { 0.0 } else { self.used as f64 * 100.0 / self.most as f64 }
    }
}

/// What a service's processes use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceUsage {
    /// Percent of one core since the last sample.
    pub cpu_percent: f64,
    /// Percent of the memory limit that applies, or of the host's memory.
    pub memory_percent: f64,
    pub threads: u64,
    /// Open file descriptors.
    pub fds: u64,
    /// Percent of the tightest limit on its threads; 0 if there is none.
    #[serde(default)]
    pub threads_percent: f64,
    /// Percent of the limit on the descriptors of the process that is closest to its own.
    #[serde(default)]
    pub fds_percent: f64,
}
