//! Chaos: random faults on some thirty real services that need each other, while the daemon is killed and upgraded and its
//! surroundings fail. An oracle that knows what was done says whether hostprobe has made the right thing of it.
//!
//! A run is a row of rounds. Each has up to three faults of services, may end the daemon, and has something wrong around it.
//! It ends when all is well again. What happens is a function of the seed ([`plan`]); what has to follow is in [`fault`] and
//! [`oracle`].

mod acts;
mod around;
pub mod fault;
mod lab;
pub mod oracle;
pub mod page;
pub mod plan;
pub mod services;
pub mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Error, Result};
use serde_json::Value;

use self::{
    acts::Held,
    fault::Fault,
    lab::Lab,
    plan::{DaemonEnd, Round, Surroundings},
    services::{LIMITED_BUDGET, LOOPING_BUDGET, WINDOW},
    told::Told,
};
use crate::{
    incident_events::{is, text},
    soak,
};

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub seed: u64,
    /// Rounds begin for so long.
    pub length: Duration,
    /// The first round, from 0: that of a failure leads to it at once.
    pub first: u32,
    /// So many rounds at most.
    pub rounds: Option<u32>,
}

/// What a run has shown.
#[derive(Debug, Default)]
pub struct Findings {
    pub seed: u64,
    pub took: Duration,
    pub rounds: u32,
    pub faults: BTreeMap<Fault, usize>,
    pub surroundings: BTreeMap<Surroundings, usize>,
    pub kills: usize,
    pub upgrades: usize,
    pub incidents: usize,
    pub taken_up: usize,
    pub held: usize,
    pub of_load: usize,
    pub restarts: usize,
    pub lost: u64,
    pub told: BTreeMap<&'static str, Told>,
    /// The daemon's memory at the ends of rounds: the first, the medians of the middle and of the last third, the largest.
    pub memory: Option<[u64; 4]>,
    /// What was wrong, with the plan of its round; empty if nothing was.
    pub wrong: Vec<String>,
}

/// Runs rounds for a while. None where a part is missing.
pub fn run(settings: &Settings) -> Result<Option<Findings>> {
    let Some(mut lab) = Lab::start()? else { return Ok(None) };
    lab.until_well()?;
    println!("all services are well; seed {}", settings.seed);
    let began = Instant::now();
    let mut run = Run::default();
    run.findings.seed = settings.seed;
    for number in settings.first.. {
        let is_last = settings.rounds.is_some_and(|rounds| number - settings.first >= rounds);
        if is_last || began.elapsed() >= settings.length {
            break;
        }
        let round = Round::of(settings.seed, number);
        run.play(&mut lab, &round);
        if run.is_over {
            break;
        }
    }
    run.finish(&mut lab);
    run.findings.took = began.elapsed();
    Ok(Some(run.findings))
}

/// The daemon counts each second what was lost, and tells it then. That belongs to the round that has done it.
const LOSSES_TOLD: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Run {
    findings: Findings,
    /// The incidents that receivers have to know of, and when they opened.
    due: BTreeMap<String, SystemTime>,
    taken_up: BTreeSet<String>,
    samples: Vec<soak::sample::Sample>,
    /// The restarts of the services with a small budget: seconds.
    restarts: BTreeMap<&'static str, Vec<f64>>,
    /// The lab is in no state to go on.
    is_over: bool,
}

impl Run {
    fn play(&mut self, lab: &mut Lab, round: &Round) {
        println!("{round}");
        let (opened, began) = (SystemTime::now(), Instant::now());
        lab.begin_round();
        let played = play(lab, round);
        let is_well = lab.until_well();
        if oracle::loses_records(round.surroundings) {
            sleep(LOSSES_TOLD);
        }
        let events = lab.round_events();
        let shown = oracle::judge(round, &events);
        let mut wrong = shown.wrong;
        for error in played {
            wrong.push(format!("{error:#}"));
        }
        if let Err(error) = is_well {
            wrong.push(format!("{error:#}"));
            self.is_over = true;
        }
        wrong.append(&mut lab.wrong);
        if !wrong.is_empty() {
            for what in &wrong {
                println!("  WRONG: {what}");
            }
            explain(&events, round);
        }
        let findings = &mut self.findings;
        findings.wrong.extend(wrong.into_iter().map(|what| format!("{round}\n    {what}")));
        findings.rounds += 1;
        findings.incidents += shown.opened.len();
        findings.restarts += shown.restarts;
        findings.of_load += shown.of_load;
        findings.held += shown.held;
        findings.lost += shown.lost;
        *findings.surroundings.entry(round.surroundings).or_default() += 1;
        for planned in &round.faults {
            *findings.faults.entry(planned.fault).or_default() += 1;
        }
        self.due.extend(shown.due.into_iter().map(|id| (id, opened)));
        self.taken_up.extend(shown.taken_up);
        for (name, _) in BUDGETS {
            let own = events.iter().filter(|event| {
                is(event, "restart.request", name) && !text(event, "restart.reason").contains("started by")
            });
            let at = own.filter_map(|event| text(event, "@timestamp").parse::<jiff::Timestamp>().ok());
            let at = at.map(|at| at.as_nanosecond() as f64 / 1e9);
            self.restarts.entry(name).or_default().extend(at);
        }
        self.samples.extend(lab.sample());
        println!("  well after {:.1} s, {} incidents", began.elapsed().as_secs_f64(), shown.opened.len());
    }

