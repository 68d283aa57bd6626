//! How long it takes until hostprobe watches.

use std::fs;

use anyhow::{Context, Result};

use super::{
    probed,
    section::{Effort, Row, Section, Unit},
};
use crate::many_processes::{Servers, Sleepers};

/// Processes on the host.
const PROCESSES: usize = 300;

/// Services in the configuration.
const SERVICES: usize = 10;

const LIMIT: f64 = 60e6;

/// Measures the time from the start of the process to its `agent.ready`.
pub fn measure(effort: Effort) -> Result<Section> {
    let starts = effort.pick(30, 5);
    let servers = Servers::start(SERVICES);
    let _crowd = Sleepers::start(PROCESSES.saturating_sub(processes()?));
    let there = processes()?;
    // The first reads the program from the disk and is not counted.
    probed::start(&servers);
    let took = (0..starts).map(|_| probed::start(&servers).1.as_nanos() as f64);
    let took: Vec<f64> = took.collect();
    let row = Row::new(&format!("start to agent.ready, {PROCESSES} processes"), Unit::Nanoseconds)
        .of("hostprobe", &took)
        .at_most("", LIMIT, |summary| summary.median)
        .note(
            "All hooks are attached by then and tried on a process of its own, and the services' processes are found by \
             their ports: all processes' descriptors are looked through once for that.",
        );
    Ok(Section {
        name: "start".to_owned(),
        title: "Start".to_owned(),
        method: format!(
            "hostprobe with {SERVICES} services, known by their ports, is started {starts} times on a host with {there} \
             processes; from just before the fork until its `agent.ready` was read from the pipe of its standard output. \
             Its files are in the page cache."
        ),
        rows: vec![row],
        further: String::new(),
        unmeasured: Vec::new(),
    })
}

/// How many processes this host has.
fn processes() -> Result<usize> {
    let all = fs::read_dir("/proc").context("cannot read /proc")?.flatten();
    Ok(all.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok())).count())
}
