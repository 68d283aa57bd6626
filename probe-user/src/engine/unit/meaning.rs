//! What a unit's state means for its service: one table for the engine and for docs/units.md.

mod markdown;

pub use markdown::{END, START, markdown};

use std::fmt::Write;

use crate::fact::{UnitState, Verdict};

/// What sort of unit it is, as far as that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// `Type=` simple, exec, forking, notify, notify-reload, dbus or idle, and started for good.
    LongRunning,
    /// `Type=oneshot`.
    Oneshot,
    /// A timer, a path or the like starts it.
    Scheduled,
    /// A socket or a call of its bus name starts it.
    Activated,
    /// A container, which an engine runs.
    Container,
}

/// The unit's load state, active state and sub state, as far as they decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Masked,
    /// not-found, bad-setting, error.
    NotLoaded,
    Starting,
    /// It waits out its `RestartSec=`.
    Restarting,
    Up,
    /// active (exited).
    Finished,
    Stopping,
    Down,
}

/// How a unit came to its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    Any,
    /// systemd stopped it because a unit that it needs failed, or did not start it for that reason.
    TakenDown,
    /// It was stopped on request, before its main process ended.
    Asked,
    /// systemd skipped its latest start.
    Skipped,
    /// It was never started, or systemd has forgotten that.
    NeverRan,
    /// It failed before it was ready.
    NotReady,
    /// Its main process was not started: an `ExecStartPre=` or the setup failed.
    NoMain,
}

/// What could mend a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    Restart,
    Hold,
}

/// What the state means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It runs, and its probes say how well. Without probes it is healthy.
    Runs,
    Starting,
    /// systemd acts next, and then the state changes.
    Waits,
    /// It did what it should. This ends an incident.
    Done,
    /// It is not to run now. This ends no incident.
    Stopped,
    /// A failure with systemd's verdict. Without one, the kernel's record of the death says what it was, or else the
    /// result.
    Fault(Option<Verdict>, Mend),
}

/// A row. The first that matches counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// None stands for any.
    pub unit: Option<&'static [Sort]>,
    pub phase: Phase,
    /// `Result=`; none stands for any.
    pub result: Option<&'static [&'static str]>,
    pub course: Course,
    pub meaning: Meaning,
    /// The reason, as part of a sentence about the unit.
    pub because: &'static str,
}

/// Units that start another one for a piece of work.
const SCHEDULES: [&str; 2] = [".timer", ".path"];

const ONCE: &[Sort] = &[Sort::Oneshot, Sort::Scheduled];

