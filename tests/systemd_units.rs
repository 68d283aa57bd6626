//! Units of a real systemd die, are stopped and restarted; hostprobe restarts what is its to restart, and
//! neither doubles systemd's own restart nor undoes an operator's stop.

use std::time::Duration;

use hostprobe_tests::{
    daemon::{Daemon, Mark, event_action, field},
    http::{self, free_port},
    incident_events::{IncidentEvents, is, text},
    systemd::SystemdLab,
    victim::Victim,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The longest anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const UNIT: &str = "api.service";

/// A victim as a unit, and a daemon that watches and probes it.
struct Lab {
    daemon: Daemon,
    systemd: SystemdLab,
    /// The port of the daemon's page.
    page: u16,
}

impl Lab {
    /// `settings` are of the unit's `[Service]`, `limits` of its `[Unit]`.
    fn start(limits: &str, settings: &str) -> Option<Self> {
        Self::start_with(limits, settings, "enabled = true")
    }

    /// `restart` is the service's `[service.restart]`.
    fn start_with(limits: &str, settings: &str, restart: &str) -> Option<Self> {
        let systemd = SystemdLab::for_test()?;
        let (port, page) = (free_port(), free_port());
        let program = systemd.install(&Victim::program()).expect("the victim is installed");
        let unit = format!("[Unit]\n{limits}\n[Service]\nExecStart={program} --port {port}\n{settings}\n");
        systemd.write_unit(UNIT, &unit).expect("the unit is written");
        systemd.systemctl(&["start", UNIT]).expect("the unit starts");
        let config = format!(
            r#"
            [http]
            listen = "127.0.0.1:{page}"
            [[service]]
            name = "api"
            unit = "{UNIT}"
            [[service.probe]]
            http = "http://127.0.0.1:{port}/health"
            [service.restart]
            {restart}
            "#
        );
        let daemon = systemd.start_daemon(&config);
        let lab = Self { daemon, systemd, page };
        lab.wait_for_state(Mark::default(), "healthy");
        Some(lab)
    }

    #[track_caller]
    fn wait_for_state(&self, mark: Mark, state: &str) {
        let such = |event: &Value| is(event, "service.state", "api") && text(event, "service.state") == state;
        self.daemon.wait_for_after(mark, such, PATIENCE);
    }

    fn kill(&self) {
        let pid = self.systemd.host_main_pid(UNIT).expect("it runs");
        kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), Signal::KILL).expect("it lives");
    }

    /// Kills the main process, and waits until the service is well again.
    #[track_caller]
    fn kill_and_heal(&self) -> IncidentEvents {
        let mark = self.daemon.mark();
        self.kill();
        IncidentEvents::of(&self.daemon, mark, "api")
    }

    /// The same where hostprobe restarts it. That the restart is done may be told after the service is well.
    #[track_caller]
    fn kill_and_restart(&self) -> IncidentEvents {
        let mark = self.daemon.mark();
        self.kill();
        self.daemon.wait_for_after(mark, |event| is(event, "restart.done", "api"), PATIENCE);
        IncidentEvents::of(&self.daemon, mark, "api")
    }

    /// A page of the daemon.
    #[track_caller]
    fn page(&self, path: &str) -> Value {
        let (status, page) = http::get(self.page, path).expect("the page answers");
        assert_eq!(status, 200, "{path}: {page}");
        serde_json::from_str(&page).expect("the page is JSON")
    }

    /// Stops the unit, and asserts that this leaves nothing for an operator to do: the state is `stopped`, the page of
    /// the host's health says that all is well, and no incident is open.
    #[track_caller]
    fn stop_and_be_well(&self) {
        let mark = self.daemon.mark();
        self.systemd.systemctl(&["stop", UNIT]).expect("it stops");
        self.wait_for_state(mark, "stopped");
        let status = self.page("/api/v1/status");
        assert_eq!(status["counters"]["incidents_open"], json!(0), "{status:#}");
        assert_eq!(status["services"][0]["state"], json!("stopped"), "{status:#}");
        let health = self.page("/health");
        assert_eq!(health["status"], json!("healthy"), "{health:#}");
        let acts = ["incident.open", "restart.request"];
        // Longer than a back-off, and than a probe takes to fail often enough.
        std::thread::sleep(Duration::from_secs(7));
        let later: Vec<Value> =
            self.daemon.since(mark).into_iter().filter(|event| acts.contains(&event_action(event))).collect();
        assert!(later.is_empty(), "{later:#?}");
        assert_eq!(self.page("/health")["status"], json!("healthy"));
        assert!(["inactive", "failed"].contains(&self.show("ActiveState").as_str()), "it does not run");
    }

    fn show(&self, property: &str) -> String {
        self.systemd.show(UNIT, property).expect("systemd answers").trim().to_owned()
    }
}

#[test]
fn a_unit_with_restart_sec_10_is_restarted_at_once() {
    let Some(lab) = Lab::start("", "Restart=always\nRestartSec=10") else { return };
    let before = lab.show("InvocationID");
    let incident = lab.kill_and_restart();
    assert_eq!(incident.verdict(), "killed");
    assert_eq!(text(incident.one("restart.request"), "restart.method"), "systemd");
    incident.one("restart.done");
    assert_ne!(lab.show("InvocationID"), before);
    let healthy = incident.millis("healthy");
    println!("RestartSec=10: healthy {healthy:.1} ms after the death");
    // systemd itself would have waited for ten seconds.
    assert!(healthy < 5000.0, "{healthy} ms");
}

