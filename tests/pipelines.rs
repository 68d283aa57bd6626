//! The event stream on its way to a log pipeline: several outputs at once, each with what really reads it.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    http::free_port,
    incident_events::number,
    installed::{Installed, UNIT},
    operator::Home,
    parts::{require, require_root},
    process::{Running, stop, until},
    supervised::Supervised,
};
use rustix::process::Signal;
use serde_json::Value;

const RSYSLOG: &str = "/usr/sbin/rsyslogd";

const PATIENCE: Duration = Duration::from_secs(30);

/// A real rsyslog that takes lines over TCP and from a Unix socket of datagrams, and writes each source to a file.
struct Rsyslog {
    configuration: PathBuf,
    running: Option<Running>,
}

impl Rsyslog {
    fn new(home: &Home, port: u16) -> Self {
        let (pid, work) = (home.path("rsyslog.pid"), home.path("work"));
        fs::create_dir(&work).expect("a folder");
        let configuration = home.path("rsyslog.conf");
        let text = format!(
            r#"
            global(workDirectory={work:?} maxMessageSize="64k")
            module(load="imptcp")
            module(load="imuxsock" SysSock.Use="off")
            template(name="raw" type="string" string="%rawmsg%\n")
            ruleset(name="tcp") {{ action(type="omfile" file={tcp:?} template="raw") }}
            ruleset(name="unix") {{ action(type="omfile" file={unix:?} template="raw") }}
            input(type="imptcp" port="{port}" address="127.0.0.1" ruleset="tcp")
            input(type="imuxsock" Socket={socket:?} ruleset="unix" UseSpecialParser="off" ParseHostname="off")
            "#,
            tcp = home.path("tcp.log"),
            unix = home.path("unix.log"),
            socket = home.path("rsyslog.sock"),
        );
        fs::write(&configuration, text).expect("it is written");
        let mut rsyslog = Self { configuration, running: None };
        rsyslog.start(&pid);
        rsyslog
    }

    fn start(&mut self, pid: &PathBuf) {
        let mut command = Command::new(RSYSLOG);
        command.arg("-n").arg("-f").arg(&self.configuration).arg("-i").arg(pid);
        self.running = Some(Running::start(&mut command, Signal::TERM));
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.stop();
        }
    }
}

/// The events in a file, by their sequence.
fn sequences(home: &Home, file: &str) -> Vec<i64> {
    let text = fs::read_to_string(home.path(file)).unwrap_or_default();
    // The last line may be written at the moment.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let event =
        |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    whole.lines().map(|line| number(&event(line), "event.sequence").expect("a number")).collect()
}

/// Waits until a file has all events of a daemon so far, in order and each once.
#[track_caller]
fn until_all_are_in(home: &Home, file: &str, daemon: &Daemon) {
    let all = i64::try_from(daemon.events().len()).expect("few");
    until(&format!("{all} events in {file}"), PATIENCE, || {
        let got = sequences(home, file);
        (got.len() as i64 >= all).then_some(())
    });
    let got = sequences(home, file);
    assert_eq!(got, (1..=got.len() as i64).collect::<Vec<_>>(), "{file}");
}

/// Stops the daemon while no event is under way. The end of any process of the host may be one.
#[track_caller]
fn stop_between_events(home: &Home, daemon: &Daemon) {
    until("no event is under way", PATIENCE, || {
        stop(daemon.pid());
        let all = daemon.events().len();
        let between = ["tcp.log", "unix.log"].iter().all(|file| sequences(home, file).len() == all);
        if !between {
            daemon.signal(Signal::CONT);
        }
        between.then_some(())
    });
}

