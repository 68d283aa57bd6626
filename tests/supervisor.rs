//! The built-in supervisor keeps services running, ends all of them, and gives up on those that crash in a loop.

use std::{fs, net::TcpStream, os::unix::fs::PermissionsExt, time::Duration};

use hostprobe_tests::{
    daemon::{Daemon, event_action, field},
    http::{self, free_port},
    incident_events::{IncidentEvents, is, number, text},
    parts::require_root,
    process::{kill, until, with_argument},
    schema,
    supervised::Supervised,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

fn victim() -> String {
    Victim::program().display().to_string()
}

/// A `/health` page of a daemon's own.
struct Page(u16);

impl Page {
    fn new() -> (Self, String) {
        let port = free_port();
        (Self(port), format!("[http]\nlisten = \"127.0.0.1:{port}\"\n"))
    }

    fn health(&self) -> (u16, Value) {
        let (status, body) = http::get(self.0, "/health").expect("the daemon answers");
        (status, serde_json::from_str(&body).expect("JSON"))
    }
}

fn becomes<'s>(service: &'s Supervised, state: &'s str) -> impl Fn(&Value) -> bool + 's {
    move |event| is(event, "service.state", &service.name) && text(event, "service.state") == state
}

fn deaths<'s>(service: &'s Supervised) -> impl Fn(&Value) -> bool + 's {
    |event| is(event, "process.exit", &service.name)
}

#[test]
fn output_is_kept_across_restarts() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let daemon = Daemon::start(&service.config(""), &[]);
    service.until_healthy(&daemon);
    let line = format!("listening on {}\n", service.port);
    // The daemon writes it on a thread of its own.
    until("its output is written", LONG, || (service.output() == line).then_some(()));
    let mark = daemon.mark();
    service.kill(&daemon);
    IncidentEvents::of(&daemon, mark, &service.name);
    until("the output of both is kept", LONG, || (service.output() == line.repeat(2)).then_some(()));
    let file = fs::metadata(service.folder().join("output")).expect("the file is there");
    assert_eq!(file.permissions().mode() & 0o777, 0o640, "other users may not read what a service prints");
}

#[test]
fn a_command_that_ended_is_reaped_beside_the_start_of_the_next() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let daemon = Daemon::start(&service.config(""), &[]);
    service.until_healthy(&daemon);
    let mark = daemon.mark();
    let killed = service.pid(&daemon);
    service.kill(&daemon);
    IncidentEvents::of(&daemon, mark, &service.name);
    assert_ne!(service.pid(&daemon), killed);
    let is_gone = || !fs::exists(format!("/proc/{killed}")).expect("/proc is there");
    until("the zombie is reaped", LONG, || is_gone().then_some(()));
}

#[test]
fn what_a_command_left_ends_although_its_successor_cannot_be_prepared() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let (seconds, main) = (format!("9{}", service.port), format!("8{}", service.port));
    let (script, logs) = (service.folder().join("run"), service.folder().join("logs"));
    let commands = format!("#!/bin/sh\n/usr/bin/setsid /bin/sleep {seconds} &\nexec /bin/sleep {main}\n");
    fs::write(&script, commands).expect("the script is written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("the script may run");
    fs::create_dir(&logs).expect("a folder is made");
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = {:?}\nexec = [{script:?}]\noutput = {:?}\n",
        service.name,
        logs.join("output")
    );
    let daemon = Daemon::start(&config, &[]);
    until("its child runs", LONG, || (with_argument(&seconds).len() == 1).then_some(()));
    let main = until("it runs", LONG, || with_argument(&main).first().copied());
    // A file in place of the folder.
    fs::rename(&logs, service.folder().join("before")).expect("the folder is moved");
    fs::write(&logs, "").expect("a file takes its place");
    kill(main);
    daemon.wait_for(|event| is(event, "restart.fail", &service.name), LONG);
    until("its child has ended", LONG, || with_argument(&seconds).is_empty().then_some(()));
}

