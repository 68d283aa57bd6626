//! From a crash to "healthy again", beside other supervisors.

use std::{collections::BTreeMap, rc::Rc, thread, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    outage::{Blow, cold_start, nanoseconds, outage, phase, until_well},
    peers::{monit, polling_script::PollingScript, supervisord::Supervisord},
    section::{Effort, Row, Section, Unit},
};
use crate::{
    daemon::{Daemon, field},
    http::free_port,
    incident_events::{IncidentEvents, is, wait_until_healthy},
    process::until,
    systemd::SystemdLab,
    victim::Victim,
};

/// How much slower than the best there is hostprobe may be.
const MARGIN: Duration = Duration::from_millis(10);

/// The same beyond a restart by systemd itself.
const UNIT_MARGIN: Duration = Duration::from_millis(3);

/// The longest wait for a supervisor to notice that a service is healthy.
const NOTICE: Duration = Duration::from_secs(30);

const COLD: &str = "the service's own cold start";
const EXEC: &str = "hostprobe (its own supervisor)";
const UNIT: &str = "hostprobe (a systemd unit)";
const AT_ONCE: &str = "systemd RestartSec=0";
const BY_DEFAULT: &str = "systemd by default (RestartSec=100ms)";
const AFTER_TEN: &str = "systemd RestartSec=10";
const MONIT: &str = "Monit, cycle of 1 s";
const SUPERVISOR: &str = "supervisord";
const SCRIPT: &str = "script, every 10 s, 3 failures";

/// A service under one of the supervisors.
struct SupervisedService {
    supervisor: &'static str,
    port: u16,
    /// The interval at which its supervisor polls; zero if it does not poll.
    cycle: Duration,
    /// Waits until its supervisor has noticed the recovery.
    settle: Box<dyn FnMut() -> Result<()>>,
}

impl SupervisedService {
    fn new(supervisor: &'static str, port: u16) -> Self {
        Self { supervisor, port, cycle: Duration::ZERO, settle: Box::new(|| Ok(())) }
    }

    /// One crash; how long it was away, in nanoseconds.
    fn crash(&mut self, round: usize) -> Result<f64> {
        thread::sleep(phase(round, self.cycle));
        let away = outage(self.port, Blow::Kill).with_context(|| format!("under {}", self.supervisor))?;
        (self.settle)()?;
        Ok(nanoseconds(away))
    }
}

/// Samples by their subject, one a round.
type Samples = BTreeMap<&'static str, Vec<f64>>;

