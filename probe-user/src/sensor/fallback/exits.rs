//! Exits of processes where the hook is missing.
//!
//! A pidfd shows at once that a main process has ended; the process connector says how, and of other processes as well.
//! The kernel sends the connector's event after it has woken the readers of a pidfd (`do_exit`: `exit_notify`, then
//! `proc_exit_connector`), so an exit is reported a moment after it was seen. Without that event the status is read
//! from the zombie, where that is possible.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use super::{
    connector::{Connector, Event},
    oom_count::OomCounts,
    pidfd,
};
use crate::{
    clock::Timestamp,
    fact::{ProcessKey, Source},
    host::{ProcReader, process::ProcessTree},
    sensor::record::{Cgroups, Exec, Exit, Oom, Record, Status},
};

/// The most processes that are tracked; the exits of further ones are counted as lost.
const TRACKED_MAX: usize = 32 * 1024;

/// How long the connector's event may come after the exit was seen.
const SETTLE: Duration = Duration::from_millis(3);

/// How long it may come later still if nothing else says how the process ended: on a busy host the kernel may run
/// others between the two signs of an exit.
const SETTLE_UNKNOWN: Duration = Duration::from_millis(50);

/// A thread's exit that is older than this when its process ends is not how the process ended.
const FRESH: Duration = Duration::from_millis(100);

/// So many reported exits are remembered, for events of them that come late.
const REPORTED_MAX: usize = 256;

#[derive(Debug)]
pub struct Exits {
    reader: ProcReader,
    connector: Option<Connector>,
    /// What is to be reported.
    ends: bool,
    execs: bool,
    tracked: HashMap<u32, Tracked>,
    /// Processes whose exit was seen, and when it is due; the next one first.
    settling: VecDeque<(u32, Timestamp)>,
    reported: VecDeque<(u32, Timestamp)>,
    unwatched: Budget,
    counts: OomCounts,
    lost: u64,
    throttled: u64,
}

/// A main process, a descendant of one, or an unwatched process of which a thread has exited.
#[derive(Debug, Default)]
struct Tracked {
    key: Option<ProcessKey>,
    /// The main process that it descends from, or itself; None for an unwatched process.
    main: Option<u32>,
    /// Of a main process, unless it could not be had.
    pidfd: Option<OwnedFd>,
    end: Option<End>,
    /// When its exit was seen.
    seen: Option<Timestamp>,
}

/// The latest exit of one of its threads.
#[derive(Clone, Copy, Debug)]
struct End {
    status: u32,
    parent: u32,
    at: Timestamp,
}

#[derive(Debug)]
struct Budget {
    per_second: u32,
    second: u64,
    spent: u32,
}

impl Budget {
    fn take(&mut self, now: Timestamp) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            (self.second, self.spent) = (second, 0);
        }
        self.spent = self.spent.saturating_add(1);
        self.spent <= self.per_second
    }
}

impl Exits {
    /// Reports exits, of unwatched processes at most so many a second, and execs, if asked for.
    pub fn new(
        reader: ProcReader,
        connector: Option<Connector>,
        (ends, execs): (bool, bool),
        unwatched_per_second: u32,
    ) -> Self {
        Self {
            counts: OomCounts::new(reader.clone()),
            reader,
            connector,
            ends,
            execs,
            tracked: HashMap::new(),
            settling: VecDeque::new(),
            reported: VecDeque::new(),
            unwatched: Budget { per_second: unwatched_per_second, second: 0, spent: 0 },
            lost: 0,
            throttled: 0,
        }
    }

    pub fn connector(&self) -> Option<&Connector> {
        self.connector.as_ref()
    }

