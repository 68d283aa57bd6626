//! Units of each `Type=` are started, and fail to start.

use super::template::{KILLED, ROW, START, START_FAILED, STOPPED, service};
use crate::unit_matrix::row::{Outcome, UnitRow};

pub(super) const ROWS: &[UnitRow] = &[
    UnitRow {
        name: "exec",
        unit: "exec",
        event: "kill -9",
        files: service!("Type=exec", "ExecStart=/bin/sleep 1000"),
        act: |act| act.kill(),
        right: KILLED,
        ..ROW
    },
    UnitRow {
        name: "idle",
        unit: "idle",
        event: "kill -9",
        files: service!("Type=idle", "ExecStart=/bin/sleep 1000"),
        act: |act| act.kill(),
        right: KILLED,
        ..ROW
    },
    UnitRow {
        name: "forking",
        unit: "forking, PIDFile=",
        event: "kill -9",
        files: service!(
            "Type=forking",
            "PIDFile=/run/@.pid",
            "ExecStart=/bin/sh -c 'sleep 1000 & echo $! > /run/@.pid'"
        ),
        act: |act| act.kill(),
        right: KILLED,
        ..ROW
    },
    UnitRow {
        name: "guessless",
        unit: "forking, GuessMainPID=no",
        event: "all its processes are killed",
        files: service!(
            "Type=forking",
            "GuessMainPID=no",
            "ExecStart=/bin/sh -c 'sleep 1000 & sleep 1000 &'"
        ),
        act: |act| act.systemctl(&["kill", "--signal=SIGKILL", "@.service"]),
        right: Outcome { verdicts: &["exited"], ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "notify",
        unit: "notify",
        event: "kill -9",
        files: service!(
            "Type=notify",
            "NotifyAccess=all",
            "ExecStart=/bin/sh -c 'systemd-notify --ready; exec sleep 1000'"
        ),
        act: |act| act.kill(),
        right: KILLED,
        ..ROW
    },
    UnitRow {
        name: "never-ready",
        unit: "notify, TimeoutStartSec=2",
        event: "it is never ready",
        files: service!("Type=notify", "ExecStart=/bin/sleep 1000", "TimeoutStartSec=2"),
        running: &[],
        act: START,
        right: START_FAILED,
        ..ROW
    },
    UnitRow {
        name: "never-ready-again",
        unit: "notify, TimeoutStartSec=1, Restart=on-failure",
        event: "it is never ready",
        files: &[(
            "@.service",
            "[Unit]\nStartLimitBurst=4\nStartLimitIntervalSec=1h\n[Service]\nType=notify\n\
             ExecStart=/bin/sleep 1000\nTimeoutStartSec=1\nRestart=on-failure\n",
        )],
        running: &[],
        config: "[service.restart]\nenabled = true\nbudget = \"2 per 10m\"",
        act: START,
        right: Outcome { verdicts: &["start_failed", "crash_loop"], ..START_FAILED },
        ..ROW
    },
    UnitRow {
        name: "protocol",
        unit: "notify",
        event: "it exits with 0 and was never ready",
        files: service!("Type=notify", "ExecStart=/bin/true"),
        running: &[],
        act: START,
        right: START_FAILED,
        ..ROW
    },
    UnitRow {
        name: "watchdog",
        unit: "notify, WatchdogSec=3",
        event: "it goes silent",
        files: service!(
            "Type=notify",
            "NotifyAccess=all",
            "WatchdogSec=3",
            "ExecStart=/bin/sh -c 'mkdir /run/@ 2>/dev/null || pings=1; systemd-notify --ready; while :; do [ -n \"$pings\" ] && systemd-notify WATCHDOG=1; sleep 0.2; done'"
        ),
        running: &[],
        act: START,
        right: Outcome { verdicts: &["hung"], ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "watched",
        unit: "notify, WatchdogSec=3, Restart=always, RestartSec=0",
        event: "it goes silent",
        files: service!(
            "Type=notify",
            "NotifyAccess=all",
            "WatchdogSec=3",
            "Restart=always",
            "RestartSec=0",
            "ExecStart=/bin/sh -c 'mkdir /run/@ 2>/dev/null || pings=1; systemd-notify --ready; while :; do [ -n \"$pings\" ] && systemd-notify WATCHDOG=1; sleep 0.2; done'"
        ),
        running: &[],
        act: START,
        right: Outcome { verdicts: &["hung"], restarts: 0, ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "nameless",
        unit: "dbus, TimeoutStartSec=1",
        event: "it never takes its bus name",
        files: service!(
            "Type=dbus",
            "BusName=org.example.Nameless",
            "ExecStart=/bin/sleep 1000",
            "TimeoutStartSec=1"
        ),
        running: &[],
        act: START,
        right: START_FAILED,
        ..ROW
    },
    UnitRow {
        name: "unprepared",
        event: "its ExecStartPre= fails",
        files: service!("ExecStartPre=/bin/false", "ExecStart=/bin/sleep 1000"),
        running: &[],
        act: START,
        right: START_FAILED,
        ..ROW
    },
    UnitRow {
        name: "resources",
        event: "its EnvironmentFile= is missing",
        files: service!("EnvironmentFile=/nowhere", "ExecStart=/bin/sleep 1000"),
        running: &[],
        act: START,
        right: START_FAILED,
        ..ROW
    },
    UnitRow {
        name: "skipped",
        event: "its ConditionPathExists= is not met",
        files: &[(
            "@.service",
            "[Unit]\nConditionPathExists=/nowhere\n[Service]\nExecStart=/bin/sleep 1000\n",
        )],
        running: &[],
        act: START,
        right: STOPPED,
        ..ROW
    },
    UnitRow {
        name: "declined",
        event: "its ExecCondition= says no",
        files: service!("ExecCondition=/bin/false", "ExecStart=/bin/sleep 1000"),
        running: &[],
        act: START,
        right: STOPPED,
        ..ROW
    },
    UnitRow { name: "never-started", event: "nothing", running: &[], right: STOPPED, ..ROW },
    UnitRow {
        name: "missing",
        unit: "none",
        event: "nothing",
        files: &[],
        running: &[],
        right: START_FAILED,
        ..ROW
    },
];
