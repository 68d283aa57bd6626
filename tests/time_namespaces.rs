//! A daemon in a time namespace, whose clocks are hours ahead or behind: what the kernel reports is in the host's time.

use std::time::{Duration, SystemTime};

use hostprobe_tests::{
    daemon::{Daemon, event_action, field},
    incident_events::{IncidentEvents, is, number, text, time_of},
    parts::{require, require_root},
    supervised::Supervised,
};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(120);

const UNSHARE: &str = "/usr/bin/unshare";

/// By how much the clocks since boot are shifted, seconds. The host has run for longer than the last one.
const OFFSETS: [i64; 2] = [86_400, -60];

#[test]
fn a_death_is_known_at_once_with_its_sender_and_in_the_hosts_time() {
    if !require_root() || !require("util-linux", UNSHARE) {
        return;
    }
    for offset in OFFSETS {
        let service = Supervised::new();
        let (boot, monotonic) = (format!("--boottime={offset}"), format!("--monotonic={}", offset / 2));
        let under = [UNSHARE, "--time", &boot, &monotonic, "--fork", "--kill-child=TERM"];
        let daemon = Daemon::start_under(&under, &service.config(""), &[]);
        let ready = daemon.wait_for(|event| event_action(event) == "agent.ready", LONG);
        let late = field(&ready, "self_test.duration_ms").and_then(Value::as_f64);
        assert!(late.is_some_and(|late| late < 10_000.0), "{offset} s: {ready:#}");
        service.until_healthy(&daemon);

        let (mark, main) = (daemon.mark(), service.pid(&daemon));
        service.kill(&daemon);
        let incident = IncidentEvents::of(&daemon, mark, &service.name);
        assert_eq!(incident.verdict(), "killed");
        let summary = text(incident.one("incident.open"), "incident.summary");
        assert!(summary.contains(&format!("(pid {}, uid 0", std::process::id())), "{offset} s: {summary}");
        let detected = incident.millis("detected");
        assert!((0.0..30_000.0).contains(&detected), "{offset} s: detected after {detected} ms");
        // One report of the death, of the main process, at the time of the host.
        let exit = incident.one("process.exit");
        assert_eq!(number(exit, "process.pid"), Some(main.into()));
        let (at, now) = (time_of(exit), SystemTime::now());
        assert!(at < now && now < at + LONG, "{exit:#}");
        let of_service = |event: &&Value| is(event, "process.exit", &service.name);
        assert_eq!(daemon.events().iter().filter(of_service).count(), 1);
    }
}
