//! What a probe of each kind costs in CPU time, beside blackbox_exporter, and beside Monit where a program is run.

mod targets;

use std::{collections::BTreeMap, fmt::Write as _, fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};

use self::targets::{Kind, Targets};
use super::{
    peers::{blackbox::Blackbox, monit::Monit},
    section::{Effort, Row, Section, Unit},
    usage::window,
};
use crate::{
    daemon::Daemon,
    network,
    process::{cpu_time, until},
};

/// Targets of each kind, each of which is probed once a second.
const TARGETS: usize = 100;

const HOSTPROBE: &str = "hostprobe";
const EXPORTER: &str = "blackbox_exporter";
const MONIT: &str = "Monit";

/// Longest wait for a subject to have probed all targets.
const START: Duration = Duration::from_secs(30);

/// How many times less than blackbox_exporter a probe has to take.
const TIMES_LESS: f64 = 2.0;

/// Who probes.
enum Subject {
    Hostprobe(Daemon),
    Blackbox(Blackbox),
    Monit(Monit),
}

impl Subject {
    /// Starts one that probes these targets, or none, and waits until it is at work.
    fn start(name: &str, targets: Option<&Targets>) -> Result<Self> {
        Ok(match name {
            HOSTPROBE => {
                let mut config = "[http]\nlisten = \"\"\n".to_owned();
                for number in targets.iter().flat_map(|_| 0..TARGETS) {
                    let probe = targets.map(|targets| targets.hostprobe(number)).unwrap_or_default();
                    // Writing into a string cannot fail.
                    let _ = write!(
                        config,
                        "[[service]]\nname = \"target-{number}\"\n[[service.probe]]\n{probe}\ninterval = \"1s\"\n\
                         timeout = \"1s\"\n"
                    );
                }
                let daemon = Daemon::start(&config, &[]);
                daemon.ready();
                Self::Hostprobe(daemon)
            }
            EXPORTER => {
                let (module, addresses) = match targets {
                    Some(targets) => (targets.module(), (0..TARGETS).map(|at| targets.address(at)).collect()),
                    None => (Kind::Tcp.module(), Vec::new()),
                };
                Self::Blackbox(Blackbox::probing(&module, &addresses)?)
            }
            _ => {
                let check = |number: usize| {
                    let command = targets.map(Targets::command).unwrap_or_default().join(" ");
                    format!(
                        "check program target-{number} with path \"{command}\" timeout 1 seconds\n  \
                         if status != 0 then alert\n"
                    )
                };
                let checks: String = targets.iter().flat_map(|_| 0..TARGETS).map(check).collect();
                Self::Monit(Monit::start(1, &checks)?)
            }
        })
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Hostprobe(daemon) => daemon.pid(),
            Self::Blackbox(blackbox) => blackbox.exporter.pid(),
            Self::Monit(monit) => monit.process.pid(),
        }
    }

    /// Fails unless it has found its targets well, so that what is measured are probes that succeed.
    fn succeeds(&self, targets: &Targets) -> Result<()> {
        match self {
            Self::Hostprobe(daemon) => {
                for event in daemon.events() {
                    let text = event.to_string();
                    ensure!(!text.contains("\"probe.fail\""), "hostprobe finds a target unwell: {text}");
                }
            }
            Self::Blackbox(blackbox) => {
                let found = blackbox.probe(&targets.address(0))?;
                ensure!(
                    found.contains("\nprobe_success 1\n"),
                    "blackbox_exporter finds a target unwell: {found}"
                );
            }
            Self::Monit(monit) => {
                let unwell = monit.log().into_iter().find(|line| line.contains("failed"));
                ensure!(unwell.is_none(), "Monit finds a target unwell: {}", unwell.unwrap_or_default());
            }
        }
        Ok(())
    }
}

/// How long is measured.
#[derive(Clone, Copy)]
struct Times {
    rounds: usize,
    warm_up: Duration,
    parts: usize,
    part: Duration,
}

/// The samples of one subject and one kind, ns a probe.
#[derive(Debug, Default)]
struct Samples {
    /// With all that the subject started.
    all: Vec<f64>,
    /// Of its own process alone.
    own: Vec<f64>,
    /// Probes a second.
    rate: Vec<f64>,
}

/// Measures each kind in turn, hostprobe and its peer one after the other, round after round.
pub fn measure(effort: Effort) -> Result<Section> {
    let second = Duration::from_secs(1);
    let times = effort.pick(
        Times { rounds: 3, warm_up: 3 * second, parts: 2, part: 6 * second },
        Times { rounds: 1, warm_up: second, parts: 1, part: 2 * second },
    );
    // A thread of its own moves to another network, and all that it starts is there.
    let measured = thread::spawn(move || {
        ensure!(network::enter(), "there can be no network namespace");
        // As systemd sets it on the host itself (`sysctl.d/50-default.conf`).
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0\t2147483647").context("cannot allow pings")?;
        rounds(times)
    });
    let samples = measured.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(section(times, &samples))
}