pub fn measure(effort: Effort) -> Result<Section> {
    let (rounds, slow_rounds) = effort.pick((20, 3), (3, 1));
    let systemd = Rc::new(SystemdLab::boot()?);
    let ports = Ports { exec: free_port(), unit: free_port() };
    let mut services = Vec::new();
    let victim = systemd.install(&Victim::program())?;
    write_units(&systemd, &victim, ports.unit, "hostprobe", "Restart=no")?;
    let daemon = watch(&ports, &systemd)?;
    for (supervisor, service, port) in [(EXEC, "api", ports.exec), (UNIT, "unit", ports.unit)] {
        let (daemon, mut mark) = (Rc::clone(&daemon), daemon.mark());
        let settle = move || {
            IncidentEvents::of(&daemon, mark, service);
            mark = daemon.mark();
            Ok(())
        };
        services
            .push(SupervisedService { settle: Box::new(settle), ..SupervisedService::new(supervisor, port) });
    }
    let by_systemd =
        [(AT_ONCE, "at-once", "Restart=always\nRestartSec=0"), (BY_DEFAULT, "by-default", "Restart=always")];
    for (supervisor, name, settings) in by_systemd {
        let port = free_port();
        write_units(&systemd, &victim, port, name, settings)?;
        services.push(SupervisedService::new(supervisor, port));
    }
    services.push(by_monit()?);
    services.push(by_supervisord()?);
    let slow = free_port();
    write_units(&systemd, &victim, slow, "after-ten", "Restart=always\nRestartSec=10")?;

    let mut samples = thread::scope(|scope| -> Result<Samples> {
        // They wait nearly all the time, and disturb no other measurement.
        let after_ten = scope.spawn(move || slow_crashes(slow, slow_rounds, Duration::ZERO));
        let script = scope.spawn(move || -> Result<Vec<f64>> {
            let port = free_port();
            let _script = PollingScript::start(port)?;
            slow_crashes(port, slow_rounds, Duration::from_secs(10))
        });
        let mut samples = crashes(&mut services, rounds)?;
        for (supervisor, thread) in [(AFTER_TEN, after_ten), (SCRIPT, script)] {
            let slow = thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a part failed")));
            samples.insert(supervisor, slow.with_context(|| format!("under {supervisor}"))?);
        }
        Ok(samples)
    })?;
    let steps = steps(&daemon, rounds);
    let rows = rows(&mut samples, &steps);
    Ok(Section {
        name: "recovery".to_owned(),
        title: "From a crash to healthy again".to_owned(),
        method: "A small HTTP service gets SIGKILL; the benchmark asks for /health every 100 µs and takes the time \
                 from the signal to the first 200 of the new process. In every round each supervisor's service is \
                 killed once, in turn; the service's own cold start (fork, exec, first 200) is measured in the \
                 same rounds, and the differences are those within a round. systemd runs in a container of its \
                 own on the same kernel; hostprobe's unit there has Restart=no and is restarted over D-Bus. \
                 One daemon keeps both of hostprobe's services, with its default probe (every 10 s). Monit looks \
                 at a pid file every second, its fastest; supervisord has autorestart=true. For those that \
                 look in cycles the crash comes at another point of the cycle every round. RestartSec=10 and the \
                 script were measured beside the others, in fewer rounds."
            .to_owned(),
        rows,
        further: String::new(),
        unmeasured: Vec::new(),
    })
}

/// The ports of the two services that hostprobe keeps.
struct Ports {
    exec: u16,
    unit: u16,
}

/// Has systemd run a victim on this port.
fn write_units(systemd: &SystemdLab, victim: &str, port: u16, name: &str, settings: &str) -> Result<()> {
    let unit = format!("{name}.service");
    let text =
        format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart={victim} --port {port}\n{settings}\n");
    systemd.write_unit(&unit, &text)?;
    systemd.systemctl(&["start", &unit])?;
    until_well(port, None, NOTICE).map(drop)
}

fn watch(ports: &Ports, systemd: &SystemdLab) -> Result<Rc<Daemon>> {
    let program = Victim::program();
    let (exec, unit) = (ports.exec, ports.unit);
    let config = format!(
        r#"
        [http]
        listen = ""
        [restart]
        budget = "1000 per 1h"
        [[service]]
        name = "api"
        exec = ["{program}", "--port", "{exec}"]
        output = "/dev/null"
        [[service.probe]]
        http = "http://127.0.0.1:{exec}/health"
        [service.restart]
        budget = "1000 per 1h"
        [[service]]
        name = "unit"
        unit = "hostprobe.service"
        [[service.probe]]
        http = "http://127.0.0.1:{unit}/health"
        [service.restart]
        enabled = true
        budget = "1000 per 1h"
        "#,
        program = program.display(),
    );
    let daemon = systemd.start_daemon(&config);
    wait_until_healthy(&daemon, "api");
    wait_until_healthy(&daemon, "unit");
    Ok(Rc::new(daemon))
}

fn by_monit() -> Result<SupervisedService> {
    let port = free_port();
    let victim = monit::SupervisedVictim::start(port, false)?;
    // It notices its own first start as well.
    let mut seen = victim.until_noticed(0);
    let settle = move || {
        seen = victim.until_noticed(seen);
        Ok(())
    };
    Ok(SupervisedService {
        cycle: Duration::from_secs(1),
        settle: Box::new(settle),
        ..SupervisedService::new(MONIT, port)
    })
}

