//! From a sensor's record to a fact: names, command lines, units, and the service that a process belongs to.
//!
//! Records hold identities only. A process that ended has no command line any more, so the table of processes is filled
//! before: from `/proc` at the start, then from every exec.

mod groups;
mod membership;
mod network;
mod resolve;
mod socket;
mod table;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::HashSet};

use groups::{Groups, Home};
pub use membership::Members;
use network::LocalNetwork;
use table::Table;

use crate::{
    clock::Timestamp,
    fact::{
        ExitStatus, Listener, Membership, OomKill, Process, ProcessExit, ProcessKey, Sender, ServiceId,
        Source,
    },
    host::{ProcReader, ReadError, cgroup},
    sensor::{ebpf, record},
};

/// The parent of orphans.
const INIT: u32 = 1;

#[derive(Debug)]
pub struct Enricher {
    reader: ProcReader,
    table: Table,
    groups: Groups,
    /// The lineages that the eBPF programs keep; None without them.
    lineages: Option<ebpf::Lineages>,
    page_bytes: u64,
    network: LocalNetwork,
    /// Which processes belong to which service.
    pub members: Members,
}

impl Enricher {
    /// Reads the processes there are.
    pub fn new(reader: ProcReader, members: Members) -> Result<Self, ReadError> {
        let mut table = Table::default();
        let groups = Groups::new(reader.cgroups().clone());
        let mut learned = HashSet::new();
        for (process, home) in reader.scan()? {
            table.insert(process);
            if !learned.contains(&home) {
                groups.learn(&home);
                learned.insert(home);
            }
        }
        let network = LocalNetwork::new(&reader);
        Ok(Self { reader, table, groups, lineages: None, page_bytes: procfs::page_size(), network, members })
    }

    /// Uses the lineages that the eBPF programs keep from now on.
    pub fn learn_from(&mut self, lineages: ebpf::Lineages) {
        self.lineages = Some(lineages);
    }

    /// Sets a service's main process. Returns the pid of the one before, if it is no service's main process any more.
    pub fn set_main(&mut self, service: ServiceId, main: Option<ProcessKey>) -> Option<u32> {
        if let Some(main) = main {
            self.members.set_home(service, self.groups.home_of(main.pid));
        }
        self.members.set_main(service, main)
    }

    /// The lineage that a main process heads; None if it is no service's main process.
    pub fn lineage(&self, main: u32) -> Option<u32> {
        self.members.head(main).map(lineage_of)
    }

