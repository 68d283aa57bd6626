//! Who took the memory before an OOM kill: the process and the cgroup that grew most within the limit that was reached.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    memory_history::{Before, MemoryHistory, Sample},
    oom_report::{OomLog, OomReport},
};
use crate::{
    bounded_thread,
    clock::Timestamp,
    engine::verdict,
    fact::{
        Culprit, GrownGroup, GrownProcess, MemoryHolder, MemoryLimit, OomKill, OomScope, Process,
        ProcessExit, ServiceId, culprit::LARGEST_MAX,
    },
    host::{ProcReader, Resident, cgroup::Hierarchy},
};

/// How many of those that grew most are looked up: each look reads the process's cgroup.
const CANDIDATES: usize = 64;

/// Smaller growth explains nothing.
const GROWTH_MIN: u64 = 1 << 20;

/// A death later than this after the kill has another reason.
const EXPLAINS_WITHIN: Duration = Duration::from_secs(30);

/// A death for memory: by the kernel, or by a program that makes room.
#[derive(Clone, Debug)]
pub struct MemoryDeath {
    pub at: Timestamp,
    /// Such as `the OOM killer`, `earlyoom`.
    pub killer: String,
    pub victim: Process,
    /// What the victim held, in bytes; 0 if that is not known.
    pub bytes: u64,
    pub scope: OomScope,
    /// The path of the victim's memory cgroup.
    pub group: Option<String>,
    /// The lowest limit of the victim's cgroup and those above it, by the kernel.
    pub limit: Option<u64>,
    /// The main process of the service.
    pub main: Option<u32>,
    /// What of memory ran out. A program makes room before that.
    pub ran_out: RanOut,
}

/// Which memory ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RanOut {
    Cgroup,
    Host,
    Nothing,
}

impl MemoryDeath {
    /// What the kernel killed.
    ///
    /// `group` is the path of the victim's memory cgroup, where that is known.
    pub fn of_kernel(kill: &OomKill, group: Option<String>, main: Option<u32>) -> Self {
        let sum = kill.anon_bytes.saturating_add(kill.file_bytes).saturating_add(kill.shmem_bytes);
        Self {
            at: kill.at,
            killer: "the OOM killer".to_owned(),
            victim: kill.victim.clone(),
            bytes: sum,
            scope: kill.scope,
            group,
            limit: kill.limit_bytes,
            main,
            ran_out: match kill.scope {
                OomScope::Global | OomScope::Sysrq => RanOut::Host,
                OomScope::Memcg | OomScope::Unknown => RanOut::Cgroup,
            },
        }
    }

    /// What a program ended to make room, if one did.
    pub fn of_program(exit: &ProcessExit, main: Option<u32>) -> Option<Self> {
        let killer = verdict::memory_killer(exit)?.name.to_owned();
        let (victim, bytes) = (exit.process.clone(), exit.max_rss_bytes);
        let scope = OomScope::Unknown;
        Some(Self {
            at: exit.at,
            killer,
            victim,
            bytes,
            scope,
            group: None,
            limit: None,
            main,
            ran_out: RanOut::Nothing,
        })
    }
}

/// The culprits of the latest deaths for memory, by service. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Culprits {
    found: Arc<Mutex<HashMap<ServiceId, (MemoryDeath, Culprit)>>>,
    looks: Looks,
}

/// How many looks are under way for each service.
#[derive(Clone, Debug, Default)]
struct Looks(watch::Sender<HashMap<ServiceId, u32>>);

/// A look that is under way. Its end, also by a panic or because no thread can be started, ends the waits for it.
struct Look {
    of: ServiceId,
    looks: Looks,
}

impl Looks {
    fn begin(&self, of: ServiceId) -> Look {
        self.0.send_modify(|looks| *looks.entry(of).or_default() += 1);
        Look { of, looks: self.clone() }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        self.looks.0.send_modify(|looks| {
            let others = looks.remove(&self.of).unwrap_or_default().saturating_sub(1);
            if others > 0 {
                looks.insert(self.of, others);
            }
        });
    }
}

impl Culprits {
    /// Looks at once, on a thread of its own: the victim's memory is given back, and its cgroup may be removed.
    pub fn look(
        &self,
        service: ServiceId,
        mut death: MemoryDeath,
        (reader, history): (ProcReader, MemoryHistory),
        log: OomLog,
    ) {
        let (culprits, look) = (self.clone(), self.looks.begin(service));
        let started = bounded_thread::start("culprit", move || {
            let _look = look;
            if death.group.is_none() && death.ran_out == RanOut::Cgroup {
                // Without hooks, the victim may be gone with its cgroup. The kernel's report has it.
                death.group = log.of_victim(death.victim.key.pid).and_then(|report| report.limited);
            }
            let culprit = find(&death, &reader, &history);
            culprits.lock().insert(service, (death, culprit));
        });
        if let Err(error) = started {
            tracing::warn!("who took the memory cannot be found: {error}");
        }
    }

