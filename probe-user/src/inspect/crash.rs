//! Where main processes crashed, in names.
//!
//! The kernel's record has a stack of build ids and addresses. What they stand for is in files that the process had mapped,
//! and in nothing that is left once it is gone. So the map of each main process is read now and then, off the loop, and the
//! names are looked up when it has crashed.

mod callers;
mod core_dump;
#[cfg(fuzzing)]
pub mod fuzz;
mod image;
mod modules;
pub mod names;
mod symbolizer;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use self::{
    core_dump::{Dumped, Pattern},
    image::Image,
};
use super::blocking_reads::BlockingReads;
use crate::{
    bounded_thread::OneAtATime,
    clock::Timestamp,
    fact::{CrashSite, Process, ProcessKey, ServiceId},
    host::ProcReader,
    stacks::StackCopy,
};

/// When the map of a process is read after the watch began: a program loads most of its libraries as it starts. The last
/// one repeats. A reading takes some hundred microseconds.
const READ_AFTER: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];
const READ_EVERY: Duration = Duration::from_secs(600);

/// How long a reading of a map may take, and one of a process that is about to be gone.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the search for names may take, and how long it may wait for others: services that depend on each other crash at
/// once. How long the search for the core dump may take after it.
const NAMES_TIMEOUT: Duration = Duration::from_secs(3);
const CALLERS_TIMEOUT: Duration = Duration::from_secs(1);
const TURN_TIMEOUT: Duration = Duration::from_secs(12);
const CORE_TIMEOUT: Duration = Duration::from_millis(1500);

/// A fault that is noticed this long after a crash may still be that crash: systemd reports the failed state of a unit later
/// than the kernel reports the exit.
const SETTLES: Duration = Duration::from_secs(2);

/// How long a person waits for the names, who gets what is known by then. What comes later is an update.
const PATIENCE: Duration = Duration::from_secs(1);
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(18);

/// A search that ends by itself is waited for a little longer.
const LATE: Duration = Duration::from_millis(200);

/// The most stacks that wait for the record of their crash, which comes in the same batch.
const STACKS_MAX: usize = 32;

/// The most processes whose files are kept open.
const OPEN_MAX: usize = 512;

/// The image of a process, once it has been read.
type Slot = Arc<Mutex<Image>>;

/// Finds out where main processes crashed.
#[derive(Debug)]
pub struct Crashes {
    reader: ProcReader,
    reads: BlockingReads,
    turns: OneAtATime,
    watched: HashMap<ServiceId, Watched>,
    latest: HashMap<ServiceId, Latest>,
    /// The memory of stacks whose crashes are reported in a moment, by pid.
    stacks: VecDeque<(u32, StackCopy)>,
}

/// A main process whose map is read.
#[derive(Debug)]
struct Watched {
    process: ProcessKey,
    image: Slot,
    /// None once the process has ended.
    task: Option<Task>,
}

/// It ends when it is dropped.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The latest crash of a service's main process.
#[derive(Debug)]
struct Latest {
    process: ProcessKey,
    /// When the process was gone. A core dump may take minutes until then.
    ended: Option<Timestamp>,
    site: watch::Receiver<Found>,
    /// Gone once the service has crashed again.
    present: Arc<()>,
}

/// What is known of a crash by now.
#[derive(Clone, Debug)]
struct Found {
    /// As the record has it until the names are there.
    site: CrashSite,
    names_are_there: bool,
}

/// A crash that a fault is about.
#[derive(Clone, Debug)]
pub struct Crash {
    site: watch::Receiver<Found>,
    present: Weak<()>,
}

impl Crash {
    /// The place once its names have been looked up. Without an answer in time it is as the kernel has it.
    pub async fn named(&mut self) -> CrashSite {
        let _ = timeout(PATIENCE, self.site.wait_for(|found| found.names_are_there)).await;
        self.site.borrow().site.clone()
    }

    /// What is known in the end; None if the service has crashed again meanwhile.
    pub async fn complete(mut self) -> Option<CrashSite> {
        // The search drops its sender when it is over.
        let _ = timeout(COMPLETE_TIMEOUT, async { while self.site.changed().await.is_ok() {} }).await;
        self.present.upgrade()?;
        Some(self.site.borrow().site.clone())
    }
}

/// A process that crashed, and what is known of it without a look at the host.
#[derive(Clone, Debug)]
pub struct Crashed {
    pub key: ProcessKey,
    pub at: Timestamp,
    pub process: Option<Process>,
    pub thread_name: String,
}

impl Crashes {
    pub(super) fn new(reader: ProcReader) -> Self {
        Self {
            reader,
            reads: BlockingReads::new(),
            turns: OneAtATime::default(),
            watched: HashMap::new(),
            latest: HashMap::new(),
            stacks: VecDeque::new(),
        }
    }

    pub(super) fn remove(&mut self, service: ServiceId) {
        self.watched.remove(&service);
        self.latest.remove(&service);
    }

    /// The main process of a service is this one from now on, or none. Its map is read off the loop.
    pub fn watch(&mut self, service: ServiceId, main: Option<ProcessKey>) {
        let earlier = self.watched.get_mut(&service);
        let Some(process) = main else {
            if let Some(watched) = earlier {
                watched.task = None;
                let mut image = locked(&watched.image);
                *image = image.without_files();
            }
            return;
        };
        let known = earlier.map(|watched| locked(&watched.image).without_files()).unwrap_or_default();
        let image = Arc::new(Mutex::new(known));
        let running = self.watched.values().filter(|watched| watched.task.is_some()).count();
        let task = self.keep_reading(process, Arc::clone(&image), running < OPEN_MAX);
        self.watched.insert(service, Watched { process, image, task: Some(task) });
    }

