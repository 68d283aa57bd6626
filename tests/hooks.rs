//! The user's own programs run at incidents and around restarts, bounded in time, and their outcome is an event.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, time::Duration};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    incident_events::{is, number, text},
    parts::{built, require_root},
    process::{pid_in, until},
    supervised::Supervised,
};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);

/// A service, and programs in its folder.
struct Lab {
    service: Supervised,
}

impl Lab {
    fn new() -> Option<Self> {
        require_root().then(|| Self { service: Supervised::new() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.service.folder().join(name)
    }

    /// A program of these lines; its path.
    fn program(&self, name: &str, lines: &str) -> String {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is this test's own");
        path.display().to_string()
    }

    fn start(&self, restart: &str, hooks: &str, args: &[&str]) -> Daemon {
        let config = self.service.config(&format!("[service.restart]\n{restart}\n{hooks}"));
        let daemon = Daemon::start(&config, args);
        self.service.until_healthy(&daemon);
        daemon
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    }
}

fn runs(daemon: &Daemon) -> Vec<Value> {
    daemon.events().into_iter().filter(|event| event_action(event) == "hook.run").collect()
}

fn order(daemon: &Daemon, word: &str, service: &str) {
    let mut command = Command::new(built("hostprobe"));
    let done =
        command.args([word, service, "--socket"]).arg(daemon.socket()).status().expect("it can be run");
    assert!(done.success(), "{word}");
}

#[test]
fn hooks_read_the_incident_and_run_once_at_each_event_of_it() {
    let Some(lab) = Lab::new() else { return };
    let keep = lab.program("keep", &format!("cat >> {}", lab.path("seen").display()));
    let hooks = format!(
        "[[hook]]\non = [\"incident.open\", \"restart.before\", \"restart.after\", \"incident.resolve\"]\n\
         services = [\"victim-*\"]\nverdicts = [\"killed\"]\ncommand = [{keep:?}]\n\
         [[hook]]\non = [\"incident.open\"]\nverdicts = [\"oom_killed\"]\ncommand = [{keep:?}]\n\
         [[hook]]\non = [\"incident.open\"]\nservices = [\"other\"]\ncommand = [{keep:?}]\n"
    );
    let daemon = lab.start("", &hooks, &[]);
    lab.service.kill(&daemon);
    let runs = until("four runs", LONG, || Some(runs(&daemon)).filter(|runs| runs.len() == 4));
    for run in &runs {
        assert_eq!(
            (text(run, "hook.command"), number(run, "hook.exit_code")),
            (keep.as_str(), Some(0)),
            "{run:#}"
        );
    }
    let seen = lab.lines("seen");
    let mut events: Vec<&str> = seen.iter().map(|line| text(line, "event.action")).collect();
    events.sort_unstable();
    assert_eq!(events, ["incident.open", "incident.resolve", "restart.after", "restart.before"]);
    let open = daemon.wait_for(|event| is(event, "incident.open", &lab.service.name), LONG);
    for line in &seen {
        assert_eq!(text(line, "incident.id"), text(&open, "incident.id"));
        assert_eq!(text(line, "incident.verdict"), "killed");
        assert_eq!(text(line, "service.name"), lab.service.name);
    }
}

#[test]
fn a_failed_or_late_program_before_a_restart_delays_it_for_its_time_and_stops_it_never() {
    let Some(lab) = Lab::new() else { return };
    let marker = lab.path("left").display().to_string();
    let fails = lab.program("fails", "echo 'no such pool: password=hunter2hunter2' >&2; exit 3");
    let hangs =
        lab.program("hangs", &format!("(setsid sh -c 'echo $$ > {marker}; exec sleep 1000') & sleep 1000"));
    let hooks = format!("[[hook]]\non = [\"restart.before\"]\ncommand = [{hangs:?}]\ntimeout = \"1s\"\n");
    let daemon = lab.start(&format!("before = [{fails:?}, \"api\"]"), &hooks, &[]);
    lab.service.kill(&daemon);
    daemon.wait_for(|event| is(event, "restart.done", &lab.service.name), LONG);
    let runs = until("both runs", LONG, || Some(runs(&daemon)).filter(|runs| runs.len() == 2));
    let of = |program: &str| runs.iter().find(|run| text(run, "hook.command") == program).expect("it ran");
    assert_eq!(number(of(&fails), "hook.exit_code"), Some(3));
    let said = text(of(&fails), "error.message");
    assert!(said.contains("no such pool") && !said.contains("hunter2"), "{said}");
    assert_eq!(number(of(&hangs), "hook.exit_code"), None);
    assert!(text(of(&hangs), "error.message").contains("still ran after 1s"), "{:#}", of(&hangs));
    let left = fs::read_to_string(&marker).expect("it left a process");
    let stat = PathBuf::from(format!("/proc/{}/stat", left.trim()));
    until("what it left is gone", LONG, || (!stat.exists()).then_some(()));
    lab.service.until_healthy(&daemon);
}

#[test]
fn a_hook_that_hangs_delays_neither_detection_nor_recovery_and_ends_with_the_daemon() {
    let Some(lab) = Lab::new() else { return };
    let marker = lab.path("left");
    let hangs = lab.program("hangs", &format!("echo $$ > {}; sleep 1000", marker.display()));
    let hooks = format!("[[hook]]\non = [\"incident.open\"]\ncommand = [{hangs:?}]\ntimeout = \"10m\"\n");
    let mut daemon = lab.start("", &hooks, &[]);
    for _ in 0..3 {
        let mark = daemon.mark();
        lab.service.kill(&daemon);
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &lab.service.name), LONG);
    }
    assert_eq!(runs(&daemon).len(), 0);
    let pid = until("it runs", LONG, || pid_in(&marker));
    daemon.stop();
    let stat = PathBuf::from(format!("/proc/{pid}/stat"));
    until("the hook has ended", LONG, || (!stat.exists()).then_some(()));
}

#[test]
fn a_hook_of_an_incident_waits_for_the_end_of_a_pause() {
    let Some(lab) = Lab::new() else { return };
    let keep = lab.program("keep", &format!("cat >> {}", lab.path("seen").display()));
    let hooks = format!("[[hook]]\non = [\"incident.open\"]\ncommand = [{keep:?}]\n");
    let daemon = lab.start("", &hooks, &[]);
    let name = lab.service.name.clone();
    order(&daemon, "pause", &name);
    lab.service.kill(&daemon);
    daemon.wait_for(|event| is(event, "restart.hold", &name), LONG);
    assert_eq!(runs(&daemon).len(), 0);
    order(&daemon, "resume", &name);
    until("it runs", LONG, || (runs(&daemon).len() == 1).then_some(()));
}

#[test]
fn a_daemon_that_only_observes_runs_no_hooks() {
    let Some(lab) = Lab::new() else { return };
    let keep = lab.program("keep", &format!("cat >> {}", lab.path("seen").display()));
    let hooks = format!("[[hook]]\non = [\"incident.open\", \"restart.before\"]\ncommand = [{keep:?}]\n");
    let daemon = lab.start("", &hooks, &["--observe"]);
    lab.service.kill(&daemon);
    daemon.wait_for(|event| is(event, "restart.hold", &lab.service.name), LONG);
    assert!(!lab.path("seen").exists() && runs(&daemon).is_empty());
}
