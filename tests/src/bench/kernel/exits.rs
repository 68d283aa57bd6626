//! The exits of processes.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    bench::{
        bpf_stats::{Empty, Programs, Taken},
        peers::bcc::Tool,
        section::{Effort, Row, Unit},
    },
    daemon::{Daemon, event_action},
    incident_events::number,
    process::until,
    storm::{Manner, Storm},
};

const EXIT: &str = "sched_process_exit";

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(30);

/// Watched processes that die while the daemon stands still: fewer than its ring has room for, and, with those of
/// [`PACED`] in the same second, fewer than a service's processes may have reported.
const HELD: u64 = 250;

/// Watched processes that die one after the other, each waking the daemon.
const PACED: u64 = 400;
const PACE: u64 = 200;

/// With more runs than this factor times the deaths, other processes have died too: the round is tried again.
const MAX_RUNS_PER_DEATH: f64 = 1.1;
const ATTEMPTS: usize = 4;

/// The means of the rounds, nanoseconds.
#[derive(Debug, Default)]
struct Samples {
    well: Vec<f64>,
    failed: Vec<f64>,
    held: Vec<f64>,
    woken: Vec<f64>,
    exec: Vec<f64>,
}

const FLOOR: &str =
    "All figures include what the empty program's does: the kernel's readings of its clock around each run.";

pub fn measure(effort: Effort) -> Result<Vec<Row>> {
    let (rounds, deaths) = (effort.pick(12, 2), effort.pick(6000, 2000));
    let (mut own, mut peer, mut empty) = (Samples::default(), Samples::default(), Samples::default());
    // The first round only warms up.
    for round in 0..=rounds {
        if round == 1 {
            (own, peer, empty) = Default::default();
        }
        hostprobe(deaths, &mut own)?;
        exitsnoop(deaths, &mut peer)?;
        let _empty = Empty::attach(EXIT)?;
        let this = std::process::id();
        empty.well.push(storm(this, Manner::Well, deaths)?.at(EXIT).mean());
        empty.failed.push(storm(this, Manner::Exit, deaths)?.at(EXIT).mean());
    }
    let floor = "an empty program";
    let filtered = |figure: &str, of: fn(&Samples) -> &Vec<f64>, limit: f64, note: &str| {
        Row::new(figure, Unit::Nanoseconds)
            .of("hostprobe", of(&own))
            .of("exitsnoop", of(&peer))
            .of(floor, of(&empty))
            .at_most("", limit, |summary| summary.median)
            .times_less("exitsnoop", 50.0)
            .note(note)
    };
    let emitted = |figure: &str, of: fn(&Samples) -> &Vec<f64>| {
        Row::new(figure, Unit::Nanoseconds).of("hostprobe", of(&own)).of("exitsnoop", of(&peer))
    };
    Ok(vec![
        filtered("kernel time per exit with code 0, filtered", |it| &it.well, 90.0, FLOOR),
        filtered(
            "kernel time per exit with code 1, filtered",
            |it| &it.failed,
            200.0,
            "A failure may matter to the parent of the process, so hostprobe asks who its parent is, and whether its cgroup \
             may be watched, before it lets it go.",
        ),
        emitted("kernel time per exit, emitted, without the wake-up", |it| &it.held)
            .at_most("", 1500.0, |summary| summary.median)
            .times_less("exitsnoop", 2.0)
            .note(
                "The daemon is stopped, so that records are written and no reader is woken. exitsnoop's programs cannot do \
                 without the wake-up: its figure is the same as in the next row's storm.",
            ),
        emitted("kernel time per exit, emitted, with the wake-up", |it| &it.woken)
            .times_less("exitsnoop", 2.0)
            .note(
                "The deaths come so slowly that each finds the reader asleep: the ring asks for an interrupt on the \
                 same CPU, which a virtual machine pays dearly for.",
            ),
        emitted("kernel time per fork, exec and exit, all hooks", |it| &it.exec).note(
            "hostprobe also notes who is born (fork) and with what command line (exec), so that a death has a name; \
             exitsnoop has the hook at the exit alone.",
        ),
    ])
}

/// Watched storms with their pidfiles.
struct Watched {
    folder: TempDir,
    held: Storm,
    woken: Storm,
}