    /// A process executed another program: its map is another one now.
    pub fn executed(&mut self, pid: u32) {
        let its = |watched: &&Watched| watched.process.pid == pid && watched.task.is_some();
        let its = self.watched.iter().filter(|(_, watched)| its(watched));
        let its: Vec<_> = its.map(|(service, watched)| (*service, watched.process)).collect();
        for (service, process) in its {
            self.watch(service, Some(process));
        }
    }

    fn keep_reading(&self, process: ProcessKey, image: Slot, keeps_files: bool) -> Task {
        let (reader, reads) = (self.reader.clone(), self.reads.clone());
        Task(tokio::spawn(async move {
            let mut after = READ_AFTER.into_iter();
            loop {
                sleep(after.next().unwrap_or(READ_EVERY)).await;
                let reader = reader.clone();
                let read = move || Image::read(&reader, process);
                // If it has ended, the end of the watch comes in a moment. A map that cannot be read now may be later.
                if let Ok(Some(read)) = reads.read(READ_TIMEOUT, read).await {
                    // Tests wait for this line.
                    tracing::debug!("crash site: read the map of pid {}", process.pid);
                    *locked(&image) = if keeps_files { read } else { read.without_files() };
                }
            }
        }))
    }

    /// The memory of the stack of a process that crashes: its crash is the next record of it.
    pub fn copied(&mut self, pid: u32, stack: StackCopy) {
        self.stacks.truncate(STACKS_MAX - 1);
        self.stacks.push_front((pid, stack));
    }

    /// A main process of these services has crashed. The search for names begins at once, while the process may still be
    /// there.
    pub fn crashed(&mut self, services: &[ServiceId], crashed: Crashed, site: CrashSite) {
        let key = crashed.key;
        // It is kept for no longer, whoever crashed.
        let position = self.stacks.iter().position(|(pid, _)| *pid == key.pid);
        let stack = position.and_then(|it| self.stacks.remove(it)).map(|(_, stack)| stack);
        let Some(service) = services.first() else { return };
        let known = self.watched.get(service).map(|watched| locked(&watched.image).clone());
        let (sender, receiver) = watch::channel(Found { site: site.clone(), names_are_there: false });
        let (reader, reads, turns) = (self.reader.clone(), self.reads.clone(), self.turns.clone());
        for service in services {
            let latest =
                Latest { process: key, ended: None, site: receiver.clone(), present: Arc::default() };
            self.latest.insert(*service, latest);
        }
        tokio::spawn(async move {
            // A process that dumps core keeps its map for that long, and that is the latest one.
            let present = reads.read(READ_TIMEOUT, move || Image::read(&reader, key)).await;
            let image = present.ok().flatten().or(known).unwrap_or_default();
            let of_names = (image.clone(), site.clone());
            let search = move || {
                let (image, mut site) = of_names;
                if let Some(stack) = stack {
                    callers::find(&mut site, &image, &stack, Instant::now() + CALLERS_TIMEOUT);
                }
                modules::name(&mut site, &image, Instant::now() + NAMES_TIMEOUT);
                site
            };
            let mut site = match turns.answer("crash-site", TURN_TIMEOUT, search).await {
                Ok(named) => named,
                Err(error) => {
                    tracing::debug!("crash site of pid {}: no names: {error}", key.pid);
                    site
                }
            };
            let _ = sender.send(Found { site: site.clone(), names_are_there: true });
            let dumped = dumped(&crashed, &site);
            let until = Instant::now() + CORE_TIMEOUT;
            let find = move || core_dump::find(&Pattern::read(), &dumped, &image, until);
            if let Ok(Some(core)) = reads.read(CORE_TIMEOUT + LATE, find).await {
                site.core = Some(core);
                let _ = sender.send(Found { site, names_are_there: true });
            }
        });
    }

    /// A process has ended. Returns what is known by now of its crash, if it has crashed.
    pub fn ended(&mut self, process: ProcessKey, at: Timestamp) -> Option<CrashSite> {
        let mut site = None;
        for crash in self.latest.values_mut().filter(|crash| crash.process == process) {
            crash.ended = Some(at);
            site.get_or_insert_with(|| crash.site.borrow().site.clone());
        }
        site
    }

    /// The crash that a fault of a service from then on may be about; none that was over before.
    pub(super) fn of_service(&self, service: ServiceId, since: Timestamp) -> Option<Crash> {
        let crash = self.latest.get(&service)?;
        let is_over = crash.ended.is_some_and(|ended| ended.plus(SETTLES) < since);
        let (site, present) = (crash.site.clone(), Arc::downgrade(&crash.present));
        (!is_over).then_some(Crash { site, present })
    }
}

fn dumped(crashed: &Crashed, site: &CrashSite) -> Dumped {
    let process = crashed.process.as_ref();
    Dumped {
        pid: crashed.key.pid,
        namespaced_pid: process.and_then(|it| it.namespace_pid).unwrap_or(crashed.key.pid),
        signal: site.signal,
        user_id: process.map_or(0, |it| it.user_id),
        name: crashed.thread_name.clone(),
        at: SystemTime::try_from(crashed.at.to_wall()).unwrap_or(SystemTime::UNIX_EPOCH),
    }
}

fn locked(slot: &Slot) -> MutexGuard<'_, Image> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
