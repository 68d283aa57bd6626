//! A recording leads to the same decisions again.

use std::{io::Write, path::PathBuf, sync::mpsc, time::Duration};

use super::*;
use crate::{
    clock::Timestamp,
    config::{Exec, Identity, Limits, Policy, Probe, RestartPolicy, Secret, Service},
    emit::{Destination, MAX_LINE, Names, QueueLimits, Sink, tests::samples},
    engine::{Effect, Effects, Engine},
    fact::{
        EventId, ExitStatus, Fact, Membership, Observation, Pressure, ProbeFailure, ProbeKind, ProbeOutcome,
        ProbeReport, Process, ProcessExit, ProcessKey, ResourceUsage, Sender, ServerLimits, ServerReport,
        ServerUsage, ServiceId, Share, Source,
    },
    store::recording::{Recording, header, portable},
};

const SERVICES: u32 = 3;

fn config() -> Config {
    let service = |at: u32, name: &str| Service {
        id: ServiceId(at),
        name: name.to_owned(),
        identity: Identity::Exec(Exec {
            command: vec!["/bin/true".to_owned()],
            output: PathBuf::from("/dev/null"),
            ..Exec::default()
        }),
        depends_on: Vec::new(),
        start_after: Vec::new(),
        critical: true,
        maintenance: Vec::new(),
        probes: vec![
            Probe {
                slow: Some(Duration::from_millis(200)),
                server: ServerLimits { lag: Some(Duration::from_secs(4)), ..ServerLimits::default() },
                ..Probe::new(ProbeKind::Http, Secret::new("http://127.0.0.1:8080/"))
            },
            Probe::new(ProbeKind::Redis, Secret::new("redis://127.0.0.1:6379")),
        ],
        restart: RestartPolicy { enabled: true, grace: Duration::from_secs(2), ..RestartPolicy::default() },
        limits: Limits { threads: Some(100), cpu_percent: Some(90.0), ..Limits::default() },
        policy: Policy::default(),
    };
    let web = Service { depends_on: vec![ServiceId(1)], ..service(0, "web") };
    Config { services: vec![web, service(1, "cache"), service(2, "db")], ..Config::default() }
}

/// Hands what is written to the test.
struct Channel(mpsc::Sender<Vec<u8>>);

impl Destination for Channel {
    fn name(&self) -> String {
        "channel".to_owned()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let _ = self.0.send(lines.to_vec());
        Ok(lines.len())
    }
}

/// A daemon reduced to the engine and the recording.
struct Daemon {
    recording: Recording,
    header: Vec<u8>,
    written: mpsc::Receiver<Vec<u8>>,
    engine: Engine,
    publisher: Published,
    seen: u64,
}

/// What the engine published and requested.
#[derive(Default)]
struct Published {
    facts: Vec<(Fact, Timestamp)>,
    restarts: Vec<ServiceId>,
}

impl Effects for Published {
    fn publish(&mut self, fact: Fact, at: Timestamp) -> EventId {
        self.facts.push((fact, at));
        EventId(1)
    }

    fn request(&mut self, effect: Effect) {
        if let Effect::Restart { service, .. } = effect {
            self.restarts.push(service);
        }
    }
}

impl Daemon {
    fn start(config: &Config, now: Timestamp) -> Self {
        let (send, written) = mpsc::channel();
        let limits = QueueLimits { lines: usize::MAX, bytes: usize::MAX };
        let sink = Sink::spawn(Channel(send), limits).unwrap();
        let (origin, names) = (samples::origin(), Names::of(config));
        let recording = Recording::new(sink, &config.services, &origin, &names);
        let header = header(config, false, &origin, now);
        let engine = Engine::new(&config.services, false, now).with_restart_budget(config.restart_budget);
        Self { recording, header, written, engine, publisher: Published::default(), seen: 0 }
    }

