//! The resource usage of services with limits, sampled off the detection path.

mod levels;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use self::levels::{Levels, tightest};
use super::answer::Answer;
use crate::{
    bounded_thread,
    clock::Timestamp,
    config::{Config, Limits},
    enrich::Enricher,
    fact::{ProcessKey, ResourceUsage, ServiceId, Share},
    growth::Series,
    host::{Ceiling, ProcReader, Usage},
    outcomes::Outcomes,
};

/// Time between two samples of a service, unless its `growth` is so short that it needs more of them.
const INTERVAL: Duration = Duration::from_secs(5);

/// Takes samples, and keeps the last one of each service.
pub struct UsageSampler {
    reader: ProcReader,
    due: Timestamp,
    under_way: Arc<AtomicBool>,
    last: Arc<Mutex<HashMap<ServiceId, Sampled>>>,
}

/// What is kept of a service between two samples.
#[derive(Default)]
struct Sampled {
    usage: Option<Usage>,
    levels: Levels,
}

/// A service to sample.
struct Target {
    id: ServiceId,
    main: ProcessKey,
    limits: Limits,
}

impl UsageSampler {
    pub(crate) fn new(reader: ProcReader) -> Self {
        Self { reader, due: Timestamp::default(), under_way: Arc::default(), last: Arc::default() }
    }

    /// Takes the connections that a server reports, for the growth of its service.
    pub(crate) fn on_connections(&self, service: ServiceId, connections: Share) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sampled) = last.get_mut(&service) {
            sampled.levels.on_connections(connections);
        }
    }

    /// Samples all running services with limits, when that is due. The work has its own thread: to read `/proc` for a
    /// large service takes milliseconds.
    pub(crate) fn sample(&mut self, config: &Config, enricher: &Enricher, outcomes: &Outcomes<Answer>) {
        let now = Timestamp::now();
        if now < self.due || self.under_way.load(Ordering::Relaxed) {
            return;
        }
        let limited = config.services.iter().filter(|service| service.limits != Limits::default());
        let targets: Vec<Target> = limited
            .filter_map(|it| {
                Some(Target { id: it.id, main: enricher.members.main_of(it.id)?, limits: it.limits })
            })
            .collect();
        let shortest = targets.iter().filter_map(|target| target.limits.growth).map(Series::block).min();
        self.due = now.plus(shortest.map_or(INTERVAL, |block| block.min(INTERVAL)));
        if targets.is_empty() {
            return;
        }
        let kept = |id: &ServiceId| config.service(*id).is_some();
        self.last.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| kept(id));
        let (reader, last, outcomes) = (self.reader.clone(), Arc::clone(&self.last), outcomes.clone());
        let under_way = Arc::clone(&self.under_way);
        under_way.store(true, Ordering::Relaxed);
        let started = bounded_thread::start("usage", move || {
            let process_tree = reader.process_tree();
            for target in targets {
                let pids = process_tree.of(target.main.pid);
                sample_one(&reader, &target, &pids, &last, &outcomes);
            }
            under_way.store(false, Ordering::Relaxed);
        });
        if let Err(error) = started {
            self.under_way.store(false, Ordering::Relaxed);
            tracing::warn!("usage of the services' processes: cannot be read: {error}");
        }
    }
}

fn sample_one(
    reader: &ProcReader,
    target: &Target,
    pids: &[u32],
    last: &Mutex<HashMap<ServiceId, Sampled>>,
    outcomes: &Outcomes<Answer>,
) {
    let Target { id, main, limits } = target;
    let usage = reader.usage(pids);
    let memory_percent = usage.memory_percent(
        reader.cgroups().memory_limit_of(main.pid),
        reader.memory_total().unwrap_or(u64::MAX),
    );
    let needs = |percent: Option<f64>| percent.is_some() || limits.growth.is_some();
    let threads = if needs(limits.threads_percent) { reader.thread_ceilings(main.pid) } else { Vec::new() };
    let fds: Vec<Ceiling> = if needs(limits.fds_percent) {
        pids.iter().filter_map(|pid| reader.descriptor_ceiling(*pid)).collect()
    } else {
        Vec::new()
    };
    let percent = |ceilings: &[Ceiling]| tightest(ceilings, None).map_or(0.0, Ceiling::percent);
    let (threads_percent, fds_percent) = (percent(&threads), percent(&fds));
    let memory = limits.growth.is_some().then(|| {
        let anonymous = || pids.iter().map(|pid| reader.anonymous_bytes(*pid)).sum();
        reader.memory_ceilings(main.pid, anonymous)
    });

    let mut kept = last.lock().unwrap_or_else(PoisonError::into_inner);
    let sampled = kept.entry(*id).or_default();
    let cpu_percent = sampled.usage.as_ref().and_then(|earlier| usage.cpu_percent(earlier)).unwrap_or(0.0);
    let levels = limits.growth.and_then(|growth| {
        sampled.levels.add([memory.unwrap_or_default(), fds, threads]);
        sampled.levels.take(*main, Series::block(growth), usage.at)
    });
    let used = ResourceUsage {
        cpu_percent,
        memory_percent,
        threads: usage.threads,
        fds: usage.fds,
        threads_percent,
        fds_percent,
    };
    sampled.usage = Some(usage);
    drop(kept);
    outcomes.blocking_send(Answer::Usage(*id, used));
    if let Some(levels) = levels {
        outcomes.blocking_send(Answer::Levels(*id, levels));
    }
}
