//! What operators order over the control socket: it is carried out, it is remembered over restarts of the daemon, and
//! the event stream and `hostprobe status` name who ordered it, until when, and why.

use std::time::Duration;

use hostprobe_tests::{
    daemon::Daemon,
    http::{self, free_port},
    incident_events::{is, text},
    operator::{ENDS, Home, action, becomes, commanded, crash, end},
    parts::require_root,
    process::until,
    supervised::Supervised,
    systemd::SystemdLab,
    victim::Victim,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

const UNIT: &str = "api.service";

/// An incident of a service. The host may have its own.
fn opens<'s>(service: &'s str) -> impl Fn(&Value) -> bool + 's {
    move |event| is(event, "incident.open", service)
}

/// A unit, and daemons that watch it one after the other.
struct UnitLab {
    systemd: SystemdLab,
    home: Home,
    config: String,
}

impl UnitLab {
    fn start() -> Option<(Self, Daemon)> {
        let systemd = SystemdLab::for_test()?;
        let port = free_port();
        let program = systemd.install(&Victim::program()).expect("the victim is installed");
        let unit = format!("[Service]\nExecStart={program} --port {port}\nRestart=no\n");
        systemd.write_unit(UNIT, &unit).expect("the unit is written");
        systemd.systemctl(&["start", UNIT]).expect("the unit starts");
        let home = Home::new();
        let config = home.config(&format!(
            r#"
            [[service]]
            name = "api"
            unit = "{UNIT}"
            [[service.probe]]
            http = "http://127.0.0.1:{port}/health"
            [service.restart]
            enabled = true
            "#
        ));
        let lab = Self { systemd, home, config };
        let daemon = lab.daemon();
        daemon.wait_for(becomes("api", "healthy"), PATIENCE);
        Some((lab, daemon))
    }

    fn daemon(&self) -> Daemon {
        self.systemd.start_daemon(&self.config)
    }

    fn show(&self, property: &str) -> String {
        self.systemd.show(UNIT, property).expect("systemd answers")
    }

    fn kill(&self) {
        let pid = self.systemd.host_main_pid(UNIT).expect("it runs");
        kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), Signal::KILL).expect("it lives");
    }
}

#[test]
fn a_unit_s_stop_outlives_the_daemon_and_a_start_ends_it() {
    let Some((lab, daemon)) = UnitLab::start() else { return };
    let mark = daemon.mark();
    let said = lab.home.done(&["stop", "api", "--reason", "the disk is replaced"]);
    assert_eq!(said, "api: stopped by root: the disk is replaced\n");
    assert_eq!(lab.show("ActiveState"), "inactive");
    let event = commanded(&daemon, mark, "stop", "the disk is replaced");
    assert_eq!(text(&event, "service.name"), "api");
    daemon.wait_for_after(mark, becomes("api", "stopped"), PATIENCE);

    let mut daemon = daemon;
    for how in ENDS {
        end(daemon, how);
        daemon = lab.daemon();
        daemon.wait_for(becomes("api", "stopped"), PATIENCE);
        let orders = lab.home.status("api")["orders"].clone();
        assert_eq!(orders[0]["command"], "stop", "{how:?}: {orders}");
        assert_eq!(
            (&orders[0]["by"], &orders[0]["reason"]),
            (&"root".into(), &"the disk is replaced".into())
        );
        let shown = lab.home.done(&["status"]);
        assert!(
            shown.contains("stopped by root ") && shown.contains(" ago: the disk is replaced"),
            "{shown}"
        );
        // Longer than its probes need to count as failed.
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(lab.show("ActiveState"), "inactive");
        assert_eq!(daemon.count(opens("api")), 0);
    }

    let mark = daemon.mark();
    assert_eq!(
        lab.home.done(&["start", "api", "--reason", "it is replaced"]),
        "api: started by root: it is replaced\n"
    );
    commanded(&daemon, mark, "start", "it is replaced");
    daemon.wait_for_after(mark, becomes("api", "healthy"), PATIENCE);
    assert_eq!(lab.home.status("api")["orders"], Value::Null);
    assert_eq!(daemon.count(opens("api")), 0);
    assert_eq!(lab.home.done(&["start", "api"]), "api: it runs already\n");
}

