//! A fleet of many hosts: what it costs each of them and NATS, how soon a cause is known, and what a partition and a
//! restart of NATS cost.

mod hosts;
mod server;

use std::{
    collections::BTreeSet,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hostprobe::{
    config::{Fleet, NatsServer},
    fleet::{Report, view},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::{
    hosts::{Hosts, OTHER_HUB, is_apart},
    server::{CONFIGURATION, Traffic},
};
use super::section::{Effort, Row, Section, Unit};
use crate::{
    fleet::{HUB, Nats, make_hub},
    network,
    parts::require,
};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// A judgement waits as long for the word of another host.
const WAITS_NS: f64 = 500e6;

/// A silent host is to be reported within this time.
const SILENT_NS: f64 = 15e9;

const METHOD: &str = "One process has all hosts: each is a thread with a connection and a spool of its own, and runs what \
the daemon runs. Each host has 20 services, an event every 10 s, and connections to a service on 4 others; one host of 20 is such \
a one that others need. The server is nats-server with JetStream on the same machine. A cause is a service that fails: the time \
goes from its publication on its host until another host's loop has it, which decides then. For the partition, what a quarter of \
the hosts and NATS send each other is dropped. For the restart, NATS is killed, and started again 5 s later. Events count as lost \
if they are not in the stream once all is well.";

/// How much is done.
struct Plan {
    /// The numbers of hosts, growing.
    sizes: Vec<usize>,
    steady: Duration,
    causes: usize,
    partition: Duration,
}

impl Plan {
    fn of(effort: Effort) -> Self {
        let seconds = |full, quick| Duration::from_secs(effort.pick(full, quick));
        Self {
            sizes: effort.pick(vec![125, 250, 500, 1_000], vec![20, 40]),
            steady: seconds(30, 3),
            causes: effort.pick(100, 4),
            partition: seconds(30, 16),
        }
    }

    fn most(&self) -> usize {
        self.sizes.last().copied().unwrap_or_default()
    }
}

pub fn measure(effort: Effort) -> Result<Section> {
    let (done, section) = mpsc::channel();
    if !require("nats-server", Nats::PROGRAM) || !network::Firewall::is_there() {
        let missing = vec!["nats-server or iptables is not installed.".to_owned()];
        return Ok(Section { unmeasured: missing, ..empty() });
    }
    // The namespace ends with the thread.
    network::in_its_own(move || {
        let _ = done.send(measure_here(&Plan::of(effort)));
    });
    section.recv().context("there is no network namespace")?
}

fn empty() -> Section {
    Section {
        name: "fleet".to_owned(),
        title: "A fleet of many hosts".to_owned(),
        method: METHOD.to_owned(),
        rows: Vec::new(),
        further: String::new(),
        unmeasured: Vec::new(),
    }
}

fn measure_here(plan: &Plan) -> Result<Section> {
    // Each host has half a dozen descriptors.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("a limit of open files")?;
    make_hub();
    network::ip(&["address", "add", &format!("{OTHER_HUB}/24"), "dev", "hub"]);
    let mut nats = Nats::listening("0.0.0.0:4222", CONFIGURATION);
    let mut hosts = Hosts::new(plan.most())?;
    let (own_before, _) = server::memory(&nats)?;
    let mut rows = Vec::new();
    for size in &plan.sizes {
        hosts.grow_to(*size)?;
        hosts.wait_until_well(LONG)?;
        rows.extend(steady(&hosts, &nats, plan, *size)?);
    }
    let (own, server) = server::memory(&nats)?;
    let count = plan.most() as f64;
    let of = |what: &str| format!("memory of {what}, a host of {}", Unit::Count.show(count));
    rows.push(Row::new(&of("the daemon's part"), Unit::Bytes).of("hostprobe", &[(own - own_before) / count]));
    rows.push(Row::new(&of("nats-server"), Unit::Bytes).of("nats-server", &[server / count]));
    rows.push(causes(&mut hosts, plan)?);
    rows.push(shown(plan.most())?);
    rows.extend(partition(&hosts, plan)?);
    rows.extend(restart(&hosts, &mut nats)?);
    Ok(Section { rows, ..empty() })
}

/// What so many hosts do while nothing happens.
fn steady(hosts: &Hosts, nats: &Nats, plan: &Plan, size: usize) -> Result<Vec<Row>> {
    let events = hosts.events();
    let (rate, own, server) = server::steady(nats, plan.steady)?;
    events.stop();
    let row = |what: &str, unit| Row::new(&format!("{what}, {} hosts", Unit::Count.show(size as f64)), unit);
    let count = size as f64;
    Ok(vec![
        row("messages to NATS", Unit::PerSecond).of("all hosts", &[rate.received]),
        row("messages from NATS", Unit::PerSecond).of("all hosts", &[rate.sent]),
        row("bytes to and from NATS a second, of one host", Unit::Bytes)
            .of("hostprobe", &[rate.bytes / count]),
        row("CPU of one core, the part of one host", Unit::Percent)
            .of("hostprobe", &[own.percent() / count])
            .of("nats-server", &[server.percent() / count]),
    ])
}

/// Services fail, one after the other: when do those who need them know?
fn causes(hosts: &mut Hosts, plan: &Plan) -> Result<Row> {
    let (mut samples, mut expected) = (Vec::new(), 0);
    for nth in 0..plan.causes {
        let cause = nth % hosts.needed();
        let needing = hosts.needing(cause);
        let mark = hosts.seen().told.len();
        let began = Instant::now();
        hosts.set_failed(cause, true);
        expected += needing.len();
        wait_for(hosts, &needing, cause, true);
        let seen = hosts.seen();
        let told = seen.told[mark..].iter().filter(|told| matches!(&told.report, Report::Foreign(_)));
        samples.extend(told.map(|told| told.at.duration_since(began).as_nanos() as f64));
        drop(seen);
        hosts.set_failed(cause, false);
        wait_for(hosts, &needing, cause, false);
    }
    ensure!(!samples.is_empty(), "no host has known a cause");
    let reached = format!("{} of {expected}", samples.len());
    let row = Row::new("a service fails on one host → known on the others", Unit::Nanoseconds)
        .of("hostprobe", &samples)
        .at_most("p99 ", WAITS_NS, |summary| summary.p99)
        .target("all know it", reached, samples.len() == expected);
    Ok(row)
}

/// Waits until all of them know; those that do not within 10 s have missed it.
fn wait_for(hosts: &Hosts, needing: &BTreeSet<usize>, cause: usize, has_failed: bool) {
    let began = Instant::now();
    while hosts.know(needing, cause, has_failed) < needing.len() && began.elapsed() < Duration::from_secs(10)
    {
        thread::sleep(Duration::from_millis(5));
    }
}

/// How long one host takes to read all others, as `hostprobe fleet status` does.
fn shown(count: usize) -> Result<Row> {
    let server = NatsServer { url: format!("nats://{HUB}:4222"), is_tls: false };
    let fleet = Fleet {
        servers: vec![server],
        credentials_file: None,
        ca_file: None,
        name: Some("shows".to_owned()),
        addresses: Vec::new(),
        sign: false,
        keys_file: None,
        replicas: 1,
        spool: 2 << 20,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut samples = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let shown = runtime.block_on(view::hosts(&fleet, "shows")).map_err(anyhow::Error::msg)?;
        samples.push(began.elapsed().as_nanos() as f64);
        ensure!(shown.len() >= count, "{} of {count} hosts are shown", shown.len());
    }
    let row = format!("all hosts read by one, {} hosts", Unit::Count.show(count as f64));
    Ok(Row::new(&row, Unit::Nanoseconds).of("hostprobe", &samples))
}

/// A quarter of the hosts cannot reach NATS for a while.
fn partition(hosts: &Hosts, plan: &Plan) -> Result<Vec<Row>> {
    let row =
        |what: &str, unit| Row::new(&format!("partition of {} s: {what}", plan.partition.as_secs()), unit);
    let before = all_stored(hosts)?;
    let events = hosts.events();
    thread::sleep(Duration::from_secs(5));
    let mark = hosts.seen().told.len();
    let (began, traffic) = (Instant::now(), Traffic::now()?);
    set_partition("--append")?;
    thread::sleep(plan.partition);
    let while_cut = Traffic::now()?.rate_since(&traffic);
    set_partition("--delete")?;
    let (healed, healed_traffic) = (Instant::now(), Traffic::now()?);
    let took = hosts.wait_until_well(LONG)?;
    let messages = Traffic::now()?.messages_since(&healed_traffic);
    events.stop();
    let events = all_stored(hosts)?.since(&before);
    let seen = hosts.seen();
    let mut reporters: Vec<usize> = Vec::new();
    let (mut silent, mut first) = (BTreeSet::new(), None);
    for told in &seen.told[mark..] {
        let Report::Fleet(state) = &told.report else { continue };
        if !state.silent.is_empty() && told.at < healed {
            first.get_or_insert(told.at.duration_since(began).as_nanos() as f64);
            silent.extend(state.silent.iter().cloned());
            reporters.push(told.host);
        }
    }
    reporters.sort_unstable();
    reporters.dedup();
    let cut = (0..plan.most()).filter(|host| is_apart(*host)).count();
    let first: Vec<f64> = first.into_iter().collect();
    Ok(vec![
        row("first silent host reported", Unit::Nanoseconds)
            .of("hostprobe", &first)
            .at_most("", SILENT_NS, |summary| summary.max)
            .target("all of them", format!("{} of {cut}", silent.len()), silent.len() == cut),
        row("hosts that report them, one alert each", Unit::Count).of("hostprobe", &[reporters.len() as f64]),
        row("messages from NATS while it lasts", Unit::PerSecond).of("all hosts", &[while_cut.sent]),
        row("until all is as before", Unit::Nanoseconds).of("hostprobe", &[took.as_nanos() as f64]),
        row("messages until then", Unit::Count).of("all hosts", &[messages.round()]),
        of_events(row("events lost", Unit::Count), &events),
    ])
}

/// NATS is killed and started again.
fn restart(hosts: &Hosts, nats: &mut Nats) -> Result<Vec<Row>> {
    let row = |what: &str, unit| Row::new(&format!("restart of NATS: {what}"), unit);
    let before = all_stored(hosts)?;
    let events = hosts.events();
    thread::sleep(Duration::from_secs(5));
    let mark = hosts.seen().told.len();
    nats.kill();
    thread::sleep(Duration::from_secs(5));
    nats.run_again();
    // The server counts from its start.
    let started = Traffic::now()?;
    let took = hosts.wait_until_well(LONG)?;
    let messages = Traffic::now()?.messages_since(&started);
    events.stop();
    let events = all_stored(hosts)?.since(&before);
    let seen = hosts.seen();
    let silent = seen.told[mark..]
        .iter()
        .filter(|told| matches!(&told.report, Report::Fleet(state) if !state.silent.is_empty()));
    let silent = silent.count();
    Ok(vec![
        row("until all is as before", Unit::Nanoseconds).of("hostprobe", &[took.as_nanos() as f64]),
        row("messages until then", Unit::Count).of("all hosts", &[messages.round()]),
        row("hosts that are taken for silent", Unit::Count).of("hostprobe", &[silent as f64]).target(
            "0",
            silent.to_string(),
            silent == 0,
        ),
        of_events(row("events lost", Unit::Count), &events),
    ])
}

/// Events of all hosts.
struct Counted {
    written: u64,
    /// In the stream.
    stored: u64,
}

impl Counted {
    fn of(hosts: &Hosts) -> Result<Self> {
        // In this order: what is written meanwhile may be in the stream.
        let written = hosts.written();
        Ok(Self { stored: server::stored()?, written })
    }

    fn since(&self, earlier: &Self) -> Self {
        let (written, stored) = (self.written - earlier.written, self.stored - earlier.stored);
        Self { written, stored }
    }
}

/// Waits until the stream has all that the hosts have written; for at most 30 s.
fn all_stored(hosts: &Hosts) -> Result<Counted> {
    let began = Instant::now();
    loop {
        let counted = Counted::of(hosts)?;
        if counted.stored >= counted.written || began.elapsed() > Duration::from_secs(30) {
            return Ok(counted);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// An event that comes twice would hide one that is lost, so that their number has to be the same.
fn of_events(row: Row, events: &Counted) -> Row {
    let Counted { written, stored } = events;
    let lost = written.saturating_sub(*stored);
    let reached = match stored.saturating_sub(*written) {
        0 => format!("{lost} of {written}"),
        twice => format!("{written} written, and {twice} more stored"),
    };
    row.of("hostprobe", &[lost as f64]).target("0", reached, stored == written)
}

/// Drops what goes to the second address of the hub and what comes from there, or does so no more.
fn set_partition(operation: &str) -> Result<()> {
    for end in ["--source", "--destination"] {
        let rule = [operation, "INPUT", "-p", "tcp", end, OTHER_HUB, "-j", "DROP"];
        let done = Command::new("/usr/sbin/iptables").args(rule).status().context("iptables")?;
        ensure!(done.success(), "iptables refuses {rule:?}");
    }
    Ok(())
}
