//! Services whose processes are kept from running on purpose, or write their core dump.

use std::{fs, process::Command};

use rustix::process::Signal;

use super::{
    judge::{Expected, Held},
    row::{Measured, Row},
    scene::{Scene, Service},
};
use crate::{
    cgroup,
    core_dump::{SlowDumps, allocate},
    http::{self, free_port},
    parts::{require, require_root},
    process::{Running, Traced},
};

const API: &str = "api";
const STRACE: &str = "/usr/bin/strace";

/// The megabytes that are in the dump.
const DUMPED: u64 = 100;

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "23a",
        fault: "its cgroup is frozen, as by podman pause",
        verdicts: &["paused"],
        action: "hold",
        run: frozen,
    },
    Row { number: "23b", fault: "a debugger stops it", verdicts: &["paused"], action: "hold", run: traced },
    Row {
        number: "23c",
        fault: "it hangs under strace, which then ends",
        verdicts: &["paused", "hung"],
        action: "hold, then restart",
        run: hangs_under_strace,
    },
    Row {
        number: "23d",
        fault: "SIGSEGV, and the core dump takes 3 s",
        verdicts: &["crashed"],
        action: "restart after the dump",
        run: slow_dump,
    },
];

fn start() -> Option<(Scene, u16)> {
    require_root().then(|| {
        let port = free_port();
        (Scene::start(&[Service::victim(API, port)]), port)
    })
}

/// It lasts for less time than an alert takes.
fn paused<'a>(because: &'a str, named: &str) -> Held<'a> {
    Held { service: API, because, alert: false, named: vec![named.to_owned()] }
}

fn frozen(row: &Row) -> Option<Measured> {
    let (scene, _) = start()?;
    let freeze = cgroup::v2_of(scene.pid(API)).join("cgroup.freeze");
    let set = |value: &str| fs::write(&freeze, value).expect("the cgroup is frozen or thawed");
    set("1");
    Some(scene.judge_held(row, paused("a restart would undo the pause", "is frozen"), |_| set("0")))
}

fn traced(row: &Row) -> Option<Measured> {
    let (scene, _) = start()?;
    let debugger = Traced::stop(scene.pid(API));
    let named = format!("(pid {}) traces it", std::process::id());
    Some(scene.judge_held(row, paused("the tracer examines", &named), |_| drop(debugger)))
}

/// What is traced and answers is healthy; what does not answer is held for as long as it is traced.
fn hangs_under_strace(row: &Row) -> Option<Measured> {
    if !require("strace", STRACE) {
        return None;
    }
    let (scene, port) = start()?;
    let main = scene.pid(API).to_string();
    let mut command = Command::new(STRACE);
    let strace = Running::start(command.args(["-f", "-o", "/dev/null", "-p", &main]), Signal::TERM);
    strace.wait_until_it_says("attached", &strace.stderr, super::scene::PATIENCE);
    scene.looked_at(API);
    let _ = http::get(port, "/hang");
    let named = format!("strace (pid {}) traces it", strace.pid());
    if scene.verdict(API, "paused").is_some() {
        scene.more_probes();
    }
    drop(strace);
    scene.healed(API);
    scene.more_probes();
    let expected = Expected {
        service: API,
        restarts: &[(API, 1, 1)],
        held: "the tracer examines",
        named: vec![named],
        resolved: true,
        ..Expected::default()
    };
    Some(scene.judge(row, &expected))
}

fn slow_dump(row: &Row) -> Option<Measured> {
    let (scene, port) = start()?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pid = scene.pid(API);
    allocate(port, pid, DUMPED);
    let dumps = SlowDumps::new(folder.path(), pid, 3);
    let _ = http::get(port, "/segv");
    dumps.until_begun();
    drop(dumps);
    scene.healed(API);
    scene.more_probes();
    let named = vec!["writes its core dump".to_owned()];
    let expected = Expected {
        service: API,
        restarts: &[(API, 1, 1)],
        alerts: Some(&[]),
        named,
        resolved: true,
        ..Expected::default()
    };
    let mut measured = scene.judge(row, &expected);
    let size = SlowDumps::size(folder.path());
    measured.expect(size > DUMPED << 20, || format!("the core dump was cut off at {size} bytes"));
    Some(measured)
}
