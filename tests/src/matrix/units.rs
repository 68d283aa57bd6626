//! Units of a real systemd: what an operator asks for, and what systemd makes of their types.

use std::{thread, time::Duration};

use super::{
    judge::Expected,
    row::{Measured, Row},
    scene::{PATIENCE, Scene, Service},
};
use crate::{
    http::free_port,
    process::until,
    systemd::SystemdLab,
    unit_matrix::{self, Act},
    victim::Victim,
};

/// Between two looks at what became of a unit.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

const API: &str = "api";
const UNIT: &str = "api.service";

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "15a",
        fault: "systemctl stop",
        verdicts: &["stopped"],
        action: "none",
        run: |row| asked_for(row, &["stop", UNIT]),
    },
    Row {
        number: "15b",
        fault: "systemctl restart",
        verdicts: &["stopped"],
        action: "none",
        run: |row| asked_for(row, &["restart", UNIT]),
    },
    Row {
        number: "15c",
        fault: "a deploy by SIGTERM from the unit's manager",
        verdicts: &["stopped"],
        action: "none",
        run: |row| asked_for(row, &["kill", "--signal=SIGTERM", UNIT]),
    },
    Row {
        number: "25a",
        fault: "a oneshot unit ends with 0",
        verdicts: &["stopped"],
        action: "none",
        run: |row| unit(row, "oneshot", false),
    },
    Row {
        number: "25b",
        fault: "a oneshot unit fails",
        verdicts: &["exited"],
        action: "hold, alert",
        run: |row| unit(row, "oneshot-fails", true),
    },
    Row {
        number: "25c",
        fault: "a timer starts a unit, which ends with 0",
        verdicts: &["stopped"],
        action: "none",
        run: |row| unit(row, "timed", false),
    },
    Row {
        number: "25d",
        fault: "a unit that its socket starts ends with 0",
        verdicts: &["stopped"],
        action: "none",
        run: |row| unit(row, "activated", false),
    },
    Row {
        number: "25e",
        fault: "a notify unit is not ready in time",
        verdicts: &["start_failed"],
        action: "hold, alert",
        run: |row| unit(row, "never-ready", true),
    },
    Row {
        number: "25f",
        fault: "systemd's watchdog hears no more of it",
        verdicts: &["hung"],
        action: "restart",
        run: |row| unit(row, "watchdog", false),
    },
    Row {
        number: "25g",
        fault: "SIGKILL of a unit watched by its alias",
        verdicts: &["killed"],
        action: "restart",
        run: |row| unit(row, "aliased", false),
    },
    Row {
        number: "25h",
        fault: "systemctl reset-failed of a dead unit",
        verdicts: &["killed"],
        action: "none; alert",
        run: |row| unit(row, "reset", true),
    },
    Row {
        number: "25i",
        fault: "SIGKILL twice, then stop in the back-off",
        verdicts: &["killed", "stopped"],
        action: "restart once, then none",
        run: |row| unit(row, "back-off-stop", false),
    },
    Row {
        number: "25j",
        fault: "systemctl stop of what ignores SIGTERM",
        verdicts: &["stopped"],
        action: "none",
        run: |row| unit(row, "slow-stop", false),
    },
];

/// A row of the units' own matrix, which is done with all hooks only; `alert` says whether it has an alert at once.
fn unit(row: &Row, name: &str, alert: bool) -> Option<Measured> {
    let systemd = SystemdLab::for_test()?;
    let unit = unit_matrix::row(name);
    unit_matrix::prepare_rows(&systemd, &[unit]);
    let service = Service::new(name, &unit_matrix::keys(&unit), 0).probe("").restart("");
    let bus = systemd.bus_address();
    let scene = Scene::start_with(&[service], "", |command| command.env("DBUS_SYSTEM_BUS_ADDRESS", bus));
    (unit.act)(&Act { lab: &systemd, daemon: &scene.daemon, name: unit.name, mark: scene.mark });
    if unit.right.state == "stopped" {
        scene.until_state(name, "stopped");
    }
    // If it does not become right, the judgement says what it became instead.
    let right_at_last = (0..400).any(|_| {
        thread::sleep(BETWEEN_LOOKS);
        unit_matrix::is_right(&scene.daemon, &unit)
    });
    let file = unit.watched.replace('@', name);
    until("systemd is done with it", PATIENCE, || {
        let state = systemd.show(&file, "ActiveState").expect("systemd answers");
        (!["activating", "deactivating"].contains(&state.as_str())).then_some(())
    });
    scene.more_probes();
    let stays = unit_matrix::is_right(&scene.daemon, &unit);
    let right = unit.right;
    let alerts = if alert { &[name][..] } else { &[] };
    let expected = Expected {
        service: name,
        restarts: &[(name, right.restarts, right.restarts)],
        alerts: Some(alerts),
        resolved: !right.open && !right.verdicts.is_empty(),
        stopped: right.state == "stopped",
        ..Expected::default()
    };
    let mut measured = scene.judge(row, &expected);
    measured.expect(right_at_last && stays, || format!("the service is not {} in the end", right.state));
    Some(measured)
}

fn asked_for(row: &Row, command: &[&str]) -> Option<Measured> {
    let systemd = SystemdLab::for_test()?;
    let port = free_port();
    let program = systemd.install(&Victim::program()).expect("the victim is installed");
    let unit = format!("[Service]\nExecStart={program} --port {port}\nRestart=always\nRestartSec=1\n");
    systemd.write_unit(UNIT, &unit).expect("the unit is written");
    systemd.systemctl(&["start", UNIT]).expect("the unit starts");
    let bus = systemd.bus_address();
    let services = [Service::new(API, &format!("unit = {UNIT:?}"), port)];
    let scene = Scene::start_with(&services, "", |command| command.env("DBUS_SYSTEM_BUS_ADDRESS", bus));
    systemd.systemctl(command).expect("systemctl succeeds");
    scene.until_state(API, "stopped");
    if command.contains(&"stop") {
        scene.more_probes();
        systemd.systemctl(&["start", UNIT]).expect("the unit starts");
    }
    scene.until_state(API, "healthy");
    scene.more_probes();
    let expected = Expected { service: API, alerts: Some(&[]), stopped: true, ..Expected::default() };
    Some(scene.judge(row, &expected))
}
