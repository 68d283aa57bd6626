//! Random observations in random order: the engine neither spins nor exceeds its restart budgets.

use super::*;
use crate::{
    config::Response,
    fact::{
        AcceptQueue, CommandKind, CoreSignal, Direction, DrillFault, EndedJob, Holder, HostCheck,
        HostReading, HostSubject, IncidentId, NeededUnit, OperatorCommand, Order, Orders, Peer, PortHolder,
        Pressure, Protocol, Resource, ResourceLevel, Retransmits, Successor, Suspension, Tracer, Unanswered,
        Writes,
    },
};

pub(super) const SERVICES: u32 = 6;

/// Pseudo-random numbers (xorshift), the same in each run.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // A generator of this kind stays at 0 for ever.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).max(1))
    }

    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn service(&mut self) -> ServiceId {
        ServiceId(self.below(u64::from(SERVICES)) as u32)
    }

    fn pid(&mut self) -> u32 {
        100 + self.below(8) as u32
    }
}

pub(super) fn services() -> Vec<config::Service> {
    let mut services: Vec<_> = (0..SERVICES)
        .map(|at| {
            let identity = match at {
                0 => exec_identity(),
                1 => Identity::Unit("b.service".into()),
                2 => Identity::Match(config::Matcher { port: Some(80), ..config::Matcher::default() }),
                3 => Identity::Remote,
                _ => exec_identity(),
            };
            let probes = if at == 4 { vec![] } else { vec![http_probe(), http_probe()] };
            let command = (at == 2).then(|| vec!["/bin/true".into()]);
            let budget = 3;
            service("s", identity, probes, RestartPolicy { command, budget, ..policy() })
        })
        .collect();
    services[0].depends_on = vec![ServiceId(1), ServiceId(3)];
    services[1].depends_on = vec![ServiceId(2)];
    services[5].policy.worker_died = Response::Restart;
    services[4].policy.pool_exhausted = Response::Restart;
    services[0].policy.backlog_full = Response::Restart;
    services[5].policy.exhausting = Response::Restart;
    services.iter_mut().for_each(|service| service.limits.growth = Some(Duration::from_secs(60)));
    services
}

/// A state of a unit, likely or not.
fn unit(random: &mut Random, key: ProcessKey, now: Timestamp) -> UnitState {
    let active = ["active", "inactive", "failed", "deactivating", "activating"];
    let results = ["success", "exit-code", "timeout", "watchdog", "protocol", "exec-condition"];
    let main = (random.below(2) == 0).then_some(key);
    let often = |random: &mut Random| random.below(3) > 0;
    let needed = NeededUnit {
        id: "needed.service".into(),
        relation: "BindsTo".into(),
        active: active[random.below(5) as usize].into(),
        left: Some(now),
        ..NeededUnit::default()
    };
    let job = EndedJob { id: random.below(5) as u32, result: "done".into(), idle: often(random) };
    UnitState {
        at: now,
        load: if often(random) { "loaded" } else { "masked" }.into(),
        kind: if often(random) { "notify" } else { "oneshot" }.into(),
        triggered_by: if often(random) { vec![] } else { vec!["b.socket".into()] },
        active: active[random.below(5) as usize].into(),
        sub: if often(random) { "" } else { "exited" }.into(),
        result: results[random.below(6) as usize].into(),
        needs: if often(random) { vec![] } else { vec![needed] },
        ended_job: (!often(random)).then_some(job),
        started: Some(now),
        start_timeout: often(random).then(|| Duration::from_secs(90)),
        main,
        main_pid: main.map_or(0, |main| main.pid),
        ..UnitState::default()
    }
}

fn command(random: &mut Random, now: Timestamp) -> OperatorCommand {
    let order = |kind, until| Order { until, ..order(kind, now) };
    let until = (random.below(2) == 0).then(|| now.plus(Duration::from_secs(random.below(300))));
    match random.below(12) {
        10 => {
            let fault = DrillFault::ALL[random.below(4) as usize];
            OperatorCommand::Drill(fault, order(CommandKind::Drill, None))
        }
        11 => OperatorCommand::DrillOver,
        8 => OperatorCommand::Maintenance((random.below(2) == 0).then(|| "daily 03:00-03:15".into())),
        0 => OperatorCommand::Stop(order(CommandKind::Stop, None)),
        1 => OperatorCommand::StopFailed("no".into()),
        2 | 3 => OperatorCommand::Start(order(CommandKind::Start, None)),
        4 => OperatorCommand::Restart(order(CommandKind::Restart, None)),
        5 => OperatorCommand::Pause(order(CommandKind::Pause, until)),
        6 => OperatorCommand::Resume(order(CommandKind::Resume, None)),
        7 => OperatorCommand::Remembered(Orders::default()),
        _ => OperatorCommand::Ack(IncidentId::new(random.below(20)), order(CommandKind::Ack, until)),
    }
}