#[test]
fn rsyslog_gets_every_event_over_tcp_and_from_a_unix_socket_also_when_it_restarts() {
    if !require_root() || !require("rsyslog", RSYSLOG) {
        return;
    }
    let (home, service, port) = (Home::new(), Supervised::new(), free_port());
    let mut rsyslog = Rsyslog::new(&home, port);
    until("rsyslog's socket", PATIENCE, || home.path("rsyslog.sock").exists().then_some(()));
    let config = format!(
        "[events]\noutput = [\"-\", \"tcp:127.0.0.1:{port}\", \"unix:{}\"]\n{}",
        home.path("rsyslog.sock").display(),
        home.supervising(&service)
    );
    let daemon = Daemon::start_to_file(&config, &[]);
    service.until_healthy(&daemon);
    daemon.ready();
    until_all_are_in(&home, "tcp.log", &daemon);
    until_all_are_in(&home, "unix.log", &daemon);

    // What a reader that ends has not read yet is lost.
    stop_between_events(&home, &daemon);
    rsyslog.stop();
    daemon.signal(Signal::CONT);
    service.kill(&daemon);
    until("the incident is over", PATIENCE, || {
        let events = daemon.events();
        events.iter().any(|event| event["event"]["action"] == "incident.resolve").then_some(())
    });
    let _ = fs::remove_file(home.path("rsyslog.sock"));
    rsyslog.start(&home.path("rsyslog.pid"));
    until_all_are_in(&home, "tcp.log", &daemon);
    until_all_are_in(&home, "unix.log", &daemon);
    assert_eq!(daemon.lost("events"), 0);
}

#[test]
fn a_reader_that_never_comes_costs_counted_events_of_its_own_and_no_others() {
    if !require_root() {
        return;
    }
    let (home, service) = (Home::new(), Supervised::new());
    let config = format!(
        "[events]\noutput = [\"-\", \"unix:{}\"]\n{}",
        home.path("nobody.sock").display(),
        home.supervising(&service)
    );
    let mut daemon = Daemon::start_to_file(&config, &[]);
    service.until_healthy(&daemon);
    assert!(daemon.stop().success(), "{}", daemon.log());
    let lost = "events were not written before the stop";
    assert!(daemon.log().contains(lost), "{}", daemon.log());
    assert!(daemon.log().contains("nobody.sock: cannot write, trying again"), "{}", daemon.log());
}

#[test]
fn the_journal_has_the_fields_of_each_event() {
    let Some((installed, _)) = Installed::with_a_command("/var/log/hostprobe/web.log", "") else { return };
    let file = installed.systemd.path("/etc/hostprobe/hostprobe.toml");
    let config = fs::read_to_string(&file).expect("its configuration");
    let both =
        config.replacen("ndjson\"", "ndjson\", \"journald\"]", 1).replacen("output = ", "output = [", 1);
    fs::write(&file, both).expect("it is written");
    // Its entries wait for it.
    installed.systemd.systemctl(&["start", UNIT]).expect("it starts");
    installed.systemd.start_journal().expect("the journal starts");
    installed.wait_for_after(0, "healthy service", |event| {
        event["event"]["action"] == "service.state" && event["service"]["state"] == "healthy"
    });
    let entries = |filters: &[&str]| -> Vec<Value> {
        let mut command = installed.systemd.command("/usr/bin/journalctl");
        let output = command.args(["-o", "json", "--no-pager"]).args(filters).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let healthy = ["EVENT_ACTION=service.state", "SERVICE_NAME=web", "SERVICE_STATE=healthy"];
    let entry = until("the entry", PATIENCE, || entries(&healthy).pop());
    assert_eq!((&entry["PRIORITY"], &entry["SYSLOG_IDENTIFIER"]), (&"6".into(), &"hostprobe-events".into()));
    let event: Value =
        serde_json::from_str(entry["HOSTPROBE_EVENT"].as_str().expect("a text")).expect("JSON");
    assert_eq!(event["message"], entry["MESSAGE"]);
    assert_eq!(event["event"]["id"], entry["EVENT_ID"]);
    installed.wait_for_after(0, &format!("line of the file that is the same: {event:#}"), |it| *it == event);
    assert_eq!(entry["_SYSTEMD_UNIT"], UNIT);
}
