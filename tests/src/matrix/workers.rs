//! A process of a service dies and its main process lives.

use super::{
    judge::Expected,
    row::{Measured, Row},
    scene::{PATIENCE, Scene, Service},
};
use crate::{
    http::{self, free_port},
    incident_events::{is, number},
    memcg::MemoryCgroup,
    parts::{built, nginx, require_root},
    process::{children, lives, pid_in, signal, until},
};
use rustix::process::Signal;

const WEB: &str = "web";

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "5",
        fault: "memcg OOM of a worker",
        verdicts: &["worker_died"],
        action: "none (policy), alert",
        run: worker_out_of_memory,
    },
    Row {
        number: "20",
        fault: "nginx worker killed, master replaces it",
        verdicts: &["worker_died"],
        action: "none",
        run: nginx_worker_killed,
    },
];

fn worker_out_of_memory(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let port = free_port();
    let program = built("workers").display().to_string();
    let command = vec![program, "--port".into(), port.to_string(), "--workers".into(), "1".into()];
    let scene = Scene::start(&[Service::exec(WEB, &command, port)]);
    let worker = || http::get(port, "/health").ok()?.1.parse::<u32>().ok();
    let first = worker().expect("a worker answers");
    let cgroup = MemoryCgroup::new(30 << 20).expect("a memory cgroup");
    cgroup.add(first).expect("it is moved");
    let _ = http::get(port, "/alloc?mb=100");
    scene.event("the worker's exit is reported", |event| {
        is(event, "process.oom_kill", WEB) && number(event, "process.pid") == Some(first.into())
    });
    let replaced = until("another worker answers", PATIENCE, || worker().filter(|&now| now != first));
    scene.verdict(WEB, "worker_died");
    scene.healed(WEB);
    scene.more_probes();
    let (alerts, named) = (Some(&[WEB][..]), vec!["OOM".to_owned(), first.to_string()]);
    let expected = Expected { service: WEB, alerts, named, resolved: true, ..Expected::default() };
    let same = worker() == Some(replaced);
    let mut measured = scene.judge(row, &expected);
    measured.expect(same, || "the worker that replaced it was not left alone".to_owned());
    Some(measured)
}

fn nginx_worker_killed(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let main = "daemon off; worker_processes 2;";
    let command = nginx(folder.path(), "nginx", main, &nginx::ok(port))?;
    let scene = Scene::start(&[Service::exec(WEB, &command, port)]);
    let main = pid_in(&folder.path().join("nginx.pid")).expect("nginx writes its pid");
    let before =
        until("both workers run", PATIENCE, || Some(children(main)).filter(|found| found.len() == 2));
    signal(before[0], Signal::KILL);
    scene.event("the worker's exit is reported", |event| {
        is(event, "process.exit", WEB) && number(event, "process.pid") == Some(before[0].into())
    });
    until("the master replaces it", PATIENCE, || {
        let now = children(main);
        (now.len() == 2 && !now.contains(&before[0])).then_some(())
    });
    scene.verdict(WEB, "worker_died");
    scene.healed(WEB);
    scene.more_probes();
    let lives = lives(main);
    let named = vec![before[0].to_string()];
    let expected = Expected { service: WEB, named, resolved: true, ..Expected::default() };
    let mut measured = scene.judge(row, &expected);
    measured.expect(lives, || "the master was not left alone".to_owned());
    Some(measured)
}
