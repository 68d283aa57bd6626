//! One sensor with two sources: the eBPF programs, and a fallback for each hook that could not be attached.
//!
//! Both report the same [`Record`]s, so that the rest of the daemon need not know which source is in use.

pub mod ebpf;
pub mod fallback;
pub mod loss;
pub mod record;
mod wake;
mod witnesses;

use std::io;

use tokio::select;

use crate::{
    clock::Timestamp,
    fact::{HookCoverage, ProcessKey},
    host::ProcReader,
    sensor::{
        ebpf::{
            Attachment, CgroupId, EbpfSensor, Hook, Lineages, LoadError, Options, WatchError, WatchedPort,
        },
        fallback::FallbackSensor,
        loss::Loss,
        record::Record,
        witnesses::Witnesses,
    },
};

/// Both sources, and what each hook's records come from.
pub struct Sensors {
    /// None if no program is attached.
    ebpf: Option<EbpfSensor>,
    fallback: FallbackSensor,
    coverage: Vec<HookCoverage>,
    witnesses: Witnesses,
}

impl Sensors {
    /// Attaches what can be attached, and opens a fallback for the rest.
    ///
    /// Fails only if the process has no descriptors left: whatever else is missing costs its coverage. What processes
    /// that are older than `began` listen on already is not reported.
    pub fn open(options: &Options, reader: &ProcReader, began: Timestamp) -> io::Result<Self> {
        let (ebpf, attachments) = match EbpfSensor::load(options) {
            Ok(ebpf) => {
                let attachments = ebpf.coverage().to_vec();
                (Some(ebpf), attachments)
            }
            Err(error) => (None, none_attached(&error)),
        };
        let witnesses = Witnesses::new(|hook| attachments.iter().any(|it| it.hook == hook && it.attached));
        let missing: Vec<Hook> = attachments.iter().filter(|it| !it.attached).map(|it| it.hook).collect();
        let fallback = FallbackSensor::open(
            (&missing, options.host_reports),
            reader,
            options.unwatched_per_second,
            began,
        )?;
        let coverage = attachments.into_iter().map(|it| HookCoverage {
            hook: it.hook.tracepoint(),
            missing: (!it.attached).then(|| it.reason.unwrap_or_else(|| "unknown".to_owned())),
            absent: it.absent,
            fallback: fallback.description_of(it.hook).map(str::to_owned),
            // What its records would lack says nothing where it is missing.
            lacking: if it.attached { it.lacking } else { Vec::new() },
        });
        let coverage = coverage.collect();
        Ok(Self { ebpf, fallback, coverage, witnesses })
    }

    /// Hook by hook, whether it is attached, and what reports the same instead.
    pub fn coverage(&self) -> &[HookCoverage] {
        &self.coverage
    }

    /// Whether a hook is attached.
    pub fn has(&self, hook: Hook) -> bool {
        self.ebpf.as_ref().is_some_and(|ebpf| ebpf.has(hook))
    }

    /// The attached programs, if there are any.
    pub fn ebpf(&self) -> Option<&EbpfSensor> {
        self.ebpf.as_ref()
    }

    /// The lineages that the programs keep; None if no program is attached.
    pub fn lineages(&self) -> Option<Lineages> {
        self.ebpf.as_ref().map(EbpfSensor::lineages)
    }

    /// Whether the programs keep the lineages of watched processes.
    pub fn keep_lineages(&self) -> bool {
        self.ebpf.is_some()
    }

    /// Forwards the programs' own debug lines to `tracing`, if [`Options::log`] asked for them. Needs a Tokio runtime.
    pub fn spawn_log(&mut self) {
        if let Some(ebpf) = &mut self.ebpf {
            ebpf.spawn_log();
        }
    }

    /// Has a thread read what the start does not need. Otherwise the first record that needs it waits for that.
    pub fn read_ahead(&mut self) {
        if let Some(ebpf) = &mut self.ebpf {
            ebpf.read_ahead();
        }
    }

    /// Waits until there is something urgent to [`drain`](Self::drain). Needs a Tokio runtime with I/O enabled.
    ///
    /// Cancel safe: dropped in a `select!`, it loses nothing.
    pub async fn readable(&mut self) -> io::Result<()> {
        let Some(ebpf) = &mut self.ebpf else { return self.fallback.readable().await };
        select! {
            ready = ebpf.readable() => ready,
            ready = self.fallback.readable() => ready,
        }
    }

    /// Appends every record there is to `out`; never waits. Meant to be called when [`readable`](Self::readable)
    /// returns, and about every second: records that are not urgent wake nothing.
    ///
    /// A fallback's exit comes after what the hooks report of the same process, and a fallback's scan of sockets last:
    /// a listener is gone with its process. An OOM kill comes before the exit that follows it, from the log as well.
    pub fn drain(&mut self, out: &mut Vec<Record>) {
        let from = out.len();
        self.fallback.drain(out);
        let exits: Vec<Record> = out.extract_if(from.., |it| matches!(it, Record::Exit(_))).collect();
        if let Some(ebpf) = &mut self.ebpf {
            let hooks = out.len();
            ebpf.drain(out);
            add_late_ooms(out, hooks, |late| self.fallback.drain_ooms(late));
        }
        out.extend(exits);
        self.fallback.drain_sockets(out);
        self.witnesses.sift(out, from);
    }

