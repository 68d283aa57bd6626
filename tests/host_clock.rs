//! A clock that its time service says is off: with hooks, without them, and under the shipped unit with its drop-in
//! `host-checks.conf`.

use std::{fs, time::Duration};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    fake_time_service::FakeTimeService,
    incident_events::{is, text},
    installed::{Installed, UNIT, shipped},
    parts::require_root,
    systemd::SystemdLab,
};
use serde_json::Value;

/// A clock that is off is an incident after two minutes.
const LONG: Duration = Duration::from_secs(300);

/// Well below the usual limit: the clock is the whole host's, and the daemons of other tests find it right.
const LIMIT: &str = "[host]\nfilesystems = false\nclock_sync = false\nclock_offset = \"100ms\"\n";
const OFF: Duration = Duration::from_millis(200);
const WORDS: &str = "the clock is off by 200 ms, as its time service estimates";

fn is_of_clock(event: &Value, action: &str) -> bool {
    is(event, action, "host") && text(event, "incident.verdict") == "host_clock"
}

/// hostprobe under the shipped unit with its drop-in.
fn installed() -> Option<Installed> {
    let installed = Installed::new(SystemdLab::for_test()?, LIMIT).expect("hostprobe is installed");
    let drop_in = fs::read_to_string(shipped("host-checks.conf")).expect("a file");
    installed.drop_in("host-checks.conf", &drop_in).expect("a drop-in");
    let started = installed.systemd.systemctl(&["start", UNIT]);
    started.unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    installed.wait_for_after(0, "agent.ready", |event| event_action(event) == "agent.ready");
    Some(installed)
}

#[test]
fn a_clock_that_its_time_service_says_is_off_is_an_incident_until_it_is_right() {
    if !require_root() {
        return;
    }
    let Some(service) = FakeTimeService::start() else { return };
    let Some(installed) = installed() else { return };
    let config = format!("[http]\nlisten = \"\"\n{LIMIT}");
    let daemons = [&[][..], &["--without-hook", "all"]].map(|arguments| Daemon::start(&config, arguments));
    daemons.iter().for_each(|daemon| drop(daemon.ready()));

    service.says(OFF);
    for daemon in &daemons {
        let open = daemon.wait_for(|event| is_of_clock(event, "incident.open"), LONG);
        assert!(text(&open, "incident.summary").contains(WORDS), "{open:#}");
    }
    let opened = |event: &Value| is_of_clock(event, "incident.open");
    let open = installed.wait_for_within(LONG, 0, "incident", opened);
    assert!(text(&open, "incident.summary").contains(WORDS), "{open:#}");

    service.says(Duration::from_millis(1));
    for daemon in &daemons {
        daemon.wait_for(|event| is_of_clock(event, "incident.resolve"), LONG);
    }
    installed.wait_for_within(LONG, 0, "end", |event| is_of_clock(event, "incident.resolve"));
}
