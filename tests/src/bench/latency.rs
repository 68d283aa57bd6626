//! The delay from a death to its event, and to the restart.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use hostprobe::sensor::{
    ebpf::{EbpfSensor, Options},
    record::Record,
};
use rustix::process::Signal;
use serde_json::Value;

use super::{
    peers::bcc::{self, Tool},
    section::{Effort, Row, Section, Unit},
};
use crate::{
    daemon::Daemon,
    incident_events::text,
    lab::ExecLab,
    lineage::{LONG, Lineage},
    process::{Lines, Running, signal},
};

/// Deaths in one turn.
const TURN: usize = 50;

/// Between two deaths: long enough for all to be asleep again.
const PAUSE: Duration = Duration::from_millis(8);

const METHOD: &str = "A process of a watched service is killed, again and again, and the moment is taken at which its line has \
been read from a pipe by a reader that blocks in `read`. hostprobe's line is whole: who it was, of which service, who killed it. \
exitsnoop writes by line, which it does on a terminal alone unless `stdbuf` makes it. Turns of 50 deaths, each program \
alone. Then the main process of a service that hostprobe keeps running is killed, which is answered by a restart; when that really \
happened is taken from the kernel by hooks of the benchmark's own: from the record of the death to that of the successor's exec.";

pub fn measure(effort: Effort) -> Result<Section> {
    let lineage = Lineage::new();
    let pidfile = lineage.pidfile();
    let members = lineage.start(&["--pidfile", &pidfile.display().to_string()]);
    let (mut own, mut peer) = (LineDelays::default(), LineDelays::default());
    // The first turn only warms up.
    for turn in 0..=effort.pick(12, 1) {
        if turn == 1 {
            (own, peer) = Default::default();
        }
        hostprobe(&lineage, &members, &mut own)?;
        exitsnoop(&lineage, &mut peer)?;
    }
    let mut rows = vec![
        Row::new("death → line read, from the kernel's record of the death", Unit::Nanoseconds)
            .of("hostprobe", &own.from_death)
            .at_most("p50 ", 150e3, |summary| summary.median)
            .at_most("p99 ", 1e6, |summary| summary.p99)
            .note("From `@timestamp`, which is the kernel's own at the exit, to the return of the `read`."),
        Row::new("death → line read, from the kill", Unit::Nanoseconds)
            .of("hostprobe", &own.from_kill)
            .of("exitsnoop", &peer.from_kill)
            .times_less("exitsnoop", 1.0)
            .note(
                "From just before `kill(2)`: it includes that the victim is woken and taken apart by the kernel. \
                 exitsnoop's line has the name, pids, age and signal; hostprobe's has looked up its service, command line \
                 and killer as well.",
            ),
    ];
    rows.extend(restarts(effort.pick(200, 15))?);
    Ok(Section {
        name: "latency".to_owned(),
        title: "From a death to its line, and to the restart".to_owned(),
        method: METHOD.to_owned(),
        rows,
        further: String::new(),
        unmeasured: Vec::new(),
    })
}

/// Times of one turn, nanoseconds.
#[derive(Debug, Default)]
struct LineDelays {
    from_death: Vec<f64>,
    from_kill: Vec<f64>,
}

fn hostprobe(lineage: &Lineage, members: &Running, delays: &mut LineDelays) -> Result<()> {
    let what = format!("match = {{ pidfile = {:?} }}", lineage.pidfile());
    let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{}", lineage.service("lineage", &what)), &[]);
    daemon.ready();
    ensure!(fs::exists(format!("/proc/{}", members.pid()))?, "the service has died");
    for _ in 0..TURN {
        let pid = lineage.spawn("child");
        let such = |line: &str| {
            line.contains("\"process.exit\"") && line.contains(&format!("\"process\":{{\"pid\":{pid},"))
        };
        let (killed, read, line) =
            kill(pid, daemon.stream(), such).context("hostprobe does not report a death")?;
        let event: Value = serde_json::from_str(&line)?;
        delays.from_death.push(nanoseconds(time_of(&event)?, read));
        delays.from_kill.push(nanoseconds(killed, read));
    }
    Ok(())
}