fn by_supervisord() -> Result<SupervisedService> {
    let port = free_port();
    let peer = Supervisord::start(port)?;
    until("supervisord notices the start", NOTICE, || (peer.starts() > 0).then_some(()));
    let mut starts = peer.starts();
    let settle = move || {
        until("supervisord notices the restart", NOTICE, || (peer.starts() > starts).then_some(()));
        starts = peer.starts();
        Ok(())
    };
    Ok(SupervisedService {
        cycle: Duration::from_secs(1),
        settle: Box::new(settle),
        ..SupervisedService::new(SUPERVISOR, port)
    })
}

/// Round after round, one crash of each, after a round that does not count.
fn crashes(services: &mut [SupervisedService], rounds: usize) -> Result<Samples> {
    let mut samples = Samples::new();
    for round in 0..=rounds {
        let cold = nanoseconds(cold_start()?);
        let mut sample = vec![(COLD, cold)];
        for service in services.iter_mut() {
            sample.push((service.supervisor, service.crash(round)?));
        }
        if round > 0 {
            sample.into_iter().for_each(|(subject, away)| samples.entry(subject).or_default().push(away));
        }
    }
    Ok(samples)
}

/// Crashes of one that takes long; a warm-up would change nothing.
fn slow_crashes(port: u16, rounds: usize, cycle: Duration) -> Result<Vec<f64>> {
    (0..rounds)
        .map(|round| {
            thread::sleep(phase(round + 1, cycle));
            outage(port, Blow::Kill).map(nanoseconds)
        })
        .collect()
}

const STEPS: [&str; 5] = ["detected", "decided", "acted", "listening", "healthy"];

/// When the daemon says that it took each step of the restarts of its unit, in nanoseconds since the death.
fn steps(daemon: &Daemon, rounds: usize) -> Vec<(&'static str, Vec<f64>)> {
    let events = daemon.events();
    let over: Vec<&Value> = events.iter().filter(|event| is(event, "incident.resolve", "unit")).collect();
    let counted = &over[over.len().saturating_sub(rounds)..];
    let time = |event: &Value, step: &str| {
        field(event, &format!("incident.timing.{step}_ms")).and_then(Value::as_f64).map(|ms| ms * 1e6)
    };
    STEPS.iter().map(|step| (*step, counted.iter().filter_map(|event| time(event, step)).collect())).collect()
}

fn rows(samples: &mut Samples, steps: &[(&'static str, Vec<f64>)]) -> Vec<Row> {
    let of = |subject: &str| samples.get(subject).map(Vec::as_slice).unwrap_or_default();
    let beyond = |subject: &str, other: &str| -> Vec<f64> {
        of(subject).iter().zip(of(other)).map(|(own, other)| own - other).collect()
    };
    let order = [EXEC, UNIT, COLD, AT_ONCE, BY_DEFAULT, AFTER_TEN, MONIT, SUPERVISOR, SCRIPT];
    let all = order
        .iter()
        .fold(Row::new("SIGKILL → healthy again", Unit::Nanoseconds), |row, subject| {
            row.of(subject, of(subject))
        })
        .times_less(MONIT, 10.0);
    let margin = nanoseconds(MARGIN);
    let to_cold = Row::new("SIGKILL → healthy again, beyond the service's own cold start", Unit::Nanoseconds)
        .of(EXEC, &beyond(EXEC, COLD))
        .of(UNIT, &beyond(UNIT, COLD))
        .of(AT_ONCE, &beyond(AT_ONCE, COLD))
        .at_most("median ", margin, |summary| summary.median);
    let to_systemd = Row::new("a systemd unit, beyond systemd's own RestartSec=0", Unit::Nanoseconds)
        .of(UNIT, &beyond(UNIT, AT_ONCE))
        .at_most("median ", nanoseconds(UNIT_MARGIN), |summary| summary.median);
    let taken = steps
        .iter()
        .fold(Row::new("hostprobe (a systemd unit), by its own events", Unit::Nanoseconds), |row, (step, times)| {
            row.of(step, times)
        })
        .note(
            "Since the kernel's time of the death. Before it decides, systemd is asked what it knows of the death; from \
             acted to listening are the calls to systemd over D-Bus, its own job, and the start of the process.",
        );
    vec![all, to_cold, to_systemd, taken]
}
