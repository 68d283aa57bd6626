//! What a probe costs, and whether it is on time, with few services and with many; and a host with very many processes.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    peers::blackbox::Blackbox,
    probed,
    section::{Effort, Row, Section, Unit},
    usage::{memory, window},
};
use crate::many_processes::{Servers, Sleepers};

/// How many services there are in turn.
const SERVICES: [usize; 3] = [10, 100, 1_000];

/// No probe may be later, ns.
const LATE_LIMIT: f64 = 50e6;

/// For a host with very many processes, ns.
const READY_LIMIT: f64 = 250e6;

/// What a host with very many processes has.
const PROCESSES: usize = 10_000;
const GROUPS: usize = 5_000;

const EXPORTER: &str = "blackbox_exporter";
const BOTH: &str = "blackbox_exporter + Prometheus";

/// The samples of one subject with one number of services.
#[derive(Debug, Default)]
struct Figures {
    /// CPU time per probe, ns: of what probes, and of all that the subject runs.
    per_probe: [Vec<f64>; 2],
    /// By how much each probe was late, ns.
    late: Vec<f64>,
    /// Probes that did not come, percent.
    missed: Vec<f64>,
    /// Resident memory, bytes.
    resident: Vec<f64>,
    /// From the start of hostprobe to its `agent.ready`, ns.
    ready: Vec<f64>,
}

/// How long is measured.
#[derive(Clone, Copy)]
struct Times {
    rounds: usize,
    warm_up: Duration,
    parts: usize,
    part: Duration,
}

/// Measures hostprobe and blackbox_exporter with each number of services in turn, then hostprobe on a crowded host.
pub fn measure(effort: Effort) -> Result<Section> {
    let second = Duration::from_secs(1);
    let times = effort.pick(
        Times { rounds: 2, warm_up: 3 * second, parts: 2, part: 4 * second },
        Times { rounds: 1, warm_up: second, parts: 1, part: 2 * second },
    );
    let [mut own, mut peer]: [[Figures; 3]; 2] = Default::default();
    for _ in 0..times.rounds {
        for (at, services) in SERVICES.into_iter().enumerate() {
            let servers = Servers::start(services);
            let mark = servers.mark()?;
            let (daemon, took) = probed::start(&servers);
            own[at].ready.push(took.as_nanos() as f64);
            probed::all_asked(&servers, mark);
            watch(&servers, times, &[vec![daemon.pid()]], &mut own[at])?;
            drop(daemon);
            let mark = servers.mark()?;
            let blackbox = Blackbox::start(&servers.ports)?;
            probed::all_asked(&servers, mark);
            let (exporter, prometheus) = (blackbox.exporter.pid(), blackbox.prometheus.pid());
            watch(&servers, times, &[vec![exporter], vec![exporter, prometheus]], &mut peer[at])?;
            drop(blackbox);
        }
    }
    let mut rows: Vec<Row> =
        (0..SERVICES.len()).map(|at| per_probe(SERVICES[at], &own[at], &peer[at])).collect();
    let median = |row: &Row| row.summary("hostprobe").map_or(f64::NAN, |summary| summary.median);
    let growth = median(&rows[2]) / median(&rows[0]);
    let last = rows.pop().map(|row| {
        let reached = Unit::Times.show(growth);
        row.target("at most as much as with 10 services", format!("{reached} as much"), growth <= 1.0)
    });
    rows.extend(last);
    let (own_most, peer_most) = (&own[2], &peer[2]);
    rows.push(
        Row::new("lateness of a probe, 1,000 services", Unit::Nanoseconds)
            .of("hostprobe", &own_most.late)
            .of(BOTH, &peer_most.late)
            .at_most("max ", LATE_LIMIT, |summary| summary.max)
            .note("How much later than its steady second a probe is taken by its server, which has to be woken for it."),
    );
    rows.push(
        Row::new("probes that were due and did not come, 1,000 services", Unit::Percent)
            .of("hostprobe", &own_most.missed)
            .of(BOTH, &peer_most.missed)
            .note("Below zero where the window's edges hold more of them than its length has seconds."),
    );
    for (at, services) in SERVICES.into_iter().enumerate() {
        let row = Row::new(&format!("resident memory, {} services", number(services)), Unit::Bytes);
        rows.push(row.of("hostprobe", &own[at].resident).of(BOTH, &peer[at].resident));
    }
    for (at, services) in SERVICES.into_iter().enumerate() {
        let figure = format!("start to agent.ready, {} services known by their ports", number(services));
        rows.push(Row::new(&figure, Unit::Nanoseconds).of("hostprobe", &own[at].ready));
    }
    rows.extend(crowded(times)?);
    Ok(Section {
        name: "scale".to_owned(),
        title: "Few services and many".to_owned(),
        method: format!(
            "So many services, each a process with an HTTP server and a loopback port of its own, are probed once a second by \
             hostprobe, where each is a `[[service]]` known by its port, and by blackbox_exporter, which Prometheus asks for \
             it. In {} round(s), one after the other; after {} s each sample is the mean over {} s. CPU time per probe is that \
             of all the subject does in the window, whatever for, divided by the probes that the servers took in it; the \
             servers' own is not counted. The servers note when each probe comes. The crowded host has {} sleeping processes \
             in {} cgroups, and 10 services known by their ports that are probed every second.",
            times.rounds,
            times.warm_up.as_secs_f64(),
            times.part.as_secs_f64(),
            number(PROCESSES),
            number(GROUPS)
        ),
        rows,
        further: String::new(),
        unmeasured: Vec::new(),
    })
}