#[test]
fn a_pause_outlives_the_daemon_and_what_is_still_wrong_at_its_end_is_acted_on() {
    let Some((lab, daemon)) = UnitLab::start() else { return };
    let mark = daemon.mark();
    lab.home.done(&["pause", "api", "--for", "1h", "--reason", "a test"]);
    let event = commanded(&daemon, mark, "pause", "a test");
    assert!(text(&event, "operator.until") > text(&event, "@timestamp"), "{event}");
    lab.kill();
    let held = |event: &Value| is(event, "restart.hold", "api");
    let hold = daemon.wait_for_after(mark, held, PATIENCE);
    assert_eq!(text(&hold, "event.reason"), "paused by root: a test");
    let opened = daemon.wait_for_after(mark, opens("api"), PATIENCE);
    assert_eq!(text(&opened, "incident.verdict"), "killed");
    let suppressed = daemon.wait_for_after(mark, action("alert.suppress"), PATIENCE);
    assert_eq!(text(&suppressed, "incident.id"), text(&opened, "incident.id"));
    let until = text(&event, "operator.until").to_owned();

    let mut daemon = daemon;
    for how in ENDS {
        end(daemon, how);
        daemon = lab.daemon();
        daemon.wait_for(held, PATIENCE);
        let orders = lab.home.status("api")["orders"].clone();
        assert_eq!((&orders[0]["command"], &orders[0]["reason"]), (&"pause".into(), &"a test".into()));
        assert_eq!(orders[0]["by"], "root", "{how:?}: {orders}");
        // The same end, to the second.
        assert_eq!(orders[0]["until"].as_str().expect("a time")[..18], until[..18], "{how:?}: {orders}");
        let shown = lab.home.done(&["status"]);
        assert!(shown.contains("paused by root") && shown.contains("59 min more: a test"), "{shown}");
        assert_eq!(daemon.count(action("restart.request")), 0);
    }
    let mark = daemon.mark();
    lab.home.done(&["resume", "--all", "--reason", "it is over"]);
    let event = commanded(&daemon, mark, "resume", "it is over");
    assert_eq!(text(&event, "service.name"), "", "it is about all services: {event}");
    daemon.wait_for_after(mark, |event| is(event, "restart.request", "api"), PATIENCE);
    daemon.wait_for_after(mark, becomes("api", "healthy"), PATIENCE);
}

#[test]
fn a_restart_on_request_is_no_incident_and_an_incident_can_be_acknowledged() {
    let Some((lab, daemon)) = UnitLab::start() else { return };
    let (mark, before) = (daemon.mark(), lab.show("InvocationID"));
    lab.home.done(&["restart", "api", "--reason", "new certificate"]);
    commanded(&daemon, mark, "restart", "new certificate");
    let done = daemon.wait_for_after(mark, |event| is(event, "restart.done", "api"), PATIENCE);
    assert_eq!(text(&done, "restart.reason"), "restarted by root: new certificate");
    daemon.wait_for_after(mark, becomes("api", "healthy"), PATIENCE);
    assert_ne!(lab.show("InvocationID"), before);
    assert_eq!(daemon.count(opens("api")), 0);
    assert_eq!(daemon.count(action("restart.request")), 0);

    lab.home.done(&["pause", "api"]);
    let mark = daemon.mark();
    lab.kill();
    let opened = daemon.wait_for_after(mark, opens("api"), PATIENCE);
    let id = text(&opened, "incident.id").to_owned();
    lab.home.done(&["ack", &id, "--for", "4h", "--reason", "known"]);
    let event = commanded(&daemon, mark, "ack", "known");
    assert_eq!((text(&event, "incident.id"), text(&event, "service.name")), (id.as_str(), "api"));
    let explained = lab.home.done(&["explain", &id]);
    assert!(explained.contains("acknowledged by root: known"), "{explained}");
    assert_eq!(lab.home.order(&["ack", "999"]).status.code(), Some(1));
    lab.home.done(&["resume", "api"]);
    daemon.wait_for_after(mark, becomes("api", "healthy"), PATIENCE);
    assert_eq!(lab.home.status("api")["orders"], Value::Null, "its recovery ends the acknowledgement");
}