    fn see(&mut self, now: Timestamp, observation: Observation) {
        while let Some(due) = self.engine.deadline().filter(|&due| due <= now) {
            // The daemon wakes a little late.
            let woken = due.plus(Duration::from_micros(70)).min(now);
            self.recording.on_tick(woken);
            self.engine.tick(woken, &mut self.publisher);
            self.record_facts();
        }
        self.seen += 1;
        self.recording.on_observation(now, &observation);
        self.engine.observe(now, observation, &mut self.publisher);
        self.record_facts();
    }

    fn record_facts(&mut self) {
        for (fact, at) in self.publisher.facts.drain(..) {
            self.recording.on_fact(&fact, at);
        }
    }

    fn stop(self) -> Vec<u8> {
        assert_eq!(self.recording.shutdown(Duration::from_secs(20)), 0);
        self.header.into_iter().chain(self.written.into_iter().flatten()).collect()
    }
}

/// Numbers that look random and are always the same (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn answer(
    service: u32,
    index: usize,
    at: Timestamp,
    ms: u64,
    outcome: ProbeOutcome,
    used: u64,
) -> Observation {
    let server = (index == 1).then(|| {
        let report = ServerReport { lag: Some(Duration::from_secs(used / 20)), ..ServerReport::default() };
        ServerUsage { memory: Some(Share { used, most: 100 }), report, ..ServerUsage::default() }
    });
    Observation::Probe(ProbeReport {
        service: ServiceId(service),
        index,
        at,
        kind: ProbeKind::Http,
        target: "http://127.0.0.1:8080/".to_owned(),
        duration: Duration::from_millis(ms),
        outcome,
        hurried: None,
        remark: None,
        server,
    })
}

/// A long and eventful life of three services.
fn life(daemon: &mut Daemon, seed: u64) {
    let mut dice = Dice(seed);
    let mut now = Timestamp::from_nanos(1_000_000_000_000);
    let mut next_pid = 100;
    let key = |pid: u32, now: Timestamp| ProcessKey::new(pid, now);
    let mut mains = [None; SERVICES as usize];
    for round in 0..4000_u64 {
        now = now.plus(Duration::from_millis(50 + dice.below(900)));
        let service = dice.below(SERVICES.into()) as u32;
        let at = service as usize;
        // Most rounds are calm.
        let fate = if round % 400 < 300 { 100 } else { dice.below(14) };
        let ms = 1 + dice.below(9);
        match fate {
            0 => {
                if let Some(main) = mains[at].take() {
                    let exit = ProcessExit {
                        at: now,
                        source: Source::Ebpf,
                        process: Process {
                            command_line: Some("web --token hunter2".to_owned()),
                            ..Process::unknown(main, 1)
                        },
                        status: ExitStatus::Signal { number: 9, core_dumped: false },
                        sender: Some(Sender::Kernel),
                        sent_signal: Some(9),
                        sender_service: Some(ServiceId(0)),
                        oom: false,
                        max_rss_bytes: 0,
                        namespace_end: None,
                        left_processes: false,
                        crash: None,
                        actor: None,
                    };
                    let member = Membership { service: ServiceId(service), main: true };
                    daemon.see(now, Observation::Exit(exit, member, EventId(1)));
                }
            }
            1..4 => {
                let failed = ProbeOutcome::Failed(ProbeFailure::Timeout, "no answer".to_owned());
                daemon.see(now, answer(service, 0, now, 5000, failed, 0));
            }
            4 => daemon.see(now, answer(service, 0, now, 150 + dice.below(100), ProbeOutcome::Ok, 0)),
            5 => daemon.see(now, answer(service, 1, now, ms, ProbeOutcome::Ok, 60 + dice.below(40))),
            6 => {
                let usage = ResourceUsage {
                    cpu_percent: dice.below(120) as f64 / 1.1,
                    threads: 20,
                    ..ResourceUsage::default()
                };
                daemon.see(now, Observation::Usage(ServiceId(service), usage));
            }
            7 => {
                let cpu = Some(dice.below(10) as f64 / 10.0);
                daemon.see(now, Observation::Pressure(Pressure { at: now, cpu, ..Pressure::default() }));
            }
            8 => {
                let starting = ProbeOutcome::Starting("LOADING".to_owned());
                daemon.see(now, answer(service, 1, now, ms, starting, 0));
            }
            9 => {
                let (client, server) = (ServiceId(service), ServiceId(dice.below(SERVICES.into()) as u32));
                daemon.see(now, Observation::Connected { client, server });
            }
            _ => daemon.see(now, answer(service, dice.below(2) as usize, now, ms, ProbeOutcome::Ok, 10)),
        }
        let restarts: Vec<ServiceId> = daemon.publisher.restarts.drain(..).collect();
        let missing: Vec<ServiceId> = (0..SERVICES).map(ServiceId).filter(|_| round == 0).collect();
        for id in restarts.into_iter().chain(missing) {
            now = now.plus(Duration::from_millis(3));
            next_pid += 1;
            mains[id.0 as usize] = Some(key(next_pid, now));
            daemon.see(now, Observation::RestartOutcome(id, Ok(())));
            daemon.see(now, Observation::Running(id, key(next_pid, now)));
        }
    }
}

