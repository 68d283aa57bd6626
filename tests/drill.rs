//! `hostprobe drill`: a real fault of a real service, from the request to the recovery and the alert; and what is refused.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    net::TcpStream,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use hostprobe_tests::{
    core_dump::allocate,
    daemon::{Daemon, Mark},
    http,
    incident_events::{is, text},
    matrix::receiver::Receiver,
    memcg::MemoryCgroup,
    operator::{Home, action, becomes, commanded, crash},
    parts::{available, built, require_root},
    process::until,
    supervised::Supervised,
    systemd::SystemdLab,
    terminal,
    victim::Victim,
};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);

/// A service under the supervisor with fast probes, its daemon, and a receiver of its alerts.
struct Lab {
    home: Home,
    service: Supervised,
    receiver: Receiver,
    config: String,
    daemon: Daemon,
}

impl Lab {
    fn start() -> Option<Self> {
        Self::with("failures = 2\n[service.restart]\ngrace = \"0s\"\nenabled = true\n")
    }

    /// `further` follows the times of its probe.
    fn with(further: &str) -> Option<Self> {
        if !require_root() {
            return None;
        }
        let (home, service, receiver) = (Home::new(), Supervised::new(), Receiver::start());
        let probed = service.config(&format!("interval = \"500ms\"\ntimeout = \"400ms\"\n{further}"));
        let probed = probed.replace("[http]\nlisten = \"\"\n", "");
        let config = home.config(&format!("{}min_severity = \"info\"\n{probed}", receiver.config()));
        let daemon = Daemon::start(&config, &[]);
        service.until_healthy(&daemon);
        Some(Self { home, service, receiver, config, daemon })
    }

    fn drill(&self, fault: &str) -> Output {
        let name = self.service.name.as_str();
        self.home.order(&["drill", name, "--fault", fault, "--yes", "--json", "--reason", "a test"])
    }

    /// The report of a drill that went as it should.
    #[track_caller]
    fn recovers(&self, fault: &str, verdict: &str) -> Value {
        let mark = self.daemon.mark();
        let output = self.drill(fault);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stdout));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["outcome"], "recovered", "{report:#}");
        assert_eq!(report["verdict"], verdict, "{report:#}");
        assert_eq!(
            (&report["fault"], &report["by"], &report["reason"]),
            (&fault.into(), &"root".into(), &"a test".into())
        );
        in_order(&report);
        self.is_marked(mark, fault, &report);
        http::get(self.service.port, "/health").expect("it answers again");
        report
    }

    /// Waits until another process than this one listens: the stream is read beside the report.
    #[track_caller]
    fn is_replaced(&self, before: u32) {
        let another = || (self.service.pid(&self.daemon) != before).then_some(());
        until("another process listens", LONG, another);
    }

    /// The operator, the incident and the alert say that it is a drill.
    #[track_caller]
    fn is_marked(&self, mark: Mark, fault: &str, report: &Value) {
        let event = commanded(&self.daemon, mark, "drill", "a test");
        assert_eq!(text(&event, "operator.fault"), fault, "{event}");
        let opened =
            self.daemon.wait_for_after(mark, |event| is(event, "incident.open", &self.service.name), LONG);
        assert_eq!(
            (text(&opened, "incident.drill"), text(&opened, "incident.id")),
            ("root", report["incident"].as_str().expect("an id"))
        );
        let posted = self.receiver.posted();
        let of_it = |alert: &&Value| text(alert, "incident.id") == text(&opened, "incident.id");
        let alerts: Vec<&Value> = posted.iter().filter(of_it).collect();
        assert!(!alerts.is_empty(), "{posted:#?}");
        for alert in alerts {
            assert!(text(alert, "message").starts_with("a drill by root: "), "{alert:#}");
            assert_eq!(text(alert, "incident.drill"), "root");
        }
    }
}

/// The text of the first such step of a report.
#[track_caller]
fn first<'r>(report: &'r Value, step: &str) -> &'r str {
    let steps = report["steps"].as_array().expect("steps");
    let found = steps.iter().find(|it| it["step"] == step);
    found.and_then(|it| it["text"].as_str()).unwrap_or_else(|| panic!("no {step} in {report:#}"))
}

