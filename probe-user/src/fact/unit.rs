//! The state of a systemd unit, or of a container in the same terms.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ContainerState, ProcessKey};
use crate::clock::Timestamp;

/// A job systemd has queued for a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitJob {
    pub id: u32,
    /// `start`, `stop`, `restart`, `reload`, …, as systemd names it.
    pub kind: String,
}

/// A job that systemd has finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedJob {
    pub id: u32,
    /// `done`, `failed`, `dependency`, `timeout`, `canceled`, `skipped`, …, as systemd names it.
    pub result: String,
    /// The unit was down before it, and is down since then: it changed nothing.
    pub idle: bool,
}

/// A unit that another one needs, as it is once the other is down or goes down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeededUnit {
    /// Its canonical name.
    pub id: String,
    /// `BindsTo`, `Requires`, `Requisite` or `PartOf`: how the other unit needs it.
    pub relation: String,
    /// `ActiveState`.
    pub active: String,
    /// `Result`; empty for a unit that is no service.
    pub result: String,
    /// `NRestarts`: how often systemd restarted it by its own `Restart=` setting.
    pub restarts: u32,
    /// `ActiveExitTimestampMonotonic`: when it last left the active state.
    pub left: Option<Timestamp>,
}

/// A unit's state at one moment, as read over D-Bus.
///
/// All of it is one snapshot: systemd answered with everything at once. Its own moments (`active_exit`,
/// `main_started`, `main_exited`, `changed`) are exact among themselves, since one thread takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// When it was read.
    pub at: Timestamp,
    /// `Id`: its canonical name. The configuration may name an alias.
    #[serde(default)]
    pub id: String,
    /// `Type`: simple, exec, forking, oneshot, notify, notify-reload, dbus, idle; empty where systemd has no such
    /// unit file.
    #[serde(default)]
    pub kind: String,
    /// `TriggeredBy`: the sockets, timers and paths that start it. For a unit that is down, also the bus name whose
    /// callers start it.
    #[serde(default)]
    pub triggered_by: Vec<String>,
    /// `OnFailure`: the units that systemd starts when it fails.
    #[serde(default)]
    pub on_failure: Vec<String>,
    /// systemd skipped its latest start, because a `Condition…=` of it was not met.
    #[serde(default)]
    pub skipped: bool,
    /// The units that it needs. They are read only while it is down, goes down, or has a job to stop.
    #[serde(default)]
    pub needs: Vec<NeededUnit>,
    /// The latest job for it that ended, as far as the daemon watched.
    #[serde(default)]
    pub ended_job: Option<EndedJob>,
    /// `TimeoutStartUSec`; None for `infinity`.
    #[serde(default)]
    pub start_timeout: Option<Duration>,
    /// `TimeoutStopUSec`; None for `infinity`.
    #[serde(default)]
    pub stop_timeout: Option<Duration>,
    /// `WatchdogUSec`: how long it may give no sign of life; None without a watchdog.
    #[serde(default)]
    pub watchdog: Option<Duration>,
    /// `WatchdogSignal`: the number of the signal that the watchdog sends.
    #[serde(default)]
    pub watchdog_signal: u8,
    /// `InactiveExitTimestampMonotonic`: when its latest activation began.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// `ActiveEnterTimestampMonotonic`: when it last became active.
    #[serde(default)]
    pub ready: Option<Timestamp>,
    /// `LoadState`: loaded, not-found, masked, bad-setting, error. Anything but loaded cannot be started.
    pub load: String,
    /// `ActiveState`: active, reloading, inactive, failed, activating, deactivating.
    pub active: String,
    /// `SubState`, such as running, dead, auto-restart, stop-sigterm.
    pub sub: String,
    /// `Result`, such as success, signal, exit-code, oom-kill, watchdog, start-limit-hit.
    pub result: String,
    /// `InvocationID` as hexadecimal digits; empty if the unit never ran.
    pub invocation_id: String,
    /// `NRestarts`: how often systemd restarted it by its own `Restart=` setting.
    pub restarts: u32,
    /// `RestartUSec`: systemd's own wait before it restarts the unit.
    pub restart_delay: Duration,
    /// True where `Restart=` is anything but `no`.
    pub restarts_itself: bool,
    /// `StartLimitBurst` and `StartLimitIntervalUSec`: the number of starts that systemd allows in an interval.
    pub start_limit: (u32, Duration),
    /// `MainPID`, as a pid of the initial namespace with its start time; None if there is none.
    pub main: Option<ProcessKey>,
    /// `MainPID` as systemd gives it, in its own pid namespace; 0 if there is none. If it is not 0 while
    /// `main` is None, that process is gone and systemd does not know yet.
    pub main_pid: u32,
    /// `ExecMainStartTimestampMonotonic`: when systemd started the main process it has, or had last.
    pub main_started: Option<Timestamp>,
    /// `ExecMainExitTimestampMonotonic`: when systemd took note of that process's end; None while it runs.
    pub main_exited: Option<Timestamp>,
    /// `ActiveExitTimestampMonotonic`: when it last left the active state, which for a requested stop is
    /// before its main process died and for a crash is after.
    pub active_exit: Option<Timestamp>,
    /// The pid, in the initial namespace, of the systemd that manages it.
    pub manager_pid: u32,
    /// `StateChangeTimestampMonotonic`: when the unit's state changed last.
    pub changed: Option<Timestamp>,
    /// The job under way.
    pub job: Option<UnitJob>,
    /// The cgroup's path on this host, in the hierarchy systemd uses; None while it has none.
    pub cgroup: Option<String>,
    /// Inode number of the cgroup's directory in the v2 hierarchy, which the kernel's records carry; None
    /// where systemd uses v1, or while the unit has no cgroup.
    pub cgroup_id: Option<u64>,
    /// None for a unit of systemd. A container has the same form: its engine is asked to stop it as systemd is, and may
    /// restart it by a policy of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<ContainerState>>,
}

impl UnitState {
    /// What manages it, as a name in sentences.
    pub fn manager(&self) -> &'static str {
        self.container.as_ref().map_or("systemd", |container| container.engine.name())
    }

    /// Whether its latest activation succeeded, so that it became active.
    pub fn was_ready(&self) -> bool {
        // The wait for a restart counts as an activation of its own.
        let started = self.started.filter(|_| !self.waits_to_restart());
        let begun = [started, self.main_started].into_iter().flatten().max();
        let since_then =
            |moment: Option<Timestamp>| moment.is_some_and(|it| begun.is_none_or(|begun| it >= begun));
        since_then(self.ready) || since_then(self.active_exit)
    }

    /// Whether it waits out its `RestartSec=`.
    pub fn waits_to_restart(&self) -> bool {
        self.sub.starts_with("auto-restart")
    }

    /// Whether it left the active state before its main process ended, as it does for a stop.
    pub fn left_first(&self) -> bool {
        match (self.main_started, self.active_exit, self.main_exited) {
            (Some(started), Some(left), Some(exited)) => started < left && left < exited,
            _ => false,
        }
    }
}
