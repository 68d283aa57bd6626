//! What the largest processes and memory cgroups held in the last minute: who grew before memory ran out.
//!
//! Every ten seconds the largest of both are read again, and once a minute all of them. What is not among the largest held at
//! most as much as the smallest of these, so that a process that grew from little is found as well.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    bounded_thread,
    clock::Timestamp,
    fact::ProcessKey,
    host::{ProcReader, Resident},
};

const INTERVAL: Duration = Duration::from_secs(10);

/// Between two looks at all processes and cgroups.
const FULL_INTERVAL: Duration = Duration::from_secs(60);

/// The largest that are followed.
const FOLLOWED: usize = 32;

/// The next largest processes, of which it is known what they held at the last look at all.
const OTHERS: usize = 1024;

/// A little more than a minute of samples.
const SAMPLES_MAX: usize = 8;

/// The time over which growth is told.
pub const OVER: Duration = Duration::from_secs(60);

/// The sizes at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub at: Timestamp,
    processes: Vec<(ProcessKey, u64)>,
    /// As they were at the last look at all. The samples after it share them.
    others: Arc<[(ProcessKey, u64)]>,
    groups: Vec<(String, u64)>,
    /// What is not listed held at most as much.
    process_floor: u64,
    group_floor: u64,
}

/// What something held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Exactly(u64),
    AtMost(u64),
}

impl Sample {
    pub fn of_process(&self, key: ProcessKey) -> Before {
        match self.processes.iter().chain(&*self.others).find(|(known, _)| *known == key) {
            Some((_, bytes)) => Before::Exactly(*bytes),
            None if key.start >= self.at => Before::Exactly(0),
            None => Before::AtMost(self.process_floor),
        }
    }

    pub fn of_group(&self, path: &str) -> Before {
        let known = self.groups.iter().find(|(known, _)| known == path);
        known.map_or(Before::AtMost(self.group_floor), |(_, bytes)| Before::Exactly(*bytes))
    }

    /// All of it.
    fn full(reader: &ProcReader) -> Self {
        let at = Timestamp::now();
        let residents = reader.residents().into_iter().map(|it| (it.key, it.bytes)).collect();
        let (mut processes, process_floor) = largest(residents, FOLLOWED + OTHERS);
        let others = processes.split_off(processes.len().min(FOLLOWED)).into();
        let (groups, group_floor) = largest(reader.cgroups().memory_groups(), FOLLOWED);
        Self { at, processes, others, groups, process_floor, group_floor }
    }

    /// The same processes and groups as in an earlier one.
    fn again(&self, reader: &ProcReader) -> Self {
        let still = |(key, _): &(ProcessKey, u64)| {
            let Resident { key: now, bytes, .. } = reader.resident(key.pid)?;
            (now == *key).then_some((*key, bytes))
        };
        let group = |(path, _): &(String, u64)| Some((path.clone(), reader.cgroups().memory_held(path)?));
        Self {
            at: Timestamp::now(),
            processes: self.processes.iter().filter_map(still).collect(),
            groups: self.groups.iter().filter_map(group).collect(),
            others: Arc::clone(&self.others),
            ..*self
        }
    }
}

/// So many of the largest, and the size that the others have at most.
fn largest<T>(mut all: Vec<(T, u64)>, most: usize) -> (Vec<(T, u64)>, u64) {
    all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let floor = all.get(most).map_or(0, |(_, bytes)| *bytes);
    all.truncate(most);
    (all, floor)
}

/// The samples of the last minute. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryHistory(Arc<Mutex<VecDeque<Sample>>>);

impl MemoryHistory {
    /// The sample of about a minute before, or else the oldest one. None if all are later.
    pub fn before(&self, now: Timestamp) -> Option<Sample> {
        let samples = self.lock();
        let old = samples.iter().rev().find(|it| now.since(it.at).saturating_add(INTERVAL / 2) >= OVER);
        old.or(samples.front()).filter(|it| it.at <= now).cloned()
    }

