//! Loads the eBPF programs, and returns what they saw as [`Record`]s.
//!
//! One object file serves every kernel. The offsets of kernel structures come from the running kernel's own
//! type information ([`btf`], [`fields`]) and are frozen into the programs as they are loaded ([`load`]). Each program
//! is loaded and attached on its own: a program that the kernel refuses costs its coverage, with a reason
//! ([`EbpfSensor::coverage`]), and nothing else. The programs count the records that were lost; [`EbpfSensor::losses`]
//! reads the counts.
//!
//! The programs vanish with the [`EbpfSensor`] value, and with the process however it ends: nothing is pinned.

mod adoption;
pub mod btf;
mod cgroup_id;
pub mod coverage;
pub mod decode;
mod error;
pub mod fields;
pub mod load;
mod log;
mod loss;
mod missed;
mod namespace;
mod options;
mod prefilter;
mod repeated;
mod retransmits;
pub mod rights;
mod ring;
mod sent_signals;
pub mod stack;
#[cfg(test)]
mod tests;
mod watch;

use std::io;

use tokio::task::JoinHandle;

pub use cgroup_id::CgroupId;
pub use coverage::{Attachment, Hook};
pub use error::LoadError;
pub use loss::Counters;
pub use options::Options;
pub use watch::{Lineages, WatchError, WatchedPort};

use crate::{
    clock::Timestamp,
    fact::ProcessKey,
    sensor::{
        loss::Loss,
        record::{HostReport, Record, Retransmits, SocketError},
    },
};

/// The attached programs, and the way to their records. Dropping it detaches them.
pub struct EbpfSensor {
    ebpf: aya::Ebpf,
    coverage: Vec<Attachment>,
    rings: ring::Rings,
    watched: watch::Watched,
    errors: repeated::ErrorCounts,
    faults: repeated::FaultCounts,
    retransmits: retransmits::RetransmitCounts,
    signals: sent_signals::SentSignals,
    tally: loss::Tally,
    missed: missed::Missed,
    scopes: stack::Scopes,
    log: bool,
    log_task: Option<JoinHandle<()>>,
}

impl EbpfSensor {
    /// Loads and attaches what this kernel allows.
    ///
    /// Fails only when nothing at all can work: rights are missing, the kernel has no type information, or not one
    /// hook attached. Takes about a tenth of a second. Needs no async runtime.
    pub fn load(options: &Options) -> Result<Self, LoadError> {
        Self::load_from(options, &load::Paths::default())
    }

    /// The same, with other files than the running kernel's.
    pub fn load_from(options: &Options, paths: &load::Paths) -> Result<Self, LoadError> {
        let load::Loaded {
            ebpf,
            coverage,
            rings,
            watched,
            errors,
            faults,
            retransmits,
            signals,
            tally,
            missed,
            scopes,
        } = load::load(options, paths)?;
        let log = options.log;
        Ok(Self {
            ebpf,
            coverage,
            rings,
            watched,
            errors,
            faults,
            retransmits,
            signals,
            tally,
            missed,
            scopes,
            log,
            log_task: None,
        })
    }

    /// Whether a hook is attached.
    pub fn has(&self, hook: Hook) -> bool {
        self.coverage.iter().any(|it| it.hook == hook && it.attached)
    }

    /// Every hook, attached or not and why.
    pub fn coverage(&self) -> &[Attachment] {
        &self.coverage
    }

    /// Waits until there is something urgent to [`drain`](Self::drain). Needs a tokio runtime with I/O enabled.
    ///
    /// Cancel safe: dropped in a `select!`, it loses nothing.
    pub async fn readable(&mut self) -> io::Result<()> {
        self.rings.readable().await
    }

    /// Whether the kernel refuses the calling thread the use of the maps, as it lacks a right.
    pub fn maps_are_refused(&self) -> bool {
        self.watched.is_refused()
    }

    /// When another process last asked this one to end by SIGTERM, SIGINT or SIGQUIT, as far as the programs know.
    pub fn request_to_end(&self, process: ProcessKey) -> Option<Timestamp> {
        self.signals.request_to_end(process)
    }

    /// Appends everything the kernel has written to `out`, ordered by time.
    ///
    /// Never waits. Call it when [`readable`](Self::readable) returns and also about every second: records that are
    /// not urgent do not wake the daemon. One call reads at most 4096 records of each ring; if that leaves urgent ones
    /// behind, `readable` returns at once.
    ///
    /// The urgent ring is read first, so that what a process executed is never delivered in a later batch than its
    /// end.
    pub fn drain(&mut self, out: &mut Vec<Record>) {
        let from = out.len();
        self.rings.drain(out);
        for record in &mut out[from..] {
            if let Record::Oom(oom) = record {
                oom.scope = self.scopes.oom_scope(&oom.stack);
            }
            if let Record::SocketError(error) = record {
                self.errors.add_first(error);
            }
            if let Record::Host(report) = record {
                self.faults.add_first(report);
            }
        }
        out[from..].sort_by_key(Record::at_ns);
    }