#[test]
fn a_restart_ends_processes_that_left_the_process_group() {
    if !require_root() {
        return;
    }
    let (service, detached) = (Supervised::new(), free_port());
    // The grandchild leads a session of its own and its parent is gone: only its cgroup tells whose it is.
    let script = format!("(setsid {0} --port {detached} &) ; exec {0} --port {1}", victim(), service.port);
    let mut daemon = Daemon::start(
        &format!("[http]\nlisten = \"\"\n{}", service.service(&["/bin/sh", "-c", &script])),
        &[],
    );
    let grandchild = |event: &Value| service.listens(detached, event);
    let first = number(&daemon.wait_for(grandchild, LONG), "process.pid");
    daemon.wait_for(|event| service.listens(service.port, event), LONG);
    let mark = daemon.mark();
    service.kill(&daemon);
    let second = number(&daemon.wait_for_after(mark, grandchild, LONG), "process.pid");
    assert_ne!(first, second);
    IncidentEvents::of(&daemon, mark, &service.name);
    let killed =
        |event: &Value| is(event, "process.exit", &service.name) && number(event, "process.pid") == first;
    assert_eq!(
        text(&daemon.wait_for(killed, LONG), "process.exit_signal.name"),
        "SIGTERM",
        "it ends in order"
    );
    assert_eq!(with_argument(&detached.to_string()).len(), 1, "only the second one is left");
    daemon.stop();
    assert_eq!(with_argument(&detached.to_string()), [] as [u32; 0]);
    assert!(TcpStream::connect(("127.0.0.1", detached)).is_err());
}

#[test]
fn a_daemon_ends_the_processes_that_a_killed_daemon_left() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let mut killed = Daemon::start(&service.config(""), &[]);
    service.until_healthy(&killed);
    let (orphan, cgroup) = (service.pid(&killed), service.cgroup(&killed));
    killed.signal(Signal::KILL);
    killed.wait(LONG);
    assert_eq!(http::get(service.port, "/health").expect("an answer").0, 200, "it runs without its daemon");

    let daemon = Daemon::start(&service.config(""), &[]);
    service.until_healthy(&daemon);
    let now = service.pid(&daemon);
    assert_ne!(now, orphan);
    assert_eq!(with_argument(&service.port.to_string()), [now]);
    assert!(!cgroup.exists(), "{} is removed", cgroup.display());
    assert_eq!(daemon.count(|event| event_action(event) == "incident.open"), 0);
}

#[test]
fn a_command_that_cannot_be_started_is_an_incident_with_its_reason() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let (page, http) = Page::new();
    let restart = "[service.restart]\nbudget = \"3 per 1h\"\nbackoff = \"50ms..1h\"\n";
    let config = format!("{http}{}{restart}", service.service(&["/nonexistent/program"]));
    let mut daemon = Daemon::start(&config, &[]);
    let opened = daemon.wait_for(|event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "exited");
    let summary = text(&opened, "incident.summary");
    assert!(summary.contains("/nonexistent/program: No such file or directory"), "{summary}");

    let last = gives_up(&daemon, &service, 3);
    assert!(text(&last, "incident.summary").contains("/nonexistent/program"), "{last}");
    let failed = |event: &Value| is(event, "restart.fail", &service.name);
    assert_eq!(daemon.count(failed), 3);
    let waits: Vec<String> = holds(&daemon, &service);
    assert_eq!(waits[0], "back-off of 50ms before attempt 2");
    assert_eq!(waits[1], "back-off of 100ms before attempt 3");
    assert_eq!(page.health().0, 503);
    assert_eq!(daemon.count(deaths(&service)), 0, "nothing has ever run");
    daemon.stop();
    schema::has_no_gap(&daemon.events());
}

/// Waits for the crash loop, and checks that it came once and after so many restarts.
fn gives_up(daemon: &Daemon, service: &Supervised, budget: usize) -> Value {
    let looping = |event: &Value| {
        is(event, "incident.update", &service.name) && text(event, "incident.verdict") == "crash_loop"
    };
    let last = daemon.wait_for(looping, LONG);
    assert_eq!(text(&last, "incident.severity"), "critical");
    daemon.wait_for(
        |event| is(event, "restart.hold", &service.name) && text(event, "event.reason").contains("is spent"),
        LONG,
    );
    daemon.wait_for(becomes(service, "down"), LONG);
    // Another update may have said what explains the last crash.
    let events = daemon.events();
    let its = |event: &&Value| {
        event_action(event).starts_with("incident.") && text(event, "service.name") == service.name
    };
    let mut verdicts: Vec<&str> =
        events.iter().filter(its).map(|event| text(event, "incident.verdict")).collect();
    verdicts.dedup();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == "crash_loop").count(), 1, "{verdicts:?}");
    assert_eq!(daemon.count(|event| is(event, "restart.request", &service.name)), budget);
    assert_eq!(daemon.count(|event| is(event, "incident.open", &service.name)), 1);
    last
}

