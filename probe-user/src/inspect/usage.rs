//! The resource usage of services with limits, sampled off the detection path.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::answer::Answer;
use crate::{
    bounded_thread,
    clock::Timestamp,
    config::{Config, Limits},
    enrich::Enricher,
    fact::{ProcessKey, ResourceUsage, ServiceId},
    host::{ProcReader, Usage},
    outcomes::Outcomes,
};

/// Time between two samples of a service.
const INTERVAL: Duration = Duration::from_secs(5);

/// Takes samples, and keeps the last one of each service.
pub struct UsageSampler {
    reader: ProcReader,
    due: Timestamp,
    under_way: Arc<AtomicBool>,
    last: Arc<Mutex<HashMap<ServiceId, Usage>>>,
}

impl UsageSampler {
    pub(crate) fn new(reader: ProcReader) -> Self {
        Self { reader, due: Timestamp::default(), under_way: Arc::default(), last: Arc::default() }
    }

    /// Samples all running services with limits, when that is due. The work has its own thread: to read `/proc` for a
    /// large service takes milliseconds.
    pub(crate) fn sample(&mut self, config: &Config, enricher: &Enricher, outcomes: &Outcomes<Answer>) {
        let now = Timestamp::now();
        if now < self.due || self.under_way.load(Ordering::Relaxed) {
            return;
        }
        self.due = now.plus(INTERVAL);
        let limited = config.services.iter().filter(|service| service.limits != Limits::default());
        let mains = limited.filter_map(|it| Some((it.id, enricher.members.main_of(it.id)?)));
        let mains: Vec<(ServiceId, ProcessKey)> = mains.collect();
        if mains.is_empty() {
            return;
        }
        let kept = |id: &ServiceId| config.service(*id).is_some();
        self.last.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| kept(id));
        let (reader, last, outcomes) = (self.reader.clone(), Arc::clone(&self.last), outcomes.clone());
        let under_way = Arc::clone(&self.under_way);
        under_way.store(true, Ordering::Relaxed);
        let started = bounded_thread::start("usage", move || {
            let process_tree = reader.process_tree();
            for (service, main) in mains {
                let pids = process_tree.of(main.pid);
                let sample = reader.usage(&pids);
                let total = reader.memory_total().unwrap_or(u64::MAX);
                let limit = reader.cgroups().memory_limit_of(main.pid);
                let memory_percent = sample.memory_percent(limit, total);
                let (threads, fds) = (sample.threads, sample.fds);
                let earlier =
                    last.lock().unwrap_or_else(PoisonError::into_inner).insert(service, sample.clone());
                let cpu_percent = earlier.and_then(|earlier| sample.cpu_percent(&earlier)).unwrap_or(0.0);
                let usage = ResourceUsage { cpu_percent, memory_percent, threads, fds };
                outcomes.blocking_send(Answer::Usage(service, usage));
            }
            under_way.store(false, Ordering::Relaxed);
        });
        if let Err(error) = started {
            self.under_way.store(false, Ordering::Relaxed);
            tracing::warn!("usage of the services' processes: cannot be read: {error}");
        }
    }
}
