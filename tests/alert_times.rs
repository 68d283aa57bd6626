//! An alert comes at once where nothing is being done about the failure, as a receiver on the network gets it.

use std::time::{Duration, Instant};

use hostprobe_tests::{
    daemon::{Daemon, Mark},
    http::free_port,
    incident_events::{is, listening_pid, text, wait_until_healthy},
    lab::probed::{QUICK, service, start, words},
    matrix::receiver::Receiver,
    parts::{nginx, require_root},
    process::signal,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// An alert that waits for a restart to help waits for 10 s.
const AT_ONCE: Duration = Duration::from_secs(7);

/// A service on which only probes are made, as on another host.
fn remote(name: &str, probe: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\n[[service.probe]]\n{probe}\n{QUICK}\n")
}

/// The receiver has an alert of this service's incident soon after the incident opens.
#[track_caller]
fn alerts_at_once(daemon: &Daemon, mark: Mark, receiver: &Receiver, name: &str) {
    let open = daemon.wait_for_after(mark, |event| is(event, "incident.open", name), LONG);
    let opened = Instant::now();
    let got = || receiver.firing().iter().any(|(service, _)| service == name);
    while !got() {
        assert!(opened.elapsed() < AT_ONCE, "{name}: no alert of {open:#}");
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{name}: alert {} ms after {}", opened.elapsed().as_millis(), text(&open, "incident.verdict"));
}

#[test]
fn a_remote_service_s_failure_alerts_at_once_whatever_it_is() {
    if !require_root() {
        return;
    }
    let (receiver, mut victims) = (Receiver::start(), Vec::new());
    // A timeout counts as an overload where this host is busy, and that may be over by itself.
    let names = ["dead", "failing", "port"];
    let mut config = receiver.config();
    for name in names {
        let victim = Victim::start();
        let probe = match name {
            "port" => format!("tcp = \"127.0.0.1:{}\"", victim.port),
            _ => format!("http = \"http://127.0.0.1:{}/health\"", victim.port),
        };
        config += &remote(name, &probe);
        victims.push(victim);
    }
    let mut daemon = start(&config);
    for name in names {
        wait_until_healthy(&daemon, name);
    }
    let mark = daemon.mark();
    signal(victims[0].process.pid(), Signal::KILL);
    victims[1].hit("/fail");
    signal(victims[2].process.pid(), Signal::KILL);
    for name in names {
        alerts_at_once(&daemon, mark, &receiver, name);
    }
    let acts = |event: &Value| text(event, "event.action").starts_with("restart.");
    assert_eq!(daemon.count(acts), 0, "there is nothing to restart");
    daemon.stop();
}

#[test]
fn a_failure_that_is_held_alerts_at_once() {
    if !require_root() {
        return;
    }
    let (receiver, folder, port) = (Receiver::start(), TempDir::new().expect("a folder"), free_port());
    let server = format!("listen 127.0.0.1:{port}; return 401;");
    let main = "daemon off; master_process off;";
    let Some(command) = nginx(folder.path(), "refuses", main, &server) else { return };
    let probe = format!("http = \"http://127.0.0.1:{port}/\"");
    let mut config = receiver.config() + &service("refuses", &command, &probe, QUICK, folder.path());
    // It never listens on the port that is probed.
    let sleep = words(&["/bin/sleep", "1000"]);
    let probe = format!("http = \"http://127.0.0.1:{}/\"", free_port());
    config += &service("elsewhere", &sleep, &probe, QUICK, folder.path());
    let mut daemon = start(&config);
    for name in ["refuses", "elsewhere"] {
        alerts_at_once(&daemon, Mark::default(), &receiver, name);
        daemon.wait_for(|event| is(event, "restart.hold", name), LONG);
    }
    daemon.stop();
}

#[test]
fn a_death_alerts_at_once_if_restarts_are_off_and_later_if_a_restart_may_help() {
    if !require_root() {
        return;
    }
    let (receiver, folder) = (Receiver::start(), TempDir::new().expect("a folder"));
    let mut config = receiver.config();
    for (name, restart) in [("off", "enabled = false"), ("on", "enabled = true")] {
        let port = free_port();
        let command = words(&[&Victim::program().display().to_string(), "--port", &port.to_string()]);
        let probe = format!("http = \"http://127.0.0.1:{port}/health\"");
        config += &format!("{}{restart}\n", service(name, &command, &probe, QUICK, folder.path()));
    }
    let mut daemon = start(&config);
    for name in ["off", "on"] {
        wait_until_healthy(&daemon, name);
    }
    let mark = daemon.mark();
    for name in ["off", "on"] {
        signal(listening_pid(&daemon, name), Signal::KILL);
    }
    alerts_at_once(&daemon, mark, &receiver, "off");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "on"), LONG);
    let of_on = |(service, _): &(String, String)| service == "on";
    assert!(!receiver.firing().iter().any(of_on), "it was healed before its alert was due");
    daemon.stop();
}
