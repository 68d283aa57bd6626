//! The host, or a service's share of it, is too busy.

use std::{fs, process::Command};

use super::{
    judge::Expected,
    row::{Measured, Row},
    scene::{Scene, Service},
};
use crate::{
    cpu::CpuCgroup,
    http::free_port,
    incident_events::is,
    parts::{available, built, require_root},
    process::Running,
};
use rustix::{
    process::{Pid, Signal},
    thread::{CpuSet, sched_setaffinity},
};

pub(super) const ROWS: &[Row] = &[Row {
    number: "16",
    fault: "CPU starvation by a neighbour, all slow",
    verdicts: &["overloaded"],
    action: "hold",
    run: starved,
}];

/// The services that starve together.
const NAMES: [&str; 3] = ["api", "shop", "mail"];

fn starved(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    // The least weight there is, against a neighbour that has sixteen times the usual one: it leaves enough for
    // the daemon.
    let (little, much) = (CpuCgroup::new(2), CpuCgroup::new(16 * 1024));
    if !available(little.is_ok() && much.is_ok(), "a cgroup hierarchy with the controller cpu") {
        return None;
    }
    let (little, much) = (little.ok()?, much.ok()?);
    let services = NAMES.map(|name| Service::victim(name, free_port()));
    let scene = Scene::start(&services);
    for name in NAMES {
        let pid = scene.pid(name);
        little.add(pid).expect("it is moved");
        keep_on_one_processor(pid);
    }
    let mut busy = Command::new("/usr/bin/taskset");
    busy.args(["--cpu-list", "0"]).arg(built("busy_loop")).args(["--threads", "64"]);
    let busy = Running::start(&mut busy, Signal::KILL);
    much.add(busy.pid()).expect("it is moved");
    let found = scene.verdict(NAMES[0], "overloaded");
    if found.is_some() {
        scene.event("the restart is held", |event| is(event, "restart.hold", NAMES[0]));
    }
    scene.more_probes();
    drop(busy);
    if found.is_some() {
        scene.healed(NAMES[0]);
    }
    scene.more_probes();
    let expected = Expected { service: NAMES[0], resolved: true, ..Expected::default() };
    Some(scene.judge(row, &expected))
}

/// Keeps the threads of a process on the first processor, so that what else runs on this host has the others.
fn keep_on_one_processor(pid: u32) {
    let mut first = CpuSet::new();
    first.set(0);
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    for thread in threads.flatten() {
        let id = thread.file_name().to_str().and_then(|id| Pid::from_raw(id.parse().ok()?));
        // One that has just ended need not be kept.
        let _ = sched_setaffinity(id, &first);
    }
}
