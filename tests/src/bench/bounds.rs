//! What every table and eBPF map can hold, and what happens when it is full.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, bail};

use super::section::{Effort, Section};
use crate::{
    daemon::Daemon,
    http::free_port,
    process::until,
    soak::{Mib, maps, sample::Sample},
};

/// A table or map: its name, what it grows with, and what happens at its bound.
struct Known(&'static str, &'static str, &'static str);

/// The daemon's own tables, as its metrics call them.
const TABLES: [Known; 6] = [
    Known(
        "processes",
        "processes of services, and those that were met on the way to them",
        "the dead are thrown out; then the bound is twice what lives, at least 8,192",
    ),
    Known(
        "cgroups",
        "cgroups",
        "half of them go, those that were asked for longest ago; read again when needed",
    ),
    Known("descendants", "living processes of services", "the eBPF map DESCENDANTS, counted"),
    Known("recent_events", "nothing", "the oldest goes"),
    Known("incidents", "nothing", "the oldest goes, with its events"),
    Known(
        "socket_errors",
        "kinds of errors of services",
        "a further kind is reported each time instead of summed up",
    ),
];

/// The eBPF maps, as far as the kernel keeps their names.
const MAPS: [Known; 20] = [
    Known(
        "URGENT",
        "deaths, OOM kills, errors not yet read",
        "the record is lost and counted: `stream.loss`",
    ),
    Known(
        "BULK",
        "connects, listeners, execs, stacks of crashes not yet read",
        "the record is lost and counted: `stream.loss`",
    ),
    Known(
        "WATCHED_TGID",
        "main processes of services",
        "the service is watched by its cgroup and by `/proc`; a warning in the log",
    ),
    Known(
        "WATCHED_CGROUP",
        "cgroups of services",
        "the service is watched by its processes; a warning in the log",
    ),
    Known(
        "WATCHED_PORT",
        "ports of services",
        "errors on further ports are reported for known owners alone; a warning in the log",
    ),
    Known(
        "DESCENDANTS",
        "living processes of services",
        "later ones are known by parent and cgroup alone, and counted: `stream.loss`",
    ),
    Known("SIGNALS", "signals sent lately", "the oldest goes: a death that late lacks its sender"),
    Known(
        "ENDED",
        "processes that ended lately, on kernels that do not say which thread is the last",
        "the oldest goes",
    ),
    Known(
        "WATCHED_OWNERS",
        "connections of services",
        "it is counted (`stream.loss`) and goes to the map of all other connections",
    ),
    Known(
        "OWNERS",
        "connections of everything else, eight in a row",
        "one of eight loses its owner: its errors belong to no service, and it is counted (`stream.loss`). Those of a process that becomes watched move to the map of watched ones within a second",
    ),
    Known(
        "LISTENERS",
        "listening ports",
        "the port heard of longest ago has no owner until it is looked up in `/proc`",
    ),
    Known("CONNECTED", "pairs of client and server", "the pair is reported once more"),
    Known(
        "PROBE_PORTS",
        "connections of the daemon's probes",
        "the oldest goes: a late error of it counts as a client's",
    ),
    Known(
        "ERRORS",
        "kinds of socket errors in a second",
        "the oldest goes: its next error is reported as a first",
    ),
    Known(
        "FAULTS",
        "kinds of faults of the host in a second",
        "the oldest goes: its next fault is reported as a first",
    ),
    Known("RETRANSMITS", "pairs with retransmits in a second", "the oldest goes uncounted"),
    Known(
        "BUDGETS",
        "cgroups with deaths, listeners and socket errors; processes that are stopped; kinds of faults of the host",
        "the quietest starts its second again",
    ),
    Known("DROPS", "nothing", "counters"),
    Known("EXITS", "nothing", "counters"),
    Known("AYA_LOGS", "debug lines, if asked for", "the line is lost"),
];

/// Room for one value a CPU each, which needs no words; as little as the programs' constants, whose names begin with a dot.
const SCRATCH: [&str; 2] = ["EXIT_FLAGS", "OOM_CANDIDATE"];

/// Lists them with the bounds that a running daemon has.
pub fn measure(_: Effort) -> Result<Section> {
    let page = free_port();
    let mut daemon = Daemon::start(&format!("[http]\nlisten = \"127.0.0.1:{page}\"\n"), &[]);
    daemon.ready();
    let sample = until("the daemon shows its tables", Duration::from_secs(20), || {
        Sample::take(daemon.pid(), page).filter(|sample| !sample.tables.is_empty())
    });
    let maps = maps::of(daemon.pid()).context("the eBPF maps cannot be read")?;
    daemon.stop();

    let mut further = String::from(
        "| table | of | bound | kernel memory | grows with | at its bound |\n|---|---|---:|---:|---|---|\n",
    );
    for table in &sample.tables {
        let Known(name, grows, full) = find(&TABLES, &table.name)?;
        let _ = writeln!(further, "| {name} | daemon | {} | | {grows} | {full} |", table.limit);
    }
    let mut memory = 0;
    for map in &maps {
        memory += map.memory;
        if SCRATCH.contains(&map.name.as_str()) || map.name.starts_with('.') {
            continue;
        }
        let Known(name, grows, full) = find(&MAPS, &map.name)?;
        let bound = if map.entries.is_none() && map.limit >= 4096 {
            Mib(map.limit).to_string()
        } else {
            map.limit.to_string()
        };
        let _ = writeln!(further, "| {name} | kernel | {bound} | {} | {grows} | {full} |", Mib(map.memory));
    }
    let _ =
        writeln!(further, "\nAll eBPF maps together take {} of kernel memory, from the start.", Mib(memory));
    further.push_str(
        "\nQueues between the daemon's own tasks hold 1,024 messages each, and a full queue makes its sender wait. Only the event \
         stream does not wait: 16,384 lines or 8 MiB a destination, then lines are lost and counted (`stream.loss`, \
         class `events`).\n",
    );
    Ok(Section {
        name: "bounds".to_owned(),
        title: "What grows, and how far".to_owned(),
        method: "Nothing grows with uptime (`cargo xtask soak` watches that). What grows with processes, cgroups or \
                 connections has a bound; these are the bounds a daemon without a configuration has here, as its metrics \
                 and the kernel tell them."
            .to_owned(),
        rows: Vec::new(),
        further,
        unmeasured: Vec::new(),
    })
}

/// What is known of one. A new table or map has to be described here before it can be shown.
fn find<'a>(known: &'a [Known], name: &str) -> Result<&'a Known> {
    match known.iter().find(|known| known.0 == name) {
        Some(known) => Ok(known),
        None => bail!("{name} is not described in tests/src/bench/bounds.rs"),
    }
}