    /// Begins to watch a main process. `wait` registers its descriptor, and says whether that was possible.
    pub fn watch(&mut self, main: ProcessKey, wait: impl FnOnce(u32, BorrowedFd<'_>) -> bool) {
        let tracked = self.tracked.get(&main.pid);
        if !self.ends
            || tracked.is_some_and(|tracked| tracked.key == Some(main) && tracked.main == Some(main.pid))
        {
            return;
        }
        self.counts.note(main.pid);
        // Without a descriptor, as when there are none left, it is checked every second.
        let process = pidfd::open(main.pid).ok().filter(|process| wait(main.pid, process.as_fd()));
        if self.connector.is_some() {
            let process_tree = self.reader.process_tree();
            self.take_over(main.pid, &process_tree);
        }
        let tracked = Tracked { key: Some(main), main: Some(main.pid), pidfd: process, ..Tracked::default() };
        self.tracked.insert(main.pid, tracked);
        // Only now is its exit sure to be seen. It may have ended before, and its pid may be another process's.
        if !self.reader.runs(main) {
            self.has_ended(main.pid);
        }
    }

    /// Ends to watch a main process.
    pub fn unwatch(&mut self, main: u32) {
        self.counts.forget(main);
        self.tracked.remove(&main);
        // Its descendants that are about to end are reported all the same.
        self.tracked.retain(|_, tracked| tracked.main != Some(main) || tracked.end.is_some());
    }

    /// Checks the processes without a descriptor, and reads the counters of OOM kills.
    pub fn every_second(&mut self) {
        let silent =
            self.tracked.iter().filter(|(_, tracked)| tracked.pidfd.is_none() && tracked.seen.is_none());
        let of_interest =
            silent.filter(|(pid, tracked)| tracked.main == Some(**pid) || tracked.end.is_some());
        let ended = of_interest.filter(|(_, tracked)| tracked.key.is_none_or(|key| !self.reader.runs(key)));
        let ended: Vec<u32> = ended.map(|(pid, _)| *pid).collect();
        ended.into_iter().for_each(|pid| self.has_ended(pid));
        let mains = self.tracked.iter().filter(|(pid, tracked)| tracked.main == Some(**pid));
        self.counts.note_all(mains.map(|(pid, _)| *pid));
    }

    /// The exit of a process was seen: it is due when the connector's event has had time to come.
    pub fn has_ended(&mut self, pid: u32) {
        let now = Timestamp::now();
        if let Some(tracked) = self.tracked.get_mut(&pid)
            && tracked.seen.is_none()
        {
            tracked.seen = Some(now);
            let settle = if self.connector.is_some() { SETTLE } else { Duration::ZERO };
            self.settle_by(pid, now.plus(settle));
        }
    }

    fn settle_by(&mut self, pid: u32, due: Timestamp) {
        let at = self.settling.partition_point(|(_, other)| *other <= due);
        self.settling.insert(at, (pid, due));
    }

    /// The exit of a process is certain: it is due at once, with what is known so far.
    pub fn settle(&mut self, pid: u32) {
        self.has_ended(pid);
        if let Some(at) = self.settling.iter().position(|(settling, _)| *settling == pid) {
            self.settling.remove(at);
            self.settling.push_front((pid, Timestamp::default()));
        }
    }

    /// When the next exit is to be reported.
    pub fn due(&self) -> Option<Timestamp> {
        self.settling.front().map(|(_, due)| *due)
    }

    /// The descriptor of a main process, which is not to be waited for any more once its exit was seen.
    pub fn descriptor(&self, pid: u32) -> Option<BorrowedFd<'_>> {
        self.tracked.get(&pid)?.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Reads the connector's events; execs go to `out`. False if there may be more.
    pub fn read(&mut self, out: &mut Vec<Record>) -> bool {
        let Some(connector) = self.connector.take() else { return true };
        let mut events = Vec::new();
        let read = connector.read(|event| events.push(event));
        self.connector = Some(connector);
        for event in events {
            match event {
                Event::Exec { .. } if !self.execs => {}
                Event::Fork { .. } | Event::Exit { .. } if !self.ends => {}
                Event::Exec { pid, at } => {
                    let (at_ns, source) = (at.as_nanos(), Source::Netlink);
                    out.push(Record::Exec(Exec { at_ns, source, pid, image: None }));
                }
                Event::Fork { child, parent, at } => {
                    if let Some(main) = self.tracked.get(&parent).and_then(|parent| parent.main) {
                        // A child that has ended already started then, give or take a tick.
                        let key = self.reader.key_of(child).unwrap_or(ProcessKey::new(child, at));
                        self.descends(key, main);
                    }
                }
                Event::Exit { pid, status, parent, at } => self.thread_ended(pid, End { status, parent, at }),
            }
        }
        read.unwrap_or_else(|_| {
            // The kernel does not say how many were lost. Main processes have descriptors of their own.
            self.lost += 1;
            self.resync();
            false
        })
    }

    /// Finds the descendants of the main processes again, after events were lost.
    fn resync(&mut self) {
        let reader = &self.reader;
        let before = self.tracked.len();
        self.tracked.retain(|pid, tracked| {
            tracked.main == Some(*pid)
                || tracked.seen.is_some()
                || tracked.key.is_some_and(|key| reader.runs(key))
        });
        // These have ended, and it is not known how.
        self.lost += (before - self.tracked.len()) as u64;
        for tracked in self.tracked.values_mut().filter(|tracked| tracked.seen.is_none()) {
            // The latest event that was read need not be the latest there was.
            tracked.end = None;
        }
        let process_tree = self.reader.process_tree();
        let mains: Vec<u32> = self
            .tracked
            .iter()
            .filter(|(pid, tracked)| tracked.main == Some(**pid))
            .map(|(pid, _)| *pid)
            .collect();
        for main in mains {
            self.take_over(main, &process_tree);
        }
    }

    fn descends(&mut self, key: ProcessKey, main: u32) {
        if self.tracked.len() >= TRACKED_MAX {
            self.lost += 1;
            return;
        }
        let tracked = self.tracked.entry(key.pid).or_default();
        if tracked.main != Some(key.pid) {
            *tracked = Tracked { key: Some(key), main: Some(main), ..Tracked::default() };
        }
    }

    /// Tracks the descendants that a main process has already.
    fn take_over(&mut self, main: u32, process_tree: &ProcessTree) {
        for pid in process_tree.of(main).into_iter().skip(1) {
            if let Some(key) = self.reader.key_of(pid).filter(|_| !self.tracked.contains_key(&pid)) {
                self.descends(key, main);
            }
        }
    }

    fn thread_ended(&mut self, pid: u32, end: End) {
        if !self.tracked.contains_key(&pid) && !self.is_worth_tracking(pid, &end) {
            return;
        }
        let tracked = self.tracked.entry(pid).or_default();
        let status = together(tracked.end, end.status);
        // For a thread that has left its process already, the kernel does not name the parent.
        let parent = tracked.end.filter(|_| end.parent == 0).map_or(end.parent, |before| before.parent);
        tracked.end = Some(End { status, parent, ..end });
        if tracked.pidfd.is_some() || tracked.seen.is_some() {
            return;
        }
        tracked.key = tracked.key.or_else(|| self.reader.key_of(pid));
        // By now a process that has ended with this thread shows that.
        if tracked.key.is_none_or(|key| !self.reader.runs(key)) {
            self.has_ended(pid);
        }
    }

    /// Whether the exit of an unwatched process's thread matters: a death by signal, or a failure of a child of init or
    /// of a tracked process.
    fn is_worth_tracking(&mut self, pid: u32, end: &End) -> bool {
        let failed = end.status != 0 && (end.parent == 1 || self.tracked.contains_key(&end.parent));
        if end.status & 0x7f == 0 && !failed {
            return false;
        }
        if self.reported.iter().any(|(reported, at)| *reported == pid && end.at <= *at) {
            // A late event of an exit that was reported.
            return false;
        }
        if !self.unwatched.take(end.at) {
            self.throttled += 1;
            return false;
        }
        let room = self.tracked.len() < TRACKED_MAX;
        self.lost += u64::from(!room);
        room
    }

    /// Adds to an OOM kill from the log who its victim was. By the time the log is read, the victim may be gone.
    pub fn identify(&self, kill: &mut Oom) {
        let Some(victim) = kill.pid.and_then(|pid| self.tracked.get(&pid)) else { return };
        kill.start_ns = victim.key.map_or(kill.start_ns, |key| key.start.as_nanos());
        kill.main_pid = victim.main;
    }

    pub fn due_by(&mut self, now: Timestamp) -> Vec<Exit> {
        let mut exits = Vec::new();
        while let Some((pid, due)) = self.settling.pop_front_if(|(_, due)| *due <= now) {
            exits.extend(self.exit_of(pid, due, now));
        }
        exits
    }

    /// The exit of a process; None if it does not matter, the process still runs, or its status may still come.
    fn exit_of(&mut self, pid: u32, due: Timestamp, now: Timestamp) -> Option<Exit> {
        let tracked = self.tracked.remove(&pid)?;
        if tracked.key.is_some_and(|key| self.reader.runs(key)) {
            self.tracked.insert(pid, Tracked { seen: None, ..tracked });
            return None;
        }
        let Tracked { key, main, pidfd, end, seen } = tracked;
        let remains = self.reader.remains(pid).filter(|found| key.is_none_or(|key| key == found.key));
        let fresh = |end: &End| end.at.plus(FRESH) >= seen.unwrap_or(now);
        let reported = end.filter(fresh).map(|end| end.status);
        let status =
            reported.or_else(|| remains.as_ref()?.status).or_else(|| pidfd.as_ref().and_then(pidfd::status));
        let latest = seen.unwrap_or(now).plus(SETTLE_UNKNOWN);
        if status.is_none() && self.connector.is_some() && due > Timestamp::default() && due < latest {
            self.tracked.insert(pid, Tracked { key, main, pidfd, end, seen });
            self.settle_by(pid, latest);
            return None;
        }
        if self.reported.len() == REPORTED_MAX {
            self.reported.pop_front();
        }
        self.reported.push_back((pid, now));
        let status = Status(status);
        if status.code() == Some(0) && main != Some(pid) {
            return None;
        }
        let oom_victim = status.is_kill() && main.is_some_and(|main| self.counts.has_risen(main));
        if main == Some(pid) {
            self.counts.forget(pid);
        }
        let parent = end.map(|end| end.parent).filter(|parent| *parent != 0);
        let parent_pid = parent.or_else(|| Some(remains.as_ref()?.parent_pid)).unwrap_or_default();
        let key = key.or_else(|| Some(remains.as_ref()?.key));
        let at = end.filter(fresh).map(|end| end.at).or(seen).unwrap_or(now);
        Some(Exit {
            at_ns: at.as_nanos(),
            source: if reported.is_some() { Source::Netlink } else { Source::Proc },
            start_ns: key.map_or(0, |key| key.start.as_nanos()),
            pid,
            parent_pid,
            namespaced_pid: None,
            lineage: None,
            uid: remains.as_ref().map_or(0, |remains| remains.user_id),
            status,
            oom_victim,
            watched: main.is_some(),
            child_of_init: parent_pid == 1,
            namespace_init: false,
            max_rss_pages: 0,
            cgroups: Cgroups { v2: remains.as_ref().and_then(|remains| remains.cgroup_v2), memory_v1: None },
            comm: remains.map_or_else(String::new, |remains| remains.name),
            signal: None,
        })
    }

    #[cfg(test)]
    pub fn tracked(&self) -> usize {
        self.tracked.len()
    }

    /// How many exits were lost since the last call, or, where the kernel does not say how many, how often; and how
    /// many of unwatched processes were left out.
    pub fn take_lost(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.lost), std::mem::take(&mut self.throttled))
    }
}

/// The status of a process by those of its threads: of a group that a signal or an exit ends, each thread that still
/// runs has it, but only the thread that dumped core has the flag.
fn together(before: Option<End>, status: u32) -> u32 {
    match before {
        Some(end) if end.status & 0x7f == status & 0x7f && status & 0x7f != 0 => end.status | status,
        Some(_) | None => status,
    }
}
