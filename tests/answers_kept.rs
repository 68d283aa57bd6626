//! What a process has answered outlives the daemon: the next one takes the failure of the same process for its own, and not that
//! of another process.

use std::{fs, process::Command, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    http,
    incident_events::{is, text},
    leftovers::Leftovers,
    operator::{ENDS, End, Home, becomes, crash, end},
    parts::require_root,
    process::{Running, kill, lives, until, with_argument},
    supervised::Supervised,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const PROBE: &str = "interval = \"1s\"\ntimeout = \"1s\"\n";

/// Waits until the state directory has what a process answered.
#[track_caller]
fn until_kept(home: &Home, pid: u32) {
    let words = format!("\"answers\":{{\"process\":{{\"pid\":{pid},");
    until("the answer is kept", LONG, || {
        let has = |file: &str| {
            let bytes = fs::read(home.path("state").join(file)).unwrap_or_default();
            bytes.windows(words.len()).any(|part| part == words.as_bytes())
        };
        (has("state.db-wal") || has("state.db")).then_some(())
    });
}

fn fails_between_two_daemons(how: End, path: &str, verdict: &str) {
    let (home, service) = (Home::new(), Supervised::new());
    let _leftovers = Leftovers(service.port.to_string());
    let further = format!("{PROBE}[service.restart]\ngrace = \"1s\"\n");
    let config = home.supervising(&service) + &further + "[supervisor]\non_exit = \"leave\"\n";
    let first = Daemon::start(&config, &[]);
    service.until_healthy(&first);
    let pid = service.pid(&first);
    until_kept(&home, pid);
    end(first, how);
    // The fault may cut the answer short.
    let _ = http::get(service.port, path);
    let mut next = Daemon::start(&config, &[]);
    let over = next.wait_for(|event| is(event, "incident.resolve", &service.name), LONG);
    assert_eq!(text(&over, "incident.verdict"), verdict, "{how:?} {path}: {over}");
    let count = |action: &str| next.count(|event| is(event, action, &service.name));
    let counts = (count("incident.open"), count("restart.request"), count("restart.hold"));
    assert_eq!(counts, (1, 1, 0), "{how:?} {path}: {:#?}", next.events());
    let now = with_argument(&service.port.to_string());
    assert!(now.len() == 1 && now[0] != pid && !lives(pid), "{how:?} {path}: {now:?}");
    until_kept(&home, now[0]);
    assert!(next.stop().success());
}

#[test]
fn a_service_that_closes_its_listener_while_no_daemon_runs_is_restarted_once_by_the_next() {
    if require_root() {
        ENDS.iter().for_each(|how| fails_between_two_daemons(*how, "/close", "not_listening"));
    }
}

#[test]
fn a_service_that_hangs_while_no_daemon_runs_is_restarted_once_by_the_next() {
    if require_root() {
        ENDS.iter().for_each(|how| fails_between_two_daemons(*how, "/hang", "hung"));
    }
}

/// A service that a command restarts, which notes that in a file.
struct ByCommand {
    home: Home,
    victim: Victim,
    config: String,
}

impl ByCommand {
    /// One whose process has answered a daemon that was killed since.
    fn answered() -> Self {
        let (home, victim) = (Home::new(), Victim::start());
        let config = home.config(&format!(
            "[[service]]\nname = \"web\"\nmatch = {{ pidfile = {:?} }}\n[[service.probe]]\n\
             http = \"http://127.0.0.1:{}/health\"\n{PROBE}[service.restart]\nenabled = true\ngrace = \"1s\"\n\
             command = [\"/usr/bin/touch\", {:?}]\n",
            home.path("pid"),
            victim.port,
            home.path("restarted")
        ));
        let service = Self { home, victim, config };
        service.note(service.victim.process.pid());
        let first = Daemon::start(&service.config, &[]);
        first.wait_for(becomes("web", "healthy"), LONG);
        until_kept(&service.home, service.victim.process.pid());
        crash(first);
        service
    }

    fn note(&self, pid: u32) {
        fs::write(self.home.path("pid"), pid.to_string()).expect("it is written");
    }

    fn is_restarted(&self) -> bool {
        self.home.path("restarted").exists()
    }
}

#[test]
fn the_process_that_answered_an_earlier_daemon_is_restarted_by_its_command() {
    if !require_root() {
        return;
    }
    let service = ByCommand::answered();
    service.victim.hit("/close");
    let second = Daemon::start(&service.config, &[]);
    let opened = second.wait_for(|event| is(event, "incident.open", "web"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "not_listening", "{opened}");
    until("the command", LONG, || service.is_restarted().then_some(()));
}

#[test]
fn a_process_that_never_answered_is_held_although_the_one_before_it_had_answered_an_earlier_daemon() {
    if !require_root() {
        return;
    }
    let mut service = ByCommand::answered();
    kill(service.victim.process.pid());
    service.victim.wait();
    let mut command = Command::new(Victim::program());
    command.args(["--port", &service.victim.port.to_string(), "--start-delay-ms", "3600000"]);
    let silent = Running::start(&mut command, Signal::KILL);
    service.note(silent.pid());
    let second = Daemon::start(&service.config, &[]);
    let held = second.wait_for(|event| is(event, "restart.hold", "web"), LONG);
    assert!(text(&held, "event.reason").contains("never answered this probe"), "{held}");
    let opened = second.wait_for(|event| is(event, "incident.open", "web"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "unhealthy", "{opened}");
    // Further failures change nothing.
    let failed = |event: &Value| is(event, "probe.fail", "web");
    until("further failures", LONG, || (second.count(failed) >= 8).then_some(()));
    assert_eq!(second.count(|event| is(event, "restart.request", "web")), 0, "{:#?}", second.events());
    assert!(!service.is_restarted());
}
