//! The demonstration: one small stack under one daemon, broken in one way after the other.

mod faults;
mod health;
mod interrupt;
mod outcome;
mod run;
mod stack;
mod table;

use std::{process::ExitCode, time::Instant};

use faults::Step;
use outcome::Outcome;
use stack::Stack;
use table::Table;

use crate::{
    incident_events::{median, text},
    memcg::MemoryCgroup,
    parts::{PostgresFolder, Redis, built},
};

/// The exit status where the demonstration cannot be given, as of a command that is not permitted.
const CANNOT: u8 = 3;

/// Gives it. Exit status 0 if every fault got its verdict and its action, 1 if one did not, 3 if it cannot be given.
pub fn run() -> ExitCode {
    let missing = missing();
    if !missing.is_empty() {
        eprintln!("the demonstration needs {}", missing.join(", and "));
        return ExitCode::from(CANNOT);
    }
    let memcg = MemoryCgroup::new(30 << 20).map(drop);
    let (steps, left_out): (Vec<&Step>, Vec<&Step>) =
        faults::STEPS.iter().partition(|step| !step.by_memcg || memcg.is_ok());
    interrupt::listen();
    let began = Instant::now();
    let mut table = Table::new();
    table.progress("a web application, its workers, Redis, PostgreSQL and a shop are starting …");
    let stack = match Stack::start() {
        Ok(stack) => stack,
        Err(why) => {
            eprintln!("the stack cannot be started: {why}");
            return ExitCode::from(CANNOT);
        }
    };
    table.heading();
    let mut done = Vec::new();
    for &step in &steps {
        done.push((step, run::run(step, &stack, &mut table)));
        if stack.is_over() {
            break;
        }
    }
    if interrupt::came() {
        println!("interrupted");
    }
    let record = stack.end();
    if let Err(error) = memcg {
        let left_out: Vec<&str> = left_out.iter().map(|step| step.fault).collect();
        println!("left out, because no memory cgroup can be had ({error}): {}", left_out.join("; "));
    }
    say_how_it_went(&done, steps.len(), began);
    match record {
        Ok(folder) => say_where_it_is_kept(&folder, &done),
        Err(error) => eprintln!("the events cannot be kept: {error}"),
    }
    let right = done.len() == steps.len() && done.iter().all(|(_, outcome)| outcome.wrong.is_empty());
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What this machine lacks, and how to get it.
fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root, for the eBPF programs: run it with sudo");
    }
    if !std::path::Path::new(Redis::PROGRAM).exists() {
        missing.push("the package redis-server, which `cargo xtask test` installs on Debian");
    }
    if !PostgresFolder::is_installed() {
        missing.push("the package postgresql, which `cargo xtask test` installs on Debian");
    }
    missing
}

fn say_how_it_went(done: &[(&Step, Outcome)], steps: usize, began: Instant) {
    for (step, outcome) in done {
        for what in &outcome.wrong {
            println!("{}: {what}", step.fault);
        }
    }
    let right = done.iter().filter(|(_, outcome)| outcome.wrong.is_empty()).count();
    let times = |time: fn(&Outcome) -> Option<f64>| {
        median(done.iter().filter_map(|(_, outcome)| time(outcome)).collect())
    };
    println!(
        "\n{right} of {steps} faults got the verdict and the action that are right for them; \
         medians: detected after {:.1} ms, well again after {:.1} ms; all in {:.0} s",
        times(|outcome| outcome.detected_ms),
        times(|outcome| outcome.healthy_ms),
        began.elapsed().as_secs_f64(),
    );
}

fn say_where_it_is_kept(folder: &std::path::Path, done: &[(&Step, Outcome)]) {
    let events = folder.join(stack::EVENTS);
    println!("events, snapshots and logs are kept in {}", folder.display());
    // The one with the most to tell: a cause, and a service that was held because of it.
    let explained = done.iter().filter(|(_, outcome)| !outcome.incident.is_null());
    if let Some((_, outcome)) = explained.max_by_key(|(step, _)| step.incidents.len()) {
        let (program, id) = (built("hostprobe"), text(&outcome.incident, "incident.id"));
        println!("to explain one incident: {} explain --events {} {id}", program.display(), events.display());
    }
}
