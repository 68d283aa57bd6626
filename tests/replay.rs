//! A replay of a daemon's recording decides the same again, with another configuration it decides otherwise; and a
//! running daemon answers questions.

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
    incident_events::{IncidentEvents, is, text},
    lab::ExecLab,
    parts::{built, require_root},
    process::until,
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
            IncidentEvents::of(&daemon, mark, &service.name);
        }
        daemon.stop();
        let events = daemon.events();
        let observed = events.iter().filter(|event| event_action(event) == "engine.observe").count();
        assert_eq!(observed, 0, "observations are no part of the stream");
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        fs::write(folder.path().join("events.ndjson"), lines.join("\n")).expect("it is written");
        fs::rename(daemon.state(), folder.path().join("state")).expect("the state directory is kept");
        Self { folder, service, config }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The one segment of the recording.
    fn segment(&self) -> PathBuf {
        let segments: Vec<_> = fs::read_dir(self.state().join("recording")).expect("the recording").collect();
        let [Ok(segment)] = segments.as_slice() else { panic!("one segment: {segments:?}") };
        segment.path()
    }

    fn events(&self) -> PathBuf {
        self.folder.path().join("events.ndjson")
    }

    fn replay(&self, config: &str, more: &[&str]) -> Output {
        self.replay_from(&self.state(), config, more)
    }

    fn replay_from(&self, recording: &Path, config: &str, more: &[&str]) -> Output {
        let file = self.folder.path().join("config.toml");
        fs::write(&file, config).expect("it is written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
        let file = file.display().to_string();
        let mut args = vec!["replay", path(recording), "--config", &file];
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

    // A segment alone is a recording as well, and so is the state directory that the configuration names.
    assert_eq!(ends_with(&recording.replay_from(&recording.segment(), &recording.config, &[]), 0), same);
    let named = format!("{}\n[state]\ndirectory = {:?}\n", recording.config, path(&recording.state()));
    let file = recording.folder.path().join("named.toml");
    fs::write(&file, named).expect("it is written");
    assert_eq!(ends_with(&hostprobe(&["replay", "--config", path(&file)]), 0), same);

    // One incident, and what happened since a moment.
    let incident = ends_with(&recording.replay(&recording.config, &["--incident", "1"]), 0);
    assert!(
        incident.contains("incident opened: killed")
            && !incident.contains("unhealthy")
            && incident.len() < same.len(),
        "{incident}"
    );
    assert_eq!(ends_with(&recording.replay(&recording.config, &["--since", "1h"]), 0), same);
    ends_with(&recording.replay(&recording.config, &["--since", "2999-01-01T00:00:00Z"]), 2);
    let unknown = recording.replay(&recording.config, &["--incident", "99"]);
    ends_with(&unknown, 2);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no decision on incident 99"), "{unknown:?}");

    // The service's restart is disabled.
    let disabled = recording.config.replace("[service.restart]", "[service.restart]\nenabled = false");
    let report = ends_with(&recording.replay(&disabled, &["--json"]), 1);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let run = &report["runs"][0];
    assert_eq!((&report["same"], &run["same_configuration"]), (&false.into(), &false.into()));
    let rows = run["rows"].as_array().expect("rows");
    assert!(rows.iter().any(|row| row["recorded"] == "restart" && row["same"] == false), "{report:#}");
    assert!(rows.iter().all(|row| row["replayed"] != "restart"), "{report:#}");
    assert!(run["notes"].to_string().contains("what-if"), "{report:#}");

    // More failures in a row would have been needed.
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

    // The stream of events explains an incident as well.
    let events = recording.events();
    let explanation = ends_with(&hostprobe(&["explain", "1", "--events", path(&events)]), 0);
    assert!(
        explanation.contains("killed") && explanation.contains("was killed by SIGKILL from"),
        "{explanation}"
    );
    ends_with(&hostprobe(&["explain", "99", "--events", path(&events)]), 1);
}

#[test]
fn damaged_and_missing_files_are_reported() {
    let folder = TempDir::new().expect("a temporary folder");
    let config = folder.path().join("config.toml");
    fs::write(&config, "").expect("it is written");
    let recording = folder.path().join("recording");
    let replay = || hostprobe(&["replay", path(&recording), "--config", path(&config)]);
    assert!(String::from_utf8_lossy(&replay().stderr).contains("cannot be read"));
    fs::write(&recording, b"\n{\"a\":1}\n\xff\xfe\n").expect("it is written");
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
fn a_running_daemon_answers_questions_about_its_incidents() {
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
    // Its last lines are read a moment after its death, and it may be healed sooner.
    let explanation = until("the last lines", LONG, || {
        Some(ends_with(&ask(&["explain", "1"]), 0)).filter(|page| page.contains("last lines:"))
    });
    let position =
        |words: &str| explanation.find(words).unwrap_or_else(|| panic!("no {words:?} in\n{explanation}"));
    let order = [
        "api killed",
        "confidence: 100 %",
        "outcome:    over",
        "healthy +",
        "api: incident opened, killed",
        "api: restart by supervisor requested",
        "api: restarted by supervisor",
        "api: incident resolved after",
    ];
    let places: Vec<usize> = order.iter().map(|words| position(words)).collect();
    assert!(places.is_sorted(), "{explanation}");
    let evidence = explanation.lines().find(|line| line.contains(" ms * ")).expect("evidence");
    assert!(evidence.contains("was killed by SIGKILL from"), "{explanation}");
    let listed: Value = serde_json::from_str(&ends_with(&ask(&["incidents", "--json"]), 0)).expect("JSON");
    assert_eq!((&listed[0]["open"], &listed[0]["verdict"]), (&false.into(), &"killed".into()));
    let id = listed[0]["id"].as_str().expect("an id");
    // The pressure on the host is in its file, and so on both pages, a moment later.
    let page = |which: &str| ends_with(&ask(&["explain", which]), 0);
    until("the pages are the same", LONG, || (page(id) == page("1")).then_some(()));
}

#[test]
fn a_held_restart_is_shown_with_its_reason() {
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
fn without_a_daemon_the_error_says_what_to_do() {
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
    second.wait_for_log("another hostprobe answers there");
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

#[test]
fn a_recording_that_cannot_be_written_is_reported_and_stops_nothing_else() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    let config = format!("[http]\nlisten = \"\"\n[state]\ndirectory = {:?}\n", path(folder.path()));
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    let line = daemon.wait_for_log("cannot record to this folder: others may write to it");
    assert!(line.contains("[state] directory"), "{line}");
    assert!(fs::read_dir(folder.path()).expect("it is there").next().is_none());

    // Without a recording and without commands to remember, the folder is not even created.
    let nothing = folder.path().join("nothing");
    let state =
        format!("[http]\nlisten = \"\"\n[state]\ndirectory = {:?}\nrecording = \"\"\n", path(&nothing));
    let daemon = Daemon::start(&format!("{state}[control]\nsocket = \"\"\n"), &[]);
    daemon.ready();
    // But for the hook `mce_record`, of which the log may have a line.
    let is_about_recording = |line: &str| line.contains("record") && !line.contains("mce_record");
    let is_quiet = |daemon: &Daemon| !daemon.log().lines().any(is_about_recording);
    assert!(!nothing.exists() && is_quiet(&daemon), "{}", daemon.log());

    // A daemon that takes commands remembers them there, still without a recording.
    let daemon = Daemon::start(&state, &[]);
    daemon.ready();
    let found = fs::read_dir(&nothing).expect("it is there");
    let mut found: Vec<_> = found.map(|entry| entry.expect("it is readable").file_name()).collect();
    found.retain(|name| !name.to_string_lossy().starts_with("state.db-"));
    found.sort();
    assert_eq!(found, ["last_run", "lock", "state.db"]);
    assert!(is_quiet(&daemon), "{}", daemon.log());
}
