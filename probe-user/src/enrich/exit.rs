//! From the record of an exit to its fact.

use super::{Enricher, INIT, with_image_of};
use crate::{
    clock::Timestamp,
    fact::{
        ExitStatus, Membership, NamespaceEnd, Process, ProcessExit, ProcessKey, Sender, ServiceId, Source,
    },
    host::cgroup,
    sensor::record,
};

const SIGHUP: u32 = 1;
const SIGKILL: u32 = 9;

/// How long after a request to end, and after a SIGHUP, an exit may be the answer, in nanoseconds. A server may serve its
/// last clients for minutes.
const REQUEST_DONE: u64 = 600_000_000_000;
const HANGUP_AT_ONCE: u64 = 5_000_000_000;

impl Enricher {
    /// A process ended. None if it is not known which: a fallback may only have the pid.
    pub fn exit(&mut self, record: &record::Exit) -> Option<(ProcessExit, Option<Membership>)> {
        let key = self.key_at_exit(record)?;
        let process = if record.source == Source::Ebpf {
            self.process_of_hook(key, record)
        } else {
            self.process_of_fallback(key, record)
        };
        let service = self.member(key, process.parent_pid, &record.cgroups, record.lineage);
        self.table.remove(key);
        let signal = record.signal.as_ref().filter(|signal| may_explain(signal, record));
        let sender = signal.map(|signal| self.sender(signal, record.pid));
        let exit = ProcessExit {
            at: Timestamp::from_nanos(record.at_ns),
            source: record.source,
            process,
            status: record.status.exit_status(),
            sender,
            sent_signal: signal.and_then(|signal| u8::try_from(signal.number).ok()),
            sender_service: None,
            oom: record.oom_victim,
            max_rss_bytes: record.max_rss_pages.saturating_mul(self.page_bytes),
            namespace_end: self.namespace_end(record),
            left_processes: false,
            crash: None,
            actor: None,
        };
        if record.namespace_init {
            self.namespaces.ended(&exit);
        }
        Some((exit, service))
    }

    /// Adds what is read of the sender of the signal: its service, whether it is at a terminal, and who is behind it if it ended
    /// a process of a service from outside. It reads much of `/proc`, so the exit itself is published before.
    pub fn read_sender(&self, exit: &mut ProcessExit, record: &record::Exit, member: Membership) {
        let Some(signal) = record.signal.as_ref().filter(|signal| may_explain(signal, record)) else {
            return;
        };
        if let Some(sender) = &mut exit.sender {
            self.read_terminal(sender, signal);
        }
        exit.sender_service = self.sender_service(signal);
        // A service that ends its own workers is asked nothing.
        if exit.sender_service != Some(member.service) {
            exit.actor = self.actor_of_signal(signal).map(Box::new);
        }
    }

    /// The end of the pid namespace that a process was in, if the kernel killed the process for that.
    fn namespace_end(&self, record: &record::Exit) -> Option<NamespaceEnd> {
        let signal = record.signal.as_ref().filter(|signal| signal.sender.is_none())?;
        let killed =
            signal.number == SIGKILL && record.status.signal() == Some(SIGKILL) && !record.oom_victim;
        self.namespaces.end_by(signal.context_pid).filter(|_| killed)
    }

    /// The process that ended. Without a start time it is the latest with this pid, unless another process has the pid
    /// now.
    fn key_at_exit(&self, record: &record::Exit) -> Option<ProcessKey> {
        if record.start_ns != 0 {
            return Some(ProcessKey::new(record.pid, Timestamp::from_nanos(record.start_ns)));
        }
        let newest = self.table.newest(record.pid)?.key;
        (!self.lives(newest)).then_some(newest)
    }

    /// A process as the exit hook saw it: its record has the name, user, parent and cgroups of that moment. `/proc` is read
    /// only where the parent is not known: a process that has given its memory back has no command line there any more.
    fn process_of_hook(&mut self, key: ProcessKey, record: &record::Exit) -> Process {
        if self.table.get(key).is_none() {
            self.learn_parent(record.parent_pid);
        }
        let parent = self.table.newest(record.parent_pid).filter(|known| known.key.start <= key.start);
        let known = self.table.get(key);
        let is_new = known.is_none();
        let has_parent = parent.is_some_and(|parent| parent.key.pid != INIT);
        let mut process = match known {
            Some(known) => known.clone(),
            None if has_parent => Process::unknown(key, record.parent_pid),
            None => self.read_or_unknown(key, record.parent_pid),
        };
        self.place_in(&mut process, &record.cgroups);
        process.parent_pid = record.parent_pid;
        process.user_id = record.uid;
        process.name.clone_from(&record.comm);
        process.namespace_pid = record.namespaced_pid.filter(|&pid| pid != record.pid);
        if is_new { with_image_of(parent, process) } else { process }
    }

