//! Whether a storm of dying strangers costs the death of a watched process, and whether what is lost is said.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{
    peers::bcc::{self, Tool},
    section::{Effort, Row, Section, Unit},
};
use crate::{
    daemon::{Daemon, event_action},
    deaths::{Deaths, told_death},
    family::{Family, LONG},
    process::signal,
    storm::{Manner, Storm},
    story::number,
};

/// Exits a second at each step, by all storms together; None: as many as they can.
const STEPS: [Option<u64>; 5] = [Some(500), Some(1000), Some(2000), Some(4000), None];

/// Between two deaths of watched processes.
const PAUSE: Duration = Duration::from_millis(10);

const METHOD: &str = "As many processes as there are CPUs, without rights, fork children that exit with 1 at once: 500 a second, then \
twice as many, up to all the machine can do. Meanwhile the processes of a watched service are killed, one every 10 ms. Each of them has \
to be told by hostprobe, and a line of exitsnoop; no stranger may reach hostprobe's user space. exitsnoop has to be told of all, as \
it has no filter for what matters. At last the strangers die by signals, which hostprobe does tell up to a budget: each one beyond \
it has to be counted. The benchmark counts all of them by hooks of its own.";

/// What came of one step.
#[derive(Debug, Default)]
struct Step {
    /// Exits a second.
    rate: f64,
    /// Watched processes that died.
    died: u64,
    /// And of how many of them it was not told.
    untold: u64,
    /// Strangers who died.
    made: u64,
    /// And of how many of them it was told.
    strangers: u64,
    /// Events that the subject itself said it lost.
    said_lost: u64,
}

/// Measures it.
pub fn measure(effort: Effort) -> Result<Section> {
    let duration = effort.pick(Duration::from_secs(5), Duration::from_millis(800));
    let family = Family::new();
    let _members = family.start(&["--pidfile", &family.pidfile().display().to_string()]);
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for step in STEPS {
        own.push(hostprobe(&family, step, duration)?);
        peer.push(exitsnoop(&family, step, duration)?);
    }
    let samples = |steps: &[Step], of: fn(&Step) -> f64| steps.iter().map(of).collect::<Vec<_>>();
    let total = |steps: &[Step], of: fn(&Step) -> u64| steps.iter().map(of).sum::<u64>();
    let row = |figure: &str, unit, of: fn(&Step) -> f64| {
        Row::new(figure, unit).of("hostprobe", &samples(&own, of)).of("exitsnoop", &samples(&peer, of))
    };
    let died = total(&own, |step| step.died);
    let untold = total(&own, |step| step.untold);
    let strangers = total(&own, |step| step.strangers);
    let said = total(&own, |step| step.said_lost);
    let made = total(&own, |step| step.made);
    let peer_silent: i64 = peer.iter().map(silent).sum();
    let mut rows = vec![
        row("exits per second in the storm", Unit::PerSecond, |step| step.rate)
            .note("A sample is one step; the greatest is the machine's limit."),
        row("watched deaths not told in the storm", Unit::Count, |step| step.untold as f64)
            .target("0", format!("{untold} of {died}"), untold == 0)
            .note("Of exitsnoop: watched deaths without a line."),
        row("strangers' failures that reached user space", Unit::Count, |step| step.strangers as f64)
            .target("0", format!("{strangers} of {made}"), strangers == 0),
        row("events said to be lost", Unit::Count, |step| step.said_lost as f64)
            .target("0", said.to_string(), said == 0)
            .note(&format!(
                "exitsnoop says on its standard error how many events it lost. Of {} exits it had {} lines and said {} were \
                 lost: {peer_silent} are unaccounted for.",
                total(&peer, |step| step.made + step.died),
                total(&peer, |step| step.strangers + step.died - step.untold),
                total(&peer, |step| step.said_lost),
            )),
    ];
    rows.push(killed(effort, &family)?);
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
    (step.made + step.untold).cast_signed() - (step.strangers + step.said_lost).cast_signed()
}

fn daemon(family: &Family) -> Daemon {
    let what = format!("match = {{ pidfile = {:?} }}", family.pidfile());
    let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{}", family.service("family", &what)), &[]);
    daemon.ready();
    daemon
}

