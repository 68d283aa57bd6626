//! Reads a [`UnitState`] from a unit's D-Bus properties.

use std::{collections::HashMap, time::Duration};

use zbus::{ObjectPath, Variant};

use super::{SystemdError, cgroup::Hierarchy, namespace::Manager};
use crate::{
    clock::Timestamp,
    fact::{NeededUnit, UnitJob, UnitState},
};

/// The most needed units that are read: their states are read one by one.
const MOST_NEEDS: usize = 16;

/// Every property of every interface of a unit.
pub(super) type Properties<'m> = HashMap<&'m str, Variant<'m>>;

/// The object path of a unit. systemd loads a unit when its path is read.
pub(super) fn object_path(unit: &str) -> String {
    use std::fmt::Write;
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && at > 0) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "_{byte:02x}");
        }
    }
    path
}

/// The id and object path of a unit's job.
pub(super) fn job<'p>(properties: &'p Properties<'_>) -> Option<(u32, &'p ObjectPath<'p>)> {
    let Some(Variant::Structure(job)) = properties.get("Job") else { return None };
    match job.fields() {
        [Variant::U32(id), Variant::ObjectPath(path)] if *id != 0 => Some((*id, path)),
        _ => None,
    }
}

/// When the state of a unit that is down changed last.
pub(super) fn down_since(properties: &Properties<'_>) -> Option<Timestamp> {
    let active = text(properties, "ActiveState")?;
    let changed = micros(properties, "StateChangeTimestampMonotonic").filter(|&at| at != 0)?;
    matches!(active.as_str(), "failed" | "inactive").then(|| Timestamp::from_monotonic_micros(changed))
}

/// Reads a unit's state from its properties. `job` is the job in progress.
pub(super) fn read(
    unit: &str,
    properties: &Properties<'_>,
    job: Option<UnitJob>,
    manager: &Manager,
    hierarchy: Option<&Hierarchy>,
) -> Result<UnitState, SystemdError> {
    let needed = |property: &'static str| {
        text(properties, property).ok_or_else(|| SystemdError::Answer { unit: unit.to_owned(), property })
    };
    let cgroup = text(properties, "ControlGroup")
        .and_then(|group| hierarchy.and_then(|hierarchy| hierarchy.path(&group)));
    let main_pid = number(properties, "MainPID").unwrap_or(0);
    let members = || match (hierarchy, &cgroup) {
        (Some(hierarchy), Some(path)) => hierarchy.members(path),
        _ => Vec::new(),
    };
    // One reading of the clocks for all, so that the moments keep their order.
    let boot = Timestamp::from_monotonic_micros(0);
    let moment = |property| {
        // systemd writes 0 for a moment that has not come.
        micros(properties, property).filter(|&at| at != 0).map(|at| boot.plus(Duration::from_micros(at)))
    };
    let changed = moment("StateChangeTimestampMonotonic");
    // systemd checks the conditions before a start, and a start that it skips changes no state.
    let skipped = boolean(properties, "ConditionResult") == Some(false)
        && moment("ConditionTimestampMonotonic")
            .is_some_and(|checked| changed.is_none_or(|changed| checked > changed));
    Ok(UnitState {
        at: Timestamp::now(),
        id: text(properties, "Id").unwrap_or_else(|| unit.to_owned()),
        kind: text(properties, "Type").unwrap_or_default(),
        triggered_by: list(properties, "TriggeredBy"),
        on_failure: list(properties, "OnFailure"),
        skipped,
        needs: Vec::new(),
        ended_job: None,
        start_timeout: limit(properties, "TimeoutStartUSec"),
        stop_timeout: limit(properties, "TimeoutStopUSec"),
        watchdog: limit(properties, "WatchdogUSec").filter(|limit| !limit.is_zero()),
        watchdog_signal: signal(properties, "WatchdogSignal").unwrap_or_default(),
        started: moment("InactiveExitTimestampMonotonic"),
        ready: moment("ActiveEnterTimestampMonotonic"),
        manager_pid: manager.pid,
        load: needed("LoadState")?,
        active: needed("ActiveState")?,
        sub: needed("SubState")?,
        // Only services have the following.
        result: text(properties, "Result").unwrap_or_default(),
        invocation_id: invocation_id(properties),
        restarts: number(properties, "NRestarts").unwrap_or(0),
        // Since version 254 the delay can grow with each restart, and a property holds the next delay.
        restart_delay: span(properties, "RestartUSecNext")
            .or_else(|| span(properties, "RestartUSec"))
            .unwrap_or_default(),
        restarts_itself: text(properties, "Restart").is_some_and(|when| when != "no"),
        start_limit: (
            number(properties, "StartLimitBurst").unwrap_or(0),
            span(properties, "StartLimitIntervalUSec").unwrap_or_default(),
        ),
        main: (main_pid != 0).then(|| manager.process(main_pid, members)).flatten(),
        main_pid,
        main_started: moment("ExecMainStartTimestampMonotonic"),
        main_exited: moment("ExecMainExitTimestampMonotonic"),
        active_exit: moment("ActiveExitTimestampMonotonic"),
        changed,
        job,
        cgroup_id: hierarchy.zip(cgroup.as_ref()).and_then(|(hierarchy, path)| hierarchy.id(path)),
        cgroup,
        container: None,
    })
}

/// The units that a unit needs, each with the strongest relation.
pub(super) fn needs(properties: &Properties<'_>) -> Vec<(String, &'static str)> {
    let mut needs: Vec<(String, &str)> = Vec::new();
    for relation in ["BindsTo", "Requires", "Requisite", "PartOf"] {
        for unit in list(properties, relation) {
            // Slices and targets of the boot do not fail, and every service needs some.
            let relevant = !unit.ends_with(".slice") && !unit.ends_with(".target");
            if relevant && needs.len() < MOST_NEEDS && needs.iter().all(|(known, _)| *known != unit) {
                needs.push((unit, relation));
            }
        }
    }
    needs
}

