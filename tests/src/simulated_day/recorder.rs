//! A daemon reduced to the engine and its recording. Whatever the engine requests succeeds a little later.

use std::{collections::BTreeMap, path::Path, time::Duration};

use hostprobe::{
    clock::Timestamp,
    config::Config,
    emit::{Names, Origin},
    engine::{Effect, Effects, Engine},
    fact::{
        EventId, Examination, Fact, Observation, ProbeKind, ProbeOutcome, ProbeReport, ProcessKey, ServiceId,
    },
    store::recording::{
        Decision,
        line::{Entry, Line, Seen, Start},
        portable,
    },
};

/// How long after its request a restart is done, and how long after that the service answers.
const RESTART: Duration = Duration::from_millis(2);
const ANSWER: Duration = Duration::from_millis(498);

pub(super) struct Recorder<'c> {
    config: &'c Config,
    pub(super) names: Names,
    run: String,
    engine: Engine,
    published: Published,
    pub(super) now: Timestamp,
    wall_ahead: i128,
    sequence: u64,
    next_pid: u32,
    /// The latest main process of each service.
    mains: BTreeMap<ServiceId, ProcessKey>,
    lines: Vec<u8>,
}

#[derive(Default)]
struct Published {
    facts: Vec<(Fact, Timestamp)>,
    requested: Vec<Effect>,
    count: u64,
}

impl Effects for Published {
    fn publish(&mut self, fact: Fact, at: Timestamp) -> EventId {
        self.facts.push((fact, at));
        self.count += 1;
        EventId(self.count)
    }

    fn request(&mut self, effect: Effect) {
        self.requested.push(effect);
    }
}

/// The origin of the events of a run.
pub(super) fn origin(run: &str) -> Origin {
    Origin { ephemeral_id: run.to_owned(), ..Origin::read(Path::new("/nonexistent")) }
}

impl<'c> Recorder<'c> {
    /// A run of the daemon that starts at `now`.
    pub(super) fn start(config: &'c Config, run: &str, now: Timestamp, wall_ahead: i128) -> Self {
        let engine = Engine::new(&config.services, false, now).with_restart_budget(config.restart_budget);
        let mut recorder = Self {
            config,
            names: Names::of(config),
            run: run.to_owned(),
            engine,
            published: Published::default(),
            now,
            wall_ahead,
            sequence: 0,
            next_pid: 100,
            mains: BTreeMap::new(),
            lines: Vec::new(),
        };
        recorder.write(
            0,
            now,
            Entry::Start(Start {
                version: String::new(),
                start_ns: now.as_nanos(),
                observe: false,
                digest: portable::digest(&config.services, config.restart_budget),
                services: config.services.iter().map(|service| service.name.clone()).collect(),
            }),
        );
        recorder
    }

    /// What it recorded.
    pub(super) fn stop(self) -> Vec<u8> {
        self.lines
    }

    pub(super) fn id(&self, service: &str) -> ServiceId {
        self.names.find(service).expect("the service is configured")
    }

    /// The engine observes at a moment, and what it requests is done.
    pub(super) fn see(&mut self, now: Timestamp, observation: Observation) {
        self.tick_until(now);
        self.now = now;
        let (seen, services) = portable::named(observation.clone(), |id| self.names.service(id).to_owned());
        let seen = serde_json::to_value(seen).expect("it is JSON");
        self.write_next(now, Entry::Observation(Seen { services, seen, clipped: false }));
        self.engine.observe(now, observation, &mut self.published);
        self.end_input();
    }

    /// A probe of a service ends.
    pub(super) fn answer(&mut self, service: &str, took: Duration, outcome: ProbeOutcome) {
        self.probed(self.id(service), took, outcome);
    }

    fn probed(&mut self, service: ServiceId, duration: Duration, outcome: ProbeOutcome) {
        let (at, target) = (self.now, "http://127.0.0.1/".to_owned());
        let report = ProbeReport {
            service,
            index: 0,
            at,
            kind: ProbeKind::Http,
            target,
            duration,
            outcome,
            hurried: None,
            remark: None,
            server: None,
        };
        self.see(at, Observation::Probe(report));
    }

    /// A service's main process starts, and the service answers.
    pub(super) fn run(&mut self, service: ServiceId) {
        self.next_pid += 1;
        let key = ProcessKey::new(self.next_pid, self.now);
        self.mains.insert(service, key);
        self.see(self.now, Observation::Running(service, key));
        self.now = self.now.plus(ANSWER);
        self.probed(service, Duration::from_millis(1), ProbeOutcome::Ok);
    }

    /// The main process of a service that started last.
    pub(super) fn main_of(&self, service: ServiceId) -> ProcessKey {
        *self.mains.get(&service).expect("it was started")
    }

    /// The daemon ticks whenever the engine is due until a moment.
    pub(super) fn tick_until(&mut self, until: Timestamp) {
        while let Some(due) = self.engine.deadline().filter(|&due| due <= until) {
            self.now = self.now.max(due);
            self.write_next(self.now, Entry::Tick {});
            self.engine.tick(self.now, &mut self.published);
            self.end_input();
        }
    }

    fn end_input(&mut self) {
        for (fact, at) in std::mem::take(&mut self.published.facts) {
            if let Some(decision) = Decision::of(&fact, &self.names, &origin(&self.run)) {
                self.write_next(at, Entry::Decision(decision));
            }
        }
        for effect in std::mem::take(&mut self.published.requested) {
            if let Effect::Restart { service, .. } = effect {
                self.now = self.now.plus(RESTART);
                self.see(self.now, Observation::RestartOutcome(service, Ok(())));
                self.run(service);
            } else if let Effect::Examine { service, over, .. } = effect {
                self.now = self.now.plus(over);
                let at_work = Examination { at: self.now, over, switches: 20, ..Examination::default() };
                self.see(self.now, Observation::Examined(service, Some(at_work)));
            } else if let Effect::Snapshot(service) = effect {
                self.now = self.now.plus(RESTART);
                self.see(
                    self.now,
                    Observation::Snapshot(service, Ok("/var/lib/hostprobe/web.txt".to_owned())),
                );
            }
        }
    }

    fn write_next(&mut self, at: Timestamp, entry: Entry) {
        self.sequence += 1;
        self.write(self.sequence, at, entry);
    }

    fn write(&mut self, sequence: u64, at: Timestamp, entry: Entry) {
        let wall = jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos()) + self.wall_ahead);
        let timestamp = format!("{:.9}", wall.expect("a time"));
        let line = Line { run: self.run.clone(), sequence, timestamp, at_ns: at.as_nanos(), entry };
        serde_json::to_writer(&mut self.lines, &line).expect("it is JSON");
        self.lines.push(b'\n');
    }

    /// The configured services.
    pub(super) fn services(&self) -> Vec<String> {
        self.config.services.iter().map(|service| service.name.clone()).collect()
    }
}
