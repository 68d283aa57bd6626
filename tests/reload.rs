//! A reload of the configuration under running services: what it changes takes effect at once, and the rest stays.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use hostprobe_tests::{
    daemon::{Daemon, Mark, event_action},
    incident_events::{is, text},
    operator::{Home, action, becomes},
    parts::require_root,
    process::{children, kill, lives, until, with_argument},
    supervised::Supervised,
};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// Probes are frequent, so that what a reload changes shows soon.
const OFTEN: &str = "interval = \"200ms\"\n";

/// A service in a configuration.
fn entry(service: &Supervised, further: &str) -> String {
    service.config(&format!("{OFTEN}{further}")).replace("[http]\nlisten = \"\"\n", "")
}

fn reloaded(daemon: &Daemon, mark: Mark) -> Value {
    daemon.wait_for_after(mark, action("agent.reload"), PATIENCE)
}

fn listeners(daemon: &Daemon, service: &Supervised) -> usize {
    daemon.count(|event| service.listens(service.port, event))
}

#[test]
fn services_come_change_and_go_while_the_others_keep_their_processes() {
    if !require_root() {
        return;
    }
    let (home, stays, comes) = (Home::new(), Supervised::new(), Supervised::new());
    let mut daemon = Daemon::start(&home.config(&entry(&stays, "")), &[]);
    stays.until_healthy(&daemon);
    let pid = stays.pid(&daemon);

    let mark = daemon.mark();
    daemon.reload(&home.config(&format!("{}{}", entry(&stays, ""), entry(&comes, ""))));
    let event = reloaded(&daemon, mark);
    assert_eq!(text(&event, "event.outcome"), "success", "{event}");
    assert_eq!(event["reload"]["services"]["added"], serde_json::json!([comes.name]), "{event}");
    comes.until_healthy(&daemon);
    let new_pid = comes.pid(&daemon);

    // A limit changes no process.
    let limited = entry(&stays, "[service.limits]\nthreads = 5000\n");
    daemon.rewrite(&home.config(&format!("{limited}{}", entry(&comes, ""))));
    assert_eq!(home.done(&["reload"]), format!("changed: {} (limits)\n", stays.name));
    assert_eq!(home.done(&["reload"]), "the configuration has not changed\n");

    // A command changes at the next start.
    let with_variable = limited.replace("output =", "environment = { RELOADED = \"yes\" }\noutput =");
    daemon.rewrite(&home.config(&format!("{with_variable}{}", entry(&comes, ""))));
    let said = home.done(&["reload"]);
    assert_eq!(
        said,
        format!("changed: {} (environment); the command changes at its next start\n", stays.name)
    );
    assert!(lives(pid) && lives(new_pid), "both run as before");
    home.done(&["restart", &stays.name]);
    let changed = until("the new command", PATIENCE, || {
        let pid = stays.pid(&daemon);
        let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.contains("RELOADED=yes").then_some(pid)
    });
    assert_ne!(changed, pid);

    // A service that the file does not have any more is stopped, and its name can be used again at once.
    daemon.rewrite(&home.config(&with_variable));
    assert_eq!(home.done(&["reload"]), format!("removed: {}\n", comes.name));
    daemon.rewrite(&home.config(&format!("{with_variable}{}", entry(&comes, ""))));
    assert_eq!(home.done(&["reload"]), format!("added: {}\n", comes.name));
    until("the end of the removed process", PATIENCE, || (!lives(new_pid)).then_some(()));
    until("the new process", PATIENCE, || (comes.pid(&daemon) != new_pid).then_some(()));
    until("the new one is healthy", PATIENCE, || {
        (home.status(&comes.name)["state"] == "healthy").then_some(())
    });
    assert!(lives(changed), "the other one was left alone");
    assert_eq!(daemon.count(action("incident.open")), 0);
    assert!(daemon.stop().success());
}