    /// All faults are over: receivers get their last messages, and the daemon ends.
    fn finish(&mut self, lab: &mut Lab) {
        let mut wrong = Vec::new();
        if let Err(error) = lab.until_nothing_fires(&self.due) {
            wrong.push(format!("{error:#}"));
        }
        for (name, relay) in [("Alertmanager", &lab.to_alertmanager), ("webhook", &lab.webhook)] {
            let told = told::judge(name, relay, &self.due, &mut wrong);
            self.findings.told.insert(name, told);
        }
        for (name, budget) in BUDGETS {
            wrong.extend(beyond_budget(name, budget, self.restarts.entry(name).or_default()));
        }
        if self.samples.len() >= 12 {
            let judged = soak::judge(&self.samples);
            self.findings.memory = Some(judged.rss);
            wrong.extend(judged.wrong);
        }
        lab.end();
        wrong.append(&mut lab.wrong);
        for what in &wrong {
            println!("WRONG: {what}");
        }
        self.findings.wrong.extend(wrong);
        let ended = |how| lab.ends.iter().filter(|end| **end == how).count();
        self.findings.kills = ended(DaemonEnd::Killed);
        self.findings.upgrades = ended(DaemonEnd::Upgraded);
        self.findings.taken_up = self.taken_up.len();
    }
}

/// Services with a small budget, and that.
const BUDGETS: [(&str, usize); 2] = [("limited", LIMITED_BUDGET), ("looping", LOOPING_BUDGET)];

/// Restarts beyond a budget. An operator's start gives a service one more try.
fn beyond_budget(name: &str, budget: usize, restarts: &mut [f64]) -> Option<String> {
    restarts.sort_by(f64::total_cmp);
    let within =
        |at: usize| restarts[at..].iter().take_while(|it| **it < restarts[at] + WINDOW as f64).count();
    let most = (0..restarts.len()).map(within).max()?;
    (most > budget + 1).then(|| format!("{name}: {most} restarts within {WINDOW} s"))
}

/// Does what a round has planned, until what was done is undone. Returns what was not found.
fn play(lab: &mut Lab, round: &Round) -> Vec<Error> {
    let mut wrong = Vec::new();
    let mut note = |done: Result<()>| wrong.extend(done.err());
    let pids = match lab.pids() {
        Ok(pids) => pids,
        Err(error) => return vec![error],
    };
    let mut around = match around::begin(lab, round.surroundings) {
        Ok(around) => around,
        Err(error) => return vec![error],
    };
    if round.surroundings == Surroundings::RingsOverrun {
        note(around.overrun(lab));
    }
    let (began, mut held) = (Instant::now(), Held::default());
    let wait_for = |at: Duration| sleep((began + at).saturating_duration_since(Instant::now()));
    let mut end = round.end;
    for planned in &round.faults {
        if let Some(end) = end.take_if(|end| end.at <= planned.at) {
            wait_for(end.at);
            lab.next_life(&end);
        }
        wait_for(planned.at);
        note(acts::cause(lab, planned, &pids, &mut held));
    }
    if let Some(end) = end {
        wait_for(end.at);
        lab.next_life(&end);
    }
    for planned in &round.faults {
        note(acts::settle(lab, round, planned, &pids));
    }
    note(around.end(lab, round.surroundings));
    for planned in &round.faults {
        note(acts::judged(lab, planned));
    }
    wrong
}

/// Prints the events of the services that a round has hit, and of those with incidents.
fn explain(events: &[Value], round: &Round) {
    let hit: BTreeSet<&str> = round.faults.iter().map(|planned| planned.service.name).collect();
    for event in events {
        let (action, service) = (text(event, "event.action"), text(event, "service.name"));
        let is_step =
            action.starts_with("incident.") || action.starts_with("restart.") || action.starts_with("agent.");
        if is_step || action == "stream.loss" || hit.contains(service) && !action.starts_with("alert.") {
            let time = text(event, "@timestamp").get(11..23).unwrap_or_default();
            println!("    {time} {action} {service} {}", text(event, "message"));
        }
    }
}