#[test]
fn a_stopped_command_is_not_started_by_the_next_daemon() {
    if !require_root() {
        return;
    }
    let (home, service) = (Home::new(), Supervised::new());
    let config = home.supervising(&service);
    let daemon = Daemon::start(&config, &[]);
    service.until_healthy(&daemon);
    let name = service.name.as_str();
    home.done(&["stop", name]);
    assert!(http::get(service.port, "/health").is_err(), "it is down once the command is done");
    daemon.wait_for(becomes(name, "stopped"), PATIENCE);
    crash(daemon);

    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    daemon.wait_for(becomes(name, "stopped"), PATIENCE);
    assert!(http::get(service.port, "/health").is_err(), "it stays down");
    home.done(&["start", name]);
    until("it answers", PATIENCE, || http::get(service.port, "/health").ok());
    daemon.wait_for(becomes(name, "healthy"), PATIENCE);
    assert_eq!(daemon.count(opens(name)), 0);
    home.done(&["restart", name]);
    until("it answers again", PATIENCE, || http::get(service.port, "/health").ok());
    assert_eq!(daemon.count(opens(name)), 0);
}

#[test]
fn a_command_that_a_service_has_no_method_for_is_refused() {
    if !require_root() {
        return;
    }
    let (home, port) = (Home::new(), free_port());
    let probe = format!("[[service.probe]]\nhttp = \"http://127.0.0.1:{port}/\"\n");
    let daemon = Daemon::start(&home.config(&format!("[[service]]\nname = \"far\"\n{probe}")), &[]);
    daemon.ready();
    for verb in ["stop", "start", "restart"] {
        let mark = daemon.mark();
        let output = home.order(&[verb, "far"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let event = commanded(&daemon, mark, verb, "");
        assert_eq!(text(&event, "event.outcome"), "failure");
        assert!(text(&event, "error.message").contains("only probes it"), "{event}");
    }
    assert_eq!(home.order(&["pause", "near"]).status.code(), Some(1), "there is no such service");
    for bad in [["pause", "--all", "far"].as_slice(), &["pause"], &["pause", "far", "--for", "soon"]] {
        assert_eq!(home.order(bad).status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn an_observing_daemon_starts_and_stops_nothing_on_command() {
    if !require_root() {
        return;
    }
    let (home, service) = (Home::new(), Supervised::new());
    let config = home.supervising(&service);
    let daemon = Daemon::start(&config, &["--observe"]);
    service.until_healthy(&daemon);
    for verb in ["stop", "start", "restart"] {
        let output = home.order(&[verb, &service.name]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("only observes (--observe)"), "{output:?}");
    }
    http::get(service.port, "/health").expect("it runs on");
}

#[test]
fn a_second_daemon_with_the_same_state_refuses_to_run() {
    if !require_root() {
        return;
    }
    let home = Home::new();
    let config = home.config("");
    let first = Daemon::start(&config, &[]);
    first.ready();
    let mut second = Daemon::start(&config, &[]);
    assert_eq!(second.wait(PATIENCE).code(), Some(1));
    let said = second.log();
    assert!(
        said.contains(&format!("another hostprobe (pid {}) keeps its state there", first.pid())),
        "{said}"
    );
    assert_eq!(second.events().len(), 0);
    crash(first);
    let third = Daemon::start(&config, &[]);
    third.ready();
}