/// The steps of a report are those of a recovery, each after the one before.
#[track_caller]
fn in_order(report: &Value) {
    let steps = report["steps"].as_array().expect("steps");
    let place = |step: &str| steps.iter().position(|it| it["step"] == step);
    let places = ["fault", "detected", "verdict", "restart", "recovered", "alert"].map(place);
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {report:#}");
    let times: Vec<f64> = steps.iter().map(|step| step["after_ms"].as_f64().expect("a time")).collect();
    assert!(times.is_sorted() && times[0] == 0.0, "{times:?}");
    let main = ["detected_ms", "decided_ms", "acted_ms", "recovered_ms", "alerted_ms"];
    let main = main.map(|name| report[name].as_f64().unwrap_or_else(|| panic!("no {name} in {report:#}")));
    assert!(main.is_sorted(), "{main:?}");
}

#[test]
fn a_kill_is_measured_from_the_signal_to_the_alert_and_kept() {
    let Some(lab) = Lab::start() else { return };
    let before = lab.service.pid(&lab.daemon);
    let report = lab.recovers("kill", "killed");
    assert!(first(&report, "fault").contains(&format!("SIGKILL to its main process {before} ")));
    assert!(first(&report, "detected").contains("ended with SIGKILL"), "{report:#}");
    lab.is_replaced(before);
    // The state file has it.
    assert_eq!(latest_drill(&lab.home, report["outcome"].as_str().expect("a word")), report);
    let reported: Value = serde_json::from_str(&lab.home.done(&["report", "--json"])).expect("JSON");
    for time in ["detected_ms", "acted_ms", "recovered_ms", "alerted_ms"] {
        assert_eq!(reported["drills"][0][time], report[time], "{time}: {reported:#}");
    }
    let page = lab.home.done(&["drill", &lab.service.name, "--yes"]);
    assert!(page.contains("recovered after ") && page.contains("restart requested after "), "{page}");
}

/// The latest drill in the state file, once it has this outcome.
fn latest_drill(home: &Home, outcome: &str) -> Value {
    until("the drill is kept", LONG, || {
        let reader = hostprobe::store::state::Reader::open(&home.path("state")).ok()?;
        let drills = reader.drills(None, None).expect("it is readable");
        let latest = serde_json::to_value(drills.first()?).expect("JSON");
        (latest["outcome"] == outcome).then_some(latest)
    })
}

#[test]
fn a_hang_is_found_by_probes() {
    let Some(lab) = Lab::start() else { return };
    let report = lab.recovers("hang", "hung");
    assert!(first(&report, "detected").starts_with("probe: "), "{report:#}");
    assert!(!lab.home.path("state/drill.json").exists(), "nothing is left to undo");
}

#[test]
fn a_listener_that_refuses_is_replaced() {
    let Some(lab) = Lab::start() else { return };
    let before = lab.service.pid(&lab.daemon);
    let report = lab.recovers("refuse", "not_listening");
    assert!(first(&report, "fault").contains(&format!("port {}", lab.service.port)), "{report:#}");
    lab.is_replaced(before);
    assert!(!lab.home.path("state/drill.json").exists(), "nothing is left to undo");
}

#[test]
fn an_oom_kill_stays_within_the_service_s_own_memory_cgroup() {
    let Some(lab) = Lab::start() else { return };
    let limit = 512 << 20;
    let group = MemoryCgroup::new(limit);
    if !available(group.is_ok(), "a memory cgroup") {
        return;
    }
    let group = group.expect("a memory cgroup");
    // Here the supervisor's own cgroups have no memory controller.
    let pid = lab.service.pid(&lab.daemon);
    group.add(pid).expect("it is moved");
    // What it had before is charged to the group that it was in.
    allocate(lab.service.port, pid, 30);
    let stranger = Command::new("/bin/sleep").arg("1000").spawn().expect("sleep starts");
    let mut stranger = Ended(stranger);
    group.add(stranger.0.id()).expect("it is moved");
    let output = lab.drill("oom");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("process {} (sleep) is in its memory cgroup", stranger.0.id())), "{said}");
    stranger.0.kill().expect("it runs");
    stranger.0.wait().expect("it has ended");
    let report = lab.recovers("oom", "oom_killed");
    assert!(first(&report, "fault").contains("lowered "), "{report:#}");
    let file =
        ["memory.max", "memory.limit_in_bytes"].map(|name| fs::read_to_string(group.directory().join(name)));
    let after = file.into_iter().find_map(Result::ok).expect("a limit");
    assert_eq!(after.trim(), limit.to_string(), "the limit is what it was");
}

