//! A daemon's recording leads to the same decisions again, another configuration to others; and a running daemon
//! tells what it knows.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    http,
    lab::ExecLab,
    parts::{built, require_root},
    process::until,
    story::{Story, is, text},
    supervised::Supervised,
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(60);

/// Quick probes, and one failure after a short grace counts for two.
const QUICK: &str =
    "interval = \"200ms\"\nfailures = 2\n[service.restart]\ngrace = \"300ms\"\nbackoff = \"100ms..1s\"\n";

fn hostprobe(args: &[&str]) -> Output {
    Command::new(built("hostprobe")).args(args).output().expect("hostprobe can be run")
}

#[track_caller]
fn ends_with(output: &Output, status: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(status), "{text}\n{said}");
    text
}

/// What a daemon recorded, and its configuration.
struct Recording {
    folder: TempDir,
    service: Supervised,
    config: String,
}

impl Recording {
    /// A service is killed, fails without dying, is killed again, and stays down at last.
    fn make() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let service = Supervised::new();
        let config = service.config(QUICK);
        let mut daemon = Daemon::start(&config, &[]);
        for fault in 0..3 {
            service.until_healthy(&daemon);
            let mark = daemon.mark();
            match fault {
                1 => {
                    let _ = http::get(service.port, "/fail");
                }
                _ => service.kill(&daemon),
            }
            Story::of(&daemon, mark, &service.name);
        }
        daemon.stop();
        let lines: Vec<String> = daemon.events().iter().map(Value::to_string).collect();
        fs::write(folder.path().join("events.ndjson"), lines.join("\n")).expect("it is written");
        Self { folder, service, config }
    }

    fn events(&self) -> PathBuf {
        self.folder.path().join("events.ndjson")
    }

    fn replay(&self, config: &str, more: &[&str]) -> Output {
        let file = self.folder.path().join("config.toml");
        fs::write(&file, config).expect("it is written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
        let (events, file) = (self.events(), file.display().to_string());
        let mut args = vec!["replay", path(&events), "--config", &file];
        args.extend(more);
        hostprobe(&args)
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_recording_decides_alike_and_shows_what_another_configuration_would_change() {
    if !require_root() {
        return;
    }
    let recording = Recording::make();
    let name = recording.service.name.as_str();

    let same = ends_with(&recording.replay(&recording.config, &[]), 0);
    assert!(same.ends_with("same: everything is decided as it was then\n"), "{same}");
    assert!(
        same.contains("incident opened: killed") && same.contains("incident opened: unhealthy"),
        "{same}"
    );
    assert!(same.contains(name) && !same.contains("DIFFERS") && !same.contains("note:"), "{same}");

    // Nobody restarts it.
    let disabled = recording.config.replace("[service.restart]", "[service.restart]\nenabled = false");
    let report = ends_with(&recording.replay(&disabled, &["--json"]), 1);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let run = &report["runs"][0];
    assert_eq!((&report["same"], &run["same_configuration"]), (&false.into(), &false.into()));
    let rows = run["rows"].as_array().expect("rows");
    assert!(rows.iter().any(|row| row["recorded"] == "restart" && row["same"] == false), "{report:#}");
    assert!(rows.iter().all(|row| row["replayed"] != "restart"), "{report:#}");
    assert!(run["notes"].to_string().contains("what-if"), "{report:#}");

    // More failures would have had to come in a row.
    let patient = recording.config.replace("failures = 2", "failures = 500");
    let text = ends_with(&recording.replay(&patient, &[]), 1);
    let unhealthy = text.lines().find(|line| line.contains("incident opened: unhealthy")).expect("the row");
    assert!(unhealthy.ends_with("DIFFERS"), "{text}");
    let killed = text.lines().find(|line| line.contains("incident opened: killed")).expect("the row");
    assert!(killed.ends_with("same"), "{text}");

    // Another name is another service.
    let renamed = recording.config.replace(&format!("{name:?}"), "\"other\"");
    let nothing = recording.replay(&renamed, &[]);
    ends_with(&nothing, 2);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains(name), "{nothing:?}");

    // A story can be told from the file as well.
    let events = recording.events();
    let story = ends_with(&hostprobe(&["explain", "1", "--events", path(&events)]), 0);
    assert!(story.contains("killed") && story.contains("was killed by SIGKILL from"), "{story}");
    ends_with(&hostprobe(&["explain", "99", "--events", path(&events)]), 1);
}

#[test]
fn damaged_and_missing_files_are_said_to_be() {
    let folder = TempDir::new().expect("a temporary folder");
    let config = folder.path().join("config.toml");
    fs::write(&config, "").expect("it is written");
    let events = folder.path().join("events");
    let replay = || hostprobe(&["replay", path(&events), "--config", path(&config)]);
    assert!(String::from_utf8_lossy(&replay().stderr).contains("cannot be read"));
    fs::write(&events, b"\n{\"a\":1}\n\xff\xfe\n").expect("it is written");
    let output = replay();
    ends_with(&output, 2);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("no recorded observations") && said.contains("2 lines") && said.contains("line 2"),
        "{said}"
    );
    fs::write(&config, "[[service]]\n").expect("it is written");
    ends_with(&replay(), 2);
}