type AllSamples = BTreeMap<(Kind, &'static str), Samples>;

fn rounds(times: Times) -> Result<AllSamples> {
    let mut samples = AllSamples::new();
    for _ in 0..times.rounds {
        let mut idle = BTreeMap::new();
        for name in [HOSTPROBE, EXPORTER, MONIT] {
            let subject = Subject::start(name, None)?;
            thread::sleep(times.warm_up);
            idle.insert(name, watch(&subject, times.part * times.parts as u32)?);
        }
        for kind in Kind::ALL {
            let targets =
                Targets::start(kind).with_context(|| format!("a server for {kind:?} is missing"))?;
            let peer = if kind == Kind::Exec { MONIT } else { EXPORTER };
            for name in [HOSTPROBE, peer] {
                let before = targets.probes()?;
                let subject = Subject::start(name, Some(&targets))?;
                // Prometheus begins some seconds after it is ready.
                until(&format!("{name} probes all of {kind:?}"), START, || {
                    (targets.probes().ok()? >= before + TARGETS as u64).then_some(())
                });
                thread::sleep(times.warm_up);
                let into = samples.entry((kind, name)).or_default();
                for _ in 0..times.parts {
                    let before = targets.probes()?;
                    let used = watch(&subject, times.part)?;
                    let probes = (targets.probes()? - before) as f64;
                    ensure!(probes > 0.0, "{name} does not probe {kind:?}");
                    let beyond_idle = |at: usize| (used[at] - idle[name][at]) * times.part.as_secs_f64();
                    into.all.push(beyond_idle(0) / probes);
                    into.own.push(beyond_idle(1) / probes);
                    into.rate.push(probes / times.part.as_secs_f64());
                }
                subject.succeeds(&targets)?;
            }
        }
    }
    Ok(samples)
}

/// The CPU time of a subject in a while, ns a second: of it and all that it started, and of its process alone.
fn watch(subject: &Subject, length: Duration) -> Result<[f64; 2]> {
    let pid = subject.pid();
    let before = cpu_time(pid)?;
    let used = window(&[vec![pid]], length)?;
    let own = cpu_time(pid)?.saturating_sub(before) as f64;
    let used = used.first().context("nothing was measured")?;
    let seconds = used.took_ns / 1e9;
    Ok([used.cpu_ns / seconds, own / seconds])
}

fn section(times: Times, samples: &AllSamples) -> Section {
    let none = Samples::default();
    let of = |kind: Kind, name: &'static str| samples.get(&(kind, name)).unwrap_or(&none);
    let mut rows = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Exec) {
        rows.push(
            Row::new(&format!("CPU time per {} probe", kind.name()), Unit::Nanoseconds)
                .of(HOSTPROBE, &of(kind, HOSTPROBE).all)
                .of(EXPORTER, &of(kind, EXPORTER).all)
                .times_less(EXPORTER, TIMES_LESS),
        );
    }
    let (own, monit) = (of(Kind::Exec, HOSTPROBE), of(Kind::Exec, MONIT));
    rows.push(
        Row::new("CPU time per exec probe, with its program", Unit::Nanoseconds)
            .of(HOSTPROBE, &own.all)
            .of(MONIT, &monit.all)
            .times_less(MONIT, 1.0)
            .note(
                "The program is a static one that appends a byte to a file. hostprobe runs it in a cgroup of its own, so \
                 that nothing it starts outlives it, and notices its end at once; Monit asks for its end in its next cycle.",
            ),
    );
    rows.push(
        Row::new("CPU time per exec probe, of the daemon's process alone", Unit::Nanoseconds)
            .of(HOSTPROBE, &own.own)
            .of(MONIT, &monit.own)
            .times_less(MONIT, 1.0),
    );
    let rates: Vec<f64> = samples.values().flat_map(|samples| samples.rate.iter().copied()).collect();
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let fastest = rates.iter().copied().fold(0.0, f64::max);
    Section {
        name: "probes".to_owned(),
        title: "CPU time of a probe, by its kind".to_owned(),
        method: format!(
            "{TARGETS} targets of one kind are probed once a second, by hostprobe, where each is a `[[service]]`, and by \
             blackbox_exporter, which Prometheus asks for each; programs are run by hostprobe and by Monit with a cycle of \
             1 s. HTTP and TCP are those of nginx, gRPC that of Google's library, DNS that of dnsmasq, ICMP that of the \
             kernel, all on the loopback of a network namespace. In {} round(s), one after the other; after {} s each sample \
             is the mean over {} s. CPU time is user and system time of the process that probes, without what it takes when \
             it has no target, which is measured in the same round; Prometheus's and the servers' own is not counted. It is \
             divided by the probes that came: the kernel counts connections, datagrams and echo requests, and programs write \
             theirs down. There were {slowest:.0} to {fastest:.0} a second.",
            times.rounds,
            times.warm_up.as_secs_f64(),
            times.part.as_secs_f64(),
        ),
        rows,
        further: String::new(),
        unmeasured: Vec::new(),
    }
}