    /// Reports every exit of this process, a clean one too, and the failures of its descendants from now on: the
    /// `lineage`, whose number is not 0. The watch ends with the process.
    pub fn watch_process(&mut self, pid: u32, lineage: u32) -> Result<(), WatchError> {
        self.watched.add_process(pid, lineage)
    }

    /// Adds a process that was born before the watch to a lineage.
    pub fn add_descendant(&mut self, process: ProcessKey, lineage: u32) -> Result<(), WatchError> {
        self.watched.add_descendant(process, lineage)
    }

    /// Removes a process from the lineage that it was born into. Its later children do not belong to the lineage. A
    /// process without a lineage is no error.
    pub fn remove_descendant(&mut self, pid: u32) -> Result<(), WatchError> {
        self.watched.remove_descendant(pid)
    }

    /// The lineages of the living descendants.
    pub fn lineages(&self) -> Lineages {
        self.watched.lineages()
    }

    /// Ends [`watch_process`](Self::watch_process). A process that is not watched is no error.
    pub fn unwatch_process(&mut self, pid: u32) -> Result<(), WatchError> {
        self.watched.remove_process(pid)
    }

    /// Reports the failures of every process directly in this cgroup; those below it do not count.
    pub fn watch_cgroup(&mut self, cgroup: CgroupId) -> Result<(), WatchError> {
        self.watched.add_cgroup(cgroup)
    }

    /// Ends [`watch_cgroup`](Self::watch_cgroup). A cgroup that is not watched is no error.
    pub fn unwatch_cgroup(&mut self, cgroup: CgroupId) -> Result<(), WatchError> {
        self.watched.remove_cgroup(cgroup)
    }

    /// Reports the errors of connections to this local port, whose listener may be older than the hooks.
    pub fn watch_port(&mut self, port: WatchedPort) -> Result<(), WatchError> {
        self.watched.add_port(port)
    }

    /// Drops processes and cgroups that are no longer watched from the prefilter. Meant to be called every ten seconds
    /// or so: unwatched ones that stay in it cost a lookup each time they do something.
    pub fn sweep(&mut self) -> Result<(), WatchError> {
        self.watched.sweep()
    }

    /// Begins to move the connections that processes made before they were watched to where no other process's displace
    /// them. Meant to be called about once a second.
    pub fn adopt_connections(&mut self) {
        self.watched.adopt_connections();
    }

    /// Errors that were counted after the first of their kind, each kind at most every ten seconds; `at_ns` is that of
    /// the last of them. Meant to be called about once a second, after a [`drain`](Self::drain); `now_ns` is
    /// `CLOCK_BOOTTIME`.
    pub fn repeated_errors(&mut self, now_ns: u64) -> Vec<SocketError> {
        self.errors.take(now_ns)
    }

    /// Faults of the host that were counted after the first of their kind, likewise; `at_ns` is `now_ns`.
    pub fn repeated_faults(&mut self, now_ns: u64) -> Vec<HostReport> {
        self.faults.take(now_ns)
    }

    /// Segments that were sent again, by process and remote address: at once for a new address, then every ten seconds.
    /// Meant to be called about once a second; `now_ns` is `CLOCK_BOOTTIME`.
    pub fn retransmits(&mut self, now_ns: u64) -> Vec<Retransmits> {
        self.retransmits.take(now_ns)
    }

    /// What was lost since the last call, by class; classes without a loss are left out.
    pub fn losses(&mut self) -> Vec<Loss> {
        let undecodable = self.rings.take_undecodable();
        let mut losses = self.tally.losses(undecodable);
        losses.extend(self.missed.losses());
        losses
    }

    /// Process ends counted in the kernel since the load.
    pub fn counters(&self) -> Counters {
        self.tally.counters()
    }

    /// Has a thread read what the scope of an OOM kill is known by. Otherwise the first kill waits for that.
    pub fn read_ahead(&mut self) {
        self.scopes.read_ahead();
    }

    /// Forwards the programs' own debug lines to `tracing`, if [`Options::log`] asked for them. Needs a tokio runtime.
    pub fn spawn_log(&mut self) {
        if self.log && self.log_task.is_none() {
            self.log_task = log::spawn(&mut self.ebpf);
        }
    }
}

impl Drop for EbpfSensor {
    fn drop(&mut self) {
        if let Some(task) = self.log_task.take() {
            task.abort();
        }
    }
}