pub(super) fn observation(random: &mut Random, now: Timestamp) -> Observation {
    let service = random.service();
    let key = process(random.pid());
    let event = EventId(1);
    match random.below(29) {
        28 => {
            let at = usize::try_from(service.0).unwrap_or_default();
            let mut settings = services().swap_remove(at).settings();
            settings.probes.iter_mut().for_each(|probe| probe.is_new = random.below(2) == 0);
            Observation::Configured(service, Box::new(settings))
        }
        0 | 1 => Observation::Running(service, key),
        2 => Observation::Listening(service, vec![8080]),
        3 | 4 => {
            let status = match random.below(4) {
                0 => ExitStatus::Code(0),
                1 => ExitStatus::Code(1),
                2 => KILL,
                _ => SEGV,
            };
            let left_processes = random.below(2) == 0;
            let exit = ProcessExit { left_processes, ..exit(key.pid, now, status, Some(bash())) };
            Observation::Exit(exit, Membership { service, main: random.below(3) > 0 }, event)
        }
        5 => {
            let up = random.below(2) == 0;
            let address = [127, 0, 0, 1].into();
            Observation::Listener(
                Listener { at: now, up, address, port: 8080, source: Source::Ebpf, process: key },
                service,
                event,
            )
        }
        6..=13 => {
            let failures = [
                ProbeFailure::Refused,
                ProbeFailure::Timeout,
                ProbeFailure::ConnectTimeout,
                ProbeFailure::Status,
                ProbeFailure::Unreachable,
                ProbeFailure::TooManyConnections,
                ProbeFailure::MemoryFull,
                ProbeFailure::Memory,
                ProbeFailure::Auth,
            ];
            let outcome = match random.below(4) {
                0 => ProbeOutcome::Ok,
                1 if random.below(5) == 0 => ProbeOutcome::Starting("LOADING".into()),
                _ => ProbeOutcome::Failed(failures[random.below(9) as usize], "failed".into()),
            };
            Observation::Probe(ProbeReport {
                service,
                index: random.below(3) as usize,
                at: now,
                kind: ProbeKind::Http,
                target: String::new(),
                duration: Duration::from_millis(random.below(4000)),
                outcome,
                hurried: None,
                remark: None,
                server: None,
            })
        }
        14 => Observation::Unit(ServiceId(1), unit(random, key, now)),
        15 => Observation::UnitUnknown(ServiceId(1), "no bus".into()),
        16 => {
            Observation::RestartOutcome(service, if random.below(3) == 0 { Err("no".into()) } else { Ok(()) })
        }
        17 if random.below(2) == 0 => {
            let highest = random.below(100);
            let (resource, limit) = (Resource::Memory, "memory.max of /a".to_owned());
            let level = ResourceLevel { resource, lowest: highest / 2, highest, ceiling: 100, limit };
            Observation::Levels(service, vec![level])
        }
        17 => Observation::Usage(
            service,
            ResourceUsage { threads: random.below(20), ..ResourceUsage::default() },
        ),
        18 if random.below(3) == 0 => {
            let unanswered = Unanswered {
                service,
                index: random.below(3) as usize,
                kind: ProbeKind::Http,
                target: String::new(),
                since: Timestamp::from_nanos(now.as_nanos().saturating_sub(random.below(2_000_000_000))),
            };
            let seen = Examination {
                at: now,
                over: Examination::OVER_BEFORE_TIMEOUT,
                locked: random.below(4) > 0,
                unanswered: random.below(4) as u32,
                ..Examination::default()
            };
            Observation::Unanswered(unanswered, seen)
        }
        18 => {
            let look = Examination {
                stopped: random.below(3) == 0,
                over: Examination::OVER,
                tracer: (random.below(6) == 0).then(|| Tracer { pid: 9, name: "gdb".into() }),
                dumping_core: (random.below(6) == 0).then_some(key.pid),
                ..Examination::default()
            };
            Observation::Examined(service, (random.below(4) > 0).then_some(look))
        }
        24 => {
            let (executed, listens) = (random.below(2) == 0, random.below(2) == 0);
            let (listens_elsewhere, leads, sole) =
                (random.below(2) == 0, random.below(2) == 0, random.below(2) == 0);
            let found = Successor {
                process: key,
                name: "x".into(),
                executed,
                listens,
                listens_elsewhere,
                leads,
                sole,
                programs: Vec::new(),
            };
            Observation::Successor(service, (random.below(3) > 0).then_some(found))
        }
        26 => Observation::Operator(service, command(random, now)),
        25 => Observation::ListenerChecked(service, 8080, random.below(2) == 0),
        19 => Observation::Snapshot(service, Ok("/snapshot".into())),
        20 => {
            let holder = PortHolder { port: 80, pid: 1, name: "x".into(), unit: None, service: None };
            Observation::PortHolder(service, Some(holder))
        }
        21 => {
            let holder = Holder { service: Some(random.service()), connections: 9, ..Holder::default() };
            Observation::Holders(service, vec![holder])
        }
        22 => match random.below(7) {
            5 => {
                let check = HostCheck::ALL[random.below(HostCheck::ALL.len() as u64) as usize];
                let value = random.below(101) as f64;
                Observation::Host(HostReading {
                    at: now,
                    subject: HostSubject { check, target: "/data".into() },
                    source: Source::Proc,
                    value,
                    limit: 90.0,
                    time_left: None,
                    exhausted: value > 95.0,
                    root_has_room: false,
                    device: Some("254:0".into()),
                    words: "full".into(),
                    fault: None,
                })
            }
            6 => {
                let devices = vec!["254:0".into(); random.below(2) as usize];
                Observation::WritesTo(service, Writes { devices, as_root: random.below(2) == 0 })
            }
            0 => Observation::Pressure(Pressure { at: now, cpu: Some(0.9), ..Pressure::default() }),
            1 => Observation::Connected { client: service, server: random.service() },
            2 => {
                let stop = Suspension { at: now, process: key, signal: 19, sender: None };
                Observation::Suspended(stop, service, event)
            }
            3 => Observation::CoreSignal(CoreSignal { at: now, process: key, signal: 11 }, service),
            _ => {
                let address = [127, 0, 0, 1].into();
                let (waiting, backlog, port) = (9, 8, 8080);
                let queue = AcceptQueue { at: now, source: Source::Proc, address, port, waiting, backlog };
                Observation::AcceptQueue(queue, service, event)
            }
        },
        _ => {
            let (remote, peer, source) = (([192, 0, 2, 1], 443).into(), Peer::Remote, Source::Ebpf);
            if random.below(2) == 0 {
                let lost = Retransmits { at: now, source, remote, peer, count: 5 };
                return Observation::Retransmits(lost, service, event);
            }
            let error = SocketError {
                at: now,
                source,
                errno: 110,
                transition: None,
                protocol: Protocol::Tcp,
                direction: Direction::Outbound,
                local: remote,
                remote,
                peer,
                process: None,
                count: 1,
                age: None,
            };
            Observation::SocketError(error, service, event)
        }
    }
}

