//! A service that is proved to be stuck is restarted before its probe has timed out. One that may still answer is not.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant, SystemTime},
};

use hostprobe_tests::{
    daemon::Daemon,
    http::{self, free_port},
    incident_events::{is, text, time_of, wait_until_healthy},
    lab::probed::{restarts, service, start},
    parts::require_root,
    slow_service::{Pace, Seen, Takes, WaitsFor, command, other_server},
};
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const TIMEOUT: Duration = Duration::from_secs(3);

const TRIES: u32 = 10;

/// Never late.
const PROMPT: Pace = Pace { at_once: u32::MAX, late: (1500, 1500) };

fn probe(port: u16) -> String {
    format!("http = \"http://127.0.0.1:{port}/health\"")
}

#[test]
fn a_service_whose_threads_wait_for_each_other_is_restarted_before_its_probe_times_out() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let services: Vec<_> = Takes::ALL.map(|takes| (takes.word(), takes, free_port())).into();
    let config: String = services
        .iter()
        .map(|(name, takes, port)| {
            let command = command(*port, *takes, WaitsFor::Time, PROMPT, 0);
            let times = "interval = \"200ms\"\ntimeout = \"3s\"";
            service(name, &command, &probe(*port), times, folder.path()) + "budget = \"100 per 1h\"\n"
        })
        .collect();
    let mut daemon = start(&config);
    for (name, ..) in &services {
        wait_until_healthy(&daemon, name);
    }
    // One after the other: several silent services at a time may have one cause.
    for (name, _, port) in &services {
        // On a pressed host the timeouts count.
        let found = (0..TRIES).any(|_| is_found_before_a_timeout(&daemon, name, *port));
        assert!(found, "{name} is found by its timeouts alone");
    }
    daemon.stop();
}

/// Lets a service hang, and waits until it is well again.
fn is_found_before_a_timeout(daemon: &Daemon, name: &str, port: u16) -> bool {
    // Failures in the grace after a start do not count.
    thread::sleep(Duration::from_secs(2));
    let (mark, hung) = (daemon.mark(), SystemTime::now());
    http::get(port, "/hang").expect("it answers this");
    let fail = daemon.wait_for_after(mark, |event| is(event, "probe.fail", name), LONG);
    let open = daemon.wait_for_after(mark, |event| is(event, "incident.open", name), LONG);
    assert_eq!(text(&open, "incident.verdict"), "hung", "{open:#}");
    let words = "each of its threads waits for another one";
    assert!(text(&open, "incident.summary").contains(words), "{open:#}");
    let request = daemon.wait_for_after(mark, |event| is(event, "restart.request", name), LONG);
    let took = time_of(&request).duration_since(hung).expect("it came after the hang");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", name), LONG);
    assert_eq!(restarts(daemon, mark, name).len(), 1);
    text(&fail, "probe.detail").contains("has answered neither of two requests") && took < TIMEOUT
}

#[test]
fn a_slow_service_has_its_whole_timeout_whatever_it_waits_for() {
    if !require_root() {
        return;
    }
    let (folder, server) = (TempDir::new().expect("a folder"), other_server());
    let state = folder.path().join("state");
    // An examination is over after 810 ms.
    let pace = Pace { at_once: 16, late: (1000, 1500) };
    let mut config = format!("[state]\ndirectory = {state:?}\n");
    let mut names = BTreeSet::new();
    for takes in Takes::ALL {
        // One that computes for most of the time is enough for the CPUs.
        let waits = WaitsFor::ALL.into_iter().filter(|it| *it != WaitsFor::Cpu || takes == Takes::AtOnce);
        for waits_for in waits {
            let (name, port) = (format!("{}-{}", takes.word(), waits_for.word()), free_port());
            let command = command(port, takes, waits_for, pace, server);
            let times = "interval = \"100ms\"\ntimeout = \"2s\"";
            config += &service(&name, &command, &probe(port), times, folder.path());
            names.insert(name);
        }
    }
    let daemon = start(&config);
    names.iter().for_each(|name| wait_until_healthy(&daemon, name));
    let examined = || Seen::read(&state, Duration::from_millis(500)).expect("a recording").waiting;
    let until = Instant::now() + LONG;
    loop {
        let missing = &names - &examined().into_iter().map(|(name, _)| name).collect();
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "not examined: {missing:?}");
        thread::sleep(Duration::from_secs(1));
    }
    for (name, seen) in examined() {
        assert!(!seen.is_stuck_before_timeout(), "{name}: {seen:?}");
    }
    assert_nothing_done(daemon);
}

/// The only thread of the service waits for the server, for the client that came first.
#[test]
fn a_service_that_works_for_another_client_has_its_whole_timeout() {
    if !require_root() {
        return;
    }
    let (folder, server) = (TempDir::new().expect("a folder"), other_server());
    let state = folder.path().join("state");
    let mut config = format!("[state]\ndirectory = {state:?}\n");
    let kinds = [WaitsFor::Time, WaitsFor::Server, WaitsFor::Child, WaitsFor::Events];
    let services = kinds.map(|waits_for| (waits_for.word(), waits_for, free_port()));
    for (name, waits_for, port) in services {
        let command = command(port, Takes::AcceptsWhenFree, waits_for, PROMPT, server);
        let times = "interval = \"100ms\"\ntimeout = \"2s\"";
        config += &service(name, &command, &probe(port), times, folder.path());
    }
    let daemon = start(&config);
    for (name, _, port) in services {
        wait_until_healthy(&daemon, name);
        let examined = || {
            let seen = Seen::read(&state, Duration::from_millis(500)).expect("a recording").waiting;
            seen.into_iter().filter(|(of, seen)| *of == name && seen.unanswered >= 2).count()
        };
        let until = Instant::now() + LONG;
        while examined() < 2 {
            assert!(Instant::now() < until, "{name} is not examined");
            assert_eq!(http::get(port, "/work").expect("it works").0, 200);
            // Its usual answers come at once again.
            thread::sleep(Duration::from_secs(2));
        }
    }
    assert_nothing_done(daemon);
}

fn assert_nothing_done(mut daemon: Daemon) {
    for action in ["probe.fail", "incident.open", "restart.request"] {
        let done = daemon.events().into_iter().find(|event| text(event, "event.action") == action);
        assert_eq!(done, None);
    }
    daemon.stop();
}
