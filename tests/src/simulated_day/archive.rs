//! The engine replays a recording. What it publishes of incidents and services goes into a state file, as a daemon writes it.

use std::{collections::BTreeMap, fs::File, io::BufReader, path::Path, time::Duration};

use hostprobe::{
    clock::Timestamp,
    config::Config,
    emit::{self, Names, for_each_line},
    engine::{Effect, Effects, Engine},
    fact::{Action, EventId, Fact, IncidentId, Observation, Phase, ServiceId},
    store::{
        recording::{
            line::{Entry, Line},
            portable,
        },
        rollup::{Collector, Rollup},
        state::StateStore,
    },
};
use serde_json::{Value, json};

use super::{
    clock::{BOOT, moment},
    recorder::origin,
};

/// A daemon looks at its clocks every second. This often is enough.
const TICK: Duration = Duration::from_secs(10);

/// Replays a recording into the state file of the configuration.
pub(super) fn keep(config: &Config, recording: &Path) {
    let mut run: Option<Run<'_>> = None;
    let file = BufReader::new(File::open(recording).expect("the recording is there"));
    let read = for_each_line(file, |_, line| {
        let line: Line = serde_json::from_slice(line.expect("a line")).expect("a line of a recording");
        if run.as_ref().is_none_or(|run| run.id != line.run) {
            if let Some(before) = run.take() {
                before.end();
            }
            run = Some(Run::start(config, &line));
        }
        run.as_mut().expect("a run").take(line);
    });
    read.expect("the recording is readable");
    run.expect("a run").end();
}

/// One run of the daemon.
struct Run<'c> {
    config: &'c Config,
    id: String,
    engine: Engine,
    archive: Archive,
    now: Timestamp,
}

impl<'c> Run<'c> {
    fn start(config: &'c Config, first: &Line) -> Self {
        let now = Timestamp::from_nanos(first.at_ns);
        let engine = Engine::new(&config.services, false, now).with_restart_budget(config.restart_budget);
        Self { config, id: first.run.clone(), engine, archive: Archive::open(config, first, now), now }
    }

    fn take(&mut self, line: Line) {
        self.pass_until(Timestamp::from_nanos(line.at_ns));
        match line.entry {
            Entry::Tick {} => self.engine.tick(self.now, &mut self.archive),
            Entry::Observation(seen) => {
                let find = |name: &str| self.archive.names.find(name);
                let observation = serde_json::from_value(seen.seen).expect("an observation");
                let observation = portable::placed(observation, &seen.services, find).expect("its services");
                if let Observation::Probe(report) = &observation {
                    self.archive.collector.on_probe(report);
                }
                self.engine.observe(self.now, observation, &mut self.archive);
            }
            Entry::Start(_) | Entry::Decision(_) => {}
        }
        self.look();
    }

    /// Time passes, and the daemon looks at its clocks.
    fn pass_until(&mut self, until: Timestamp) {
        while self.now < until {
            self.now = self.now.plus(TICK).min(until);
            self.look();
        }
    }

    fn look(&mut self) {
        for view in self.engine.view() {
            self.archive.collector.on_view(&view, self.now);
        }
        if self.archive.collector.tick(self.now, self.archive.wall_ahead) {
            self.archive.write(self.now);
        }
    }

    /// The daemon runs until the next full minute.
    fn end(mut self) {
        const MINUTE: u64 = 60_000_000_000;
        let whole = self.now.as_nanos().saturating_sub(BOOT).next_multiple_of(MINUTE);
        self.pass_until(moment(Duration::from_nanos(whole)));
        self.archive.write(self.now);
        self.archive.store.shutdown(Duration::from_secs(60));
        assert_eq!(self.archive.store.take_loss(), 0, "{}", self.config.state.directory.display());
    }
}

/// Takes down what the engine publishes.
struct Archive {
    names: Names,
    run: String,
    wall_ahead: i128,
    published: u64,
    collector: Collector,
    store: StateStore,
    incidents: BTreeMap<IncidentId, Value>,
}

impl Archive {
    fn open(config: &Config, first: &Line, now: Timestamp) -> Self {
        let wall: jiff::Timestamp = first.timestamp.parse().expect("a time");
        let wall_ahead = wall.as_nanosecond() - i128::from(first.at_ns);
        let opened = StateStore::open(&config.state, &origin(&first.run));
        let (store, _) = opened.expect("the state file opens");
        Self {
            names: Names::of(config),
            run: first.run.clone(),
            wall_ahead,
            published: 0,
            collector: Collector::new(now, wall_ahead),
            store,
            incidents: BTreeMap::new(),
        }
    }

    fn wall(&self, at: Timestamp) -> String {
        let wall = jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos()) + self.wall_ahead);
        format!("{:.9}", wall.expect("a time"))
    }

    fn write(&mut self, now: Timestamp) {
        let rollups: Vec<Rollup> = self
            .collector
            .take(now)
            .map(|(id, start, totals)| Rollup { service: self.names.service(id).to_owned(), start, totals })
            .collect();
        self.store.keep_rollups(rollups);
        self.store.flush();
    }

    fn keep(&self, incident: IncidentId) {
        if let Some(timeline) = self.incidents.get(&incident) {
            let timeline = serde_json::from_value(timeline.clone()).expect("a timeline");
            self.store.keep_incident(timeline);
        }
    }
}

impl Effects for Archive {
    fn publish(&mut self, fact: Fact, at: Timestamp) -> EventId {
        self.collector.on_fact(&fact, at);
        if let Fact::Incident(phase, incident) = &fact
            && incident.service != ServiceId::DAEMON
        {
            let mut shown = emit::incident(incident, &origin(&self.run), &self.names);
            // By the clock of the day.
            shown.since = Some(self.wall(incident.since));
            let until = (*phase == Phase::Resolve).then(|| self.wall(at));
            let known = self.incidents.entry(incident.id).or_insert_with(|| {
                json!({ "service": self.names.service(incident.service), "hold": null, "holds": 0, "evidence": [],
                        "steps": [], "left_out": 0 })
            });
            known["incident"] = serde_json::to_value(shown).expect("it is JSON");
            known["until"] = until.into();
            self.keep(incident.id);
        } else if let Fact::Restart(restart) = &fact
            && let (Action::Hold(_), Some(incident)) = (&restart.action, restart.incident)
            && let Some(known) = self.incidents.get_mut(&incident)
        {
            known["holds"] = (known["holds"].as_u64().unwrap_or_default() + 1).into();
            self.keep(incident);
        }
        self.published += 1;
        EventId(self.published)
    }

    fn request(&mut self, _: Effect) {}
}