    pub fn add(&self, sample: Sample) {
        let mut samples = self.lock();
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    fn latest(&self) -> Option<Sample> {
        self.lock().back().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the samples.
pub struct MemorySampler {
    reader: ProcReader,
    pub(crate) history: MemoryHistory,
    due: Timestamp,
    full_due: Timestamp,
    under_way: Arc<AtomicBool>,
}

impl MemorySampler {
    pub(crate) fn new(reader: ProcReader) -> Self {
        Self {
            reader,
            history: MemoryHistory::default(),
            due: Timestamp::default(),
            full_due: Timestamp::default(),
            under_way: Arc::default(),
        }
    }

    /// Samples, when that is due, on a thread of its own.
    pub(crate) fn sample(&mut self) {
        let now = Timestamp::now();
        if now < self.due || self.under_way.load(Ordering::Relaxed) {
            return;
        }
        self.due = now.plus(INTERVAL);
        let is_full = now >= self.full_due;
        if is_full {
            self.full_due = now.plus(FULL_INTERVAL);
        }
        let (reader, history, under_way) =
            (self.reader.clone(), self.history.clone(), Arc::clone(&self.under_way));
        under_way.store(true, Ordering::Relaxed);
        let started = bounded_thread::start("memory", move || {
            take(&reader, &history, is_full);
            under_way.store(false, Ordering::Relaxed);
        });
        if let Err(error) = started {
            self.under_way.store(false, Ordering::Relaxed);
            tracing::debug!("the memory of processes cannot be read: {error}");
        }
    }
}

fn take(reader: &ProcReader, history: &MemoryHistory, is_full: bool) {
    let earlier = history.latest().filter(|_| !is_full);
    history.add(earlier.map_or_else(|| Sample::full(reader), |earlier| earlier.again(reader)));
    tracing::debug!("the memory of processes and cgroups was read");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    fn key(pid: u32, start: u64) -> ProcessKey {
        ProcessKey { pid, start: Timestamp::from_nanos(start) }
    }

    #[test]
    fn what_is_not_among_the_largest_held_at_most_as_much() {
        let all = (1..=FOLLOWED as u32 + 1).map(|pid| (key(pid, 1), u64::from(pid) * 100)).collect();
        let (processes, process_floor) = largest(all, FOLLOWED);
        assert_eq!((processes.len(), process_floor), (FOLLOWED, 100));
        let sample = Sample { at: Timestamp::from_nanos(50), processes, process_floor, ..Sample::default() };
        assert_eq!(sample.of_process(key(33, 1)), Before::Exactly(3300));
        assert_eq!(sample.of_process(key(1, 1)), Before::AtMost(100));
        assert_eq!(sample.of_process(key(33, 60)), Before::Exactly(0), "another process that has its pid");
        assert_eq!(sample.of_group("/a"), Before::AtMost(0));
    }

    #[test]
    fn what_the_next_largest_held_is_known_from_the_last_look_at_all() {
        let host = FakeHost::v2();
        (10..10 + FOLLOWED as u32 + 5).for_each(|pid| host.process(pid, 1, "app", "/app"));
        let reader = host.reader();
        let (history, all) = (MemoryHistory::default(), reader.residents());
        take(&reader, &history, true);
        take(&reader, &history, false);
        let latest = history.latest().unwrap();
        assert_eq!((latest.processes.len(), latest.others.len()), (FOLLOWED, 5));
        for Resident { key, bytes, .. } in all {
            assert_eq!(latest.of_process(key), Before::Exactly(bytes));
        }
    }

    #[test]
    fn the_sample_of_a_minute_before_is_found_and_the_history_is_bounded() {
        let history = MemoryHistory::default();
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        assert_eq!(history.before(at(5)), None);
        for seconds in (0..200).step_by(10) {
            history.add(Sample { at: at(seconds), ..Sample::default() });
        }
        assert_eq!(history.lock().len(), SAMPLES_MAX);
        assert_eq!(history.before(at(195)).unwrap().at, at(140));
        let young = MemoryHistory::default();
        young.add(Sample { at: at(100), ..Sample::default() });
        assert_eq!(young.before(at(110)).unwrap().at, at(100), "the daemon runs since then");
        assert_eq!(young.before(at(99)), None);
    }

    #[test]
    fn a_later_sample_reads_the_largest_alone() {
        let host = FakeHost::v2();
        host.process(10, 1, "app", "/app");
        host.write("sys/fs/cgroup/a/memory.current", b"300\n");
        let reader = host.reader();
        let history = MemoryHistory::default();
        take(&reader, &history, true);
        host.process(11, 1, "late", "/late");
        host.write("sys/fs/cgroup/a/memory.current", b"500\n");
        take(&reader, &history, false);
        let latest = history.latest().unwrap();
        assert_eq!((latest.processes.len(), latest.of_group("/a")), (1, Before::Exactly(500)));
        take(&reader, &history, true);
        assert_eq!(history.latest().unwrap().processes.len(), 2);
    }

    /// What it costs, on the host it runs on: printed, and far below the goal of an idle daemon.
    #[test]
    fn a_minute_of_samples_takes_little_time_of_a_cpu() {
        let reader = ProcReader::new("/").unwrap();
        let history = MemoryHistory::default();
        let cpu = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
        };
        let before = cpu();
        take(&reader, &history, true);
        let full = cpu() - before;
        for _ in 0..5 {
            take(&reader, &history, false);
        }
        let minute = cpu() - before;
        let processes = reader.pids().unwrap().len();
        println!("{processes} processes: {full:?} for all, {minute:?} a minute");
        // 0.2 % of a minute, with far more processes than a test host has.
        assert!(
            minute < Duration::from_millis(120 + processes as u64 / 10),
            "{minute:?} for {processes} processes"
        );
    }
}