fn replayed(config: &Config, stream: &[u8]) -> Report {
    replayed_within(config, stream, Scope::default())
}

fn replayed_within(config: &Config, recording: &[u8], scope: Scope) -> Report {
    let mut replay = Replay::new(config, scope);
    replay.read("a file", recording).unwrap();
    replay.finish()
}

fn observations(recording: &[u8]) -> u64 {
    let lines = recording.split(|&byte| byte == b'\n');
    lines.filter(|line| line.windows(14).any(|part| part == b"\"observation\":")).count() as u64
}

#[test]
fn a_recording_without_the_routine_leads_to_the_same_decisions() {
    for seed in [1, 7, 0xfeed_beef] {
        let config = config();
        let mut daemon = Daemon::start(&config, Timestamp::from_nanos(999_000_000_000));
        life(&mut daemon, seed);
        let seen = daemon.seen;
        let recording = daemon.stop();
        let recorded = observations(&recording);
        assert!(recorded * 3 < seen * 2, "{recorded} of {seen} observations: the routine is left out");
        let report = replayed(&config, &recording);
        let [run] = report.runs.as_slice() else { panic!("one run, {:?}", report.runs.len()) };
        assert_eq!(run.same_configuration, Some(true));
        assert_eq!(run.observations, recorded);
        assert!(run.rows.iter().filter(|row| row.recorded.is_some()).count() > 20, "a life with events");
        let differing: Vec<&Row> = run.rows.iter().filter(|row| !row.same).take(3).collect();
        assert!(report.same && differing.is_empty(), "seed {seed}: {differing:#?}");
        assert!(run.notes.is_empty(), "{:?}", run.notes);
    }
}

#[test]
fn another_configuration_shows_what_would_differ() {
    let mut config = config();
    let mut daemon = Daemon::start(&config, Timestamp::from_nanos(999_000_000_000));
    life(&mut daemon, 7);
    let stream = daemon.stop();
    config.services[0].restart.enabled = false;
    config.services[1].name = "store".to_owned();
    let report = replayed(&config, &stream);
    assert!(!report.same);
    let run = &report.runs[0];
    assert_eq!(run.same_configuration, Some(false));
    let web = run.rows.iter().filter(|row| row.service == "web");
    assert!(web.clone().any(|row| row.recorded.as_deref() == Some("restart")));
    assert!(web.clone().all(|row| row.replayed.as_deref() != Some("restart")));
    assert!(run.rows.iter().filter(|row| row.service == "cache").all(|row| row.replayed.is_none()));
    assert!(run.only_recorded.contains("cache") && run.only_configured.contains("store"));
    assert!(run.notes.iter().any(|note| note.contains("what-if")), "{:?}", run.notes);
    // What is declared on one service is no matter of another's.
    assert!(run.rows.iter().filter(|row| row.service == "db").any(|row| row.same));
}