    /// Waits until no look is under way for a service.
    pub async fn looked(&self, service: ServiceId) {
        let mut looks = self.looks.0.subscribe();
        // It fails only without a sender, and this is one.
        let _ = looks.wait_for(|looks| !looks.contains_key(&service)).await;
    }

    /// The culprit of a fault at this time, with what the kernel's own report adds. It blocks.
    pub fn of(&self, service: ServiceId, fault: Timestamp, log: &OomLog) -> Option<Culprit> {
        let (death, mut culprit) = {
            let known = self.lock();
            known.get(&service).filter(|(death, _)| explains(death.at, fault)).cloned()?
        };
        if let Some(report) = log.of_victim(death.victim.key.pid) {
            add_report(&mut culprit, report);
        }
        Some(culprit)
    }

    pub fn remove(&self, service: ServiceId) {
        self.lock().remove(&service);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceId, (MemoryDeath, Culprit)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn explains(death: Timestamp, fault: Timestamp) -> bool {
    death.since(fault) <= EXPLAINS_WITHIN && fault.since(death) <= EXPLAINS_WITHIN
}

fn find(death: &MemoryDeath, reader: &ProcReader, history: &MemoryHistory) -> Culprit {
    let limit = limit_of(death, reader);
    let within = limit.as_ref().and_then(|limit| limit.cgroup.clone());
    let before = history.before(death.at);
    let over = before.as_ref().map_or(Duration::ZERO, |sample| death.at.since(sample.at));
    let victim = victim(death, reader);
    let within_group = within.as_deref();
    let process = before.as_ref().and_then(|it| grown_process(death, &victim, reader, it, within_group));
    let group = before.as_ref().and_then(|it| grown_group(reader, it, within_group));
    let reclaim = reader.memory_pressure(within.as_deref());
    Culprit {
        killer: death.killer.clone(),
        victim,
        limit,
        process,
        group,
        over,
        largest: Vec::new(),
        reclaim,
    }
}

/// The limit that was reached: that of the victim's cgroup or of one above it, or the host's memory.
fn limit_of(death: &MemoryDeath, reader: &ProcReader) -> Option<MemoryLimit> {
    let cgroups = reader.cgroups();
    let of_host = || {
        Some(MemoryLimit { cgroup: None, file: "MemTotal".to_owned(), bytes: reader.memory_total().ok()? })
    };
    match death.ran_out {
        RanOut::Nothing => return None,
        RanOut::Host => return of_host(),
        RanOut::Cgroup => {}
    }
    // The process is mostly there for a moment. On a host with v1 its main cgroup may be in another hierarchy.
    let known = || {
        let is_v2 = cgroups.memory_hierarchy() == Hierarchy::V2;
        death.victim.cgroup.as_ref().filter(|_| is_v2).map(|group| group.path.clone())
    };
    let live = || cgroups.memory_path_of(death.victim.key.pid).filter(|path| path != "/");
    let path = death.group.clone().or_else(live).or_else(known);
    let lowest = path.as_deref().and_then(|path| cgroups.lowest_memory_limit(path));
    match (lowest, death.limit) {
        (Some(lowest), _) => Some(lowest),
        // The cgroup is gone, and the kernel's record has its limit.
        (None, Some(bytes)) => {
            let path = path.unwrap_or_else(|| "(not known)".to_owned());
            Some(cgroups.limit_of(Some(path), bytes))
        }
        (None, None) if death.scope == OomScope::Memcg => None,
        (None, None) => of_host(),
    }
}

fn victim(death: &MemoryDeath, reader: &ProcReader) -> MemoryHolder {
    let Process { key, name, .. } = &death.victim;
    let live = reader.resident(key.pid).filter(|it| it.key == *key).map_or(0, |it| it.bytes);
    MemoryHolder { pid: key.pid, name: name.clone(), bytes: death.bytes.max(live) }
}

fn grown_process(
    death: &MemoryDeath,
    victim: &MemoryHolder,
    reader: &ProcReader,
    before: &Sample,
    within: Option<&str>,
) -> Option<GrownProcess> {
    let key = death.victim.key;
    let mut residents = reader.residents();
    residents.retain(|it| it.key != key);
    residents.push(Resident { key, name: victim.name.clone(), bytes: victim.bytes });
    let grown = |it: Resident| {
        let (was, at_least) = match before.of_process(it.key) {
            Before::Exactly(was) => (was, false),
            Before::AtMost(was) => (was, was > 0),
        };
        (it.bytes.saturating_sub(was), at_least, it)
    };
    let mut grown: Vec<_> = residents.into_iter().map(grown).filter(|it| it.0 >= GROWTH_MIN).collect();
    grown.sort_by_key(|(bytes, _, _)| std::cmp::Reverse(*bytes));
    let is_within = |pid: u32| {
        let Some(group) = within else { return true };
        pid == key.pid || reader.cgroups().memory_path_of(pid).is_some_and(|path| is_below(&path, group))
    };
    let (grown, at_least, it) =
        grown.into_iter().take(CANDIDATES).find(|(_, _, it)| is_within(it.key.pid))?;
    let role = role(it.key.pid, death, reader);
    let holder = MemoryHolder { pid: it.key.pid, name: it.name, bytes: it.bytes };
    Some(GrownProcess { holder, role, grown, at_least })
}

/// What a process is to the service: its main process, a worker of it, or of another unit.
fn role(pid: u32, death: &MemoryDeath, reader: &ProcReader) -> Option<String> {
    if death.main == Some(pid) {
        return Some("main process".to_owned());
    }
    if pid == death.victim.key.pid {
        return Some("worker".to_owned());
    }
    let unit = |pid| reader.unit(pid);
    let own = death.main.and_then(unit);
    let descends = || {
        let mut parent = reader.descent(pid).map(|it| it.1);
        for _ in 0..16 {
            match parent.filter(|parent| *parent > 1) {
                Some(pid) if death.main == Some(pid) => return true,
                Some(pid) => parent = reader.descent(pid).map(|it| it.1),
                None => return false,
            }
        }
        false
    };
    match unit(pid) {
        _ if descends() => Some("worker".to_owned()),
        Some(its) if Some(&its) == own.as_ref() => Some("worker".to_owned()),
        its => its,
    }
}

/// The cgroup that grew most, the innermost if it alone makes its parent grow. The one with the limit is left out: that it
/// grew is known.
fn grown_group(reader: &ProcReader, before: &Sample, within: Option<&str>) -> Option<GrownGroup> {
    let is_inner = |path: &str| within.is_none_or(|group| path != group && is_below(path, group));
    let grown = |(path, bytes): (String, u64)| {
        let was = match before.of_group(&path) {
            Before::Exactly(was) | Before::AtMost(was) => was,
        };
        GrownGroup { path, grown: bytes.saturating_sub(was), bytes }
    };
    let groups = reader.cgroups().memory_groups().into_iter().filter(|(path, _)| is_inner(path)).map(grown);
    let groups: Vec<_> = groups.filter(|group| group.grown >= GROWTH_MIN).collect();
    let most = groups.iter().map(|group| group.grown).max()?;
    let explains_most = |group: &&GrownGroup| group.grown >= most / 10 * 9;
    groups
        .iter()
        .filter(explains_most)
        .max_by_key(|group| (group.path.matches('/').count(), group.grown))
        .cloned()
}

/// Whether a cgroup is this one, or below it.
fn is_below(path: &str, group: &str) -> bool {
    let group = group.trim_end_matches('/');
    path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The kernel's report is of the very moment of the kill.
fn add_report(culprit: &mut Culprit, report: OomReport) {
    if let Some(path) = &report.limited {
        let unknown = || MemoryLimit { cgroup: None, file: "memory.max".to_owned(), bytes: 0 };
        let limit = culprit.limit.get_or_insert_with(unknown);
        limit.cgroup = Some(path.clone());
        limit.bytes = report.limit.unwrap_or(limit.bytes);
    }
    if let Some(reclaim) = report.reclaim() {
        let before = culprit.reclaim.take().map(|words| format!("{words}; ")).unwrap_or_default();
        culprit.reclaim = Some(format!("{before}{reclaim}"));
    }
    let mut tasks = report.tasks;
    if culprit.victim.bytes == 0
        && let Some((_, _, bytes)) = tasks.iter().find(|(pid, _, _)| *pid == culprit.victim.pid)
    {
        culprit.victim.bytes = *bytes;
    }
    tasks.sort_by_key(|(_, _, bytes)| std::cmp::Reverse(*bytes));
    // One alone is the victim.
    if tasks.len() > 1 {
        let holder = |(pid, name, bytes)| MemoryHolder { pid, name, bytes };
        culprit.largest = tasks.into_iter().take(LARGEST_MAX).map(holder).collect();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{fact::ProcessKey, host::fake::FakeHost};

    /// A look at a host on which nothing ran.
    fn history() -> MemoryHistory {
        let history = MemoryHistory::default();
        history.add(Sample::default());
        history
    }

    #[test]
    fn a_group_is_below_another_by_whole_names() {
        assert!(is_below("/a/b", "/a") && is_below("/a", "/a") && is_below("/a", "/"));
        assert!(!is_below("/ab", "/a") && !is_below("/", "/a"));
    }

    #[test]
    fn the_neighbour_that_grew_is_the_culprit_and_what_is_outside_of_the_limit_is_not() {
        let host = FakeHost::v2();
        // 50 pages each, of which the victim alone is known from before.
        for (pid, group) in [(10, "/a/app.service"), (11, "/a/job.service"), (12, "/other")] {
            host.process(pid, 1, "app", "/app");
            host.cgroup_file(pid, &format!("0::{group}\n"));
        }
        host.write("sys/fs/cgroup/a/memory.max", b"1048576\n");
        host.write("sys/fs/cgroup/a/memory.current", b"9000000\n");
        host.write("sys/fs/cgroup/a/job.service/memory.current", b"8500000\n");
        let reader = host.reader();
        let key = reader.key_of(10).unwrap();
        let death = MemoryDeath {
            at: Timestamp::from_nanos(100_000_000_000),
            killer: "the OOM killer".to_owned(),
            victim: Process { name: "app".to_owned(), ..Process::unknown(key, 1) },
            bytes: 2 << 20,
            scope: OomScope::Memcg,
            group: None,
            limit: Some(1 << 20),
            main: Some(10),
            ran_out: RanOut::Cgroup,
        };
        let found = find(&death, &reader, &history());
        let limit = found.limit.clone().unwrap();
        assert_eq!((limit.cgroup.as_deref(), limit.bytes), (Some("/a"), 1 << 20));
        let group = found.group.clone().unwrap();
        assert_eq!(group.path, "/a/job.service");
        // Without a sample from before, all that is held counts as grown, and only the victim holds more than the least.
        let process = found.process.clone().unwrap();
        assert_eq!((process.holder.pid, process.role.as_deref()), (10, Some("main process")));

        let global = MemoryDeath { ran_out: RanOut::Host, scope: OomScope::Global, ..death };
        host.write("proc/meminfo", b"MemTotal:       2000 kB\n");
        let found = find(&global, &reader, &history());
        assert_eq!(found.limit.unwrap().cgroup, None);
    }

    #[test]
    fn the_kernel_s_report_corrects_the_limit_and_names_the_largest() {
        let host = FakeHost::v2();
        let key = ProcessKey { pid: 9, start: Timestamp::from_nanos(1) };
        let death = MemoryDeath {
            at: Timestamp::from_nanos(5),
            killer: "the OOM killer".to_owned(),
            victim: Process::unknown(key, 1),
            bytes: 0,
            scope: OomScope::Memcg,
            group: None,
            limit: Some(4096),
            main: None,
            ran_out: RanOut::Cgroup,
        };
        let mut found = find(&death, &host.reader(), &history());
        assert_eq!(found.limit.as_ref().unwrap().cgroup.as_deref(), Some("(not known)"));
        let tasks = vec![(9, "app".to_owned(), 70), (8, "job".to_owned(), 900)];
        let limited = Some("/a".to_owned());
        add_report(&mut found, OomReport { limited, limit: Some(8192), tasks, ..OomReport::default() });
        let limit = found.limit.unwrap();
        assert_eq!((limit.cgroup.as_deref(), limit.bytes, found.victim.bytes), (Some("/a"), 8192, 70));
        assert_eq!(found.largest[0].name, "job");
    }

    #[tokio::test]
    async fn a_question_waits_for_the_looks_that_are_under_way() {
        let culprits = Culprits::default();
        let (one, other) = (ServiceId(1), ServiceId(2));
        culprits.looked(one).await;
        let looks = [culprits.looks.begin(one), culprits.looks.begin(one)];
        culprits.looked(other).await;
        for look in looks {
            assert!(culprits.looked(one).now_or_never().is_none());
            drop(look);
        }
        culprits.looked(one).await;
        assert!(culprits.looks.0.borrow().is_empty(), "nothing is left of them");
    }
}