#[rustfmt::skip] // A table reads best as one.
pub const ROWS: &[Row] = &{
    use Course::{Any, Asked, NeverRan, NoMain, NotReady, Skipped, TakenDown};
    use Meaning::{Done, Fault, Runs, Starting as Starts, Stopped, Waits};
    use Mend::{Hold, Restart};
    use Phase::{Down, Finished, Masked, NotLoaded, Restarting, Starting, Stopping, Up};
    use Sort::{Activated, Container};
    use Verdict::{DependencyDown, Hung, OomKilled, StartFailed};

    const fn row(
        unit: Option<&'static [Sort]>, phase: Phase, result: Option<&'static [&'static str]>, course: Course,
        meaning: Meaning, because: &'static str,
    ) -> Row {
        Row { unit, phase, result, course, meaning, because }
    }

    [
        row(Some(&[Container]), Up, None, Any, Runs, "its engine reports it as running"),
        row(Some(&[Container]), Restarting, None, Any, Waits, "its engine starts it again by its restart policy"),
        row(Some(&[Container]), Stopping, None, Any, Stopped, "its engine is stopping it"),
        row(Some(&[Container]), NotLoaded, None, Any, Fault(Some(StartFailed), Hold), "no engine has a container of this name"),
        row(None, Up, None, Any, Runs, "systemd reports it as running"),
        row(Some(&[Sort::Oneshot]), Starting, None, Any, Runs, "its work is under way (Type=oneshot)"),
        row(None, Starting, None, Any, Starts, "systemd is starting it"),
        row(None, Finished, None, Any, Done, "its process has done its work (RemainAfterExit=)"),
        row(None, Restarting, None, Any, Waits, "systemd starts it again after RestartSec="),
        row(None, Stopping, None, TakenDown, Waits, "systemd stops it because a unit that it needs failed"),
        row(None, Stopping, None, Asked, Stopped, "systemd is stopping it"),
        row(None, Stopping, None, Any, Waits, "systemd ends what is left of it"),
        row(None, Masked, None, Any, Stopped, "it is masked: systemd refuses each start"),
        row(None, NotLoaded, None, Any, Fault(Some(StartFailed), Hold), "systemd cannot load it"),
        row(None, Down, None, TakenDown, Fault(Some(DependencyDown), Hold), "a unit that it needs failed; it cannot run before that one"),
        row(None, Down, Some(&["exec-condition"]), Any, Stopped, "its ExecCondition= said that it need not run"),
        row(None, Down, None, Skipped, Stopped, "systemd skips its start: a Condition…= of it is not met"),
        row(None, Down, None, Asked, Stopped, "it was stopped on request"),
        row(None, Down, Some(&["success"]), NeverRan, Stopped, "it was not started"),
        row(Some(&[Sort::Oneshot]), Down, Some(&["success"]), Any, Done, "its work is done (Type=oneshot)"),
        row(Some(&[Sort::Scheduled]), Down, Some(&["success"]), Any, Done, "its work is done until it is triggered again"),
        row(Some(&[Activated]), Down, Some(&["success"]), Any, Done, "it was idle, and waits to be activated"),
        row(None, Down, Some(&["timeout"]), NotReady, Fault(Some(StartFailed), Hold), "its start took longer than TimeoutStartSec="),
        row(None, Down, Some(&["protocol"]), Any, Fault(Some(StartFailed), Hold), "it did not do what its Type= promises: no readiness, no pid file, or no bus name"),
        row(None, Down, Some(&["resources"]), Any, Fault(Some(StartFailed), Hold), "systemd could not set it up: a file, user, or limit is missing"),
        row(None, Down, Some(&["start-limit-hit"]), Any, Fault(None, Restart), "systemd refuses to start it so often (StartLimitBurst=); a reset comes first"),
        row(Some(ONCE), Down, Some(&["watchdog"]), Any, Fault(Some(Hung), Hold), "systemd's watchdog (WatchdogSec=) had no sign of life; it runs again only when it is asked for"),
        row(Some(ONCE), Down, None, Any, Fault(None, Hold), "its work failed; it runs again only when it is asked for"),
        row(None, Down, Some(&["exit-code", "signal", "core-dump"]), NoMain, Fault(Some(StartFailed), Hold), "a command before its main process failed (ExecStartPre=)"),
        row(None, Down, Some(&["watchdog"]), Any, Fault(Some(Hung), Restart), "systemd's watchdog (WatchdogSec=) had no sign of life"),
        row(None, Down, Some(&["oom-kill"]), Any, Fault(Some(OomKilled), Restart), "the OOM killer killed one of its processes"),
        row(None, Down, Some(&["success"]), Any, Fault(None, Restart), "it ended without a request, and is meant to stay"),
        row(None, Down, None, Any, Fault(None, Restart), "it failed"),
    ]
};

/// What is known of a unit besides its state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// A unit that it needs has failed.
    pub taken_down: bool,
    /// A main process ran in its latest run. systemd's moments do not show that once it has given up on a unit.
    pub main_ran: bool,
}

/// The row of a unit's state.
pub fn of(state: &UnitState, known: Known) -> &'static Row {
    find(state, phase(state), known)
}

/// The row for the end of a unit's main process, also while systemd waits to restart the unit.
pub fn of_end(state: &UnitState, known: Known) -> &'static Row {
    match phase(state) {
        phase @ (Phase::Finished | Phase::Masked | Phase::NotLoaded) => find(state, phase, known),
        Phase::Up | Phase::Starting | Phase::Restarting | Phase::Stopping | Phase::Down => {
            find(state, Phase::Down, known)
        }
    }
}

fn find(state: &UnitState, phase: Phase, known: Known) -> &'static Row {
    let sort = sort(state);
    let matches = |row: &&Row| {
        row.phase == phase
            && row.unit.is_none_or(|sorts| sorts.contains(&sort))
            && row.result.is_none_or(|results| results.contains(&state.result.as_str()))
            && has_course(state, row.course, known)
    };
    // The last row of each phase matches any unit, result and course.
    ROWS.iter().find(matches).unwrap_or(&ROWS[ROWS.len() - 1])
}

