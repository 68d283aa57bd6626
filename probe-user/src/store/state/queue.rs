//! The changes on their way to the thread that writes them.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    act::{alert::Change, supervisor::RunningCommand},
    emit::Names,
    fact::{Memory, Orders, ServiceId},
    store::history::Timeline,
};

/// The most changes that wait to be written. A command of an operator makes one for each service.
const MOST: usize = 4096;

/// The most incidents among them. Each has up to 60 KiB.
const MOST_INCIDENTS: usize = 256;

/// A change of the state.
#[derive(Debug)]
pub(super) enum Job {
    /// The orders about a service, in place of earlier ones.
    Orders { service: String, orders: Box<Orders> },
    /// What the engine has to know of a service in a later run, in place of earlier.
    Memory { service: ServiceId, memory: Box<Memory>, names: Names },
    /// Changes of a receiver's outbox.
    Alerts { receiver: String, changes: Vec<Change> },
    /// What runs of a service under `exec`, in place of what ran before.
    Command { service: String, command: Option<Box<RunningCommand>> },
    /// An incident, in place of what is known of it.
    Incident(Box<Timeline>),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Wakes the thread.
    filled: Condvar,
    /// Wakes those who wait for a write.
    handled: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: Vec<Job>,
    /// How many changes were ever queued, and how many of them the thread has tried to write.
    queued: u64,
    handled: u64,
    /// A wait for this one was given up. Until it is handled, no other wait begins.
    late: u64,
    /// The thread is to write them now.
    is_due: bool,
    /// No more will come.
    has_ended: bool,
}

/// What the thread is to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// The changes, and how many there were up to the last of them.
    Write(Vec<Job>, u64),
    /// No change came in time.
    Late,
    End(Vec<Job>),
}

impl Queue {
    /// Queues a change. It is written with the next flush. A full queue loses it and counts that. Incidents have a part of the
    /// room, and each of them is there once: a disk that hangs costs history, and not what a later run has to know.
    pub(super) fn push(&self, job: Job) {
        let mut waiting = self.lock();
        if let Job::Incident(timeline) = &job {
            let (mut incidents, mut oldest) = (0, None);
            for (at, known) in waiting.jobs.iter_mut().enumerate() {
                let Job::Incident(known) = known else { continue };
                incidents += 1;
                oldest.get_or_insert(at);
                if known.id() == timeline.id() {
                    known.clone_from(timeline);
                    return;
                }
            }
            if let Some(oldest) = oldest.filter(|_| incidents >= MOST_INCIDENTS) {
                waiting.jobs.remove(oldest);
                self.lose(1);
            }
        }
        if waiting.jobs.len() < MOST && !waiting.has_ended {
            waiting.jobs.push(job);
            waiting.queued += 1;
        } else {
            self.lose(1);
        }
    }

    /// Has the thread write what waits.
    pub(super) fn flush(&self) {
        let mut waiting = self.lock();
        if !waiting.jobs.is_empty() && !waiting.is_due {
            waiting.is_due = true;
            self.filled.notify_one();
        }
    }

    /// Has the thread write what waits, and waits until it has tried to, for at most `limit`. A disk that was too late once is
    /// not waited for again until it has caught up.
    pub(super) fn flush_and_wait(&self, limit: Duration) {
        self.flush();
        let mut waiting = self.lock();
        let last = waiting.queued;
        if waiting.has_ended || waiting.handled < waiting.late {
            return;
        }
        let waits = |waiting: &mut Waiting| waiting.handled < last;
        let waited = self.handled.wait_timeout_while(waiting, limit, waits);
        waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        if waiting.handled < last {
            waiting.late = last;
        }
    }

    /// The thread has tried to write so many changes, counted from the first.
    pub(super) fn handled(&self, count: u64) {
        self.lock().handled = count;
        self.handled.notify_all();
    }

    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        self.filled.notify_one();
    }

    pub(super) fn lose(&self, changes: u64) {
        self.lost.fetch_add(changes, Ordering::Relaxed);
    }

    pub(super) fn take_loss(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Waits for changes, for at most `patience` if that is given.
    pub(super) fn next(&self, patience: Option<Duration>) -> Next {
        let idle = |waiting: &mut Waiting| !waiting.is_due && !waiting.has_ended;
        let mut waiting = match patience {
            None => self.filled.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = self.filled.wait_timeout_while(self.lock(), patience, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if waiting.has_ended {
            return Next::End(std::mem::take(&mut waiting.jobs));
        }
        if !std::mem::take(&mut waiting.is_due) {
            return Next::Late;
        }
        let queued = waiting.queued;
        Next::Write(std::mem::take(&mut waiting.jobs), queued)
    }

    /// It stays usable if a thread panicked: each change of it is whole.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
