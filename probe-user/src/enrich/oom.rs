//! From the record of an OOM kill to its fact.

use super::Enricher;
use crate::{
    clock::Timestamp,
    fact::{Membership, OomKill, ProcessKey},
    host::cgroup::Hierarchy,
    sensor::record,
};

impl Enricher {
    /// The OOM killer chose a process.
    pub fn oom(&mut self, record: &record::Oom) -> (OomKill, Option<Membership>) {
        let key = self.victim_key(record);
        let mut victim = self.known(key, 0);
        if !record.comm.is_empty() {
            victim.name.clone_from(&record.comm);
            victim.user_id = record.uid;
        }
        self.place_in(&mut victim, &record.cgroups);
        let ancestor = record.main_pid.unwrap_or(victim.parent_pid);
        let service = self.member(key, ancestor, &record.cgroups, None);
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

    /// The path of a process's memory cgroup, by its id in the hierarchy of the memory controller.
    pub fn memory_group(&self, cgroups: &record::Cgroups) -> Option<String> {
        let groups = self.reader.cgroups();
        match groups.memory_hierarchy() {
            Hierarchy::V2 => groups.path_of(Hierarchy::V2, cgroups.v2?),
            Hierarchy::Memory | Hierarchy::Systemd => groups.path_of(Hierarchy::Memory, cgroups.memory_v1?),
        }
    }

    /// The victim. A record without its start time may still name its pid, as the kernel's log does, or only a thread
    /// of it.
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
}
