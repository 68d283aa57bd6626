//! Whether a storm of dying unwatched processes costs the death of a watched process, and whether what is lost is said.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{
    peers::bcc::{self, Tool},
    section::{Effort, Row, Section, Unit},
};
use crate::{
    daemon::{Daemon, event_action},
    deaths::{Deaths, reported_death},
    incident_events::number,
    lineage::{LONG, Lineage},
    process::signal,
    storm::{Manner, Storm},
};

/// Exits a second at each step, by all storms together; None: as many as they can.
const STEPS: [Option<u64>; 5] = [Some(500), Some(1000), Some(2000), Some(4000), None];

/// Between two deaths of watched processes.
const PAUSE: Duration = Duration::from_millis(10);

const METHOD: &str = "As many processes as there are CPUs, without rights, fork children that exit with 1 at once: 500 a second, then \
twice as many, up to all the machine can do. Meanwhile the processes of a watched service are killed, one every 10 ms. hostprobe has to \
report each of them, and exitsnoop has to print a line; no unwatched process may reach hostprobe\'s user space. exitsnoop has to \
print all, as it has no filter for what matters. At last the unwatched processes die by signals, which hostprobe reports up to a \
budget: each one beyond it has to be counted. The benchmark counts all of them by hooks of its own.";

/// What came of one step.
#[derive(Debug, Default)]
struct Step {
    /// Exits a second.
    rate: f64,
    /// Watched processes that died.
    died: u64,
    /// Watched processes whose death the subject did not report.
    unreported: u64,
    /// Unwatched processes that died.
    made: u64,
    /// Unwatched processes whose death the subject reported.
    unwatched: u64,
    /// Events that the subject itself said it lost.
    said_lost: u64,
}

pub fn measure(effort: Effort) -> Result<Section> {
    let duration = effort.pick(Duration::from_secs(5), Duration::from_millis(800));
    let lineage = Lineage::new();
    let _members = lineage.start(&["--pidfile", &lineage.pidfile().display().to_string()]);
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for step in STEPS {
        own.push(hostprobe(&lineage, step, duration)?);
        peer.push(exitsnoop(&lineage, step, duration)?);
    }
    let samples = |steps: &[Step], of: fn(&Step) -> f64| steps.iter().map(of).collect::<Vec<_>>();
    let total = |steps: &[Step], of: fn(&Step) -> u64| steps.iter().map(of).sum::<u64>();
    let row = |figure: &str, unit, of: fn(&Step) -> f64| {
        Row::new(figure, unit).of("hostprobe", &samples(&own, of)).of("exitsnoop", &samples(&peer, of))
    };
    let died = total(&own, |step| step.died);
    let unreported = total(&own, |step| step.unreported);
    let unwatched = total(&own, |step| step.unwatched);
    let said = total(&own, |step| step.said_lost);
    let made = total(&own, |step| step.made);
    let peer_silent: i64 = peer.iter().map(silent).sum();
    let mut rows = vec![
        row("exits per second in the storm", Unit::PerSecond, |step| step.rate)
            .note("A sample is one step; the greatest is the machine's limit."),
        row("watched deaths not reported in the storm", Unit::Count, |step| step.unreported as f64)
            .target("0", format!("{unreported} of {died}"), unreported == 0)
            .note("Of exitsnoop: watched deaths without a line."),
        row("unwatched processes' failures that reached user space", Unit::Count, |step| step.unwatched as f64)
            .target("0", format!("{unwatched} of {made}"), unwatched == 0),
        row("events reported as lost", Unit::Count, |step| step.said_lost as f64)
            .target("0", said.to_string(), said == 0)
            .note(&format!(
                "exitsnoop prints on its standard error how many events it lost. Of {} exits it had {} lines and reported {} as \
                 lost: {peer_silent} are unaccounted for.",
                total(&peer, |step| step.made + step.died),
                total(&peer, |step| step.unwatched + step.died - step.unreported),
                total(&peer, |step| step.said_lost),
            )),
    ];
    rows.push(killed(effort, &lineage)?);
    Ok(Section {
        name: "storm".to_owned(),
        title: "Loss in storms".to_owned(),
        method: METHOD.to_owned(),
        rows,
        further: String::new(),
        unmeasured: Vec::new(),
    })
}

/// Exits of which there was neither a line nor a word of loss.
fn silent(step: &Step) -> i64 {
    (step.made + step.unreported).cast_signed() - (step.unwatched + step.said_lost).cast_signed()
}

fn daemon(lineage: &Lineage) -> Daemon {
    let what = format!("match = {{ pidfile = {:?} }}", lineage.pidfile());
    let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{}", lineage.service("lineage", &what)), &[]);
    daemon.ready();
    daemon
}

fn hostprobe(lineage: &Lineage, pace: Option<u64>, duration: Duration) -> Result<Step> {
    let mut daemon = daemon(lineage);
    let storm = Storms::start(pace, duration);
    let (mut step, victims, parents) = storm.among(lineage)?;
    // The last one of all ends the stream's part that counts.
    let last = lineage.spawn("child");
    signal(last, Signal::KILL);
    crate::lineage::exit_of(&daemon, last);
    ensure!(daemon.stop().success(), "the daemon does not end in order: {}", daemon.log());
    let events = daemon.events();
    let exits = || events.iter().filter(|event| event_action(event) == "process.exit");
    let parent = |event: &serde_json::Value| number(event, "process.parent.pid");
    let reported = victims.iter().filter(|victim| {
        exits().any(|event| {
            number(event, "process.pid") == Some(i64::from(**victim)) && !parents.contains(&parent(event))
        })
    });
    step.unreported = step.died - reported.count() as u64;
    step.unwatched = exits().filter(|event| parents.contains(&parent(event))).count() as u64;
    let losses = events.iter().filter(|event| event_action(event) == "stream.loss");
    step.said_lost = losses.filter_map(|event| number(event, "loss.count")).sum::<i64>().cast_unsigned();
    Ok(step)
}