#[test]
fn a_refused_file_changes_nothing_and_names_its_places() {
    if !require_root() {
        return;
    }
    let (home, service, other) = (Home::new(), Supervised::new(), Supervised::new());
    let good = home.config(&entry(&service, ""));
    let daemon = Daemon::start(&good, &[]);
    service.until_healthy(&daemon);
    let pid = service.pid(&daemon);
    let bad = format!("{good}{}[service.limits]\nthread = 5\n", entry(&other, ""));
    let line = bad.lines().position(|line| line == "thread = 5").expect("the line") + 1;
    daemon.rewrite(&bad);
    let output = home.order(&["reload"]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    let place = format!(":{line}:1: unknown key `thread` (did you mean `threads`?)");
    assert!(complaint.contains(&place) && complaint.contains("the old one stays"), "{complaint}");
    let mark = daemon.mark();
    daemon.signal(Signal::HUP);
    let event = reloaded(&daemon, mark);
    assert_eq!((text(&event, "event.outcome"), text(&event, "log.level")), ("failure", "error"), "{event}");
    assert!(lives(pid));
    assert_eq!(home.status(&service.name)["state"], "healthy");
    let status: Value = serde_json::from_str(&home.done(&["status", "--json"])).expect("JSON");
    assert_eq!(status["services"].as_array().map(Vec::len), Some(1), "{status}");
    daemon.rewrite(&good);
    assert_eq!(home.done(&["reload"]), "the configuration has not changed\n");
}

#[test]
fn an_incident_a_spent_budget_and_a_pause_outlast_a_reload() {
    if !require_root() {
        return;
    }
    let (home, service, other) = (Home::new(), Supervised::new(), Supervised::new());
    let restart = "[service.restart]\nenabled = true\nbudget = \"2 per 10m\"\nbackoff = \"10ms..1h\"\n";
    let watched = entry(&service, restart);
    let daemon = Daemon::start(&home.config(&watched), &[]);
    service.until_healthy(&daemon);
    let name = service.name.as_str();
    for _ in 0..2 {
        let (before, mark) = (service.pid(&daemon), daemon.mark());
        kill(before);
        daemon.wait_for_after(mark, |event| service.listens(service.port, event), PATIENCE);
        daemon.wait_for_after(mark, becomes(name, "healthy"), PATIENCE);
    }
    home.done(&["pause", name, "--reason", "mine"]);
    daemon.rewrite(&home.config(&format!("{watched}{}", entry(&other, ""))));
    home.done(&["reload"]);
    assert_eq!(home.status(name)["orders"][0]["reason"], "mine");
    let mark = daemon.mark();
    kill(service.pid(&daemon));
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", name), PATIENCE);
    daemon.wait_for_after(mark, |event| is(event, "restart.hold", name), PATIENCE);
    let incident = home.status(name)["incident"].clone();
    assert!(!incident.is_null(), "{opened}");
    // The pause, the incident and the budget are those from before.
    let slower = watched.replace("1h", "2h");
    daemon.rewrite(&home.config(&slower));
    home.done(&["reload"]);
    assert_eq!(home.status(name)["incident"], incident);
    home.done(&["resume", name]);
    let loops =
        |event: &Value| is(event, "incident.update", name) && text(event, "incident.verdict") == "crash_loop";
    daemon.wait_for_after(mark, loops, PATIENCE);
    assert_eq!(listeners(&daemon, &service), 3, "the third restart waits");
    // The incident of a service that goes ends.
    daemon.rewrite(&home.config(&entry(&other, "")));
    home.done(&["reload"]);
    let resolved = daemon.wait_for_after(mark, |event| is(event, "incident.resolve", name), PATIENCE);
    assert!(text(&resolved, "message").contains("removed"), "{resolved}");
}

#[test]
fn a_reload_during_a_restart_and_a_window_of_maintenance_by_reload() {
    if !require_root() {
        return;
    }
    let (home, service, other) = (Home::new(), Supervised::new(), Supervised::new());
    let restart = "[service.restart]\nenabled = true\n";
    let watched = entry(&service, restart);
    let daemon = Daemon::start(&home.config(&watched), &[]);
    service.until_healthy(&daemon);
    let name = service.name.as_str();
    let mark = daemon.mark();
    kill(service.pid(&daemon));
    daemon.reload(&home.config(&format!("{watched}{}", entry(&other, ""))));
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", name), PATIENCE);
    other.until_healthy(&daemon);
    assert_eq!(listeners(&daemon, &service), 2, "it was restarted once");

    let in_maintenance = watched.replace("exec =", "maintenance = [\"daily 00:00-24:00\"]\nexec =");
    daemon.rewrite(&home.config(&in_maintenance));
    home.done(&["reload"]);
    let mark = daemon.mark();
    kill(service.pid(&daemon));
    let held = daemon.wait_for_after(mark, |event| is(event, "restart.hold", name), PATIENCE);
    assert!(text(&held, "event.reason").contains("maintenance"), "{held}");
    // Another reload while the window is in effect.
    daemon.rewrite(&home.config(&format!("{in_maintenance}{}", entry(&other, ""))));
    home.done(&["reload"]);
    assert_eq!(listeners(&daemon, &service), 2);
    daemon.rewrite(&home.config(&watched));
    home.done(&["reload"]);
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", name), PATIENCE);
}

/// The descriptors, the threads and the resident memory in KiB of a process.
fn size(pid: u32) -> (usize, u64, u64) {
    let folder = format!("/proc/{pid}");
    let descriptors = fs::read_dir(Path::new(&folder).join("fd")).map_or(0, Iterator::count);
    let status = fs::read_to_string(Path::new(&folder).join("status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
    };
    (descriptors, field("Threads:"), field("VmRSS:"))
}

#[test]
fn two_hundred_reloads_leak_nothing() {
    if !require_root() {
        return;
    }
    let (home, stays, comes) = (Home::new(), Supervised::new(), Supervised::new());
    let remote = |round: u32| {
        format!(
            "[[service]]\nname = \"remote-{round}\"\n[[service.probe]]\ntcp = \"127.0.0.1:{}\"\n{OFTEN}",
            stays.port
        )
    };
    let config = |round: u32| {
        let (alert, supervised) = match round % 2 {
            0 => (String::new(), String::new()),
            _ => (format!("[[alert]]\nwebhook = \"http://127.0.0.1:1/{}\"\n", round % 4), entry(&comes, "")),
        };
        home.config(&format!("{alert}{}{supervised}{}", entry(&stays, ""), remote(round)))
    };
    let daemon = Daemon::start(&config(0), &[]);
    stays.until_healthy(&daemon);
    let pid = stays.pid(&daemon);
    let mut settled = (0, 0, 0);
    for round in 1..=200 {
        daemon.rewrite(&config(round));
        home.done(&["reload"]);
        if round == 40 {
            settled = size(daemon.pid());
        }
    }
    // The last removed command, and threads of the last reload, may take a moment.
    let end = Instant::now() + PATIENCE;
    let small = |(descriptors, threads, resident): (usize, u64, u64)| {
        descriptors <= settled.0 + 8 && threads <= settled.1 + 4 && resident <= settled.2 + (8 << 10)
    };
    while !small(size(daemon.pid())) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(small(size(daemon.pid())), "{settled:?} has become {:?}", size(daemon.pid()));
    assert!(lives(pid), "its process is the one from before");
    let told = || daemon.count(|event| event_action(event) == "agent.reload");
    until("each reload is told", PATIENCE, || (told() == 200).then_some(()));
    assert_eq!(listeners(&daemon, &stays), 1);
}

#[test]
fn files_of_conf_d_come_by_a_reload_and_a_bad_one_is_refused_by_its_name() {
    if !require_root() {
        return;
    }
    let (home, service, added) = (Home::new(), Supervised::new(), Supervised::new());
    let mut daemon = Daemon::start(&home.config(&entry(&service, "")), &[]);
    service.until_healthy(&daemon);
    let pid = service.pid(&daemon);
    daemon.write_part(
        "20-last.toml",
        "[[service]]\nname = \"last\"\n[[service.probe]]\ntcp = \"127.0.0.1:9\"\n",
    );
    daemon.write_part("10-added.toml", &entry(&added, ""));
    assert_eq!(home.done(&["reload"]), format!("added: {}, last\n", added.name), "in the order of the files");
    added.until_healthy(&daemon);

    let refused = |place: &str| {
        let output = home.order(&["reload"]);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains(place) && complaint.contains("the old one stays"), "{complaint}");
        complaint
    };
    daemon.write_part("30-bad.toml", "# A comment\n[[service]]\nname = \"bad\"\nunti = \"bad.service\"\n");
    refused("/conf.d/30-bad.toml:4:1: unknown key `unti` (did you mean `unit`?)");
    daemon.write_part("30-bad.toml", &entry(&added, ""));
    let twice = refused("/conf.d/30-bad.toml:2:8: another service is named");
    assert!(
        twice.contains("; the other one is at ") && twice.contains("/conf.d/10-added.toml:2:8"),
        "{twice}"
    );
    daemon.write_part("30-bad.toml", "[http]\nlisten = \"\"\n");
    refused("/conf.d/30-bad.toml:1:2: `http` in a file of conf.d");

    daemon.write_part("30-bad.toml", "");
    daemon.write_part("10-added.toml", "");
    assert_eq!(home.done(&["reload"]), format!("removed: {}\n", added.name));
    assert!(lives(pid) && service.pid(&daemon) == pid, "the service of the main file runs as before");
    assert!(daemon.stop().success());
}

#[test]
fn a_command_that_a_reload_adds_starts_after_another() {
    if !require_root() {
        return;
    }
    let (home, first, then) = (Home::new(), Supervised::new(), Supervised::new());
    let mut daemon = Daemon::start(&home.config(&entry(&first, "")), &[]);
    first.until_healthy(&daemon);
    // The removed one takes its time to end, and the added ones wait for it and then one for the other.
    let after = entry(&then, "").replace("output =", &format!("start_after = [{:?}]\noutput =", first.name));
    let renamed = after.replace(&then.name, "then");
    daemon.rewrite(&home.config(&renamed));
    let output = home.order(&["reload"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let mark = daemon.mark();
    let other = entry(&first, "").replace(&format!("name = {:?}", first.name), "name = \"other\"");
    let after = renamed.replace(&format!("[{:?}]", first.name), "[\"other\"]");
    daemon.rewrite(&home.config(&format!("{after}{other}")));
    assert_eq!(home.done(&["reload"]), format!("added: then, other\nremoved: {}\n", first.name));
    let healthy = daemon.wait_for_after(mark, becomes("other", "healthy"), PATIENCE);
    daemon.wait_for_after(mark, becomes("then", "healthy"), PATIENCE);
    let events = daemon.since(mark);
    let held = events.iter().find(|event| is(event, "restart.hold", "then")).expect("it waits");
    assert!(text(held, "restart.reason").contains("waits for other"), "{held}");
    let at = |wanted: &Value| {
        events.iter().position(|event| event["event"]["sequence"] == wanted["event"]["sequence"])
    };
    let start = events.iter().find(|event| is(event, "restart.request", "then")).expect("it starts");
    assert!(at(&healthy) < at(start), "it starts after the other one is healthy: {start}");
    assert_eq!(text(start, "restart.reason"), "first start, after other");
    assert!(daemon.stop().success());
}

#[test]
fn the_end_of_the_daemon_ends_a_command_that_a_reload_removed_and_that_still_stops() {
    if !require_root() {
        return;
    }
    let (home, stubborn) = (Home::new(), Supervised::new());
    let script = "trap 'echo asked' TERM; sleep 4711 & while :; do sleep 0.1; done";
    let mark = format!("{}.stubborn", stubborn.name);
    let command = stubborn.service(&["/bin/sh", "-c", script, &mark]);
    let mut daemon = Daemon::start(&home.config(&format!("{command}stop_timeout = \"10m\"\n")), &[]);
    daemon.ready();
    let sleeper = until("the command with its child", PATIENCE, || {
        let shell = with_argument(&mark).into_iter().find(|pid| children(*pid).len() >= 2);
        shell.and_then(|shell| children(shell).into_iter().min())
    });
    // How long it may take to end changes at once.
    daemon.rewrite(&home.config(&format!("{command}stop_timeout = \"4s\"\n")));
    assert_eq!(home.done(&["reload"]), format!("changed: {} (stop_timeout)\n", stubborn.name));
    daemon.rewrite(&home.config(""));
    assert_eq!(home.done(&["reload"]), format!("removed: {}\n", stubborn.name));
    until("the request to end", PATIENCE, || stubborn.output().contains("asked").then_some(()));
    assert!(!with_argument(&mark).is_empty(), "it does not end by itself");
    let began = Instant::now();
    assert!(daemon.stop().success(), "{}", daemon.log());
    assert!(began.elapsed() > Duration::from_secs(1), "its time to end is respected: {:?}", began.elapsed());
    assert_eq!(with_argument(&mark), [0; 0]);
    assert!(!lives(sleeper), "{sleeper}");
}