fn exitsnoop(lineage: &Lineage, delays: &mut LineDelays) -> Result<()> {
    let tool = Tool::exitsnoop()?;
    for _ in 0..TURN {
        let pid = lineage.spawn("child");
        let such = |line: &str| bcc::exit_of(line).is_ok_and(|(ended, _)| ended == pid);
        let (killed, read, _) =
            kill(pid, &tool.process.stdout, such).context("exitsnoop does not report a death")?;
        delays.from_kill.push(nanoseconds(killed, read));
    }
    Ok(())
}

/// Kills a process: when, when such a line of it was read, and that line.
fn kill(pid: u32, lines: &Lines, such: impl Fn(&str) -> bool) -> Option<(SystemTime, SystemTime, String)> {
    std::thread::sleep(PAUSE);
    let before = lines.all().len();
    let killed = SystemTime::now();
    signal(pid, Signal::KILL);
    let at = lines.position(before, LONG, such)?;
    Some((killed, lines.read_at(at)?, lines.all().get(at)?.clone()))
}

/// Kills a service's main process again and again.
fn restarts(number: usize) -> Result<Vec<Row>> {
    let lab = ExecLab::start().context("the daemon needs root")?;
    // It watches no service and needs the record of every death.
    let options = Options { bulk_ring_bytes: 16 << 20, unwatched_per_second: 10_000, ..Options::default() };
    let mut sensor = EbpfSensor::load(&options).context("the benchmark's own hooks cannot be attached")?;
    let (mut decided, mut begun) = (Vec::new(), Vec::new());
    // The first only warms up.
    for _ in 0..=number {
        let mut records = Vec::new();
        sensor.drain(&mut records);
        records.clear();
        let main = lab.main_pid();
        let incident = lab.heal(|| lab.kill(Signal::KILL));
        let (exit, request) = (incident.one("process.exit"), incident.one("restart.request"));
        decided.push(nanoseconds(time_of(exit)?, time_of(request)?));
        let successor = lab.main_pid();
        sensor.drain(&mut records);
        let died = records.iter().find_map(|record| {
            if let Record::Exit(it) = record { (it.pid == main).then_some(it.at_ns) } else { None }
        });
        let started = records.iter().find_map(|record| {
            if let Record::Exec(it) = record { (it.pid == successor).then_some(it.at_ns) } else { None }
        });
        let (died, started) =
            died.zip(started).context("the kernel recorded no death or no exec of the service")?;
        begun.push(started.saturating_sub(died) as f64);
    }
    Ok(vec![
        Row::new("death → restart decided on", Unit::Nanoseconds).of("hostprobe", &decided[1..]).note(
            "From the `@timestamp` of `process.exit` to that of `restart.request`: the verdict is reached and the restart issued.",
        ),
        Row::new("death → restart issued: the successor's exec", Unit::Nanoseconds)
            .of("hostprobe", &begun[1..])
            .at_most("p50 ", 400e3, |summary| summary.median)
            .at_most("p99 ", 2e6, |summary| summary.p99)
            .note(
                "From the kernel's record of the death to its record of the successor's exec, with the fork and the loading of the \
                 program in between: later than the restart was issued, and seen from outside.",
            ),
    ])
}

/// When an event happened.
fn time_of(event: &Value) -> Result<SystemTime> {
    let stamp = text(event, "@timestamp");
    let time: jiff::Timestamp = stamp.parse().with_context(|| format!("{stamp:?} is no time"))?;
    let since = u64::try_from(time.as_nanosecond()).context("it is before 1970")?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_nanos(since))
}

/// From one time to a later one; negative if it is not later.
fn nanoseconds(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(later) => later.as_nanos() as f64,
        Err(earlier) => -(earlier.duration().as_nanos() as f64),
    }
}