fn holds(daemon: &Daemon, service: &Supervised) -> Vec<String> {
    let events = daemon.events();
    let holds = events.iter().filter(|event| is(event, "restart.hold", &service.name));
    holds.map(|event| text(event, "event.reason").to_owned()).collect()
}

/// A service that crashes at every start, until the daemon has given up on it; what `/health` says then.
fn crash_loop(critical: bool) -> (u16, Value) {
    let service = Supervised::new();
    let (page, http) = Page::new();
    let command = [&victim(), "--port", &service.port.to_string(), "--crash-at-start"];
    let further =
        format!("critical = {critical}\n[service.restart]\nbudget = \"4 per 1h\"\nbackoff = \"20ms..1h\"\n");
    let mut daemon = Daemon::start(&format!("{http}{}{further}", service.service(&command)), &[]);
    gives_up(&daemon, &service, 4);
    let health = page.health();
    daemon.stop();
    // Each of the five lives ends once, by the kernel's word, and each end is evidence.
    let deaths: Vec<Value> = daemon.events().into_iter().filter(deaths(&service)).collect();
    assert_eq!(deaths.len(), 5);
    for death in &deaths {
        assert_eq!(
            (text(death, "event.provider"), text(death, "process.exit_signal.name")),
            ("ebpf", "SIGSEGV")
        );
        assert_eq!(text(death, "process.exit_signal.sender.origin"), "kernel", "{death}");
    }
    let events = daemon.events();
    let opened = events.iter().find(|event| is(event, "incident.open", &service.name)).expect("an incident");
    assert_eq!(
        (text(opened, "incident.verdict"), &opened["incident"]["confidence"]),
        ("crashed", &json!(1.0))
    );
    let last =
        events.iter().rev().find(|event| is(event, "incident.update", &service.name)).expect("an update");
    let evidence = field(last, "incident.evidence").and_then(Value::as_array).expect("evidence");
    assert!(deaths.iter().all(|death| evidence.contains(&death["event"]["id"])), "{last}");
    schema::has_no_gap(&events);
    (health.0, json!({"status": health.1["status"], "check": health.1["checks"][&service.name]}))
}

#[test]
fn a_critical_service_in_a_crash_loop_makes_the_host_unhealthy() {
    if !require_root() {
        return;
    }
    let (status, health) = crash_loop(true);
    assert_eq!((status, &health["status"]), (503, &json!("unhealthy")));
    assert_eq!(health["check"]["verdict"], json!("crash_loop"));
}

#[test]
fn another_service_in_a_crash_loop_degrades_it() {
    if !require_root() {
        return;
    }
    let (status, health) = crash_loop(false);
    assert_eq!((status, &health["status"]), (200, &json!("degraded")));
    assert_eq!(
        (&health["check"]["status"], &health["check"]["verdict"]),
        (&json!("unhealthy"), &json!("crash_loop"))
    );
}

#[test]
fn a_service_above_its_limits_is_degraded_until_it_is_below_them() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let (page, http) = Page::new();
    let config = service.config("[service.limits]\nthreads = 40\nfds = 100\n");
    let daemon = Daemon::start(&config.replace("[http]\nlisten = \"\"\n", &http), &[]);
    service.until_healthy(&daemon);
    for (path, name) in [("/threads", "threads"), ("/fds", "open files")] {
        let mark = daemon.mark();
        assert_eq!(http::get(service.port, &format!("{path}?n=200")).expect("an answer").0, 200);
        let degraded = daemon.wait_for_after(mark, becomes(&service, "degraded"), LONG);
        let explained = |why: &str| why.starts_with(name) && why.contains(" is above its limit of ");
        assert!(explained(text(&degraded, "event.reason")), "{degraded}");
        let (status, health) = page.health();
        assert_eq!((status, &health["status"]), (200, &json!("degraded")));
        assert!(explained(text(&health["checks"][&service.name], "error")), "{health}");
        let mark = daemon.mark();
        assert_eq!(http::get(service.port, &format!("{path}?n=0")).expect("an answer").0, 200);
        daemon.wait_for_after(mark, becomes(&service, "healthy"), LONG);
        assert_eq!(page.health().1["status"], json!("healthy"));
    }
    let verdicts = |action: &str| {
        let events = daemon.events();
        let such = events.iter().filter(|event| event_action(event) == action);
        such.map(|event| text(event, "incident.verdict").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(verdicts("incident.open"), ["limit_exceeded", "limit_exceeded"]);
    assert_eq!(verdicts("incident.resolve"), verdicts("incident.open"));
    assert_eq!(daemon.count(|event| event_action(event).starts_with("restart.")), 0);
}