/// A process that is killed when it is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service that something else started and that no restart heals, so that it has a drill's fault until that is undone.
struct Unhealed {
    home: Home,
    config: String,
    port: u16,
    victim: Ended,
}

impl Unhealed {
    fn start() -> Option<(Self, Daemon)> {
        if !require_root() {
            return None;
        }
        let port = http::free_port();
        let victim =
            Command::new(Victim::program()).args(["--port", &port.to_string()]).stdout(Stdio::null()).spawn();
        let victim = Ended(victim.expect("the victim starts"));
        until("it answers", LONG, || http::get(port, "/health").ok());
        let home = Home::new();
        let config = home.config(&format!(
            "[[service]]\nname = \"api\"\nmatch = {{ port = {port} }}\n[[service.probe]]\n\
             http = \"http://127.0.0.1:{port}/health\"\nfailures = 50\n\
             [service.restart]\ngrace = \"0s\"\nenabled = true\ncommand = [\"/bin/false\"]\n"
        ));
        let daemon = Daemon::start(&config, &[]);
        daemon.wait_for(becomes("api", "healthy"), LONG);
        Some((Self { home, config, port, victim }, daemon))
    }

    /// Begins a drill, without waiting for its end.
    fn begin(&self, fault: &str) -> Ended {
        let client = Command::new(built("hostprobe"))
            .args(["drill", "api", "--fault", fault, "--yes", "--socket"])
            .arg(self.home.path("control.sock"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Ended(client.expect("hostprobe starts"))
    }

    fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.victim.0.id())).expect("it lives");
        stat.rsplit(')').next().expect("its state").starts_with(" T")
    }

    fn refuses(&self) -> bool {
        http::get(self.port, "/health").is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }

    fn has_record(&self) -> bool {
        self.home.path("state/drill.json").exists()
    }
}

#[test]
fn what_a_killed_daemon_has_frozen_is_continued_by_the_next_one() {
    let Some((service, daemon)) = Unhealed::start() else { return };
    let mut client = service.begin("hang");
    until("it is stopped", LONG, || service.is_stopped().then_some(()));
    crash(daemon);
    assert_eq!(client.0.wait().expect("it ends").code(), Some(3), "the daemon went away");
    assert!(service.is_stopped() && service.has_record());

    let daemon = Daemon::start(&service.config, &[]);
    daemon.ready();
    assert!(!service.is_stopped() && !service.has_record());
    http::get(service.port, "/health").expect("it answers");
    daemon.wait_for_log("a drill of an earlier run of hostprobe was not over");
    assert_eq!(latest_drill(&service.home, "unfinished")["fault"], "hang");
}

#[test]
fn what_a_killed_daemon_has_shut_down_listens_again_with_the_next_one() {
    let Some((service, daemon)) = Unhealed::start() else { return };
    let _client = service.begin("refuse");
    until("it refuses", LONG, || service.refuses().then_some(()));
    crash(daemon);
    assert!(service.refuses() && service.has_record());
    let daemon = Daemon::start(&service.config, &[]);
    daemon.ready();
    assert!(!service.has_record());
    // The victim accepts no more once it was refused to, so that its connections wait.
    TcpStream::connect(("127.0.0.1", service.port)).expect("it listens");
}

#[test]
fn a_daemon_that_ends_undoes_what_it_did() {
    let Some((service, mut daemon)) = Unhealed::start() else { return };
    let _client = service.begin("hang");
    until("it is stopped", LONG, || service.is_stopped().then_some(()));
    assert!(daemon.stop().success(), "{}", daemon.log());
    assert!(!service.is_stopped() && !service.has_record());
    http::get(service.port, "/health").expect("it answers");
}

