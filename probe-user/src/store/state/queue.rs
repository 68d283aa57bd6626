//! The changes on their way to the thread that writes them.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{fact::Orders, store::history::Timeline};

/// The most changes that wait to be written. A command of an operator makes one for each service.
const MOST: usize = 4096;

/// A change of the state.
#[derive(Debug)]
pub(super) enum Job {
    /// The orders about a service, in place of earlier ones.
    Orders { service: String, orders: Box<Orders> },
    /// An incident, in place of what is known of it.
    Incident(Box<Timeline>),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Wakes the thread.
    filled: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: Vec<Job>,
    /// The thread is to write them now.
    is_due: bool,
    /// No more will come.
    has_ended: bool,
}

/// What the thread is to do next.
#[derive(Debug)]
pub(super) enum Next {
    Write(Vec<Job>),
    /// No change came in time.
    Late,
    End(Vec<Job>),
}

impl Queue {
    /// Queues a change. It is written with the next flush. A full queue loses it and counts that.
    pub(super) fn push(&self, job: Job) {
        let mut waiting = self.lock();
        if waiting.jobs.len() < MOST && !waiting.has_ended {
            waiting.jobs.push(job);
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
        Next::Write(std::mem::take(&mut waiting.jobs))
    }

    /// It stays usable if a thread panicked: each change of it is whole.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
