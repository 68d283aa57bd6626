//! From an engine's description of a container to its state, in the terms of a unit.

use std::time::Duration;

use super::{
    model::{Description, TEXT_MAX, bounded},
    requests::{Asked, Requests},
};
use crate::{
    clock::Timestamp,
    fact::{
        COMPOSE_DEPENDS_ON, COMPOSE_PROJECT, COMPOSE_SERVICE, ContainerEngine, ContainerHealth,
        ContainerState, ProcessKey, UnitJob, UnitState,
    },
    host::{
        ProcReader,
        cgroup::{Hierarchy, container_id, is_hexadecimal_id},
    },
    redact::redact,
};

/// The labels that are kept.
const LABELS: [&str; 5] = [
    COMPOSE_PROJECT,
    COMPOSE_SERVICE,
    COMPOSE_DEPENDS_ON,
    "org.opencontainers.image.version",
    "org.opencontainers.image.revision",
];

/// The engines' own time for a stop, if the container has none.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A start is over when its process runs, and a slow disk is bounded.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest wait of Docker's restart policy (`maxTimeout` in `restartmanager.go`).
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// How far the requested end is before the end, where only their order is known.
const ORDER: Duration = Duration::from_micros(1);

/// What was read of a container.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) state: UnitState,
    /// Its engine says that it runs, and its process is gone.
    pub(super) is_behind: bool,
    /// Its restart policy is to start it again.
    pub(super) policy_applies: bool,
    pub(super) auto_remove: bool,
    /// The id or name of the container whose network namespace it shares.
    pub(super) network_of: Option<String>,
}

impl Reading {
    /// Whether it has ended, and what was asked of it may still be on its way.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state.active.as_str(), "inactive" | "failed") && self.state.main_exited.is_some()
    }

    /// Whether it is known to have been asked to end.
    pub(super) fn was_asked(&self) -> bool {
        self.state.container.as_ref().is_some_and(|container| container.request.is_some())
    }
}

/// Reads a description.
pub(super) fn read(
    described: &Description,
    engine: ContainerEngine,
    requests: &Requests,
    reader: &ProcReader,
) -> Reading {
    let now = Timestamp::now();
    let name = bounded(described.name.trim_start_matches('/'), TEXT_MAX);
    let its = &described.state;
    let (started, finished) = (moment(&its.started_at), moment(&its.finished_at));
    let finished = finished.filter(|finished| started.is_none_or(|started| *finished >= started));
    let status = its.status.as_str();
    let runs = matches!(status, "running" | "paused" | "stopping" | "removing") && its.pid != 0;
    let main = if runs { main_of(its.pid, &described.id, reader) } else { None };
    let since = started.unwrap_or_default();
    let request = requests.since(&name, since);
    let words = request.and_then(|request| request.words(engine.name()));
    let is_stopping = matches!(status, "stopping" | "removing");
    let has_ended = matches!(status, "exited" | "stopped" | "dead");
    let asked = (has_ended && words.is_some()) || is_stopping;
    let policy_applies = !asked && policy_applies(described);
    let ended = if has_ended { finished.or(started) } else { None };
    // A requested end comes before the end of the process, whatever the engine writes first.
    let left = match (ended, asked) {
        (Some(ended), true) => {
            Some(Timestamp::from_nanos(ended.as_nanos().saturating_sub(ORDER.as_nanos() as u64)))
        }
        (ended, _) => ended,
    };
    let left_after_start = left.map(|left| left.max(since.plus(Duration::from_nanos(1))));
    let result = result(described);
    let (active, sub) = match status {
        "running" => ("active", "running"),
        "paused" => ("active", "paused"),
        "restarting" => ("activating", "auto-restart"),
        "stopping" | "removing" => ("deactivating", "stopping"),
        "created" | "configured" | "initialized" => ("inactive", "created"),
        "exited" | "stopped" | "dead" if asked || result == "success" => ("inactive", "exited"),
        "exited" | "stopped" | "dead" => ("failed", "exited"),
        _ => ("inactive", "unknown"),
    };
    let restarts = match request.map(|request| request.what) {
        Some(Asked::Stop | Asked::Restart | Asked::Remove) => 0,
        Some(Asked::Kill) | None => described.restart_count.max(u32::from(policy(described))),
    };
    let cgroup = main.and_then(|main| own_cgroup(main, reader));
    let container = ContainerState {
        engine,
        id: bounded(&described.id, 64),
        image: bounded(&redact(&described.config.image), TEXT_MAX),
        labels: labels(described),
        exit_code: has_ended.then_some(its.exit_code),
        oom_killed: its.oom_killed,
        health: health(described),
        network_of: None,
        network_lost: false,
        was_killed: requests.was_killed(&name, since),
        request: words,
        name,
    };
    let network_of = described.host_config.network_mode.strip_prefix("container:");
    let stop_timeout = described.config.stop_timeout.map_or(STOP_TIMEOUT, Duration::from_secs);
    let state = UnitState {
        at: now,
        id: container.name.clone(),
        kind: "container".to_owned(),
        stop_timeout: Some(stop_timeout.min(Duration::from_secs(3600))),
        start_timeout: Some(START_TIMEOUT),
        started,
        ready: started,
        load: "loaded".to_owned(),
        active: active.to_owned(),
        sub: sub.to_owned(),
        result: result.to_owned(),
        invocation_id: invocation(described),
        restarts,
        restart_delay: LONGEST_DELAY,
        restarts_itself: policy(described),
        // An engine has no such limit.
        start_limit: (u32::MAX, Duration::ZERO),
        main,
        main_pid: main.map_or(0, |main| main.pid),
        main_started: started,
        main_exited: ended,
        active_exit: left_after_start,
        changed: ended.or(started),
        job: is_stopping.then(|| UnitJob { id: 1, kind: "stop".to_owned() }),
        cgroup_id: cgroup.as_ref().and_then(|path| reader.cgroups().id(Hierarchy::V2, path)),
        cgroup,
        container: Some(Box::new(container)),
        ..UnitState::default()
    };
    Reading {
        is_behind: runs && main.is_none(),
        policy_applies,
        auto_remove: described.host_config.auto_remove,
        network_of: network_of.map(|it| bounded(it, TEXT_MAX)),
        state,
    }
}