    /// Learns a process whose child has ended, if it is not known: one that was forked and has executed nothing. It may have
    /// many children that end.
    fn learn_parent(&mut self, pid: u32) {
        if pid > INIT
            && self.table.newest(pid).is_none()
            && let Some(parent) = self.reader.read_around_memory(pid)
        {
            self.learn(parent);
        }
    }

    /// A process as a fallback found it. Its record lacks the parent, or the name and user, if the process was gone by
    /// then; its cgroup is only that of v2, which on a host with v1 is the root.
    fn process_of_fallback(&self, key: ProcessKey, record: &record::Exit) -> Process {
        let mut process = self.known(key, record.parent_pid);
        if !record.comm.is_empty() {
            process.name.clone_from(&record.comm);
            process.user_id = record.uid;
        }
        if record.parent_pid != 0 {
            process.parent_pid = record.parent_pid;
        }
        process
    }

    /// A process ended, and no sensor reported it. `parent` is its parent's pid, 0 if that is not known.
    pub fn ended(&mut self, key: ProcessKey, parent: u32, status: ExitStatus, at: Timestamp) -> ProcessExit {
        let process = self.known(key, parent);
        self.table.remove(key);
        ProcessExit {
            at,
            source: Source::Proc,
            process,
            status,
            sender: None,
            sent_signal: None,
            sender_service: None,
            oom: false,
            max_rss_bytes: 0,
            namespace_end: None,
            left_processes: false,
            crash: None,
            actor: None,
        }
    }

    /// The service that the sender of a signal belongs to.
    fn sender_service(&self, signal: &record::Signal) -> Option<ServiceId> {
        let sender = signal.sender.as_ref()?;
        let key = ProcessKey::new(sender.pid, Timestamp::from_nanos(sender.start_ns));
        let parent = self.table.get(key).map_or(0, |known| known.parent_pid);
        let cgroups = record::Cgroups { v2: sender.cgroup_v2, memory_v1: None };
        self.member(key, parent, &cgroups, None).map(|member| member.service)
    }

    /// Reads whether a sender has a controlling terminal. One that has ended had that of its parent.
    pub(super) fn read_terminal(&self, sender: &mut Sender, signal: &record::Signal) {
        let (Sender::Process { terminal, .. }, Some(sent_by)) = (sender, &signal.sender) else { return };
        let key = ProcessKey::new(sent_by.pid, Timestamp::from_nanos(sent_by.start_ns));
        let has_terminal = |key| self.reader.has_terminal(key);
        let parent = || self.reader.key_of(self.table.get(key)?.parent_pid).and_then(has_terminal);
        *terminal = has_terminal(key).or_else(parent).unwrap_or(false);
    }

    /// Who sent a signal to the process `target`, as far as it is known without a read of its terminal.
    pub(super) fn sender(&self, signal: &record::Signal, target: u32) -> Sender {
        match &signal.sender {
            None => Sender::Kernel,
            Some(sender) if sender.pid == target => Sender::Itself,
            Some(sender) => {
                let key = ProcessKey::new(sender.pid, Timestamp::from_nanos(sender.start_ns));
                let known = self.table.get(key);
                let path = known.and_then(|known| known.cgroup.as_ref()).map(|group| group.path.as_str());
                let ids = record::Cgroups { v2: sender.cgroup_v2, memory_v1: None };
                let unit = path.and_then(cgroup::unit_name).or_else(|| self.groups.home(&ids).unit);
                // It may have been moved, on a host whose cgroup ids do not show the units.
                let read =
                    || (path.is_none() || !self.groups.say_all(&ids)).then(|| self.reader.unit(sender.pid));
                let unit = unit.or_else(|| read().flatten());
                let (pid, name, user_id) = (sender.pid, sender.comm.clone(), sender.uid);
                Sender::Process { pid, name, user_id, unit, terminal: false }
            }
        }
    }
}

/// Whether a process may have ended because of a signal. An exit by code has the last request to end, be it long ago. A
/// SIGHUP mostly asks a daemon to read its configuration again.
fn may_explain(signal: &record::Signal, exit: &record::Exit) -> bool {
    let limit = if signal.number == SIGHUP { HANGUP_AT_ONCE } else { REQUEST_DONE };
    exit.status.signal().is_some() || exit.at_ns.saturating_sub(signal.at_ns) < limit
}
