//! Ends of processes where no eBPF program tells of them.
//!
//! A pidfd tells at once that a main process has ended; the process connector tells how, and of other processes as well.
//! The kernel sends the connector's word after it has woken who waits for a pidfd (`do_exit`: `exit_notify`, then
//! `proc_exit_connector`), so an end is told a moment after it was seen. Without that word the status is read from what is
//! left of the process, where that is possible.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use super::{
    Death, Sighting,
    connector::{Connector, Event},
    oom_count::OomCounts,
    pidfd,
};
use crate::{
    clock::Timestamp,
    fact::{ExitStatus, ProcessKey, Source},
    host::{ProcReader, process::Families},
};

/// More processes than this are not kept in mind; the ends of further ones are counted as lost.
const KNOWN_MAX: usize = 32 * 1024;

/// How long the connector's word on an end may take after the end was seen.
const SETTLE: Duration = Duration::from_millis(3);

/// What was heard of a thread longer before its process's end than this is not how the process ended.
const FRESH: Duration = Duration::from_millis(100);

/// So many ends that were told lately are remembered, for words on them that come late.
const TOLD_MAX: usize = 256;

const SIGKILL: u8 = 9;

/// The processes that matter, and those that are about to end.
#[derive(Debug)]
pub struct Deaths {
    reader: ProcReader,
    connector: Option<Connector>,
    /// Ends are told, and programs that are executed.
    ends: bool,
    execs: bool,
    known: HashMap<u32, Known>,
    /// Those whose end was seen, in the order in which it is to be told.
    settling: VecDeque<(u32, Timestamp)>,
    /// Those whose end was told lately.
    told: VecDeque<(u32, Timestamp)>,
    strangers: Budget,
    counts: OomCounts,
    lost: u64,
    throttled: u64,
}

/// A main process, a descendant of one, or a stranger about whose end something was heard.
#[derive(Debug, Default)]
struct Known {
    key: Option<ProcessKey>,
    /// The main process whose descendant it is, or itself; None for a stranger.
    main: Option<u32>,
    /// Of a main process, unless it could not be had.
    pidfd: Option<OwnedFd>,
    end: Option<End>,
    /// When its end was seen.
    seen: Option<Timestamp>,
}

/// What was heard of a process's end.
#[derive(Clone, Copy, Debug)]
struct End {
    status: u32,
    parent: u32,
    at: Timestamp,
}

/// So many a second.
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

impl Deaths {
    /// What is told: ends of processes, of strangers at most so many a second, and programs that are executed.
    pub fn new(
        reader: ProcReader,
        connector: Option<Connector>,
        (ends, execs): (bool, bool),
        strangers_per_second: u32,
    ) -> Self {
        Self {
            counts: OomCounts::new(reader.clone()),
            reader,
            connector,
            ends,
            execs,
            known: HashMap::new(),
            settling: VecDeque::new(),
            told: VecDeque::new(),
            strangers: Budget { per_second: strangers_per_second, second: 0, spent: 0 },
            lost: 0,
            throttled: 0,
        }
    }

    /// The connector, if there is one.
    pub fn connector(&self) -> Option<&Connector> {
        self.connector.as_ref()
    }

