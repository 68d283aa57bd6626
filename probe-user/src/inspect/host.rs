//! The checks of the host, every ten seconds on a thread of their own: a few small files of `/proc` and `/sys`, and the
//! numbers of each file system.
//!
//! What is well is not reported, so that a healthy host costs the loop nothing.

mod clock;
mod file_systems;
mod fill_rate;
mod measure;
mod numbers;

use std::{
    cell::LazyCell,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use self::clock::{ClockReading, can_be_read as clock_can_be_read};
use self::{
    clock::ClockPast,
    file_systems::{Asked, Calls, FileSystemsPast},
    measure::{Measured, Reports},
    numbers::NumbersPast,
};
use super::answer::Answer;
use crate::{
    bounded_thread,
    clock::Timestamp,
    config::{Config, HostOptions},
    enrich::Enricher,
    fact::{HostCheck, HostReading, HostSubject, ProcessKey, ServiceId, Writes},
    host::{ProcReader, written::written_at},
    outcomes::Outcomes,
};

/// From one round to the next.
const INTERVAL: Duration = Duration::from_secs(10);

/// A round that was asked for comes no sooner after the last.
const SOONEST: Duration = Duration::from_millis(200);

/// A file system that has not answered for so long is left out.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked up which file systems a service writes to.
const WRITTEN: Duration = Duration::from_secs(60);

pub struct HostMonitor {
    reader: ProcReader,
    read_clock: fn() -> Option<ClockReading>,
    due: Timestamp,
    began: Timestamp,
    rounds: u64,
    shared: Arc<Shared>,
}

/// What a round leaves for the next one.
struct Shared {
    /// The number of the round that is under way; 0: none.
    under_way: AtomicU64,
    calls: Calls,
    past: Mutex<Past>,
    file_systems: Mutex<FileSystemsPast>,
    reports: Mutex<Reports>,
}

#[derive(Default)]
struct Past {
    clock: ClockPast,
    numbers: NumbersPast,
    written: BTreeMap<ServiceId, Written>,
}

/// The file systems that a service writes to, as they were told to the engine.
struct Written {
    main: Option<ProcessKey>,
    at: Timestamp,
    writes: Writes,
    folder: Option<String>,
}

/// A service as a round looks at it.
struct Looked {
    service: ServiceId,
    main: Option<ProcessKey>,
    /// The folder that its command runs in.
    folder: Option<String>,
}

impl HostMonitor {
    pub(crate) fn new(reader: ProcReader) -> Self {
        let shared = Shared {
            under_way: AtomicU64::new(0),
            calls: Calls::default(),
            past: Mutex::default(),
            file_systems: Mutex::default(),
            reports: Mutex::default(),
        };
        Self {
            reader,
            read_clock: clock::read,
            due: Timestamp::default(),
            began: Timestamp::default(),
            rounds: 0,
            shared: Arc::new(shared),
        }
    }

    /// Has the next round begin soon: what just happened may have its cause in the host.
    pub(crate) fn hasten(&mut self) {
        self.due = self.due.min(self.began.plus(SOONEST));
    }

    /// Begins a round if one is due, with something to do `after` it that may block as well. Meant for one call a second.
    pub(crate) fn sample(
        &mut self,
        config: &Config,
        enricher: &Enricher,
        answers: &Outcomes<Answer>,
        after: impl FnOnce() + Send + 'static,
    ) {
        let now = Timestamp::now();
        if now < self.due || self.is_busy(now) {
            return;
        }
        (self.due, self.began) = (now.plus(INTERVAL), now);
        self.rounds += 1;
        let looked = config.services.iter().map(|service| {
            let folder = service.exec().and_then(|exec| exec.directory.to_str().map(str::to_owned));
            Looked { service: service.id, main: enricher.members.main_of(service.id), folder }
        });
        let round = Round {
            number: self.rounds,
            options: config.host.clone(),
            looked: looked.collect(),
            reader: self.reader.clone(),
            clock: self.read_clock,
            shared: Arc::clone(&self.shared),
            answers: answers.clone(),
        };
        self.shared.under_way.store(round.number, Ordering::Release);
        if let Err(error) = bounded_thread::start("host", move || {
            round.run();
            after();
        }) {
            self.shared.under_way.store(0, Ordering::Release);
            tracing::warn!("host: its checks are left out once: {error}");
        }
    }

    /// Whether a round is under way. One that a file system holds up is given up.
    fn is_busy(&self, now: Timestamp) -> bool {
        let round = self.shared.under_way.load(Ordering::Acquire);
        if round == 0 {
            return false;
        }
        let Some(point) = self.shared.calls.give_up(round, PATIENCE, now) else { return true };
        tracing::warn!(
            "{point}: has not answered for {PATIENCE:?}; it is left out of the checks of the host until it does"
        );
        false
    }
}

struct Round {
    number: u64,
    options: HostOptions,
    looked: Vec<Looked>,
    reader: ProcReader,
    clock: fn() -> Option<ClockReading>,
    shared: Arc<Shared>,
    answers: Outcomes<Answer>,
}

impl Round {
    fn run(self) {
        let mut measured = self.numbers();
        let now = Timestamp::now();
        let asked = file_systems::ask_all(&self.reader, &self.options, &self.shared.calls, self.number);
        // Another round does the rest, and has done it already.
        let Ok(asked) = asked else { return };
        measured.extend(lock(&self.shared.file_systems).measure(&asked, &self.options, now));
        let unread = |subject: &HostSubject| {
            let is_of_file_system = matches!(subject.check, HostCheck::Space | HostCheck::Inodes);
            let is_unread = |it: &Asked| it.0.point == subject.target && file_systems::is_unread(it);
            is_of_file_system && asked.iter().any(is_unread)
        };
        let is_low = measured.iter().any(|it| it.device.is_some() && it.value >= it.limit);
        self.look_up_written(is_low, now);
        let readings: Vec<HostReading> = lock(&self.shared.reports).take(measured, unread, now);
        if !readings.is_empty() {
            self.answers.blocking_send(Answer::Host(readings));
        }
        self.shared.under_way.store(0, Ordering::Release);
    }

    fn numbers(&self) -> Vec<Measured> {
        let mut past = lock(&self.shared.past);
        let mut measured = past.numbers.measure(&self.reader, &self.options);
        if let Some(clock) = (self.clock)() {
            measured.extend(past.clock.measure(clock, &self.options));
        }
        measured
    }

    /// Tells the engine which file systems services write to, where that has changed. With one at its limit, each round.
    fn look_up_written(&self, is_low: bool, now: Timestamp) {
        let mut past = lock(&self.shared.past);
        past.written.retain(|id, _| self.looked.iter().any(|looked| looked.service == *id));
        // In most rounds, no service is due.
        let mounts = LazyCell::new(|| self.reader.mounts().unwrap_or_default().0);
        for looked in &self.looked {
            let known = past.written.get(&looked.service);
            let is_new = known.is_none_or(|known| looked.main.is_some() && known.main != looked.main);
            // Another folder is the first that is known of its next run.
            let has_moved = known.is_some_and(|known| known.folder != looked.folder);
            if !is_new && !has_moved && !is_low && known.is_some_and(|known| now.since(known.at) < WRITTEN) {
                continue;
            }
            let mut devices = looked.main.map(|main| self.reader.written_by(main.pid)).unwrap_or_default();
            devices.extend(looked.folder.as_deref().and_then(|folder| written_at(&mounts, folder)));
            let (before, had) = known.map_or((Writes::default(), None), |it| (it.writes.clone(), it.main));
            if is_new {
                // It may not have opened its files yet.
                devices.extend(before.devices.iter().cloned());
            }
            let devices: Vec<String> = devices.into_iter().collect();
            let as_root = looked.main.and_then(|main| self.reader.writes_as_root(main.pid));
            let as_root = as_root.unwrap_or(before.as_root);
            // What ended shows nothing any more, and what it wrote to is what its next run will write to.
            let shows_nothing = devices.is_empty() && !has_moved && (looked.main.is_none() || had.is_none());
            let writes = Writes { devices, as_root };
            let is_told = writes == before || shows_nothing;
            let writes = if is_told { before } else { writes };
            if !is_told {
                self.answers.blocking_send(Answer::WritesTo(looked.service, writes.clone()));
            }
            let main = looked.main.or(had);
            past.written
                .insert(looked.service, Written { main, at: now, writes, folder: looked.folder.clone() });
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
