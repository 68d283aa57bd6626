//! What watching costs while nothing happens.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::Result;

use super::{
    peers::{blackbox::Blackbox, monit::Monit, netdata::Netdata},
    probed,
    section::{Effort, Row, Section, Unit},
    usage::{Used, memory, window},
};
use crate::{daemon::Daemon, many_processes::Servers};

/// Services that are probed.
const SERVICES: usize = 10;

/// Percent of one core.
const CPU_LIMIT: f64 = 0.15;

const MEMORY_LIMIT: f64 = 12e6;

/// Who watches them.
enum Subject {
    Hostprobe(Daemon),
    Monit(Monit),
    Netdata(Netdata),
    Blackbox(Blackbox),
}

/// In the order of the rows; hostprobe first.
const SUBJECTS: [&str; 4] = ["hostprobe", "Monit", "Netdata", "blackbox_exporter + Prometheus"];

impl Subject {
    fn start(name: &str, servers: &Servers) -> Result<Self> {
        Ok(match name {
            "hostprobe" => Self::Hostprobe(probed::start(servers).0),
            "Monit" => Self::Monit(Monit::start(1, &Monit::http_checks(&servers.ports))?),
            "Netdata" => Self::Netdata(Netdata::start()?),
            _ => Self::Blackbox(Blackbox::start(&servers.ports)?),
        })
    }

    /// The processes that everything of it descends from.
    fn roots(&self) -> Vec<u32> {
        match self {
            Self::Hostprobe(daemon) => vec![daemon.pid()],
            Self::Monit(monit) => vec![monit.process.pid()],
            Self::Netdata(netdata) => vec![netdata.process.pid()],
            Self::Blackbox(blackbox) => vec![blackbox.exporter.pid(), blackbox.prometheus.pid()],
        }
    }

    fn probes(&self) -> bool {
        !matches!(self, Self::Netdata(_))
    }
}

/// Measures CPU time, memory and wake-ups of hostprobe and its peers, one after the other.
pub fn measure(effort: Effort) -> Result<Section> {
    let rounds = effort.pick(2, 1);
    let (warm_up, parts, part) =
        effort.pick((4_000, 4, Duration::from_secs(5)), (500, 2, Duration::from_millis(1_000)));
    let servers = Servers::start(SERVICES);
    let mut figures: BTreeMap<&str, [Vec<f64>; 5]> = BTreeMap::new();
    for _ in 0..rounds {
        for name in SUBJECTS {
            let mark = servers.mark()?;
            let subject = Subject::start(name, &servers)?;
            if subject.probes() {
                probed::all_asked(&servers, mark);
            }
            thread::sleep(Duration::from_millis(warm_up));
            let [cpu, wakeups, resident, proportional, anonymous] = figures.entry(name).or_default();
            for _ in 0..parts {
                let used = window(&[subject.roots()], part)?;
                cpu.extend(used.iter().map(Used::percent));
                wakeups.extend(used.iter().map(Used::wakeups));
                let memory = memory(&subject.roots())?;
                resident.push(memory.resident);
                proportional.push(memory.proportional);
                anonymous.push(memory.anonymous);
            }
        }
    }
    let row = |figure: &str, unit, at: usize| {
        SUBJECTS.iter().fold(Row::new(figure, unit), |row, name| row.of(name, &figures[name][at]))
    };
    let rows = vec![
        row("CPU of one core, 10 services probed every second", Unit::Percent, 0)
            .at_most("", CPU_LIMIT, |summary| summary.median),
        row("resident memory, 10 services", Unit::Bytes, 2)
            .at_most("", MEMORY_LIMIT, |summary| summary.max)
            .note("As `ps` shows it (VmRSS), summed over a subject's processes: with the pages of its program files that \
                   are in memory, which the kernel can drop at any time. hostprobe has its pages of files mapped one by \
                   one (Linux 6.7). Elsewhere the kernel maps up to 16 around each that is used, and the figure is about \
                   twice as large."),
        row("proportional memory (PSS), 10 services", Unit::Bytes, 3),
        row("anonymous memory, 10 services", Unit::Bytes, 4)
            .note("Heap, stacks and relocated data: what no file holds, and only a swap could free."),
        row("wake-ups, 10 services probed every second", Unit::PerSecond, 1)
            .note("Voluntary context switches of all threads."),
    ];
    Ok(Section {
        name: "idle".to_owned(),
        title: "Cost while nothing happens".to_owned(),
        method: format!(
            "Ten services, each a process with an HTTP server of its own, are all well and probed over HTTP once a \
             second. hostprobe has a `[[service]]` for each, known by its port, with all hooks attached and its page \
             served. Monit has a cycle of 1 s and a check of each, blackbox_exporter is asked for each once a second by \
             Prometheus, and Netdata runs as its package configures it. Subjects run one after the other, in {rounds} \
             round(s); after {warm_up} ms each sample is the mean over {} s. CPU time is user and system time of all \
             processes of a subject, read in nanoseconds from their CPU clocks; what a subject has the kernel do in \
             other processes, such as hostprobe's hooks, is not in it.",
            part.as_secs_f64()
        ),
        rows,
        further: String::new(),
        unmeasured: vec![
            "Netdata's checks of HTTP servers: they are in plugins of other packages (python.d, go.d), which would come on \
             top of its figures. It collects the metrics of the host every second instead."
                .to_owned(),
        ],
    })
}
