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
    fact::{DrillReport, Memory, Orders, ServiceId},
    probe::heartbeat::KeptBeat,
    progress::{Awaited, Progress},
    store::{history::Timeline, rollup::Rollup},
};

/// The most changes that wait to be written. A command of an operator makes one for each service.
const MOST: usize = 4096;

/// The most incidents among them. Each has up to 60 KiB.
const MOST_INCIDENTS: usize = 256;

/// The most sums of minutes that wait to be written: a disk that hangs costs the later ones.
pub(super) const MOST_ROLLUPS: usize = 16_384;

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
    /// The latest report of a job, in place of an earlier one.
    Beat { heartbeat: String, beat: KeptBeat },
    /// An incident, in place of what is known of it.
    Incident(Box<Timeline>),
    /// A drill, in place of what is known of it.
    Drill(Box<DrillReport>),
    /// Changes of the sums of minutes, in addition to what is known of them.
    Rollups(Vec<Rollup>),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Wakes the thread.
    filled: Condvar,
    /// The changes that the thread has tried to write.
    handled: Progress,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: Vec<Job>,
    /// How many changes were ever queued.
    queued: u64,
    /// The thread is to write them now.
    is_due: bool,
    /// A restart waits for them.
    holds_restart: bool,
    /// No more will come.
    has_ended: bool,
}

/// What the thread is to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// The changes, how many there were up to the last of them, and whether a restart waits for them.
    Write(Vec<Job>, u64, bool),
    /// No change came in time.
    Late,
    End(Vec<Job>),
}

impl Queue {
    /// Queues a change. It is written with the next flush. A full queue loses it and counts that. Incidents have a part of the
    /// room, and each of them is there once: a disk that hangs costs history, and not what a later run has to know.
    pub(super) fn push(&self, job: Job) {
        let mut waiting = self.lock();
        if let Job::Rollups(more) = &job
            && let Some(Job::Rollups(known)) =
                waiting.jobs.iter_mut().find(|known| matches!(known, Job::Rollups(_)))
        {
            let room = MOST_ROLLUPS.saturating_sub(known.len());
            known.extend(more.iter().take(room).cloned());
            self.lose(more.len().saturating_sub(room) as u64);
            return;
        }
        if let Job::Beat { heartbeat, beat } = &job {
            let known = waiting.jobs.iter_mut().find_map(|job| {
                let Job::Beat { heartbeat: known, beat } = job else { return None };
                (known == heartbeat).then_some(beat)
            });
            if let Some(known) = known {
                *known = *beat;
                return;
            }
        }
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

    /// The next write is one that a restart waits for.
    pub(super) fn hold_restart(&self) {
        self.lock().holds_restart = true;
    }

    /// Has the thread write what waits, which may be waited for, for at most `limit`. A disk that was too late once is not
    /// waited for again until it has caught up.
    pub(super) fn flush_for(&self, limit: Duration) -> Option<Awaited> {
        self.flush();
        let queued = self.lock().queued;
        self.handled.until(queued, limit)
    }

    /// The same for a wait that delays nothing else, whether the disk was too late before or not.
    pub(super) fn flush_patiently(&self, limit: Duration) -> Option<Awaited> {
        self.flush();
        let queued = self.lock().queued;
        self.handled.patiently(queued, limit)
    }

    /// The thread has tried to write so many changes, counted from the first.
    pub(super) fn handled(&self, count: u64) {
        self.handled.set(count);
    }

    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        self.handled.end();
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
        let holds_restart = std::mem::take(&mut waiting.holds_restart);
        Next::Write(std::mem::take(&mut waiting.jobs), queued, holds_restart)
    }

    /// It stays usable if a thread panicked: each change of it is whole.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
