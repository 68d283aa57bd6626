//! An OOM kill is told whole: who was killed and by what, which limit was reached, and who took the memory.

use std::{fs, time::Duration};

use hostprobe_tests::{
    core_dump::allocate,
    daemon::{Daemon, Mark, field},
    http::{self, free_port},
    incident_events::{is, number, text, wait_until_healthy},
    memcg::MemoryCgroup,
    parts::{available, built, require, require_root},
    process::{Running, until},
    supervised::Supervised,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const MIB: u64 = 1 << 20;

/// The arguments of a daemon with all its hooks, and without any.
const SOURCES: [&[&str]; 2] = [&[], &["--without-hook", "all"]];

/// Whether there can be a memory cgroup. Without it the test is skipped.
fn has_cgroups() -> bool {
    require_root() && available(MemoryCgroup::new(30 << 20).is_ok(), "a memory cgroup")
}

#[track_caller]
fn told(daemon: &Daemon, mark: Mark, service: &str) -> Value {
    let such =
        |event: &Value| is(event, "incident.update", service) && field(event, "incident.culprit").is_some();
    daemon.wait_for_after(mark, such, LONG)
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// A victim under the supervisor, and a daemon that has seen what it holds before.
fn start(arguments: &[&str]) -> (Supervised, Daemon, u32) {
    let service = Supervised::new();
    let daemon = Daemon::start(&service.config(""), &[arguments, &["--log", "debug"]].concat());
    service.until_healthy(&daemon);
    let read = "the memory of processes and cgroups was read";
    daemon.wait_for_log(read);
    let main = service.pid(&daemon);
    (service, daemon, main)
}

#[test]
fn a_service_that_reaches_its_own_limit_is_its_own_culprit() {
    if !has_cgroups() {
        return;
    }
    for arguments in SOURCES {
        let (service, daemon, main) = start(arguments);
        let cgroup = MemoryCgroup::new(64 * MIB).expect("a memory cgroup");
        cgroup.add(main).expect("it is moved");
        let mark = daemon.mark();
        let _ = http::get(service.port, "/alloc?mb=200");
        let update = told(&daemon, mark, &service.name);
        assert_eq!(text(&update, "incident.verdict"), "oom_killed");
        let words = text(&update, "incident.culprit.text");
        let reached = format!("its cgroup {} reached {} 64 MiB", cgroup.path(), cgroup.limit_file());
        let grew = format!("victim (pid {main}, main process) grew by ");
        has(words, &["killed by the OOM killer: ", &reached, &grew, "; it is the victim, and held "]);
        let grown = number(&update, "incident.culprit.process.grown_bytes").expect("a number");
        assert!((30 * MIB..=70 * MIB).contains(&grown.unsigned_abs()), "{words}");
        let explain = std::process::Command::new(built("hostprobe"))
            .args(["explain", text(&update, "incident.id"), "--socket"])
            .arg(daemon.socket())
            .output()
            .expect("the command runs");
        has(&String::from_utf8_lossy(&explain.stdout), &["memory:", &reached]);
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
    }
}

#[test]
fn a_worker_that_is_killed_under_a_living_parent_is_named() {
    if !has_cgroups() {
        return;
    }
    for arguments in SOURCES {
        let service = Supervised::new();
        let (port, program) = (service.port, built("workers").display().to_string());
        let command = service.service(&[&program, "--port", &port.to_string(), "--workers", "1"]);
        let probe = format!("[[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\n");
        let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{command}{probe}"), arguments);
        service.until_healthy(&daemon);
        let worker: u32 = http::get(port, "/health").expect("it answers").1.parse().expect("a pid");
        let cgroup = MemoryCgroup::new(30 * MIB).expect("a memory cgroup");
        cgroup.add(worker).expect("it is moved");
        let mark = daemon.mark();
        let _ = http::get(port, "/alloc?mb=100");
        let update = told(&daemon, mark, &service.name);
        assert_eq!(text(&update, "incident.verdict"), "worker_died");
        let reached = format!("its cgroup {} reached {} 30 MiB", cgroup.path(), cgroup.limit_file());
        let words = text(&update, "incident.culprit.text");
        has(words, &[&reached, &format!("workers (pid {worker}, worker) grew by "), "it is the victim"]);
        has(text(&update, "incident.summary"), &["was killed by the OOM killer", "its main process lives"]);
    }
}

#[test]
fn a_neighbour_that_took_the_memory_of_both_is_the_culprit_and_not_the_victim() {
    if !has_cgroups() {
        return;
    }
    // Without hooks a death is noticed later, when the neighbour may hold another amount.
    let arguments = SOURCES[0];
    let (service, daemon, main) = start(arguments);
    let slice = MemoryCgroup::new(128 * MIB).expect("a memory cgroup");
    let (own, other) = (slice.below("app").expect("a group"), slice.below("job").expect("a group"));
    let neighbour = Victim::start();
    own.add(main).expect("it is moved");
    other.add(neighbour.process.pid()).expect("it is moved");
    // The kernel prefers the service.
    fs::write(format!("/proc/{main}/oom_score_adj"), "1000").expect("it can be set");
    allocate(service.port, main, 40);
    let mark = daemon.mark();
    neighbour.hit("/alloc?mb=100");
    let update = told(&daemon, mark, &service.name);
    assert_eq!(text(&update, "incident.verdict"), "oom_killed");
    let words = text(&update, "incident.culprit.text");
    let reached = format!("its cgroup {} reached {} 128 MiB", slice.path(), slice.limit_file());
    let grew = format!("victim (pid {}", neighbour.process.pid());
    has(words, &[&reached, &grew, &format!("of the cgroups, {} grew most", other.path())]);
    has(words, &[&format!("the victim victim (pid {main}) held ")]);
    assert_eq!(number(&update, "incident.culprit.victim.pid"), Some(main.into()));
    assert_eq!(number(&update, "incident.culprit.process.pid"), Some(neighbour.process.pid().into()));
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
}

/// Debian's earlyoom, in a pid namespace with the service: it sees and ends nothing else.
#[test]
fn earlyoom_is_named_as_the_killer_that_it_is() {
    if !require_root() || !require("earlyoom", "/usr/bin/earlyoom") {
        return;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let go = folder.path().join("go");
    // Of the memory less than 99 % is free, so that it acts at once.
    let script = format!(
        "{} --port {port} & until [ -e {} ]; do sleep 0.05; done; /usr/bin/earlyoom -m 99,1 -s 100,1 -r 0",
        Victim::program().display(),
        go.display()
    );
    let mut command = std::process::Command::new("/usr/bin/unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child=KILL", "/bin/sh", "-c", &script]);
    let namespace = Running::start(&mut command, Signal::KILL);
    until("the victim listens", LONG, || http::get(port, "/health").ok());
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = \"api\"\nmatch = {{ port = {port} }}\n[[service.probe]]\n\
         http = \"http://127.0.0.1:{port}/health\"\n"
    );
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    wait_until_healthy(&daemon, "api");
    // It ends the largest, which is itself otherwise.
    http::get(port, "/alloc?mb=60").expect("there is room");
    let mark = daemon.mark();
    fs::write(&go, "").expect("the folder can be written");
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", "api"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "oom_killed", "{opened:#}");
    has(
        text(&opened, "incident.summary"),
        &["SIGTERM from earlyoom (pid ", "ends processes when memory runs short"],
    );
    has(text(&opened, "incident.actor.text"), &["/usr/bin/earlyoom -m 99,1"]);
    let update = told(&daemon, mark, "api");
    has(text(&update, "incident.culprit.text"), &["killed by earlyoom"]);
    drop(namespace);
}