#[test]
fn a_unit_is_drilled_as_systemd_runs_it() {
    let Some(systemd) = SystemdLab::for_test() else { return };
    let (home, port) = (Home::new(), http::free_port());
    let program = systemd.install(&Victim::program()).expect("the victim is installed");
    systemd
        .write_unit("api.service", &format!("[Service]\nExecStart={program} --port {port}\n"))
        .expect("a unit");
    systemd.systemctl(&["start", "api.service"]).expect("the unit starts");
    let config = home.config(&format!(
        "[[service]]\nname = \"api\"\nunit = \"api.service\"\n[[service.probe]]\n\
         http = \"http://127.0.0.1:{port}/health\"\ninterval = \"500ms\"\ntimeout = \"400ms\"\nfailures = 2\n\
         [service.restart]\ngrace = \"0s\"\nenabled = true\n"
    ));
    let daemon = systemd.start_daemon(&config);
    daemon.wait_for(becomes("api", "healthy"), LONG);
    for (fault, verdict) in [("kill", "killed"), ("hang", "hung"), ("refuse", "not_listening")] {
        let output = home.order(&["drill", "api", "--fault", fault, "--yes", "--json"]);
        let (page, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{fault}: {page}{said}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (&report["outcome"], &report["verdict"]),
            (&"recovered".into(), &verdict.into()),
            "{report:#}"
        );
        assert!(page.contains("restart 1 requested, by systemd"), "{page}");
    }
    let opened = || daemon.count(action("incident.open"));
    until("each incident", LONG, || (opened() >= 3).then_some(()));
    assert_eq!(opened(), 3);
}

#[test]
fn a_drill_is_refused_with_its_reason_and_nothing_is_done() {
    let Some(lab) = Lab::start() else { return };
    let (name, before) = (lab.service.name.as_str(), lab.service.pid(&lab.daemon));
    #[track_caller]
    fn refused(lab: &Lab, why: &str) {
        let mark = lab.daemon.mark();
        let output = lab.drill("kill");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(lab.daemon.since(mark).iter().all(|event| !action("incident.open")(event)));
    }
    // Without a terminal, nothing is begun that was not confirmed.
    let output = lab.home.order(&["drill", name]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("send SIGKILL to its main process {before} (")), "{said}");
    assert!(said.contains("needs --yes"), "{said}");
    assert_eq!(lab.home.order(&["drill", "nothing", "--yes"]).status.code(), Some(1));
    assert_eq!(lab.home.order(&["drill", name, "--fault", "fire"]).status.code(), Some(2));

    lab.home.done(&["pause", name, "--reason", "an upgrade"]);
    refused(
        &lab,
        "it is paused by root: an upgrade, so its restarts and alerts are held; `hostprobe resume` ends that",
    );
    lab.home.done(&["resume", name]);
    let maintained =
        lab.config.replace("[[service]]\n", "[[service]]\nmaintenance = [\"daily 00:00-24:00 UTC\"]\n");
    lab.daemon.rewrite(&maintained);
    lab.home.done(&["reload"]);
    refused(&lab, "its maintenance daily 00:00-24:00 UTC is under way");
    lab.daemon.rewrite(&lab.config.replace("enabled = true", "enabled = false"));
    lab.home.done(&["reload"]);
    refused(&lab, "restart.enabled is not set for it");
    assert_eq!(lab.service.pid(&lab.daemon), before);
    http::get(lab.service.port, "/health").expect("it runs on");
}

#[test]
fn a_drill_is_refused_while_an_incident_is_open() {
    let Some(lab) =
        Lab::with("failures = 2\n[service.restart]\ngrace = \"0s\"\nenabled = true\nbudget = \"1 per 1h\"\n")
    else {
        return;
    };
    lab.service.kill(&lab.daemon);
    lab.daemon.wait_for(action("incident.resolve"), LONG);
    let mark = lab.daemon.mark();
    lab.service.kill(&lab.daemon);
    lab.daemon.wait_for_after(mark, action("restart.hold"), LONG);
    let output = lab.drill("kill");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it has an open incident (crash_loop: "), "{said}");
    assert_eq!(lab.daemon.count(action("operator.command")), 0, "a question is no command");
}

#[test]
fn an_operator_at_a_terminal_is_asked_and_may_decline() {
    if !terminal::is_there() {
        return;
    }
    let Some(lab) = Lab::start() else { return };
    let line = format!(
        "{} drill {} --socket {}",
        built("hostprobe").display(),
        lab.service.name,
        lab.home.path("control.sock").display()
    );
    let answered = |answer: &str| {
        let client = Command::new("/usr/bin/script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut client = client.expect("script starts");
        client.stdin.take().expect("a pipe").write_all(answer.as_bytes()).expect("it reads");
        let output = client.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (status, said) = answered("n\n");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("Begin? [y/N]") && said.contains("nothing was done"), "{said}");
    assert_eq!(lab.daemon.count(action("incident.open")), 0);
    let (status, said) = answered("y\n");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("the service is healthy, after 1 restart"), "{said}");
}
