//! Deaths of a service's main process.

use rustix::process::Signal;

use super::{
    judge::Expected,
    row::{Measured, Row},
    scene::{PATIENCE, Scene, Service, victim},
    source::Source,
};
use crate::{
    http::{self, free_port},
    incident_events::is,
    memcg::MemoryCgroup,
    parts::{built, require_root},
    process::{Running, signal},
};

const API: &str = "api";

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "1",
        fault: "SIGKILL from another process",
        verdicts: &["killed"],
        action: "restart",
        run: killed,
    },
    Row { number: "2", fault: "SIGSEGV with core", verdicts: &["crashed"], action: "restart", run: crashed },
    Row {
        number: "3a",
        fault: "exit 1",
        verdicts: &["exited"],
        action: "restart",
        run: |row| exited(row, 1),
    },
    Row {
        number: "3b",
        fault: "exit 0 of a service meant to stay",
        verdicts: &["exited"],
        action: "restart",
        run: |row| exited(row, 0),
    },
    Row {
        number: "4",
        fault: "memcg OOM of the main process",
        verdicts: &["oom_killed"],
        action: "restart",
        run: out_of_memory,
    },
    Row {
        number: "8",
        fault: "listener closed, process alive",
        verdicts: &["not_listening"],
        action: "restart",
        run: |row| hit(row, "/close", Vec::new()),
    },
    Row {
        number: "14",
        fault: "crashes at every start",
        verdicts: &["crashed", "crash_loop"],
        action: "stop at the budget, critical",
        run: crashes_at_every_start,
    },
    Row {
        number: "17",
        fault: "port taken at restart",
        verdicts: &["killed", "exited"],
        action: "back-off",
        run: port_taken,
    },
];

/// A victim, an incident of it after a fault, and one restart that ends it.
fn healed_once(row: &Row, scene: Scene, named: Vec<String>) -> Measured {
    scene.healed(API);
    scene.more_probes();
    let expected =
        Expected { service: API, restarts: &[(API, 1, 1)], named, resolved: true, ..Expected::default() };
    scene.judge(row, &expected)
}

fn hit(row: &Row, path: &str, named: Vec<String>) -> Option<Measured> {
    let (scene, port) = start()?;
    // The fault may cut the answer short.
    let _ = http::get(port, path);
    Some(healed_once(row, scene, named))
}

fn start() -> Option<(Scene, u16)> {
    require_root().then(|| {
        let port = free_port();
        (Scene::start(&[Service::victim(API, port)]), port)
    })
}

fn killed(row: &Row) -> Option<Measured> {
    let (scene, _) = start()?;
    signal(scene.pid(API), Signal::KILL);
    let mut named = vec!["SIGKILL".to_owned()];
    if Source::of_row() == Source::Hooks {
        named.push(format!("(pid {}", std::process::id()));
    }
    Some(healed_once(row, scene, named))
}

fn crashed(row: &Row) -> Option<Measured> {
    hit(row, "/segv", vec!["SIGSEGV".to_owned(), "core".to_owned()])
}

fn exited(row: &Row, code: i32) -> Option<Measured> {
    hit(row, &format!("/exit?code={code}"), vec![code.to_string()])
}

fn out_of_memory(row: &Row) -> Option<Measured> {
    let (scene, port) = start()?;
    let cgroup = MemoryCgroup::new(30 << 20).expect("a memory cgroup");
    cgroup.add(scene.pid(API)).expect("it is moved");
    let _ = http::get(port, "/alloc?mb=100");
    Some(healed_once(row, scene, vec!["30".to_owned()]))
}

fn crashes_at_every_start(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let port = free_port();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broken = folder.path().join("broken");
    let mut command = victim(port);
    command.extend(["--crash-if".to_owned(), broken.display().to_string()]);
    let policy = "enabled = true\nbudget = \"3 per 10m\"\nbackoff = \"50ms..200ms\"\ngrace = \"1s\"";
    let scene = Scene::start(&[Service::exec(API, &command, port).restart(policy)]);
    std::fs::write(&broken, "").expect("a file is written");
    let _ = http::get(port, "/segv");
    let looping = scene.verdict(API, "crash_loop");
    scene.event("it is held", |event| is(event, "restart.hold", API));
    scene.more_probes();
    let alerts = Some(&[API][..]);
    let expected = Expected { service: API, restarts: &[(API, 3, 3)], alerts, ..Expected::default() };
    let mut measured = scene.judge(row, &expected);
    let severity =
        looping.as_ref().map(|event| crate::incident_events::text(event, "incident.severity").to_owned());
    measured.expect(severity.as_deref() == Some("critical"), || format!("severity {severity:?}"));
    Some(measured)
}

/// The service starts a little late, so that the process that waits for its port has it by then.
fn port_taken(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let port = free_port();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let squatter = folder.path().join("squatter");
    std::fs::copy(built("victim"), &squatter).expect("a program is copied");
    let mut command = victim(port);
    command.extend(["--start-delay-ms", "300"].map(str::to_owned));
    let policy = "enabled = true\nbudget = \"20 per 10m\"\nbackoff = \"200ms..1s\"\ngrace = \"1s\"";
    let scene = Scene::start(&[Service::exec(API, &command, port).restart(policy)]);
    let mut waiting = std::process::Command::new(&squatter);
    let mut waiting =
        Running::start(waiting.args(["--port", &port.to_string(), "--wait-for-port"]), Signal::KILL);
    waiting.wait_until_it_says("waiting for", &waiting.stdout, PATIENCE);
    signal(scene.pid(API), Signal::KILL);
    let holder = waiting.pid();
    let found = scene.verdict(API, "exited");
    scene.more_probes();
    waiting.stop();
    if found.is_some() {
        scene.healed(API);
    }
    scene.more_probes();
    let named = vec![format!("squatter (pid {holder}"), port.to_string()];
    let expected =
        Expected { service: API, restarts: &[(API, 2, 12)], named, resolved: true, ..Expected::default() };
    Some(scene.judge(row, &expected))
}