fn exitsnoop(lineage: &Lineage, pace: Option<u64>, duration: Duration) -> Result<Step> {
    let mut tool = Tool::exitsnoop()?;
    let storm = Storms::start(pace, duration);
    let (mut step, victims, parents) = storm.among(lineage)?;
    let last = lineage.spawn("child");
    signal(last, Signal::KILL);
    let lines = &tool.process.stdout;
    lines
        .position(0, LONG, |line| bcc::exit_of(line).is_ok_and(|(pid, _)| pid == last))
        .context("exitsnoop has no line for the last death")?;
    tool.process.stop();
    let said: Vec<(u32, u32)> =
        tool.process.stdout.all().iter().filter_map(|line| bcc::exit_of(line).ok()).collect();
    let is_unwatched = |parent: &u32| parents.contains(&Some(i64::from(*parent)));
    let reported = victims
        .iter()
        .filter(|victim| said.iter().any(|(pid, parent)| pid == *victim && !is_unwatched(parent)));
    step.unreported = step.died - reported.count() as u64;
    step.unwatched = said.iter().filter(|(_, parent)| is_unwatched(parent)).count() as u64;
    step.said_lost = tool.process.stderr.all().iter().filter_map(|line| lost(line)).sum();
    Ok(step)
}

/// How many events a line of exitsnoop's standard error says were lost.
fn lost(line: &str) -> Option<u64> {
    let (_, rest) =
        line.to_lowercase().split_once("lost ").map(|(before, rest)| (before.to_owned(), rest.to_owned()))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The unwatched processes of one step.
struct Storms {
    all: Vec<Storm>,
    duration: Duration,
}

impl Storms {
    fn start(pace: Option<u64>, duration: Duration) -> Self {
        let number = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
        let one = |_| match pace {
            Some(pace) => Storm::paced(Manner::Exit, u64::MAX, pace / number),
            None => Storm::endless(Manner::Exit),
        };
        Self { all: (0..number).map(one).collect(), duration }
    }

    /// Starts them and kills processes of a lineage meanwhile. Returns the counts, the killed processes, and the parents
    /// of the unwatched ones as events name them.
    fn among(mut self, lineage: &Lineage) -> Result<(Step, Vec<u32>, Vec<Option<i64>>)> {
        let parents = self.all.iter().map(|storm| Some(i64::from(storm.process.pid()))).collect();
        let began = Instant::now();
        self.all.iter().for_each(Storm::begin);
        let mut victims = Vec::new();
        while began.elapsed() < self.duration {
            let victim = lineage.spawn("child");
            signal(victim, Signal::KILL);
            victims.push(victim);
            std::thread::sleep(PAUSE);
        }
        let took = began.elapsed();
        let made: u64 = self.all.iter_mut().map(Storm::stop).sum();
        let step = Step {
            rate: made as f64 / took.as_secs_f64(),
            died: victims.len() as u64,
            made,
            ..Step::default()
        };
        Ok((step, victims, parents))
    }
}

/// Unwatched processes that die by signals: each death is reported or counted.
fn killed(effort: Effort, lineage: &Lineage) -> Result<Row> {
    let (mut unaccounted, mut made, mut reported, mut counted) = (Vec::new(), 0, 0, 0);
    for _ in 0..effort.pick(5, 1) {
        let mut deaths = Deaths::new();
        let mut daemon = daemon(lineage);
        let mut storm = Storm::endless(Manner::Signals);
        let began = Instant::now();
        storm.begin();
        while began.elapsed() < effort.pick(Duration::from_secs(2), Duration::from_secs(1)) {
            deaths.read();
            std::thread::sleep(PAUSE);
        }
        made += storm.stop();
        let last = lineage.spawn("child");
        signal(last, Signal::KILL);
        crate::lineage::exit_of(&daemon, last);
        ensure!(daemon.stop().success(), "the daemon does not end in order: {}", daemon.log());
        let events = daemon.events();
        let account = deaths.account(&events, last);
        let its = deaths.of_children(storm.process.pid());
        reported += events.iter().filter_map(reported_death).filter(|key| its.contains(key)).count();
        let lost: u64 =
            account.lost.iter().filter(|(class, _)| class.starts_with("exit")).map(|(_, count)| count).sum();
        counted += lost;
        let off = account.missing.saturating_sub(lost) + lost.saturating_sub(account.missing_at_end);
        unaccounted.push(off as f64);
    }
    let off: f64 = unaccounted.iter().sum();
    Ok(Row::new("killed unwatched processes neither reported nor counted as lost", Unit::Count)
        .of("hostprobe", &unaccounted)
        .target("0", format!("{off} of {made}"), off == 0.0)
        .note(&format!(
            "{made} died: {reported} were reported (50 a second and cgroup), {counted} were reported as lost by `stream.loss`, with those of \
             others on the host."
        )))
}