fn number(count: usize) -> String {
    Unit::Count.show(count as f64)
}

/// Measures one subject; the first process tree is what probes, the last all that it runs.
fn watch(servers: &Servers, times: Times, families: &[Vec<u32>], figures: &mut Figures) -> Result<()> {
    thread::sleep(times.warm_up);
    let (from, began) = (servers.mark()?, Instant::now());
    let mut part_from = from;
    for _ in 0..times.parts {
        let used = window(families, times.part)?;
        let to = servers.mark()?;
        let probes = (to - part_from) as f64 / 16.0;
        for (samples, used) in figures.per_probe.iter_mut().zip(&used) {
            samples.push(used.cpu_ns / probes);
        }
        part_from = to;
    }
    // The time to read the figures of many processes is in it, as are the probes that came meanwhile.
    let window_ns = began.elapsed().as_nanos() as f64;
    let arrivals = servers.between(from, part_from)?;
    let (late, missed) = probed::lateness(&arrivals, servers.ports.len(), window_ns);
    figures.late.extend(late);
    figures.missed.push(missed);
    if let Some(all) = families.last() {
        figures.resident.push(memory(all)?.resident);
    }
    Ok(())
}

fn per_probe(services: usize, own: &Figures, peer: &Figures) -> Row {
    Row::new(&format!("CPU time per probe, {} services", number(services)), Unit::Nanoseconds)
        .of("hostprobe", &own.per_probe[0])
        .of(EXPORTER, &peer.per_probe[0])
        .of(BOTH, &peer.per_probe[1])
        .times_less(EXPORTER, 2.0)
}

/// hostprobe among very many processes.
fn crowded(times: Times) -> Result<Vec<Row>> {
    let servers = Servers::start(SERVICES[0]);
    let _crowd = Sleepers::in_groups(PROCESSES, GROUPS)?;
    let (mut ready, mut cpu, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..times.rounds {
        let mark = servers.mark()?;
        let (daemon, took) = probed::start(&servers);
        ready.push(took.as_nanos() as f64);
        probed::all_asked(&servers, mark);
        thread::sleep(times.warm_up);
        for _ in 0..times.parts {
            cpu.extend(window(&[vec![daemon.pid()]], times.part)?.iter().map(super::usage::Used::percent));
        }
        resident.push(memory(&[daemon.pid()])?.resident);
    }
    let row = |figure: &str, unit, samples: &[f64]| {
        let crowd = format!("{} processes in {} cgroups", number(PROCESSES), number(GROUPS));
        Row::new(&format!("{figure}, {crowd}"), unit).of("hostprobe", samples)
    };
    Ok(vec![
        row("CPU of one core", Unit::Percent, &cpu),
        row("resident memory", Unit::Bytes, &resident),
        row("start to agent.ready", Unit::Nanoseconds, &ready)
            .at_most("", READY_LIMIT, |summary| summary.median),
    ])
}