/// The bus name that a unit takes, if it takes one.
pub(super) fn bus_name(properties: &Properties<'_>) -> Option<String> {
    text(properties, "BusName").filter(|name| !name.is_empty())
}

/// The state of a unit that another one needs.
pub(super) fn needed(unit: String, relation: &str, properties: &Properties<'_>) -> NeededUnit {
    let left = micros(properties, "ActiveExitTimestampMonotonic").filter(|&at| at != 0);
    NeededUnit {
        id: text(properties, "Id").unwrap_or(unit),
        relation: relation.to_owned(),
        active: text(properties, "ActiveState").unwrap_or_default(),
        result: text(properties, "Result").unwrap_or_default(),
        restarts: number(properties, "NRestarts").unwrap_or(0),
        left: left.map(Timestamp::from_monotonic_micros),
    }
}

fn list(properties: &Properties<'_>, name: &str) -> Vec<String> {
    let Some(Variant::Array(items)) = properties.get(name) else { return Vec::new() };
    items
        .iter()
        .filter_map(|item| if let Variant::Str(text) = item { Some(text.as_str().to_owned()) } else { None })
        .collect()
}

fn boolean(properties: &Properties<'_>, name: &str) -> Option<bool> {
    match properties.get(name) {
        Some(Variant::Bool(it)) => Some(*it),
        _ => None,
    }
}

fn text(properties: &Properties<'_>, name: &str) -> Option<String> {
    match properties.get(name) {
        Some(Variant::Str(text)) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

fn number(properties: &Properties<'_>, name: &str) -> Option<u32> {
    match properties.get(name) {
        Some(Variant::U32(number)) => Some(*number),
        _ => None,
    }
}

fn signal(properties: &Properties<'_>, name: &str) -> Option<u8> {
    match properties.get(name) {
        Some(Variant::I32(number)) => u8::try_from(*number).ok(),
        _ => None,
    }
}

fn micros(properties: &Properties<'_>, name: &str) -> Option<u64> {
    match properties.get(name) {
        Some(Variant::U64(micros)) => Some(*micros),
        _ => None,
    }
}

fn span(properties: &Properties<'_>, name: &str) -> Option<Duration> {
    micros(properties, name).map(Duration::from_micros)
}

/// A time limit; None for `infinity`, which systemd writes as the largest number.
fn limit(properties: &Properties<'_>, name: &str) -> Option<Duration> {
    micros(properties, name).filter(|&micros| micros != u64::MAX).map(Duration::from_micros)
}

fn invocation_id(properties: &Properties<'_>) -> String {
    let Some(Variant::Array(bytes)) = properties.get("InvocationID") else { return String::new() };
    bytes
        .iter()
        .filter_map(|byte| if let Variant::U8(byte) = byte { Some(format!("{byte:02x}")) } else { None })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_names_are_escaped_as_systemd_does() {
        let escaped = |unit| object_path(unit).rsplit('/').next().unwrap().to_owned();
        assert_eq!(escaped("dbus.service"), "dbus_2eservice");
        assert_eq!(escaped("7up@a-b.service"), "_37up_40a_2db_2eservice");
        assert_eq!(escaped(r"a\x2db.service"), "a_5cx2db_2eservice");
    }

    fn manager() -> Manager {
        Manager::behind(None, std::path::Path::new("/nonexistent")).unwrap()
    }

    #[test]
    fn a_service_that_never_ran_has_no_moments() {
        let properties = Properties::from([
            ("LoadState", Variant::from("loaded")),
            ("ActiveState", Variant::from("inactive")),
            ("SubState", Variant::from("dead")),
            ("Restart", Variant::from("no")),
            ("RestartUSec", Variant::from(100_000_u64)),
            ("ActiveExitTimestampMonotonic", Variant::from(0_u64)),
            ("InvocationID", Variant::from(Vec::<u8>::new())),
            ("MainPID", Variant::from(0_u32)),
            ("ControlGroup", Variant::from("")),
        ]);
        let state = read("x.service", &properties, None, &manager(), None).unwrap();
        assert_eq!((state.main, state.active_exit, state.cgroup), (None, None, None));
        assert_eq!((state.watchdog, state.watchdog_signal), (None, 0));
        assert_eq!(state.restart_delay, Duration::from_millis(100));
        assert!(!state.restarts_itself && state.invocation_id.is_empty());
    }

    #[test]
    fn a_growing_delay_and_an_invocation_are_read() {
        let properties = Properties::from([
            ("LoadState", Variant::from("loaded")),
            ("ActiveState", Variant::from("active")),
            ("SubState", Variant::from("running")),
            ("RestartUSec", Variant::from(100_000_u64)),
            ("RestartUSecNext", Variant::from(2_000_000_u64)),
            ("WatchdogUSec", Variant::from(3_000_000_u64)),
            ("WatchdogSignal", Variant::from(6_i32)),
            ("InvocationID", Variant::from(vec![0x0a_u8, 0xff])),
        ]);
        let state = read("x.service", &properties, None, &manager(), None).unwrap();
        assert_eq!(state.restart_delay, Duration::from_secs(2));
        assert_eq!((state.watchdog, state.watchdog_signal), (Some(Duration::from_secs(3)), 6));
        assert_eq!(state.invocation_id, "0aff");
        let nothing = read("x.service", &Properties::new(), None, &manager(), None);
        assert!(nothing.unwrap_err().to_string().contains("x.service has no usable LoadState"));
    }
}
