//! Long-running units end, are stopped, masked and reset.

use rustix::process::Signal;

use super::template::{FINE, KILLED, ROW, SERVER_FILE, SLEEP, STOPPED, service};
use crate::unit_matrix::row::{Outcome, UnitRow};

pub(super) const ROWS: &[UnitRow] = &[
    UnitRow { name: "killed", event: "kill -9", act: |act| act.kill(), right: KILLED, ..ROW },
    UnitRow {
        name: "faulted",
        event: "SIGSEGV by itself",
        files: service!(
            "ExecStart=/bin/sh -c 'if mkdir /run/@ 2>/dev/null; then sleep 6; kill -SEGV $$$$; fi; exec sleep 1000'"
        ),
        right: Outcome { verdicts: &["crashed"], ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "failed",
        event: "exits with 1",
        files: SERVER_FILE,
        act: |act| act.signal("@.service", Signal::USR1),
        right: Outcome { verdicts: &["exited"], ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "ended",
        event: "exits with 0",
        files: SERVER_FILE,
        act: |act| act.signal("@.service", Signal::USR2),
        right: Outcome { verdicts: &["exited"], ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "stopped",
        event: "systemctl stop",
        act: |act| act.systemctl(&["stop", "@.service"]),
        right: STOPPED,
        ..ROW
    },
    UnitRow {
        name: "restarted",
        event: "systemctl restart",
        act: |act| act.systemctl(&["restart", "@.service"]),
        ..ROW
    },
    UnitRow {
        name: "stop-start",
        event: "systemctl stop, then start",
        act: |act| {
            act.systemctl(&["stop", "@.service"]);
            act.until_state("stopped");
            act.systemctl(&["start", "@.service"]);
        },
        ..ROW
    },
    UnitRow {
        name: "signalled",
        event: "systemctl kill",
        act: |act| act.systemctl(&["kill", "--signal=SIGTERM", "@.service"]),
        right: STOPPED,
        ..ROW
    },
    UnitRow {
        name: "itself",
        unit: "simple, Restart=always, RestartSec=0",
        event: "kill -9",
        files: service!("ExecStart=/bin/sleep 1000", "Restart=always", "RestartSec=0"),
        act: |act| act.kill(),
        right: Outcome { restarts: 0, ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "slow-stop",
        unit: "simple, ignores SIGTERM, TimeoutStopSec=4",
        event: "systemctl stop",
        files: service!(
            "ExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'",
            "TimeoutStopSec=4"
        ),
        act: |act| act.systemctl(&["stop", "--no-block", "@.service"]),
        right: STOPPED,
        ..ROW
    },
    UnitRow {
        name: "runtime",
        unit: "simple, RuntimeMaxSec=8",
        event: "its time is over",
        files: service!("ExecStart=/bin/sleep 1000", "RuntimeMaxSec=8"),
        right: STOPPED,
        ..ROW
    },
    UnitRow {
        name: "runtime-again",
        unit: "simple, RuntimeMaxSec=8, Restart=always",
        event: "its time is over",
        files: service!("ExecStart=/bin/sleep 1000", "RuntimeMaxSec=8", "Restart=always"),
        right: FINE,
        ..ROW
    },
    UnitRow {
        name: "back-off-stop",
        event: "kill -9 twice, then systemctl stop during the back-off",
        act: |act| {
            act.kill_twice();
            act.systemctl(&["stop", "@.service"]);
        },
        right: Outcome { state: "stopped", ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "back-off-reset",
        event: "kill -9 twice, then systemctl reset-failed during the back-off",
        act: |act| {
            act.kill_twice();
            act.systemctl(&["reset-failed", "@.service"]);
        },
        right: Outcome { restarts: 2, ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "reset",
        unit: "simple, restarts not enabled",
        event: "kill -9, then systemctl reset-failed",
        config: "[service.restart]\nenabled = false",
        act: |act| {
            act.kill();
            act.until_state("down");
            act.systemctl(&["reset-failed", "@.service"]);
        },
        right: Outcome { state: "down", restarts: 0, open: true, ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "try-restarted",
        unit: "simple, restarts not enabled",
        event: "kill -9, then systemctl try-restart",
        config: "[service.restart]\nenabled = false",
        act: |act| {
            act.kill();
            act.until_state("down");
            act.systemctl(&["try-restart", "@.service"]);
        },
        right: Outcome { state: "down", restarts: 0, open: true, ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "masked",
        event: "masked, then kill -9",
        act: |act| {
            act.mask();
            act.kill();
        },
        right: Outcome { state: "down", restarts: 0, open: true, ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "masked-stopped",
        event: "masked and stopped",
        act: |act| {
            act.mask();
            act.systemctl(&["stop", "@.service"]);
        },
        right: STOPPED,
        ..ROW
    },
    UnitRow {
        name: "handled",
        unit: "simple, OnFailure=",
        event: "kill -9",
        files: &[
            ("@.service", "[Unit]\nOnFailure=@-handler.service\n[Service]\nExecStart=/bin/sleep 1000\n"),
            ("@-handler.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n"),
        ],
        act: |act| act.kill(),
        right: KILLED,
        ..ROW
    },
    UnitRow {
        name: "aliased",
        unit: "simple, watched by its alias",
        event: "kill -9",
        files: &[("@.service", SLEEP)],
        watched: "alias-of-@.service",
        act: |act| act.kill(),
        right: KILLED,
        ..ROW
    },
    UnitRow {
        name: "alias-stopped",
        unit: "simple, watched by its alias",
        event: "systemctl stop, start, kill -9",
        watched: "alias-of-@.service",
        act: |act| {
            act.systemctl(&["stop", "@.service"]);
            act.until_state("stopped");
            act.systemctl(&["start", "@.service"]);
            act.kill();
        },
        right: KILLED,
        ..ROW
    },
];
