//! Whether hostprobe has made of a round what is right: the oracle knows what was done, and reads what the streams say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    fault::{End, Fault},
    plan::{Planned, Round, Surroundings},
    services::{SERVICES, Spec, of_name},
};
use crate::{
    daemon::event_action,
    incident_events::{number, text},
};

/// Verdicts of services that are only slow because the host is busy. They have no action.
pub(super) const LOAD: [&str; 3] = ["overloaded", "slow", "backlog_full"];

/// The verdicts of a service that fails because of another one. They have no action.
const CAUSED_ELSEWHERE: [&str; 2] = ["dependency_down", "network"];

/// How the daemon finds a service that ended while no daemon ran.
const UNSEEN: [&str; 3] = ["exited", "killed", "crashed"];

/// What a round has shown.
#[derive(Debug, Default)]
pub struct Shown {
    /// The incidents that opened: their ids and services.
    pub opened: BTreeMap<String, String>,
    /// Those of them that have to be told by themselves.
    pub due: BTreeSet<String>,
    pub restarts: usize,
    /// Incidents of services that are well, for the load of the host. None of them had an action.
    pub of_load: usize,
    /// Incidents of services that wait for another one.
    pub held: usize,
    /// Incidents that a later life of the daemon took up.
    pub taken_up: BTreeSet<String>,
    /// Records that were lost and counted.
    pub lost: u64,
    /// What was wrong.
    pub wrong: Vec<String>,
}

/// What the stream of a round says of a service.
#[derive(Default)]
struct Story {
    /// Its incidents with the verdicts that they had, in order.
    incidents: Vec<(String, Vec<String>)>,
    /// Those of them that opened in this round.
    opened: BTreeSet<String>,
    /// The reasons of the restarts that no operator ordered.
    restarts: Vec<String>,
    resolved: BTreeSet<String>,
}

impl Story {
    /// Takes in an event of the service.
    fn take(&mut self, event: &Value) {
        let (id, verdict) = (text(event, "incident.id"), text(event, "incident.verdict"));
        match event_action(event) {
            "incident.open" => {
                self.opened.insert(id.to_owned());
                self.incidents.push((id.to_owned(), vec![verdict.to_owned()]));
            }
            "incident.update" => match self.incidents.iter_mut().find(|(known, _)| known == id) {
                Some((_, verdicts)) => verdicts.push(verdict.to_owned()),
                None => self.incidents.push((id.to_owned(), vec![verdict.to_owned()])),
            },
            "incident.resolve" => drop(self.resolved.insert(id.to_owned())),
            "restart.request" if !text(event, "restart.reason").contains("started by") => {
                self.restarts.push(text(event, "restart.reason").to_owned());
            }
            _ => {}
        }
    }

    /// Its incidents that the load of the host alone does not explain, with the first verdict that says so.
    fn beyond_load(&self, expected: &[&str]) -> Vec<(&str, &str)> {
        let is_beyond = |verdict: &str| !LOAD.contains(&verdict) || expected.contains(&verdict);
        let found = self.incidents.iter().filter_map(|(id, verdicts)| {
            let verdict = verdicts.iter().find(|verdict| is_beyond(verdict))?;
            Some((id.as_str(), verdict.as_str()))
        });
        found.collect()
    }
}

/// Judges the events of a round.
pub fn judge(round: &Round, events: &[Value]) -> Shown {
    let mut shown = Shown::default();
    let mut stories: BTreeMap<&str, Story> =
        SERVICES.iter().map(|spec| (spec.name, Story::default())).collect();
    for event in events {
        let (action, id) = (event_action(event), text(event, "incident.id"));
        if action == "stream.loss" {
            shown.lost +=
                number(event, "loss.count").and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
            shown.wrong.extend(wrong_with_loss(round, event));
        }
        let Some(story) = stories.get_mut(text(event, "service.name")) else { continue };
        story.take(event);
        if action == "incident.open" {
            shown.opened.insert(id.to_owned(), text(event, "service.name").to_owned());
        }
        if action.starts_with("incident.") && !id.starts_with(text(event, "agent.ephemeral_id")) {
            shown.taken_up.insert(id.to_owned());
        }
    }
    for (name, story) in &stories {
        shown.restarts += story.restarts.len();
        for (id, verdicts) in story.incidents.iter().filter(|(id, _)| !story.resolved.contains(id)) {
            // The host may be busy for longer than a round.
            if verdicts.last().is_some_and(|verdict| !LOAD.contains(&verdict.as_str())) {
                shown.wrong.push(format!("{name}: the incident {id} has no end: {verdicts:?}"));
            }
        }
        match round.faults.iter().find(|planned| planned.service.name == *name) {
            Some(planned) => of_hit(round, planned, story, &mut shown),
            None => of_well(round, of_name(name), story, &mut shown),
        }
    }
    shown
}

