//! The rows.

use rustix::process::Signal;

use super::{Outcome, UnitRow};

const SLEEP: &str = "[Service]\nExecStart=/bin/sleep 1000\n";

/// A unit that hostprobe may restart, with one file and nothing done to it.
const ROW: UnitRow = UnitRow {
    name: "",
    unit: "simple",
    event: "",
    files: &[("@.service", SLEEP)],
    watched: "@.service",
    config: "",
    running: &["@.service"],
    act: |_| {},
    right: FINE,
};

const FINE: Outcome<'static> = Outcome { state: "healthy", verdicts: &[], restarts: 0, open: false };
const STOPPED: Outcome<'static> = Outcome { state: "stopped", ..FINE };
const START_FAILED: Outcome<'static> =
    Outcome { state: "down", verdicts: &["start_failed"], restarts: 0, open: true };
const KILLED: Outcome<'static> = Outcome { verdicts: &["killed"], restarts: 1, ..FINE };
const WITH_NEEDED: Outcome<'static> =
    Outcome { state: "down", verdicts: &["dependency_down"], restarts: 0, open: true };

const START: fn(&super::Act<'_>) = |act| act.systemctl(&["start", "@.service"]);

const SERVER_FILE: &[(&str, &str)] = &[("@.service", SERVER_UNIT)];
/// Runs until it is killed; SIGUSR1 and SIGUSR2 make it exit with 1 and with 0.
const SERVER_UNIT: &str = "[Service]\nExecStart=/bin/sh -c 'trap \"exit 1\" USR1; trap \"exit 0\" USR2; while :; do sleep 0.1; done'\n";

const ACTIVATED: &[(&str, &str)] =
    &[("@.service", SERVER_UNIT), ("@.socket", "[Socket]\nListenStream=/run/@.sock\n")];

macro_rules! service {
    ($($text:expr),*) => { &[("@.service", concat!("[Service]\n", $($text, "\n"),*))] };
}

pub const ROWS: &[UnitRow] = &[
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
        unit: "notify, WatchdogSec=1",
        event: "it goes silent",
        files: service!(
            "Type=notify",
            "NotifyAccess=all",
            "WatchdogSec=1",
            "ExecStart=/bin/sh -c 'mkdir /run/@ 2>/dev/null || pings=1; systemd-notify --ready; while :; do [ -n \"$pings\" ] && systemd-notify WATCHDOG=1; sleep 0.2; done'"
        ),
        running: &[],
        act: START,
        right: Outcome { verdicts: &["hung"], ..KILLED },
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
