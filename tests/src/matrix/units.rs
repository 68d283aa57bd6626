//! Units of a real systemd that an operator stops or restarts.

use super::{
    judge::Expected,
    row::{Measured, Row},
    scene::{Scene, Service},
};
use crate::{http::free_port, systemd::SystemdLab, victim::Victim};

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
];

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