/// A service that something was done to.
fn of_hit(round: &Round, planned: &Planned, story: &Story, shown: &mut Shown) {
    let (name, kind) = (planned.service.name, planned.fault.kind());
    let mut wrong = |what: String| shown.wrong.push(format!("{name}: {}: {what}", kind.name));
    let own = story.beyond_load(kind.verdicts);
    match (kind.end, own.len()) {
        (End::NoFault, 0) | (End::Restart | End::Undone | End::Itself, 1) | (End::Operator, 1..) => {}
        // What replaces itself while no daemon runs is gone without a trace.
        (End::Itself, 0) if round.end.is_some() => {}
        // Slow answers on a host that is busy.
        (End::Undone, 0) if planned.fault == Fault::Slow && !story.incidents.is_empty() => {}
        (_, count) => wrong(format!("{count} incidents: {:?}", story.incidents)),
    }
    let is_right = |verdict: &str| {
        kind.verdicts.contains(&verdict)
            // What it died of before a daemon ran is not known.
            || round.end.is_some() && matches!(kind.end, End::Restart | End::Operator) && UNSEEN.contains(&verdict)
            // The errors of its clients may tell first.
            || planned.fault == Fault::RemoteDown && CAUSED_ELSEWHERE.contains(&verdict)
    };
    for (_, verdict) in own.iter().filter(|(_, verdict)| !is_right(verdict)) {
        wrong(format!("the verdict {verdict}"));
    }
    match (kind.end, story.restarts.len()) {
        (End::Restart, 1..) | (End::Operator, _) | (End::Undone | End::Itself | End::NoFault, 0) => {}
        (_, count) => wrong(format!("{count} restarts: {:?}", story.restarts)),
    }
    let opened = own.iter().filter(|(id, _)| story.opened.contains(*id));
    shown.due.extend(opened.map(|(id, _)| (*id).to_owned()));
    shown.of_load += story.incidents.len() - own.len();
}

/// A service that nothing was done to: it is not restarted.
fn of_well(round: &Round, spec: &Spec, story: &Story, shown: &mut Shown) {
    let name = spec.name;
    if !story.restarts.is_empty() {
        shown.wrong.push(format!("{name} was well and was restarted: {:?}", story.restarts));
    }
    let waits = round.faults.iter().any(|planned| needs(spec, planned.service));
    let beyond = story.beyond_load(&[]);
    shown.of_load += story.incidents.len() - beyond.len();
    for (id, verdict) in beyond {
        // A proxy answers for its application, maybe before that one's own incident.
        if waits && (CAUSED_ELSEWHERE.contains(&verdict) || verdict == "unhealthy") {
            shown.held += 1;
        } else {
            shown.wrong.push(format!("{name} was well and had the incident {id}: {verdict}"));
        }
    }
}

/// Whether a service needs another one, directly or over others.
fn needs(spec: &Spec, other: &Spec) -> bool {
    spec.needs.is_some_and(|needed| needed == other.name || needs(of_name(needed), other))
}

/// Classes of loss that no surroundings excuse: the death of a watched process, and an event of the stream.
const NEVER: [&str; 2] = ["exit_watched", "events"];

/// Classes of records about any process of the host: others than those of the run may lose them.
const OF_THE_HOST: [&str; 5] = ["exec", "listen", "exit_unwatched", "exit_throttled", "cgroup"];

/// Where a run of a program that the kernel left out may hide the death of a service.
const EXIT_HOOK: &str = "sched_process_exit";

/// Whether what is wrong around the daemon may cost it records that it has no time to read.
pub(super) fn loses_records(surroundings: Surroundings) -> bool {
    match surroundings {
        // A daemon without a CPU does not read its rings, which are small.
        Surroundings::RingsOverrun
        | Surroundings::Forks
        | Surroundings::SocketsFlooded
        | Surroundings::Starved => true,
        Surroundings::Calm
        | Surroundings::DiskFull
        | Surroundings::NoDescriptors
        | Surroundings::PageFlooded
        | Surroundings::MuteClients
        | Surroundings::ReceiversFail
        | Surroundings::NatsDown => false,
    }
}

/// Records are lost only where the round has done that, and counted then.
fn wrong_with_loss(round: &Round, event: &Value) -> Option<String> {
    let class = text(event, "loss.class");
    let of_a_full_disk = round.surroundings == Surroundings::DiskFull
        && matches!(class, "recording" | "state" | "output" | "fleet");
    let is_done = of_a_full_disk || loses_records(round.surroundings);
    let of_the_host =
        OF_THE_HOST.contains(&class) || class == "missed" && text(event, "loss.where") != EXIT_HOOK;
    let is_excused = (is_done || of_the_host) && !NEVER.contains(&class);
    (!is_excused).then(|| format!("a loss: {}", text(event, "message")))
}

/// What is wrong with the numbers of a stream, which count from 1 without a gap.
pub fn sequence(events: &[Value]) -> Option<String> {
    let gap =
        (1_u64..).zip(events).find(|(number, event)| event["event"]["sequence"].as_u64() != Some(*number));
    gap.map(|(number, event)| {
        format!("event {number} of a stream has the number {}", event["event"]["sequence"])
    })
}

/// Services of a status that are not healthy, or have an incident, if that is not for the load of the host alone.
pub fn trouble_in(status: &Value) -> Vec<String> {
    let Some(services) = status["services"].as_array().filter(|services| !services.is_empty()) else {
        return vec!["no service is known".to_owned()];
    };
    let is_busy = |it: &&Value| it["verdict"].as_str().is_some_and(|verdict| LOAD.contains(&verdict));
    let is_troubled = |it: &&Value| it["state"] != "healthy" || !it["incident"].is_null();
    let troubled = services.iter().filter(|it| is_troubled(it) && !is_busy(it));
    troubled.map(|it| format!("{} {} {} {}", it["name"], it["state"], it["verdict"], it["summary"])).collect()
}

#[cfg(test)]
mod tests;