#[test]
fn a_running_daemon_tells_what_it_knows() {
    let Some(lab) = ExecLab::start() else { return };
    let socket = lab.daemon.socket();
    let ask = |args: &[&str]| hostprobe(&[args, &["--socket", path(&socket)]].concat());

    assert!(ends_with(&ask(&["incidents"]), 0).contains("no incidents"));
    ends_with(&ask(&["explain", "1"]), 1);
    let status: Value = serde_json::from_str(&ends_with(&ask(&["status", "--json"]), 0)).expect("JSON");
    let api = &status["services"][0];
    assert_eq!((&api["name"], &api["state"]), (&"api".into(), &"healthy".into()));
    assert!(api["since"].is_string() && api["response_time_ms"].is_number(), "{api:#}");

    lab.heal(|| lab.kill(Signal::KILL));
    let story = ends_with(&ask(&["explain", "1"]), 0);
    let position = |words: &str| story.find(words).unwrap_or_else(|| panic!("no {words:?} in\n{story}"));
    let order = [
        "api killed",
        "confidence: 100 %",
        "outcome:    over",
        "healthy +",
        "incident opened for api, killed",
        "api is being restarted by supervisor",
        "api was restarted by supervisor",
        "is over after",
    ];
    let places: Vec<usize> = order.iter().map(|words| position(words)).collect();
    assert!(places.is_sorted(), "{story}");
    let evidence = story.lines().find(|line| line.contains(" ms * ")).expect("evidence");
    assert!(evidence.contains("was killed by SIGKILL from"), "{story}");
    let listed: Value = serde_json::from_str(&ends_with(&ask(&["incidents", "--json"]), 0)).expect("JSON");
    assert_eq!((&listed[0]["open"], &listed[0]["verdict"]), (&false.into(), &"killed".into()));
    let id = listed[0]["id"].as_str().expect("an id");
    assert_eq!(ends_with(&ask(&["explain", id]), 0), story);
}

#[test]
fn what_is_held_is_shown_with_its_reason() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let other =
        "[[service]]\nname = \"web\"\ndepends_on = [\"NAME\"]\n[[service.probe]]\ntcp = \"127.0.0.1:1\"\n";
    let config =
        service.config("[service.restart]\nenabled = false\n") + &other.replace("NAME", &service.name);
    let daemon = Daemon::start(&config, &[]);
    service.until_healthy(&daemon);
    service.kill(&daemon);
    daemon.wait_for(|event| is(event, "restart.hold", &service.name), LONG);
    let socket = daemon.socket();
    let status = || ends_with(&hostprobe(&["status", "--socket", path(&socket)]), 0);
    let status =
        until("the status shows it", LONG, || Some(status()).filter(|text| text.contains("killed (")));
    assert!(status.contains("not restarted: ") && status.contains("1 incident open"), "{status}");
    let web = status.lines().find(|line| line.starts_with("web ")).expect("a line");
    assert!(web.ends_with(&service.name), "it depends on it: {status}");
}

#[test]
fn without_a_daemon_it_is_said_what_to_do() {
    let folder = TempDir::new().expect("a temporary folder");
    let nothing = folder.path().join("control.sock");
    let output = hostprobe(&["status", "--socket", path(&nothing)]);
    ends_with(&output, 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("start `hostprobe run`"), "{output:?}");
}

#[test]
fn a_second_daemon_leaves_the_socket_of_the_first() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let socket = folder.path().join("control.sock");
    let config = format!("[http]\nlisten = \"\"\n[control]\nsocket = {:?}\n", path(&socket));
    let mut first = Daemon::start(&config, &[]);
    first.ready();
    let second = Daemon::start(&config, &[]);
    let ready = second.ready();
    assert_eq!(event_action(&ready), "agent.ready");
    let told = || second.log().contains("another hostprobe answers at").then_some(());
    until("the second says that there is a first", LONG, told);
    let status = hostprobe(&["status", "--json", "--socket", path(&socket)]);
    let status: Value = serde_json::from_str(&ends_with(&status, 0)).expect("JSON");
    let speaker = text(&first.ready(), "agent.ephemeral_id").to_owned();
    assert_eq!(status["agent"]["ephemeral_id"], speaker.as_str());
    first.signal(Signal::KILL);
    first.wait(LONG);
    let third = Daemon::start(&config, &[]);
    third.ready();
    ends_with(&hostprobe(&["status", "--socket", path(&socket)]), 0);
}