/// The state of a container that its engine does not have, after what was last read of it. One that was removed on request
/// was stopped.
pub(super) fn absent(
    name: &str,
    engine: ContainerEngine,
    before: Option<&Reading>,
    requests: &Requests,
) -> UnitState {
    let started = before.and_then(|before| before.state.main_started).unwrap_or_default();
    let request = requests.since(name, started).filter(|_| before.is_some_and(|it| !it.auto_remove));
    let words = request.and_then(|request| request.words(engine.name()));
    let now = Timestamp::now();
    let known = before.and_then(|before| before.state.container.clone());
    let container = ContainerState {
        request: words.clone(),
        health: None,
        network_lost: false,
        ..known.map_or_else(|| ContainerState::named(name, engine), |known| *known)
    };
    UnitState {
        at: now,
        id: name.to_owned(),
        kind: "container".to_owned(),
        load: if words.is_some() { "loaded" } else { "not-found" }.to_owned(),
        active: "inactive".to_owned(),
        sub: "removed".to_owned(),
        result: "success".to_owned(),
        invocation_id: before.map(|before| before.state.invocation_id.clone()).unwrap_or_default(),
        started: before.map(|_| started),
        main_started: before.map(|_| started),
        main_exited: words.as_ref().map(|_| now),
        active_exit: request.map(|request| request.at.max(started.plus(Duration::from_nanos(1)))),
        start_limit: (u32::MAX, Duration::ZERO),
        changed: Some(now),
        container: Some(Box::new(container)),
        ..UnitState::default()
    }
}

/// Each start of each container is a run of its own.
fn invocation(described: &Description) -> String {
    if described.state.started_at.is_empty() {
        return String::new();
    }
    format!("{}@{}", bounded(&described.id, 12), bounded(&described.state.started_at, 40))
}

/// A moment in RFC 3339. The engines write the year 1 for one that has not come.
fn moment(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    (at > jiff::Timestamp::UNIX_EPOCH).then(|| Timestamp::from_wall(at))
}

/// The main process. A pid of another container, or of none that lives, is not.
fn main_of(pid: u32, id: &str, reader: &ProcReader) -> Option<ProcessKey> {
    let key = reader.key_of(pid).filter(|key| reader.lives(*key))?;
    let groups = reader.cgroups().of(pid);
    let elsewhere =
        groups.paths().find_map(container_id).is_some_and(|its| its != id && is_hexadecimal_id(&its));
    (pid > 1 && !elsewhere).then_some(key)
}

/// The cgroup that only the container has, in the v2 hierarchy.
fn own_cgroup(main: ProcessKey, reader: &ProcReader) -> Option<String> {
    let path = reader.cgroups().of(main.pid).v2?;
    let id = container_id(&path)?;
    let end = path.find(&id)? + id.len();
    let rest = path[end..].find('/').map_or(path.len(), |at| end + at);
    Some(path[..rest].to_owned())
}

/// In systemd's words.
fn result(described: &Description) -> &'static str {
    let its = &described.state;
    match its.exit_code {
        _ if its.oom_killed => "oom-kill",
        0 => "success",
        // As shells write a signal.
        129..=192 => "signal",
        _ => "exit-code",
    }
}

fn policy(described: &Description) -> bool {
    matches!(described.host_config.restart_policy.name.as_str(), "always" | "unless-stopped" | "on-failure")
}

/// Whether the restart policy is to start the container after this end.
fn policy_applies(described: &Description) -> bool {
    let policy = &described.host_config.restart_policy;
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            let most = policy.maximum_retry_count;
            described.state.exit_code != 0 && (most == 0 || described.restart_count < most)
        }
        _ => false,
    }
}

fn labels(described: &Description) -> Vec<(String, String)> {
    let all = &described.config.labels;
    let known = LABELS.into_iter().filter_map(|name| Some((name, all.get(name)?)));
    known.map(|(name, value)| (name.to_owned(), bounded(&redact(value), TEXT_MAX))).collect()
}

fn health(described: &Description) -> Option<ContainerHealth> {
    let its = &described.state.health;
    if !matches!(its.status.as_str(), "starting" | "healthy" | "unhealthy") {
        return None;
    }
    // Podman keeps the status of an earlier run until the first check of this one.
    let wall = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let checked = its.log.last().and_then(|run| wall(&run.end));
    let is_old =
        checked.zip(wall(&described.state.started_at)).is_some_and(|(checked, started)| checked < started);
    let last = its.log.last().map(|run| redact(run.output.trim()).replace(['\n', '\r'], " "));
    Some(ContainerHealth {
        status: if is_old { "starting".to_owned() } else { its.status.clone() },
        failures: its.failing_streak,
        output: bounded(&last.unwrap_or_default(), TEXT_MAX),
    })
}

#[cfg(test)]
mod tests;