    /// The tables: name, entries, and the most there can be.
    pub fn sizes(&self) -> [(&'static str, usize, usize); 3] {
        let descendants = self.lineages.as_ref().map_or(0, ebpf::Lineages::count);
        [
            ("processes", self.table.len(), self.table.limit()),
            ("cgroups", self.groups.len(), Groups::limit()),
            ("descendants", descendants, ebpf::Lineages::limit()),
        ]
    }

    pub fn reader(&self) -> &ProcReader {
        &self.reader
    }

    /// Whether a process lives, and is not a zombie.
    pub fn lives(&self, key: ProcessKey) -> bool {
        self.reader.runs(key)
    }

    /// Learns the program that a process executes, and returns its path. Where the record does not have it, `/proc` may.
    pub fn exec<'a>(&mut self, record: &'a record::Exec) -> Option<Cow<'a, str>> {
        let Some(image) = &record.image else {
            let process = self.reader.read(record.pid)?;
            let executable = process.executable.clone();
            self.learn(process);
            return executable.map(Cow::Owned);
        };
        let key = ProcessKey::new(record.pid, Timestamp::from_nanos(image.start_ns));
        let group = self.groups.of(record.pid, &image.cgroups);
        let known = self.table.get(key);
        let process = Process {
            key,
            parent_pid: image.parent_pid,
            name: image.comm.clone(),
            executable: Some(image.filename.clone()).filter(|name| name.starts_with('/')).or_else(|| {
                // A relative name says little: the link in /proc has the whole path.
                self.reader.read(record.pid).and_then(|process| process.executable)
            }),
            command_line: Some(image.arguments.join(" ")),
            user_id: image.uid,
            container_id: group
                .paths()
                .find_map(cgroup::container_id)
                .or_else(|| self.groups.home(&image.cgroups).container),
            cgroup: match (group.main(), self.groups.main(&image.cgroups)) {
                (Some((_, path)), Some(group)) if group.path == path => Some(group),
                (Some((hierarchy, path)), _) => Some(self.reader.cgroups().group(hierarchy, path)),
                (None, Some(group)) => Some(group),
                (None, None) => known.and_then(|known| known.cgroup.clone()),
            },
            namespace_pid: known.and_then(|known| known.namespace_pid),
        };
        self.learn(process);
        Some(Cow::Borrowed(&image.filename))
    }

    fn learn(&mut self, process: Process) {
        self.table.insert(process);
        if self.table.is_due_for_a_sweep() {
            let reader = &self.reader;
            self.table.retain(|process| reader.key_of(process.key.pid) == Some(process.key));
        }
    }

    /// Learns the path of a cgroup that was made.
    pub fn cgroup_made(&mut self, record: record::CgroupMade) {
        self.groups.made(record);
    }

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
        let sender = record.signal.as_ref().map(|signal| self.sender(signal, record.pid));
        let sender_service = record.signal.as_ref().and_then(|signal| self.sender_service(signal));
        let exit = ProcessExit {
            at: Timestamp::from_nanos(record.at_ns),
            source: record.source,
            process,
            status: record.status.exit_status(),
            sender,
            sent_signal: record.signal.as_ref().and_then(|signal| u8::try_from(signal.number).ok()),
            sender_service,
            oom: record.oom_victim,
            max_rss_bytes: record.max_rss_pages.saturating_mul(self.page_bytes),
        };
        Some((exit, service))
    }

    /// The process that ended. Without a start time it is the latest with this pid, unless another process has the pid now.
    fn key_at_exit(&self, record: &record::Exit) -> Option<ProcessKey> {
        if record.start_ns != 0 {
            return Some(ProcessKey::new(record.pid, Timestamp::from_nanos(record.start_ns)));
        }
        let newest = self.table.newest(record.pid)?.key;
        (!self.lives(newest)).then_some(newest)
    }

    /// A process as the exit hook saw it: its record has the name, user, parent and cgroups of that moment.
    fn process_of_hook(&self, key: ProcessKey, record: &record::Exit) -> Process {
        let mut process = self.known_at_its_end(key, record.parent_pid);
        self.place_in(&mut process, &record.cgroups);
        process.parent_pid = record.parent_pid;
        process.user_id = record.uid;
        process.name.clone_from(&record.comm);
        process.namespace_pid = record.namespaced_pid.filter(|&pid| pid != record.pid);
        process
    }

    /// A process as a fallback found it. Its record lacks the parent, or the name and user, if the process was gone by then;
    /// its cgroup is only that of v2, which on a host with v1 is the root.
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
        }
    }

    /// The OOM killer chose a process.
    pub fn oom(&mut self, record: &record::Oom) -> (OomKill, Option<Membership>) {
        let key = self.victim_key(record);
        let mut victim = self.known(key, 0);
        if !record.comm.is_empty() {
            victim.name.clone_from(&record.comm);
            victim.user_id = record.uid;
        }
        self.place_in(&mut victim, &record.cgroups);
        let service = self.member(key, victim.parent_pid, &record.cgroups, None);
        let bytes = |pages: u64| pages.saturating_mul(self.page_bytes);
        let kill = OomKill {
            at: Timestamp::from_nanos(record.at_ns),
            source: record.source,
            victim,
            scope: record.scope,
            anon_bytes: bytes(record.anon_pages),
            file_bytes: bytes(record.file_pages),
            shmem_bytes: bytes(record.shmem_pages),
            limit_bytes: record.limit_pages.map(bytes),
            score_adj: i16::try_from(record.score_adj).unwrap_or_default(),
            trigger_pid: record.trigger_pid,
            trigger_name: record.trigger_comm.clone(),
        };
        (kill, service)
    }

    /// The victim. A record without its start time may still name its pid, as the kernel's log does, or only a thread of it.
    fn victim_key(&self, record: &record::Oom) -> ProcessKey {
        let pid = record.pid.unwrap_or(record.tid);
        if record.start_ns != 0 {
            return ProcessKey::new(pid, Timestamp::from_nanos(record.start_ns));
        }
        let newest = || self.table.newest(pid).map(|process| process.key);
        let by_pid = record.pid.and_then(|pid| self.members.main_with(pid).or_else(newest));
        let key = by_pid.or_else(|| self.reader.key_of(pid));
        key.unwrap_or(ProcessKey::new(pid, Timestamp::default()))
    }

    /// A listener came or went; the service it belongs to, if any.
    pub fn listener(&self, record: &record::Listen) -> (Listener, Option<ServiceId>) {
        let process = ProcessKey::new(record.pid, Timestamp::from_nanos(record.start_ns));
        let parent = self.table.get(process).map_or(0, |known| known.parent_pid);
        let service = self
            .member(process, parent, &record.cgroups, None)
            .map(|member| member.service)
            .or_else(|| self.members.expecting(record.port));
        let at = Timestamp::from_nanos(record.at_ns);
        let (up, address, port) = (record.up, record.address, record.port);
        (Listener { at, up, address, port, source: record.source, process }, service)
    }

    /// The service that a process belongs to. `lineage` is the one it was born into, if its record has it.
    ///
    /// A descendant that was moved to another unit or container does not belong to the service; a login session is one, and
    /// so is a container's process. It belongs to the service whose main process is a nearer ancestor, if there is one.
    fn member(
        &self,
        key: ProcessKey,
        parent: u32,
        cgroups: &record::Cgroups,
        lineage: Option<u32>,
    ) -> Option<Membership> {
        if let Some(member) = self.members.certainly_of(key, cgroups) {
            return Some(member);
        }
        let by_descent = || self.members.by_descent(key, parent, &self.table);
        // A process that is older than the lineages is known by its present ancestors.
        let service = lineage.and_then(service_of).or_else(|| self.born_to(key)).or_else(by_descent)?;
        let home = self.home(key, cgroups);
        let service = if self.is_away(service, &home) {
            by_descent().filter(|nearer| *nearer != service && !self.is_away(*nearer, &home))?
        } else {
            service
        };
        Some(Membership { service, main: false })
    }

    /// The service into whose lineage a living process was born.
    fn born_to(&self, key: ProcessKey) -> Option<ServiceId> {
        self.lineages.as_ref()?.of(key).and_then(service_of)
    }

    /// Whether a process of a service's lineage executed a file in another unit or container. Then its descendants do not
    /// belong to the service.
    pub fn has_left(&self, record: &record::Exec) -> bool {
        let Some(image) = record.image.as_ref().filter(|image| image.watched) else { return false };
        let key = ProcessKey::new(record.pid, Timestamp::from_nanos(image.start_ns));
        self.born_to(key).is_some_and(|service| self.is_away(service, &self.home(key, &image.cgroups)))
    }

    /// The unit and container of a process by its cgroups. On cgroup v1 the record has no id of systemd's own hierarchy, but
    /// `/proc` shows it while the process is there.
    fn home(&self, key: ProcessKey, cgroups: &record::Cgroups) -> Home {
        let home = self.groups.home(cgroups);
        if home.unit.is_some() || self.groups.say_all(cgroups) || self.reader.key_of(key.pid) != Some(key) {
            return home;
        }
        let now = self.groups.home_of(key.pid);
        Home { container: home.container.or(now.container), unit: now.unit }
    }

    /// Whether a process with this home belongs to another unit or container than a service, whose main process may have
    /// been moved since it was found.
    fn is_away(&self, service: ServiceId, home: &Home) -> bool {
        let main = || self.members.main_of(service).filter(|main| self.lives(*main));
        self.members.is_away(service, home)
            && main().is_none_or(|main| home.is_away_from(&self.groups.home_of(main.pid)))
    }

    /// Sets the cgroup of a process by its record: it may have been moved since it was read.
    fn place_in(&self, process: &mut Process, cgroups: &record::Cgroups) {
        if let Some(group) = self.groups.main(cgroups)
            && process.cgroup.as_ref().is_none_or(|known| known.id != group.id)
        {
            process.container_id = self.groups.home(cgroups).container;
            process.cgroup = Some(group);
        }
    }

    /// What is known of a process that has ended, whose record has its name, user and cgroups. `/proc` is not read where the
    /// parent is known: a process that has given its memory back has no command line there any more.
    fn known_at_its_end(&self, key: ProcessKey, parent: u32) -> Process {
        let parents = self.table.newest(parent).filter(|known| known.key.start <= key.start);
        if self.table.get(key).is_none() && parents.is_some() && parent != INIT {
            return self.with_image_of(parents, Process::unknown(key, parent));
        }
        self.known(key, parent)
    }

    /// What is known of a process: from the table, else from `/proc`, else from its parent, whose image a fork shares until
    /// it execs.
    fn known(&self, key: ProcessKey, parent: u32) -> Process {
        if let Some(known) = self.table.get(key) {
            return known.clone();
        }
        let found = self.reader.read(key.pid).filter(|found| found.key == key);
        let process = found.unwrap_or_else(|| Process::unknown(key, parent));
        self.with_image_of(self.table.newest(parent), process)
    }

    /// Fills in what a process shares with its parent.
    fn with_image_of(&self, parent: Option<&Process>, mut process: Process) -> Process {
        if let Some(parent) = parent {
            process.executable = process.executable.or_else(|| parent.executable.clone());
            process.command_line = process.command_line.or_else(|| parent.command_line.clone());
            process.cgroup = process.cgroup.or_else(|| parent.cgroup.clone());
            process.container_id = process.container_id.or_else(|| parent.container_id.clone());
        }
        process
    }

    /// The service that the sender of a signal belongs to.
    fn sender_service(&self, signal: &record::Signal) -> Option<ServiceId> {
        let sender = signal.sender.as_ref()?;
        let key = ProcessKey::new(sender.pid, Timestamp::from_nanos(sender.start_ns));
        let parent = self.table.get(key).map_or(0, |known| known.parent_pid);
        let cgroups = record::Cgroups { v2: sender.cgroup_v2, memory_v1: None };
        self.member(key, parent, &cgroups, None).map(|member| member.service)
    }

    fn sender(&self, signal: &record::Signal, target: u32) -> Sender {
        match &signal.sender {
            None => Sender::Kernel,
            Some(sender) if sender.pid == target => Sender::Itself,
            Some(sender) => {
                let known =
                    self.table.get(ProcessKey::new(sender.pid, Timestamp::from_nanos(sender.start_ns)));
                let path = known.and_then(|known| known.cgroup.as_ref()).map(|group| group.path.as_str());
                let ids = record::Cgroups { v2: sender.cgroup_v2, memory_v1: None };
                let unit = path.and_then(cgroup::unit_name).or_else(|| self.groups.home(&ids).unit);
                // It may have been moved, on a host whose cgroup ids do not show the units.
                let read =
                    || (path.is_none() || !self.groups.say_all(&ids)).then(|| self.reader.unit(sender.pid));
                let unit = unit.or_else(|| read().flatten());
                Sender::Process { pid: sender.pid, name: sender.comm.clone(), user_id: sender.uid, unit }
            }
        }
    }
}

/// The lineage of a service's main process. 0 is none.
fn lineage_of(service: ServiceId) -> u32 {
    service.0 + 1
}

fn service_of(lineage: u32) -> Option<ServiceId> {
    lineage.checked_sub(1).map(ServiceId)
}
