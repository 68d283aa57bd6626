//! A window of maintenance: probes and incidents go on, restarts and alerts wait for its end or an operator's resume.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hostprobe_tests::{
    daemon::Daemon,
    incident_events::{is, text},
    operator::{Home, action, becomes, commanded},
    parts::require_root,
    supervised::Supervised,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

const MINUTE: u64 = 60;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A moment as `HH:MM` in UTC.
fn hour_and_minute(at: u64) -> String {
    format!("{:02}:{:02}", at / 3600 % 24, at / 60 % 60)
}

/// A window that is open now, and ends at this moment.
fn window(end: u64) -> String {
    format!("daily {}-{} UTC", hour_and_minute(now() - 5 * MINUTE), hour_and_minute(end))
}

/// A healthy service within its window, and the daemon that watches it.
fn within(window: &str) -> (Home, Supervised, Daemon) {
    let (home, service) = (Home::new(), Supervised::new());
    let config =
        home.supervising(&service).replace("exec = ", &format!("maintenance = [{window:?}]\nexec = "));
    let daemon = Daemon::start(&config, &[]);
    service.until_healthy(&daemon);
    assert_eq!(home.status(&service.name)["maintenance"], window);
    (home, service, daemon)
}

fn requested(service: &str) -> impl Fn(&Value) -> bool + '_ {
    move |event| is(event, "restart.request", service)
}

#[test]
fn what_is_still_wrong_at_the_end_of_a_window_is_restarted_then() {
    if !require_root() {
        return;
    }
    // The first full minute that leaves time for the fault.
    let end = (now() + 20).div_ceil(MINUTE) * MINUTE;
    let window = window(end);
    let (home, service, daemon) = within(&window);
    let name = service.name.as_str();
    let mark = daemon.mark();
    service.kill(&daemon);
    let hold = daemon.wait_for_after(mark, |event| is(event, "restart.hold", name), PATIENCE);
    assert_eq!(text(&hold, "event.reason"), format!("maintenance {window}"));
    let shown = home.done(&["status"]);
    assert!(shown.contains(&format!("maintenance: {window}")), "{shown}");
    assert_eq!(daemon.count(requested(name)), 0);

    let request = daemon.wait_for_after(mark, requested(name), Duration::from_secs(2 * MINUTE));
    assert_eq!(text(&request, "@timestamp")[11..16], hour_and_minute(end), "{request}");
    daemon.wait_for_after(mark, becomes(name, "healthy"), PATIENCE);
    assert_eq!(home.status(name)["maintenance"], Value::Null);
}

#[test]
fn an_operator_ends_a_window_early_and_it_does_not_open_again() {
    if !require_root() {
        return;
    }
    let (home, service, daemon) = within(&window(now() + 180 * MINUTE));
    let name = service.name.as_str();
    let mark = daemon.mark();
    service.kill(&daemon);
    daemon.wait_for_after(mark, action("alert.suppress"), PATIENCE);
    assert_eq!(daemon.count(requested(name)), 0);
    home.done(&["resume", name, "--reason", "done before time"]);
    commanded(&daemon, mark, "resume", "done before time");
    daemon.wait_for_after(mark, requested(name), PATIENCE);
    daemon.wait_for_after(mark, becomes(name, "healthy"), PATIENCE);

    // The daemon compares the windows with the clock every second.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(home.status(name)["maintenance"], Value::Null);
    let mark = daemon.mark();
    service.kill(&daemon);
    daemon.wait_for_after(mark, requested(name), PATIENCE);
}