pub fn phase(state: &UnitState) -> Phase {
    match (state.active.as_str(), state.sub.as_str()) {
        ("active", "exited") => Phase::Finished,
        ("active" | "reloading" | "refreshing", _) => Phase::Up,
        ("activating", sub) if sub.starts_with("auto-restart") => Phase::Restarting,
        ("activating", _) => Phase::Starting,
        ("deactivating", _) => Phase::Stopping,
        _ if state.load == "masked" => Phase::Masked,
        _ if state.load != "loaded" => Phase::NotLoaded,
        _ => Phase::Down,
    }
}

fn sort(state: &UnitState) -> Sort {
    if state.container.is_some() {
        Sort::Container
    } else if state.kind == "oneshot" {
        Sort::Oneshot
    } else if state.triggered_by.is_empty() {
        Sort::LongRunning
    } else if state.triggered_by.iter().all(|unit| SCHEDULES.iter().any(|kind| unit.ends_with(kind))) {
        Sort::Scheduled
    } else {
        Sort::Activated
    }
}

/// Whether it is meant to run once and end, so that an endless start is no fault.
pub fn is_oneshot(state: &UnitState) -> bool {
    sort(state) == Sort::Oneshot
}

fn has_course(state: &UnitState, course: Course, known: Known) -> bool {
    match course {
        Course::Any => true,
        Course::TakenDown => known.taken_down,
        Course::Asked => was_asked(state),
        Course::Skipped => state.skipped,
        Course::NeverRan => state.started.is_none() && state.main_started.is_none(),
        Course::NotReady => !state.was_ready(),
        Course::NoMain => {
            let started = state.started.filter(|_| !state.waits_to_restart());
            let before = state.main_exited.zip(started).is_some_and(|(exited, started)| exited < started);
            !known.main_ran && (state.main_started.is_none() || before)
        }
    }
}

/// Whether the unit was or is being stopped on request.
pub fn was_asked(state: &UnitState) -> bool {
    // A unit that ends with an error is failed, unless it is stopped while it waits for its restart.
    let while_waiting =
        state.active == "inactive" && !matches!(state.result.as_str(), "" | "success" | "exec-condition");
    state.job.as_ref().is_some_and(|job| job.kind == "stop")
        || !failed_by_systemd(state) && (state.left_first() || while_waiting)
}

/// Whether systemd ended the unit without a request. (`RuntimeMaxSec=` stops a unit too, but the unit's author wants
/// that, and its result `timeout` is also that of a slow stop.)
pub fn failed_by_systemd(state: &UnitState) -> bool {
    match state.result.as_str() {
        "watchdog" | "oom-kill" | "protocol" | "resources" | "start-limit-hit" => true,
        "timeout" => !state.was_ready(),
        _ => false,
    }
}

/// Why it cannot be started, in a sentence.
pub fn cannot_start(state: &UnitState, load: &str) -> String {
    match &state.container {
        Some(_) => {
            format!("{} has no container of this name; what made it has to make it again", state.manager())
        }
        None => format!("systemd cannot start the unit: it is {load}"),
    }
}

/// The row's reason in a sentence, with the units that it is about.
pub fn words(row: &Row, state: &UnitState) -> String {
    let mut words = row.because.to_owned();
    match row.meaning {
        Meaning::Done if row.phase == Phase::Down && !state.triggered_by.is_empty() => {
            let _ = write!(words, " ({})", state.triggered_by.join(", "));
        }
        Meaning::Fault(..) if state.container.is_some() => {}
        Meaning::Fault(..) if row.phase == Phase::NotLoaded => {
            let _ = write!(words, ": it is {}", state.load);
            if state.load == "not-found" {
                words.push_str("; hostprobe watches units of the host's systemd, and none of a user's");
            }
        }
        Meaning::Runs
        | Meaning::Starting
        | Meaning::Waits
        | Meaning::Done
        | Meaning::Stopped
        | Meaning::Fault(..) => {}
    }
    words
}
