//! Ends of processes where no eBPF program tells of them.
//!
//! A pidfd tells at once that a main process has ended; the process connector tells how, and of other processes as well.
//! Without the connector the status is read from what is left of the process, where that is possible.

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
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

const SIGKILL: u8 = 9;

/// The processes that matter, and those that are about to end.
#[derive(Debug)]
pub struct Deaths {
    reader: ProcReader,
    connector: Option<Connector>,
    known: HashMap<u32, Known>,
    counts: OomCounts,
    lost: u64,
}

/// A main process, a descendant of one, or a stranger about whose end something was heard.
#[derive(Debug, Default)]
struct Known {
    key: Option<ProcessKey>,
    /// The main process whose descendant it is, or itself; None for a stranger.
    main: Option<u32>,
    pidfd: Option<OwnedFd>,
    end: Option<End>,
}

/// What was heard of a process's end.
#[derive(Clone, Copy, Debug)]
struct End {
    status: u32,
    parent: u32,
    at: Timestamp,
}

impl Deaths {
    pub fn new(reader: ProcReader, connector: Option<Connector>) -> Self {
        let counts = OomCounts::new(reader.clone());
        Self { reader, connector, known: HashMap::new(), counts, lost: 0 }
    }

    /// The connector, if there is one.
    pub fn connector(&self) -> Option<&Connector> {
        self.connector.as_ref()
    }

    /// Begins to watch a main process; its descriptor is to be waited for. None if it is gone already.
    pub fn watch(&mut self, main: ProcessKey) -> Option<BorrowedFd<'_>> {
        self.counts.note(main.pid);
        // Only then is it certain whose descriptor it is.
        let process = pidfd::open(main.pid).ok().filter(|_| self.reader.key_of(main.pid) == Some(main));
        if self.connector.is_some() {
            let families = self.reader.families();
            self.take_over(main.pid, &families);
        }
        let known = self.known.entry(main.pid).or_default();
        // The number may have been another's until now.
        *known = Known { key: Some(main), main: Some(main.pid), pidfd: process, end: None };
        known.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Ends to watch a main process.
    pub fn unwatch(&mut self, main: u32) {
        self.counts.forget(main);
        self.known.remove(&main);
        self.known.retain(|_, known| known.main != Some(main));
    }

    /// Notes how the counters of OOM kills stand.
    pub fn note_counts(&mut self) {
        for (pid, _) in self.known.iter().filter(|(pid, known)| known.main == Some(**pid)) {
            self.counts.note(*pid);
        }
    }

    /// Reads what the connector has to tell: programs that were executed go to `out`, processes that have ended to
    /// `gone`, and descriptors to be waited for to `wait`, which says whether they can be. False if there may be more.
    pub fn hear(
        &mut self,
        out: &mut Vec<Sighting>,
        gone: &mut Vec<u32>,
        mut wait: impl FnMut(u32, BorrowedFd<'_>) -> bool,
    ) -> bool {
        let Some(connector) = self.connector.take() else { return true };
        let mut events = Vec::new();
        let read = connector.read(|event| events.push(event));
        self.connector = Some(connector);
        for event in events {
            match event {
                Event::Fork { child, parent, at } => {
                    if let Some(main) = self.known.get(&parent).and_then(|parent| parent.main) {
                        // One that has ended already started then, give or take a tick.
                        let key = self.reader.key_of(child).unwrap_or(ProcessKey::new(child, at));
                        self.descends(key, main);
                    }
                }
                Event::Exec { pid, at } => out.push(Sighting::Exec { pid, at }),
                Event::Exit { pid, status, parent, at } => {
                    self.thread_ended(pid, End { status, parent, at }, gone, &mut wait);
                }
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
        self.known.retain(|pid, known| known.pidfd.is_some() || reader.key_of(*pid) == known.key);
        // These have ended, and nobody has heard how.
        self.lost += (before - self.known.len()) as u64;
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
            *known = Known { key: Some(key), main: Some(main), pidfd: None, end: None };
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

    /// A thread has ended, and maybe its process with it: that is known when its descriptor becomes readable.
    fn thread_ended(
        &mut self,
        pid: u32,
        end: End,
        gone: &mut Vec<u32>,
        wait: &mut impl FnMut(u32, BorrowedFd<'_>) -> bool,
    ) {
        let of_interest = end.status & 0x7f != 0
            || (end.status != 0 && (end.parent == 1 || self.known.contains_key(&end.parent)));
        if !self.known.contains_key(&pid) {
            if !of_interest {
                return;
            }
            if self.known.len() >= KNOWN_MAX {
                self.lost += 1;
                return;
            }
        }
        let known = self.known.entry(pid).or_default();
        let status = together(known.end, end.status);
        // Of a thread that has left its process already, the kernel does not say whose child that is.
        let parent = known.end.filter(|_| end.parent == 0).map_or(end.parent, |before| before.parent);
        known.end = Some(End { status, parent, ..end });
        if known.pidfd.is_none() {
            match pidfd::open(pid) {
                Ok(process) if wait(pid, process.as_fd()) => known.pidfd = Some(process),
                Ok(_) => self.lost += 1,
                Err(_) => gone.push(pid),
            }
        }
    }

    /// What is known of a process that has ended; None if that is of no interest.
    pub fn ended(&mut self, pid: u32) -> Option<Death> {
        let Known { key, main, pidfd, end } = self.known.remove(&pid)?;
        let remains = self.reader.remains(pid).filter(|found| key.is_none_or(|key| key == found.key));
        let status = end.map(|end| end.status).or_else(|| {
            let left = remains.as_ref().and_then(|remains| remains.status);
            left.or_else(|| pidfd.as_ref().and_then(pidfd::status))
        });
        let exit = status.map_or(ExitStatus::Unknown, ExitStatus::from_wait_status);
        if exit == ExitStatus::Code(0) && main != Some(pid) {
            return None;
        }
        let key = key.or_else(|| remains.as_ref().map(|remains| remains.key));
        let killed = matches!(exit, ExitStatus::Signal { number: SIGKILL, .. });
        let oom = killed && main.is_some_and(|main| self.counts.has_risen(main));
        if main == Some(pid) {
            self.counts.forget(pid);
        }
        Some(Death {
            at: end.map_or_else(Timestamp::now, |end| end.at),
            source: if end.is_some() { Source::Netlink } else { Source::Proc },
            pid,
            key,
            status: exit,
            parent_pid: end
                .map(|end| end.parent)
                .filter(|parent| *parent != 0)
                .or_else(|| remains.as_ref().map(|remains| remains.parent_pid)),
            remains,
            oom,
        })
    }

    /// How many processes are kept in mind.
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// How many ends were lost since the last call, or, where the kernel does not say how many, how often.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
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
