//! How far a thread has got with what it was given, and waits for that, which have a bound.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout_at};

/// The progress of a thread, in pieces of work. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes waiting threads.
    changed: Condvar,
    /// The same for tasks: how much is done.
    done: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Counted from the first piece of work.
    done: u64,
    /// A wait for this one was given up. Until it is done, no other wait begins.
    late: u64,
}

/// The number of pieces of work once the thread has ended: nothing is waited for any more.
const ENDED: u64 = u64::MAX;

/// A piece of work under way that may be waited for, with all before it, until a certain time.
#[derive(Clone, Debug)]
pub struct Awaited {
    progress: Progress,
    number: u64,
    until: Instant,
}

impl Progress {
    /// So many pieces of work are done, counted from the first.
    pub fn set(&self, done: u64) {
        let mut state = self.lock();
        state.done = state.done.max(done);
        self.0.changed.notify_all();
        self.0.done.send_replace(state.done);
    }

    /// The thread ends.
    pub fn end(&self) {
        self.set(ENDED);
    }

    /// The wait for this piece of work, for at most `limit`. None after one that was too late, until that is done.
    pub fn until(&self, number: u64, limit: Duration) -> Option<Awaited> {
        let state = self.lock();
        let is_in_time = state.done < ENDED && state.done >= state.late;
        is_in_time.then(|| Awaited { progress: self.clone(), number, until: Instant::now() + limit })
    }

    /// The same, after one that was too late as well: for a wait that delays nothing else. None once the thread has ended.
    pub fn patiently(&self, number: u64, limit: Duration) -> Option<Awaited> {
        let has_ended = self.lock().done == ENDED;
        (!has_ended).then(|| Awaited { progress: self.clone(), number, until: Instant::now() + limit })
    }

    /// It stays usable if a thread panicked: each change of it is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    /// Waits until it is done, or for long enough.
    pub fn wait(&self) {
        let Shared { changed, .. } = &*self.progress.0;
        let limit = self.until.saturating_duration_since(Instant::now());
        let waits = |state: &mut State| state.done < self.number;
        let waited = changed.wait_timeout_while(self.progress.lock(), limit, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.give_up(self.number);
    }

    /// The same for a task. Cancel safe.
    pub async fn done(&self) {
        let mut done = self.progress.0.done.subscribe();
        let _ = timeout_at(self.until.into(), done.wait_for(|done| *done >= self.number)).await;
        self.progress.lock().give_up(self.number);
    }

    /// The same work, which has no more time than the other.
    pub fn no_later_than(mut self, other: &Self) -> Self {
        self.until = self.until.min(other.until);
        self
    }
}

impl State {
    fn give_up(&mut self, number: u64) {
        if self.done < number {
            self.late = self.late.max(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_wait_ends_when_the_work_is_done_or_the_thread_ends() {
        let progress = Progress::default();
        let (second, third) = (progress.until(2, LONG).unwrap(), progress.until(3, LONG).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| second.wait());
            progress.set(1);
            progress.set(2);
        });
        let (_, ()) = tokio::join!(async { progress.set(3) }, third.done());
        let fourth = progress.until(4, LONG).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| fourth.wait());
            progress.end();
        });
        assert!(progress.until(5, LONG).is_none());
    }

    #[tokio::test]
    async fn work_that_was_too_late_is_waited_for_once() {
        let progress = Progress::default();
        let limit = Duration::from_millis(20);
        let begun = Instant::now();
        progress.until(1, limit).unwrap().wait();
        assert!(begun.elapsed() >= limit);
        assert!(progress.until(2, limit).is_none());
        progress.set(1);
        progress.until(2, limit).unwrap().done().await;
        assert!(progress.until(3, limit).is_none());
    }

    #[tokio::test]
    async fn a_wait_that_delays_nothing_else_begins_after_work_that_was_too_late() {
        let progress = Progress::default();
        progress.until(1, Duration::ZERO).unwrap().wait();
        assert!(progress.until(1, LONG).is_none());
        let (patient, limited) = (progress.patiently(1, LONG).unwrap(), Duration::from_millis(20));
        let begun = Instant::now();
        progress.patiently(1, limited).unwrap().done().await;
        assert!(begun.elapsed() >= limited);
        let (_, ()) = tokio::join!(async { progress.set(1) }, patient.done());
        progress.end();
        assert!(progress.patiently(2, LONG).is_none());
    }
}
