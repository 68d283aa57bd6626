//! From a sensor's record to a fact: names, command lines, units, and the service that a process belongs to.
//!
//! Records hold identities only. A process that ended has no command line any more, so the table of processes is filled
//! before: from `/proc` at the start, then from every exec.

mod actor;
mod crash;
mod exit;
mod groups;
mod host;
mod membership;
mod namespaces;
mod network;
mod oom;
pub mod request;
mod resolve;
mod signal;
mod socket;
mod table;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, path::Path};

pub use crash::crash_site;
use groups::Groups;
pub use host::host_reading;
pub use membership::Members;
use namespaces::Namespaces;
use network::LocalNetwork;
use table::Table;

use crate::{
    clock::Timestamp,
    fact::{Process, ProcessKey, ServiceId},
    host::{ProcReader, Scan, cgroup, is_there, users::Users},
    redact,
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
    namespaces: Namespaces,
    users: Users,
    /// Which processes belong to which service.
    pub members: Members,
}

impl Enricher {
    #[cfg(test)]
    pub fn new(reader: ProcReader, members: Members) -> Result<Self, crate::host::ReadError> {
        let scan = reader.scan()?;
        Ok(Self::of(reader, scan, members))
    }

    /// An enricher that knows the processes of a scan.
    pub fn of(reader: ProcReader, scan: Scan, members: Members) -> Self {
        let groups = Groups::new(reader.cgroups().clone());
        let table = Table::of(scan.processes);
        scan.groups.into_iter().for_each(|(hierarchy, group)| groups.insert(hierarchy, group));
        let network = LocalNetwork::new(&reader);
        Self {
            reader,
            table,
            groups,
            lineages: None,
            page_bytes: procfs::page_size(),
            network,
            namespaces: Namespaces::default(),
            users: Users::of_host(Path::new("/")),
            members,
        }
    }

    /// Uses the lineages that the eBPF programs keep from now on.
    pub fn learn_from(&mut self, lineages: ebpf::Lineages) {
        self.lineages = Some(lineages);
    }

    /// Sets a service's main process. Returns the pid of the one before, if it is no service's main process any more.
    pub fn set_main(&mut self, service: ServiceId, main: Option<ProcessKey>) -> Option<u32> {
        if let Some(main) = main {
            self.members.set_home(service, self.groups.home_of(main.pid));
            // The record of its exec may have been lost, and after its end it cannot be read.
            if self.table.get(main).is_none()
                && let Some(process) = self.reader.read(main.pid).filter(|process| process.key == main)
            {
                self.learn(process);
            }
        }
        self.members.set_main(service, main)
    }

    /// The lineage that a main process heads; None if it is no service's main process.
    pub fn lineage(&self, main: u32) -> Option<u32> {
        self.members.head(main).map(membership::lineage_of)
    }

    /// The pids of a service's descendants, where the eBPF programs keep lineages.
    pub fn descendants_of(&self, service: ServiceId) -> Vec<u32> {
        self.lineages
            .as_ref()
            .map(|lineages| lineages.members(membership::lineage_of(service)))
            .unwrap_or_default()
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

    /// What is known of a process.
    pub fn process(&self, key: ProcessKey) -> Option<&Process> {
        self.table.get(key)
    }

    /// Whether a process lives, and is not about to end.
    pub fn lives(&self, key: ProcessKey) -> bool {
        self.reader.lives(key)
    }

    /// Learns the program that a process executes, and returns its path. Where the record does not have it, `/proc`
    /// may.
    pub fn exec<'a>(&mut self, record: &'a record::Exec) -> Option<Cow<'a, str>> {
        let at = Timestamp::from_nanos(record.at_ns);
        let Some(image) = &record.image else {
            let process = self.reader.read(record.pid)?;
            let executable = process.executable.clone();
            self.executes(process, at);
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
                self.reader.executable(record.pid)
            }),
            command_line: Some(redact::arguments(image.arguments.iter().map(String::as_str))),
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
        self.executes(process, at);
        Some(Cow::Borrowed(&image.filename))
    }

    /// Learns the program that a process executes at this time.
    fn executes(&mut self, process: Process, at: Timestamp) {
        self.table.executes(process, at);
        self.sweep();
    }

    fn learn(&mut self, process: Process) {
        self.table.insert(process);
        self.sweep();
    }

    fn sweep(&mut self) {
        if self.table.is_due_for_a_sweep() {
            self.table.retain(|process| is_there(process.key.pid));
        }
    }

    /// Learns the path of a cgroup that was made.
    pub fn cgroup_made(&mut self, record: record::CgroupMade) {
        self.groups.made(record);
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

    /// What is known of a process: from the table, else from `/proc`, else from its parent, whose image a fork shares
    /// until it execs.
    fn known(&self, key: ProcessKey, parent: u32) -> Process {
        if let Some(known) = self.table.get(key) {
            return known.clone();
        }
        with_image_of(self.table.newest(parent), self.read_or_unknown(key, parent))
    }

    fn read_or_unknown(&self, key: ProcessKey, parent: u32) -> Process {
        let found = self.reader.read(key.pid).filter(|found| found.key == key);
        found.unwrap_or_else(|| Process::unknown(key, parent))
    }
}

/// Fills in what a process shares with its parent, which forked it.
fn with_image_of(parent: Option<&Process>, mut process: Process) -> Process {
    if let Some(parent) = parent.filter(|parent| has_forked(parent, &process)) {
        process.executable = process.executable.or_else(|| parent.executable.clone());
        process.command_line = process.command_line.or_else(|| parent.command_line.clone());
        process.cgroup = process.cgroup.or_else(|| parent.cgroup.clone());
        process.container_id = process.container_id.or_else(|| parent.container_id.clone());
    }
    process
}

/// Whether a process is likely to be a fork of its present parent. The parent of an orphan is init or a subreaper
/// (`PR_SET_CHILD_SUBREAPER`), such as that of a container or a session, with another name and another cgroup.
fn has_forked(parent: &Process, child: &Process) -> bool {
    let id = |process: &Process| process.cgroup.as_ref().map(|cgroup| cgroup.id);
    parent.key.pid != INIT && (parent.name == child.name || id(child).is_some() && id(parent) == id(child))
}