    /// What is due about once a second, after a [`drain`](Self::drain): appends what the programs have only counted,
    /// and has the fallback check what it is not woken for. `mains` are the services' main processes.
    pub fn every_second(&mut self, mains: Vec<ProcessKey>, out: &mut Vec<Record>) {
        let from = out.len();
        self.fallback.every_second(mains);
        self.fallback.drain_host_log(out);
        if let Some(ebpf) = &mut self.ebpf {
            ebpf.adopt_connections();
            let now = Timestamp::now().as_nanos();
            out.extend(ebpf.repeated_errors(now).into_iter().map(Record::SocketError));
            out.extend(ebpf.repeated_faults(now).into_iter().map(Record::Host));
            out.extend(ebpf.retransmits(now).into_iter().map(Record::Retransmits));
        }
        self.witnesses.sift(out, from);
        out.extend(self.witnesses.due(Timestamp::now().as_nanos()).into_iter().map(Record::Host));
    }

    /// When another process last asked this one to end; None without the hooks, which alone see it.
    pub fn request_to_end(&self, process: ProcessKey) -> Option<Timestamp> {
        self.ebpf.as_ref()?.request_to_end(process)
    }

    /// Reports every exit of this process from now on, a clean one too, and the failures of the `lineage` that it
    /// heads, whose number is not 0.
    pub fn watch_process(&mut self, main: ProcessKey, lineage: u32) -> Result<(), WatchError> {
        self.fallback.watch_process(main);
        self.ebpf.as_mut().map_or(Ok(()), |ebpf| ebpf.watch_process(main.pid, lineage))
    }

    /// A process that is watched heads another lineage from now on.
    pub fn set_lineage(&mut self, main: ProcessKey, lineage: u32) -> Result<(), WatchError> {
        // The fallback is left alone: it may have reported this process's exit already.
        self.ebpf.as_mut().map_or(Ok(()), |ebpf| ebpf.watch_process(main.pid, lineage))
    }

    /// Ends [`watch_process`](Self::watch_process). A process that is not watched is no error.
    pub fn unwatch_process(&mut self, pid: u32) -> Result<(), WatchError> {
        self.fallback.unwatch_process(pid);
        self.ebpf.as_mut().map_or(Ok(()), |ebpf| ebpf.unwatch_process(pid))
    }

    /// A watched process has ended for certain: the next [`drain`](Self::drain) reports it, with what is known by then.
    pub fn settle(&mut self, pid: u32) {
        self.fallback.settle(pid);
    }

    /// Adds a process that was born before the watch to a lineage.
    pub fn add_descendant(&mut self, process: ProcessKey, lineage: u32) -> Result<(), WatchError> {
        self.ebpf.as_mut().map_or(Ok(()), |ebpf| ebpf.add_descendant(process, lineage))
    }

    /// Removes a process from its lineage: its later children do not belong to that.
    pub fn remove_descendant(&mut self, pid: u32) -> Result<(), WatchError> {
        self.ebpf.as_mut().map_or(Ok(()), |ebpf| ebpf.remove_descendant(pid))
    }

    /// Reports the failures of every process directly in this cgroup; those below it do not count.
    pub fn watch_cgroup(&mut self, cgroup: CgroupId) -> Result<(), WatchError> {
        self.ebpf.as_mut().map_or(Ok(()), |ebpf| ebpf.watch_cgroup(cgroup))
    }

    /// Ends [`watch_cgroup`](Self::watch_cgroup). A cgroup that is not watched is no error.
    pub fn unwatch_cgroup(&mut self, cgroup: CgroupId) -> Result<(), WatchError> {
        self.ebpf.as_mut().map_or(Ok(()), |ebpf| ebpf.unwatch_cgroup(cgroup))
    }

    /// Reports the errors of connections to this local port, whose listener may be older than the hooks.
    pub fn watch_port(&mut self, port: WatchedPort) -> Result<(), WatchError> {
        self.ebpf.as_mut().map_or(Ok(()), |ebpf| ebpf.watch_port(port))
    }

    /// Drops processes and cgroups that are no longer watched from the programs' prefilter. Meant to be called every
    /// ten seconds or so: unwatched ones that stay in it cost a lookup each time they do something.
    pub fn sweep(&mut self) -> Result<(), WatchError> {
        self.ebpf.as_mut().map_or(Ok(()), EbpfSensor::sweep)
    }

    /// Counts an exit of a process that could not be identified as lost.
    pub fn count_unidentified(&mut self) {
        self.fallback.count_unidentified();
    }

    /// What was lost since the last call; classes without a loss are left out.
    pub fn losses(&mut self) -> Vec<Loss> {
        let mut losses = self.ebpf.as_mut().map(EbpfSensor::losses).unwrap_or_default();
        losses.extend(self.fallback.losses());
        losses
    }

    /// Exits since the start of processes outside of the daemon's pid namespace.
    pub fn exits_elsewhere(&self) -> u64 {
        self.ebpf.as_ref().map_or(0, |ebpf| ebpf.counters().exits_elsewhere)
    }
}

/// The log was read before the hooks' records, which begin at `from`. A kill between the two is in the log by now, and comes
/// before the exit that follows it. Only where something was killed is the log read again.
fn add_late_ooms(out: &mut Vec<Record>, from: usize, read: impl FnOnce(&mut Vec<Record>)) {
    let is_kill = |record: &Record| matches!(record, Record::Exit(exit) if exit.status.is_kill());
    let Some(first) = out.iter().skip(from).position(is_kill) else { return };
    let mut late = Vec::new();
    read(&mut late);
    let at = from + first;
    out.splice(at..at, late);
}

/// Every hook with the reason why none is attached: its own, if it has one.
fn none_attached(error: &LoadError) -> Vec<Attachment> {
    if let LoadError::NoHook(attachments) = error {
        return attachments.clone();
    }
    let reason = error.to_string();
    let attachment = |hook| Attachment {
        hook,
        attached: false,
        reason: Some(reason.clone()),
        absent: false,
        lacking: Vec::new(),
    };
    Hook::ALL.map(attachment).to_vec()
}

#[cfg(test)]
mod tests;