#[test]
fn random_observations_leave_the_engine_idle_and_within_its_budgets() {
    for seed in 1..=40 {
        let mut random = Random::new(seed);
        let mut lab = Lab::of(false, &services());
        let began = lab.now;
        for step in 0..1500 {
            lab.wait(Duration::from_millis(random.below(700)));
            let due = lab.engine.deadline();
            assert!(due.is_none_or(|due| due > lab.now), "seed {seed}, step {step}: it is due at once again");
            let observation = observation(&mut random, lab.now);
            lab.see(observation);
        }
        let windows = lab.now.since(began).as_secs() / 600 + 1;
        for service in (0..SERVICES).map(ServiceId) {
            let such = |restart: &&&Restart| restart.service == service && restart.action == Action::Request;
            let requested = lab.restarts().iter().filter(such).count() as u64;
            // Beyond the budget there is one more attempt after each long back-off.
            assert!(requested <= 3 * windows + lab.now.since(began).as_secs() / 60, "{requested}");
            if service == ServiceId(3) {
                assert_eq!(requested, 0, "a remote service is never restarted");
            }
        }
        let opened = lab.incidents().iter().filter(|(phase, ..)| *phase == Phase::Open).count();
        assert!(opened > 0, "seed {seed}: nothing happened");
        // In the end each service is healthy or waits for a restart; none is stuck in between.
        lab.wait(Duration::from_secs(600));
        let due = lab.engine.deadline();
        assert!(due.is_none_or(|due| due > lab.now));
    }
}