impl Watched {
    fn new() -> Result<Self> {
        let (held, woken) = (Storm::of(Manner::Exit, HELD), Storm::paced(Manner::Exit, PACED, PACE));
        let it = Self { folder: TempDir::new()?, held, woken };
        fs::write(it.pidfile("held"), it.held.process.pid().to_string())?;
        fs::write(it.pidfile("woken"), it.woken.process.pid().to_string())?;
        Ok(it)
    }

    fn pidfile(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> String {
        let service = |name: &str| {
            format!("[[service]]\nname = {name:?}\nmatch = {{ pidfile = {:?} }}\n", self.pidfile(name))
        };
        format!("[http]\nlisten = \"\"\n{}{}", service("held"), service("woken"))
    }
}

fn hostprobe(deaths: u64, samples: &mut Samples) -> Result<()> {
    let mut watched = Watched::new()?;
    let daemon = Daemon::start(&watched.config(), &[]);
    daemon.ready();
    let pid = daemon.pid();
    samples.well.push(storm(pid, Manner::Well, deaths)?.at(EXIT).mean());
    samples.failed.push(storm(pid, Manner::Exit, deaths)?.at(EXIT).mean());
    samples.exec.push(storm(pid, Manner::Exec, deaths / 4)?.all().per(deaths / 4));
    samples.woken.push(mean_of(&mut watched.woken, pid)?);
    // It reads what is there before it is stopped, and what comes then after it goes on.
    wait_until_reported(&daemon, watched.woken.process.pid(), PACED)?;
    daemon.signal(Signal::STOP);
    let held = mean_of(&mut watched.held, pid);
    daemon.signal(Signal::CONT);
    samples.held.push(held?);
    wait_until_reported(&daemon, watched.held.process.pid(), HELD)
}

fn exitsnoop(deaths: u64, samples: &mut Samples) -> Result<()> {
    let tool = Tool::exitsnoop()?;
    let pid = tool.process.pid();
    samples.well.push(storm(pid, Manner::Well, deaths)?.all().mean());
    samples.failed.push(storm(pid, Manner::Exit, deaths)?.all().mean());
    samples.exec.push(storm(pid, Manner::Exec, deaths / 4)?.all().per(deaths / 4));
    samples.held.push(mean_of(&mut Storm::of(Manner::Exit, HELD), pid)?);
    samples.woken.push(mean_of(&mut Storm::paced(Manner::Exit, PACED, PACE), pid)?);
    Ok(())
}

/// What a process' programs take of a storm of so many.
fn storm(pid: u32, manner: Manner, deaths: u64) -> Result<Programs> {
    for _ in 1..ATTEMPTS {
        let taken = pass(&mut Storm::of(manner, deaths), pid)?;
        let exits =
            [taken.at(EXIT), taken.all()].into_iter().find(|taken| taken.runs > 0).unwrap_or_default();
        if (exits.runs as f64) < deaths as f64 * MAX_RUNS_PER_DEATH {
            return Ok(taken);
        }
    }
    pass(&mut Storm::of(manner, deaths), pid)
}

/// What a process' program at the exit takes for each exit of a storm.
fn mean_of(storm: &mut Storm, pid: u32) -> Result<f64> {
    let taken = pass(storm, pid)?;
    let exits = [taken.at(EXIT), taken.all()].into_iter().find(|taken| taken.runs > 0);
    Ok(exits.map_or(0.0, Taken::mean))
}

fn pass(storm: &mut Storm, pid: u32) -> Result<Programs> {
    let before = Programs::of(pid)?;
    storm.pass();
    Ok(Programs::of(pid)?.since(&before))
}

/// Waits until the daemon has reported the exits of all children of a process.
fn wait_until_reported(daemon: &Daemon, parent: u32, deaths: u64) -> Result<()> {
    let all = || {
        let of_it = daemon.count(|event| {
            event_action(event) == "process.exit"
                && number(event, "process.parent.pid") == Some(parent.into())
        });
        (of_it as u64 >= deaths).then_some(of_it as u64)
    };
    let of_it = until("every watched death is reported", LONG, all);
    ensure!(of_it == deaths, "{of_it} of {deaths} deaths were reported");
    Ok(())
}