fn hostprobe(family: &Family, pace: Option<u64>, duration: Duration) -> Result<Step> {
    let mut daemon = daemon(family);
    let storm = Storms::start(pace, duration);
    let (mut step, victims, parents) = storm.among(family)?;
    // The last one of all ends the stream's part that counts.
    let last = family.make("child");
    signal(last, Signal::KILL);
    crate::family::exit_of(&daemon, last);
    ensure!(daemon.stop().success(), "the daemon does not end in order: {}", daemon.log());
    let events = daemon.events();
    let exits = || events.iter().filter(|event| event_action(event) == "process.exit");
    let parent = |event: &serde_json::Value| number(event, "process.parent.pid");
    let told = victims.iter().filter(|victim| {
        exits().any(|event| {
            number(event, "process.pid") == Some(i64::from(**victim)) && !parents.contains(&parent(event))
        })
    });
    step.untold = step.died - told.count() as u64;
    step.strangers = exits().filter(|event| parents.contains(&parent(event))).count() as u64;
    let losses = events.iter().filter(|event| event_action(event) == "stream.loss");
    step.said_lost = losses.filter_map(|event| number(event, "loss.count")).sum::<i64>().cast_unsigned();
    Ok(step)
}

fn exitsnoop(family: &Family, pace: Option<u64>, duration: Duration) -> Result<Step> {
    let mut tool = Tool::exitsnoop()?;
    let storm = Storms::start(pace, duration);
    let (mut step, victims, parents) = storm.among(family)?;
    let last = family.make("child");
    signal(last, Signal::KILL);
    let lines = &tool.process.stdout;
    lines
        .position(0, LONG, |line| bcc::exit_of(line).is_ok_and(|(pid, _)| pid == last))
        .context("exitsnoop has no line for the last death")?;
    tool.process.stop();
    let said: Vec<(u32, u32)> =
        tool.process.stdout.all().iter().filter_map(|line| bcc::exit_of(line).ok()).collect();
    let stranger = |parent: &u32| parents.contains(&Some(i64::from(*parent)));
    let told =
        victims.iter().filter(|victim| said.iter().any(|(pid, parent)| pid == *victim && !stranger(parent)));
    step.untold = step.died - told.count() as u64;
    step.strangers = said.iter().filter(|(_, parent)| stranger(parent)).count() as u64;
    step.said_lost = tool.process.stderr.all().iter().filter_map(|line| lost(line)).sum();
    Ok(step)
}

/// How many events a line of exitsnoop's standard error says were lost.
fn lost(line: &str) -> Option<u64> {
    let (_, rest) =
        line.to_lowercase().split_once("lost ").map(|(before, rest)| (before.to_owned(), rest.to_owned()))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The strangers of one step.
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

    /// Lets them loose and kills processes of a family among them: what was done, who was killed, and the parents of the
    /// strangers as events name them.
    fn among(mut self, family: &Family) -> Result<(Step, Vec<u32>, Vec<Option<i64>>)> {
        let parents = self.all.iter().map(|storm| Some(i64::from(storm.process.pid()))).collect();
        let began = Instant::now();
        self.all.iter().for_each(Storm::begin);
        let mut victims = Vec::new();
        while began.elapsed() < self.duration {
            let victim = family.make("child");
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

/// Strangers who die by signals: all are told or counted.
fn killed(effort: Effort, family: &Family) -> Result<Row> {
    let (mut unaccounted, mut made, mut told, mut counted) = (Vec::new(), 0, 0, 0);
    for _ in 0..effort.pick(5, 1) {
        let mut deaths = Deaths::new();
        let mut daemon = daemon(family);
        let mut storm = Storm::endless(Manner::Signals);
        let began = Instant::now();
        storm.begin();
        while began.elapsed() < effort.pick(Duration::from_secs(2), Duration::from_secs(1)) {
            deaths.read();
            std::thread::sleep(PAUSE);
        }
        made += storm.stop();
        let last = family.make("child");
        signal(last, Signal::KILL);
        crate::family::exit_of(&daemon, last);
        ensure!(daemon.stop().success(), "the daemon does not end in order: {}", daemon.log());
        let events = daemon.events();
        let account = deaths.account(&events, last);
        let its = deaths.of_children(storm.process.pid());
        told += events.iter().filter_map(told_death).filter(|key| its.contains(key)).count();
        let lost: u64 =
            account.lost.iter().filter(|(class, _)| class.starts_with("exit")).map(|(_, count)| count).sum();
        counted += lost;
        let off = account.missing.saturating_sub(lost) + lost.saturating_sub(account.missing_at_end);
        unaccounted.push(off as f64);
    }
    let off: f64 = unaccounted.iter().sum();
    Ok(Row::new("killed strangers neither told nor counted as lost", Unit::Count)
        .of("hostprobe", &unaccounted)
        .target("0", format!("{off} of {made}"), off == 0.0)
        .note(&format!(
            "{made} died: {told} were told (50 a second and cgroup), {counted} were said to be lost by `stream.loss`, with those of \
             others on the host."
        )))
}
