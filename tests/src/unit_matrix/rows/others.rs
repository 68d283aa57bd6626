//! Oneshot units, units that others start, and units that need others.

use rustix::process::Signal;

use super::template::{ACTIVATED, FINE, KILLED, ROW, SLEEP, START, STOPPED, WITH_NEEDED, service};
use crate::unit_matrix::row::{Outcome, UnitRow};

pub(super) const ROWS: &[UnitRow] = &[
    UnitRow {
        name: "oneshot",
        unit: "oneshot",
        event: "it is run, and succeeds",
        files: service!("Type=oneshot", "ExecStart=/bin/sleep 1", "ExecStart=/bin/true"),
        running: &[],
        act: START,
        right: STOPPED,
        ..ROW
    },
    UnitRow {
        name: "oneshot-fails",
        unit: "oneshot",
        event: "it is run, and fails",
        files: service!("Type=oneshot", "ExecStart=/bin/sh -c 'sleep 0.3; exit 1'"),
        running: &[],
        act: START,
        right: Outcome { state: "down", verdicts: &["exited"], restarts: 0, open: true },
        ..ROW
    },
    UnitRow {
        name: "oneshot-again",
        unit: "oneshot",
        event: "it fails, is run again, and succeeds",
        files: service!("Type=oneshot", "ExecStart=/bin/sh -c 'sleep 0.3; ! mkdir /run/@ 2>/dev/null'"),
        running: &[],
        act: |act| {
            START(act);
            act.until_state("down");
            START(act);
        },
        right: Outcome { state: "stopped", verdicts: &["exited"], ..FINE },
        ..ROW
    },
    UnitRow {
        name: "remains",
        unit: "oneshot, RemainAfterExit=yes",
        event: "it is run, and succeeds",
        files: service!("Type=oneshot", "RemainAfterExit=yes", "ExecStart=/bin/sleep 0.3"),
        running: &[],
        act: START,
        ..ROW
    },
    UnitRow {
        name: "remained",
        unit: "oneshot, RemainAfterExit=yes",
        event: "it ended before the daemon started",
        files: service!("Type=oneshot", "RemainAfterExit=yes", "ExecStart=/bin/true"),
        ..ROW
    },
    UnitRow {
        name: "remains-simple",
        unit: "simple, RemainAfterExit=yes",
        event: "exits with 0",
        files: service!(
            "RemainAfterExit=yes",
            "ExecStart=/bin/sh -c 'trap \"exit 0\" USR2; while :; do sleep 0.1; done'"
        ),
        act: |act| act.signal("@.service", Signal::USR2),
        ..ROW
    },
    UnitRow {
        name: "timed",
        unit: "oneshot, started by a timer",
        event: "the timer elapses",
        files: &[
            ("@.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 0.3\n"),
            ("@.timer", "[Timer]\nOnActiveSec=1\nAccuracySec=1ms\n"),
        ],
        running: &[],
        act: |act| act.systemctl(&["start", "@.timer"]),
        right: STOPPED,
        ..ROW
    },
    UnitRow {
        name: "timed-fails",
        unit: "simple, started by a timer",
        event: "the timer elapses, and it fails",
        files: &[
            ("@.service", "[Service]\nExecStart=/bin/sh -c 'sleep 0.3; exit 1'\n"),
            ("@.timer", "[Timer]\nOnActiveSec=1\nAccuracySec=1ms\n"),
        ],
        running: &[],
        act: |act| act.systemctl(&["start", "@.timer"]),
        right: Outcome { state: "down", verdicts: &["exited"], restarts: 0, open: true },
        ..ROW
    },
    UnitRow {
        name: "activated",
        unit: "simple, started by a socket",
        event: "it exits with 0 when it is idle",
        files: ACTIVATED,
        running: &["@.socket", "@.service"],
        act: |act| act.signal("@.service", Signal::USR2),
        right: STOPPED,
        ..ROW
    },
    UnitRow {
        name: "activated-killed",
        unit: "simple, started by a socket",
        event: "kill -9",
        files: ACTIVATED,
        running: &["@.socket", "@.service"],
        act: |act| act.kill(),
        right: KILLED,
        ..ROW
    },
    UnitRow {
        name: "bus",
        unit: "dbus, started by a call of its bus name",
        event: "it exits with 0 when it is idle",
        files: service!(
            "Type=dbus",
            "BusName=org.freedesktop.hostname1",
            "ExecStart=/lib/systemd/systemd-hostnamed"
        ),
        act: |act| act.signal("@.service", Signal::TERM),
        right: STOPPED,
        ..ROW
    },
    UnitRow {
        name: "bound",
        unit: "simple, BindsTo= a watched unit",
        event: "that one is killed",
        files: &[(
            "@.service",
            "[Unit]\nBindsTo=base.service\nAfter=base.service\n[Service]\nExecStart=/bin/sleep 1000\n",
        )],
        act: |act| act.signal("base.service", Signal::KILL),
        right: Outcome { verdicts: &["dependency_down", "unhealed"], ..KILLED },
        ..ROW
    },
    UnitRow { name: "base", event: "kill -9", right: KILLED, ..ROW },
    UnitRow {
        name: "bound-elsewhere",
        unit: "simple, BindsTo= a unit that is not watched",
        event: "that one is killed",
        files: &[
            (
                "@.service",
                "[Unit]\nBindsTo=@-base.service\nAfter=@-base.service\n[Service]\nExecStart=/bin/sleep 1000\n",
            ),
            ("@-base.service", SLEEP),
        ],
        act: |act| act.signal("@-base.service", Signal::KILL),
        right: WITH_NEEDED,
        ..ROW
    },
    UnitRow {
        name: "bound-again",
        unit: "simple, BindsTo= a unit that is not watched",
        event: "that one is killed, then systemctl start of that one",
        files: &[
            (
                "@.service",
                "[Unit]\nBindsTo=@-base.service\nAfter=@-base.service\n[Service]\nExecStart=/bin/sleep 1000\n",
            ),
            ("@-base.service", SLEEP),
        ],
        act: |act| {
            act.signal("@-base.service", Signal::KILL);
            act.until_state("down");
            act.systemctl(&["start", "@-base.service"]);
        },
        right: Outcome { verdicts: &["dependency_down", "unhealed"], ..KILLED },
        ..ROW
    },
    UnitRow {
        name: "required",
        unit: "simple, Requires= another unit",
        event: "systemctl stop of that one",
        files: &[
            (
                "@.service",
                "[Unit]\nRequires=@-base.service\nAfter=@-base.service\n[Service]\nExecStart=/bin/sleep 1000\n",
            ),
            ("@-base.service", SLEEP),
        ],
        act: |act| act.systemctl(&["stop", "@-base.service"]),
        right: STOPPED,
        ..ROW
    },
    UnitRow {
        name: "part",
        unit: "simple, PartOf= another unit",
        event: "systemctl restart of that one",
        files: &[
            ("@.service", "[Unit]\nPartOf=@-base.service\n[Service]\nExecStart=/bin/sleep 1000\n"),
            ("@-base.service", SLEEP),
        ],
        running: &["@.service", "@-base.service"],
        act: |act| act.systemctl(&["restart", "@-base.service"]),
        ..ROW
    },
    UnitRow {
        name: "refused",
        unit: "simple, Requires= a oneshot unit",
        event: "systemctl start, and that one fails",
        files: &[
            (
                "@.service",
                "[Unit]\nRequires=@-base.service\nAfter=@-base.service\n[Service]\nExecStart=/bin/sleep 1000\n",
            ),
            ("@-base.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n"),
        ],
        running: &[],
        act: START,
        right: WITH_NEEDED,
        ..ROW
    },
];