#[test]
fn a_reload_in_a_recording_is_replayed() {
    let config = config();
    let mut daemon = Daemon::start(&config, Timestamp::from_nanos(999_000_000_000));
    let reload = |daemon: &mut Daemon, change: fn(&mut Config)| {
        let mut next = config.clone();
        change(&mut next);
        let names = Names::after(&next, &Names::of(&config));
        daemon.recording.rename(names);
        let now = Timestamp::from_nanos(999_500_000_000);
        for gone in config.services.iter().filter(|service| next.service(service.id).is_none()) {
            daemon.see(now, Observation::Removed(gone.id));
        }
        for service in &next.services {
            daemon.see(now, Observation::Configured(service.id, Box::new(service.settings())));
        }
    };
    reload(&mut daemon, |config| {
        config.services[0].restart.budget = 1;
        config.services[0].depends_on.clear();
        config.services[1].restart.enabled = false;
        let mut added = config.services.remove(2);
        added.id = ServiceId(3);
        added.name = "queue".to_owned();
        added.depends_on = vec![ServiceId(0)];
        config.services.push(added);
    });
    life(&mut daemon, 7);
    // The added service has a life, too.
    let mut now = Timestamp::from_nanos(9_000_000_000_000);
    daemon.see(now, Observation::Running(ServiceId(3), ProcessKey::new(77, now)));
    for _ in 0..4 {
        now = now.plus(Duration::from_secs(5));
        let failed = ProbeOutcome::Failed(ProbeFailure::Refused, "connection refused".to_owned());
        daemon.see(now, answer(3, 0, now, 1, failed, 0));
    }
    let recording = daemon.stop();
    let report = replayed(&config, &recording);
    let run = &report.runs[0];
    let differing: Vec<&Row> = run.rows.iter().filter(|row| !row.same).take(3).collect();
    assert!(report.same && differing.is_empty(), "{differing:#?}");
    let decided = |name: &str| run.rows.iter().any(|row| row.service == name);
    assert!(decided("web") && decided("queue"), "{:?}", run.rows);
    assert!(run.only_recorded.is_empty(), "{:?}", run.only_recorded);
    assert!(run.notes.is_empty(), "{:?}", run.notes);
    // Another configuration decides before and after the reload.
    let mut other = config.clone();
    other.services[0].restart.budget = 7;
    let report = replayed(&other, &recording);
    assert!(report.runs[0].notes.iter().any(|note| note.contains("reload")), "{:?}", report.runs[0].notes);
}

#[test]
fn several_runs_and_damaged_lines_are_reported() {
    let config = config();
    let mut stream = Vec::new();
    for id in ["c0ffee00", "c0ffee01"] {
        let mut daemon = Daemon::start(&config, Timestamp::from_nanos(999_000_000_000));
        life(&mut daemon, 7);
        let run = String::from_utf8(daemon.stop()).unwrap().replace("c0ffee00", id);
        stream.extend_from_slice(run.as_bytes());
        writeln!(stream, "{{\"event\":").unwrap();
    }
    let whole = String::from_utf8(stream).unwrap();
    let report = replayed(&config, whole.as_bytes());
    assert!(report.same);
    assert_eq!((report.runs.len(), report.malformed), (2, 2));
    let bad = whole.lines().position(|line| line == "{\"event\":").unwrap() as u64 + 1;
    assert_eq!(report.first_malformed, Some(format!("line {bad} of a file")));

    let middle = whole.find("\"sequence\":50,").unwrap();
    let report = replayed(&config, &whole.as_bytes()[middle..]);
    let notes = &report.runs[0].notes;
    assert!(notes[0].contains("begins in the middle of this run, at its line 51"), "{notes:?}");

    let gone: String =
        whole.lines().filter(|line| !line.contains("\"sequence\":50,")).collect::<Vec<_>>().join("\n");
    let report = replayed(&config, gone.as_bytes());
    let notes = &report.runs[0].notes;
    assert!(notes.iter().any(|note| note.contains("missing in the recording: 1")), "{notes:?}");
}