    /// Begins to watch a main process. `wait` is given a descriptor to be waited for, and says whether it can be.
    pub fn watch(&mut self, main: ProcessKey, wait: impl FnOnce(u32, BorrowedFd<'_>) -> bool) {
        let known = self.known.get(&main.pid);
        if !self.ends || known.is_some_and(|known| known.key == Some(main) && known.main == Some(main.pid)) {
            return;
        }
        self.counts.note(main.pid);
        // One that has no descriptor, for want of any, is looked at every second.
        let process = pidfd::open(main.pid).ok().filter(|process| wait(main.pid, process.as_fd()));
        if self.connector.is_some() {
            let families = self.reader.families();
            self.take_over(main.pid, &families);
        }
        let known = Known { key: Some(main), main: Some(main.pid), pidfd: process, ..Known::default() };
        self.known.insert(main.pid, known);
        // Only now is it certain that its end would be seen: it may have ended before, and its pid be another's.
        if !self.reader.runs(main) {
            self.has_ended(main.pid);
        }
    }

    /// Ends to watch a main process.
    pub fn unwatch(&mut self, main: u32) {
        self.counts.forget(main);
        self.known.remove(&main);
        // Those of its descendants that are about to end are told all the same.
        self.known.retain(|_, known| known.main != Some(main) || known.end.is_some());
    }

    /// Looks at what no descriptor tells of, and notes how the counters of OOM kills stand.
    pub fn every_second(&mut self) {
        let silent = self.known.iter().filter(|(_, known)| known.pidfd.is_none() && known.seen.is_none());
        let of_interest = silent.filter(|(pid, known)| known.main == Some(**pid) || known.end.is_some());
        let ended = of_interest.filter(|(_, known)| known.key.is_none_or(|key| !self.reader.runs(key)));
        let ended: Vec<u32> = ended.map(|(pid, _)| *pid).collect();
        ended.into_iter().for_each(|pid| self.has_ended(pid));
        let mains = self.known.iter().filter(|(pid, known)| known.main == Some(**pid));
        self.counts.note_all(mains.map(|(pid, _)| *pid));
    }

    /// The end of a process was seen: it is told when the connector has had its say.
    pub fn has_ended(&mut self, pid: u32) {
        let now = Timestamp::now();
        if let Some(known) = self.known.get_mut(&pid)
            && known.seen.is_none()
        {
            known.seen = Some(now);
            let settle = if self.connector.is_some() { SETTLE } else { Duration::ZERO };
            self.settling.push_back((pid, now.plus(settle)));
        }
    }

    /// The end of a process is certain: it is told at once, with what was heard so far.
    pub fn settle(&mut self, pid: u32) {
        self.has_ended(pid);
        if let Some(at) = self.settling.iter().position(|(settling, _)| *settling == pid) {
            self.settling.remove(at);
            self.settling.push_front((pid, Timestamp::default()));
        }
    }

    /// When the next end is to be told.
    pub fn due(&self) -> Option<Timestamp> {
        self.settling.front().map(|(_, due)| *due)
    }

    /// The descriptor of a main process, which is not to be waited for any more once its end was seen.
    pub fn descriptor(&self, pid: u32) -> Option<BorrowedFd<'_>> {
        self.known.get(&pid)?.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Reads what the connector has to tell: programs that were executed go to `out`. False if there may be more.
    pub fn hear(&mut self, out: &mut Vec<Sighting>) -> bool {
        let Some(connector) = self.connector.take() else { return true };
        let mut events = Vec::new();
        let read = connector.read(|event| events.push(event));
        self.connector = Some(connector);
        for event in events {
            match event {
                Event::Exec { .. } if !self.execs => {}
                Event::Fork { .. } | Event::Exit { .. } if !self.ends => {}
                Event::Exec { pid, at } => out.push(Sighting::Exec { pid, at }),
                Event::Fork { child, parent, at } => {
                    if let Some(main) = self.known.get(&parent).and_then(|parent| parent.main) {
                        // One that has ended already started then, give or take a tick.
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
            self.look_again();
            false
        })
    }

    /// Looks again at who descends from the main processes, after events were lost.
    fn look_again(&mut self) {
        let reader = &self.reader;
        let before = self.known.len();
        self.known.retain(|pid, known| {
            known.main == Some(*pid) || known.seen.is_some() || known.key.is_some_and(|key| reader.runs(key))
        });
        // These have ended, and nobody has heard how.
        self.lost += (before - self.known.len()) as u64;
        for known in self.known.values_mut().filter(|known| known.seen.is_none()) {
            // What was heard last need not be the last there was.
            known.end = None;
        }
        let families = self.reader.families();
        let mains: Vec<u32> =
            self.known.iter().filter(|(pid, known)| known.main == Some(**pid)).map(|(pid, _)| *pid).collect();
        for main in mains {
            self.take_over(main, &families);
        }
    }

    fn descends(&mut self, key: ProcessKey, main: u32) {
        if self.known.len() >= KNOWN_MAX {
            self.lost += 1;
            return;
        }
        let known = self.known.entry(key.pid).or_default();
        if known.main != Some(key.pid) {
            *known = Known { key: Some(key), main: Some(main), ..Known::default() };
        }
    }

    /// Takes note of the descendants that a main process has already.
    fn take_over(&mut self, main: u32, families: &Families) {
        for pid in families.of(main).into_iter().skip(1) {
            if let Some(key) = self.reader.key_of(pid).filter(|_| !self.known.contains_key(&pid)) {
                self.descends(key, main);
            }
        }
    }

    /// A thread has ended, and maybe its process with it.
    fn thread_ended(&mut self, pid: u32, end: End) {
        if !self.known.contains_key(&pid) && !self.is_worth_knowing(pid, &end) {
            return;
        }
        let known = self.known.entry(pid).or_default();
        let status = together(known.end, end.status);
        // Of a thread that has left its process already, the kernel does not say whose child that is.
        let parent = known.end.filter(|_| end.parent == 0).map_or(end.parent, |before| before.parent);
        known.end = Some(End { status, parent, ..end });
        if known.pidfd.is_some() || known.seen.is_some() {
            return;
        }
        known.key = known.key.or_else(|| self.reader.key_of(pid));
        // By now a process that has ended with this thread shows that.
        if known.key.is_none_or(|key| !self.reader.runs(key)) {
            self.has_ended(pid);
        }
    }

    /// Whether the end of a stranger's thread is to be followed: a death by signal, or a failure of a child of init or
    /// of a process that is known.
    fn is_worth_knowing(&mut self, pid: u32, end: &End) -> bool {
        let failed = end.status != 0 && (end.parent == 1 || self.known.contains_key(&end.parent));
        if end.status & 0x7f == 0 && !failed {
            return false;
        }
        if self.told.iter().any(|(told, at)| *told == pid && end.at <= *at) {
            // A late word on an end that was told.
            return false;
        }
        if !self.strangers.take(end.at) {
            self.throttled += 1;
            return false;
        }
        let room = self.known.len() < KNOWN_MAX;
        self.lost += u64::from(!room);
        room
    }

    /// The ends that are to be told by now.
    pub fn told_by(&mut self, now: Timestamp) -> Vec<Death> {
        let mut deaths = Vec::new();
        while let Some((pid, _)) = self.settling.pop_front_if(|(_, due)| *due <= now) {
            deaths.extend(self.end_of(pid, now));
        }
        deaths
    }

    /// The end of a process; None if it is of no interest, or has not come after all.
    fn end_of(&mut self, pid: u32, now: Timestamp) -> Option<Death> {
        let known = self.known.remove(&pid)?;
        if known.key.is_some_and(|key| self.reader.runs(key)) {
            self.known.insert(pid, Known { seen: None, ..known });
            return None;
        }
        let Known { key, main, pidfd, end, seen } = known;
        if self.told.len() == TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back((pid, now));
        let remains = self.reader.remains(pid).filter(|found| key.is_none_or(|key| key == found.key));
        let fresh = |end: &End| end.at.plus(FRESH) >= seen.unwrap_or(now);
        let heard = end.filter(fresh).map(|end| end.status);
        let status =
            heard.or_else(|| remains.as_ref()?.status).or_else(|| pidfd.as_ref().and_then(pidfd::status));
        let exit = status.map_or(ExitStatus::Unknown, ExitStatus::from_wait_status);
        if exit == ExitStatus::Code(0) && main != Some(pid) {
            return None;
        }
        let killed = matches!(exit, ExitStatus::Signal { number: SIGKILL, .. });
        let oom = killed && main.is_some_and(|main| self.counts.has_risen(main));
        if main == Some(pid) {
            self.counts.forget(pid);
        }
        let parent = end.map(|end| end.parent).filter(|parent| *parent != 0);
        Some(Death {
            at: end.filter(fresh).map(|end| end.at).or(seen).unwrap_or(now),
            source: if heard.is_some() { Source::Netlink } else { Source::Proc },
            pid,
            key: key.or_else(|| remains.as_ref().map(|remains| remains.key)),
            status: exit,
            parent_pid: parent.or_else(|| remains.as_ref().map(|remains| remains.parent_pid)),
            remains,
            oom,
        })
    }

    /// How many processes are kept in mind.
    #[cfg(test)]
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// How many ends were lost since the last call, or, where the kernel does not say how many, how often; and how many
    /// of strangers were left out.
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