#[test]
fn an_immediate_restart_by_systemd_is_only_verified() {
    let Some(lab) = Lab::start("", "Restart=always\nRestartSec=0") else { return };
    let before = lab.show("InvocationID");
    let incident = lab.kill_and_heal();
    assert_eq!(incident.verdict(), "killed");
    assert!(incident.all("restart.request").is_empty());
    let held = text(incident.one("restart.hold"), "event.reason");
    assert!(held.contains("systemd"), "{held}");
    // One start, not two: the count is systemd's own, and an asked-for restart would have reset it.
    assert_eq!(lab.show("NRestarts"), "1");
    let after = lab.show("InvocationID");
    assert_ne!(after, before);
    let healthy = incident.millis("healthy");
    println!("RestartSec=0: healthy {healthy:.1} ms after the death");
    assert_eq!(lab.show("InvocationID"), after);
}

#[test]
fn an_operator_s_stop_is_left_stopped() {
    let Some(lab) = Lab::start("", "Restart=always\nRestartSec=10") else { return };
    let mark = lab.daemon.mark();
    lab.systemd.systemctl(&["stop", UNIT]).expect("it stops");
    lab.wait_for_state(mark, "stopped");
    lab.systemd.systemctl(&["start", UNIT]).expect("it starts");
    lab.wait_for_state(mark, "healthy");
    assert_nothing_done(&lab, mark);
}

#[test]
fn the_host_is_well_after_a_stop() {
    let Some(lab) = Lab::start("", "Restart=always\nRestartSec=10") else { return };
    let mark = lab.daemon.mark();
    lab.stop_and_be_well();
    assert_nothing_done(&lab, mark);
}

#[test]
fn the_host_is_well_after_a_stop_of_a_unit_that_had_failed() {
    stop_after_a_failure("enabled = true\nbudget = \"1 per 10m\"", true, "crash_loop");
    stop_after_a_failure("enabled = false", false, "killed");
}

/// The unit fails, once more than it is restarted, and is then stopped.
fn stop_after_a_failure(restart: &str, is_restarted: bool, verdict: &str) {
    let Some(lab) = Lab::start_with("", "Restart=no", restart) else { return };
    if is_restarted {
        lab.kill_and_heal();
    }
    let mark = lab.daemon.mark();
    lab.kill();
    lab.daemon.wait_for_after(mark, |event| is(event, "restart.hold", "api"), PATIENCE);
    // At the end of its budget, hostprobe has reset it.
    assert_ne!(lab.show("ActiveState"), "active");
    lab.stop_and_be_well();
    let resolved = lab.daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "api"), PATIENCE);
    assert_eq!(text(&resolved, "incident.verdict"), verdict, "{restart}: {resolved:#}");
}

#[test]
fn an_operator_s_restart_is_not_restarted_again() {
    let Some(lab) = Lab::start("", "Restart=always\nRestartSec=10") else { return };
    let mark = lab.daemon.mark();
    lab.systemd.systemctl(&["restart", UNIT]).expect("it restarts");
    let after = lab.show("InvocationID");
    lab.wait_for_state(mark, "stopped");
    lab.wait_for_state(mark, "healthy");
    assert_nothing_done(&lab, mark);
    assert_eq!(lab.show("InvocationID"), after);
}

/// There was no incident and no restart, and no alert was sent.
#[track_caller]
fn assert_nothing_done(lab: &Lab, mark: Mark) {
    let acts = ["incident.open", "restart.request", "restart.done", "restart.fail", "alert.send"];
    let done: Vec<Value> =
        lab.daemon.since(mark).into_iter().filter(|event| acts.contains(&event_action(event))).collect();
    assert!(done.is_empty(), "{done:#?}");
}

#[test]
fn six_crashes_in_ten_seconds_are_a_crash_loop_and_leave_the_unit_startable() {
    // systemd's own limit is its default: five starts in ten seconds.
    let Some(lab) = Lab::start("", "Restart=always\nRestartSec=10") else { return };
    for _ in 0..5 {
        assert_eq!(lab.kill_and_heal().verdict(), "killed");
    }
    let mark = lab.daemon.mark();
    lab.kill();
    let such = |event: &Value| {
        is(event, "incident.update", "api") && text(event, "incident.verdict") == "crash_loop"
    };
    let looping = lab.daemon.wait_for_after(mark, such, PATIENCE);
    assert_eq!(text(&looping, "incident.severity"), "critical");
    let held = lab.daemon.wait_for_after(mark, |event| is(event, "restart.hold", "api"), PATIENCE);
    assert_eq!(field(&held, "restart.budget_left"), Some(&0.into()));
    assert_ne!(lab.show("Result"), "start-limit-hit");
    lab.systemd.systemctl(&["start", UNIT]).expect("an operator can start it");
    IncidentEvents::of(&lab.daemon, mark, "api");
}

#[test]
fn a_unit_that_systemd_gave_up_on_is_a_crash_loop_and_can_be_started() {
    let limits = "StartLimitIntervalSec=60\nStartLimitBurst=5";
    let Some(lab) = Lab::start(limits, "Restart=always\nRestartSec=0") else { return };
    for _ in 0..4 {
        assert_eq!(lab.kill_and_heal().verdict(), "killed");
    }
    // The sixth start within a minute is one too many for systemd, not for the budget of this service: its
    // restarts are systemd's own so far.
    let incident = lab.kill_and_restart();
    incident.one("restart.done");
    assert_ne!(lab.show("ActiveState"), "failed");
}