#[test]
fn nothing_that_a_file_holds_is_too_much() {
    let config = config();
    let long = format!("{{\"a\":\"{}\"}}\n\n[]\n\u{0}\n", "x".repeat(200_000));
    let report = replayed(&config, long.as_bytes());
    assert_eq!(
        (report.malformed, report.first_malformed.as_deref(), report.runs.len()),
        (3, Some("line 1 of a file"), 0)
    );
}

#[test]
fn secrets_do_not_get_into_a_recording() {
    let mut daemon = Daemon::start(&config(), Timestamp::from_nanos(999_000_000_000));
    life(&mut daemon, 7);
    let text = String::from_utf8(daemon.stop()).unwrap();
    assert!(text.contains("web --token ***") && !text.contains("hunter2"));
}

#[test]
fn a_fingerprint_is_of_what_decides() {
    let (one, mut other) = (config(), config());
    other.http = None;
    assert_eq!(
        portable::digest(&one.services, one.restart_budget),
        portable::digest(&other.services, other.restart_budget)
    );
    other.services[2].restart.budget = 1;
    assert_ne!(
        portable::digest(&one.services, one.restart_budget),
        portable::digest(&other.services, other.restart_budget)
    );
}

#[test]
fn an_observation_that_is_too_long_is_recorded_in_part_and_marked() {
    let config = config();
    let mut daemon = Daemon::start(&config, Timestamp::from_nanos(999_000_000_000));
    let now = Timestamp::from_nanos(1_000_000_000_000);
    daemon.see(now, Observation::Listening(ServiceId(0), (0..=u16::MAX).collect()));
    let error = "\u{1}".repeat(20_000);
    daemon.see(now, Observation::RestartOutcome(ServiceId(0), Err(error)));
    let stream = daemon.stop();
    assert!(stream.split(|&byte| byte == b'\n').all(|line| line.len() < MAX_LINE));
    let report = replayed(&config, &stream);
    assert_eq!(report.runs[0].observations, 2);
    let note = "observations that were recorded in part, because a line has an end: 1";
    assert_eq!(report.runs[0].notes, [note], "a text that was cut changes no decision");
}

#[test]
fn a_scope_compares_a_part_of_the_replay() {
    let mut config = config();
    let mut daemon = Daemon::start(&config, Timestamp::from_nanos(999_000_000_000));
    life(&mut daemon, 7);
    let recording = daemon.stop();
    let all = replayed(&config, &recording).runs.remove(0).rows;
    let is_opened = |row: &&Row| row.recorded.as_deref().is_some_and(|words| words.contains("opened"));
    let middle = all.iter().filter(is_opened).nth(3).unwrap();

    let since = Scope { since: middle.timestamp.parse().ok(), incident: None };
    let rows = replayed_within(&config, &recording, since).runs.remove(0).rows;
    assert!(
        rows.len() > 1 && rows.len() < all.len() && rows.iter().all(|row| row.timestamp >= middle.timestamp)
    );

    let text = String::from_utf8(recording.clone()).unwrap();
    let opened = text.lines().filter(|line| line.contains("\"open\":")).nth(3).unwrap();
    let id = opened.split('"').find(|part| part.starts_with("c0ffee00-i")).unwrap();
    let incident = |id: &str| Scope { since: None, incident: Some(id.to_owned()) };
    let rows = replayed_within(&config, &recording, incident(id)).runs.remove(0).rows;
    assert!(
        !rows.is_empty() && rows.iter().all(|row| row.same && row.service == rows[0].service),
        "{rows:#?}"
    );
    assert!(rows.len() < all.len());
    let number = id.rsplit_once("-i").unwrap().1;
    assert_eq!(replayed_within(&config, &recording, incident(number)).runs[0].rows, rows);
    assert!(replayed_within(&config, &recording, incident("9999")).runs.is_empty());

    config.services[0].restart.enabled = false;
    assert!(!replayed_within(&config, &recording, Scope::default()).same);
}
