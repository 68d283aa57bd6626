//! Services under `exec` outlive the daemon, and the next one takes them over: the same process, whose end is seen.

use std::{path::PathBuf, process::Command, time::Duration};

use hostprobe::{
    act::supervisor::RunningCommand, config::StateOptions, emit::Origin, fact::ProcessKey, host::ProcReader,
    store::state::StateStore,
};
use hostprobe_tests::{
    cgroup,
    daemon::{Daemon, event_action},
    http::{self, free_port},
    incident_events::{IncidentEvents, is, text},
    leftovers::Leftovers,
    operator::{ENDS, End, Home, becomes, crash, end},
    parts::{built, require_root},
    process::{kill, lives, signal, until, with_argument},
    supervised::Supervised,
    victim::Victim,
};
use rustix::{fs::removexattr, process::Signal};
use serde_json::{Value, json};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const LEAVE: &str = "[supervisor]\non_exit = \"leave\"\n";
const STOP: &str = "[supervisor]\non_exit = \"stop\"\n";

/// A service, and the state of several daemons that start it one after the other.
struct Lab {
    home: Home,
    service: Supervised,
    _leftovers: Leftovers,
}

impl Lab {
    fn new() -> Self {
        let service = Supervised::new();
        let leftovers = Leftovers(service.port.to_string());
        Self { home: Home::new(), service, _leftovers: leftovers }
    }

    /// A killed daemon has left the service running, as this process.
    fn left() -> (Self, u32) {
        let lab = Self::new();
        let first = lab.start(LEAVE, &[]);
        let pid = lab.pid();
        crash(first);
        (lab, pid)
    }

    fn config(&self, further: &str) -> String {
        self.home.supervising(&self.service) + further
    }

    /// Starts a daemon that finds the service healthy.
    #[track_caller]
    fn start(&self, further: &str, args: &[&str]) -> Daemon {
        let daemon = Daemon::start(&self.config(further), args);
        self.service.until_healthy(&daemon);
        daemon
    }

    /// The only process of the service.
    #[track_caller]
    fn pid(&self) -> u32 {
        let pids = with_argument(&self.service.port.to_string());
        let [pid] = pids[..] else { panic!("one process, not {pids:?}") };
        pid
    }

    fn answers(&self) -> bool {
        http::get(self.service.port, "/health").is_ok_and(|(status, _)| status == 200)
    }
}

/// How many events a daemon has said that speak of a restart or of an incident.
fn troubles(daemon: &Daemon) -> usize {
    daemon.count(|event| {
        event_action(event).starts_with("incident.") || event_action(event).starts_with("restart.")
    })
}

fn outlives_its_daemons(args: &[&str]) {
    let lab = Lab::new();
    let mut pid = None;
    for how in ENDS {
        let daemon = lab.start(LEAVE, args);
        let first = *pid.get_or_insert_with(|| lab.pid());
        assert_eq!((lab.pid(), troubles(&daemon)), (first, 0), "{}", daemon.log());
        end(daemon, how);
        assert!(lives(first) && lab.answers(), "{how:?}");
    }
    let first = pid.expect("a pid");
    let group = cgroup::v2_of(first);
    let daemon = lab.start(LEAVE, args);
    daemon.wait_for_log(&format!("goes on as pid {first}"));
    let mark = daemon.mark();
    kill(first);
    let events = IncidentEvents::of(&daemon, mark, &lab.service.name);
    assert_eq!(events.verdict(), "killed", "its status is known, although it is nobody's child");
    let second = lab.pid();
    assert_ne!(second, first);
    assert_eq!(cgroup::v2_of(second), group, "it starts where it ran before");
    // What is stopped for an operator is known to the next daemon as well.
    lab.home.done(&["stop", &lab.service.name]);
    end(daemon, End::Clean);
    let daemon = Daemon::start(&lab.config(LEAVE), args);
    daemon.wait_for(becomes(&lab.service.name, "stopped"), LONG);
    assert_eq!(with_argument(&lab.service.port.to_string()), [0_u32; 0]);
    lab.home.done(&["start", &lab.service.name]);
    lab.service.until_healthy(&daemon);
    crash(daemon);

    let mut last = lab.start(STOP, args);
    lab.pid();
    assert_eq!(troubles(&last), 0);
    assert!(last.stop().success());
    assert_eq!(with_argument(&lab.service.port.to_string()), [0_u32; 0], "the last one was to end it");
    assert!(!group.exists(), "{} is removed", group.display());
}

#[test]
fn a_service_outlives_its_daemons_and_its_end_is_seen() {
    if require_root() {
        outlives_its_daemons(&[]);
    }
}

#[test]
fn a_service_outlives_its_daemons_without_hooks_too() {
    if require_root() {
        outlives_its_daemons(&["--without-hook", "all"]);
    }
}

#[test]
fn a_service_that_ended_while_no_daemon_ran_is_an_incident_of_the_next_which_restarts_it() {
    if !require_root() {
        return;
    }
    let lab = Lab::new();
    for how in ENDS {
        let daemon = lab.start(LEAVE, &[]);
        let before = lab.pid();
        end(daemon, how);
        kill(before);
        until("its end", LONG, || (!lives(before)).then_some(()));
        let mut daemon = Daemon::start(&lab.config(LEAVE), &[]);
        let over = daemon.wait_for(|event| is(event, "incident.resolve", &lab.service.name), LONG);
        assert_eq!(text(&over, "incident.verdict"), "exited", "{how:?}: {over}");
        assert_ne!(lab.pid(), before);
        let asked = |event: &Value| is(event, "restart.request", &lab.service.name);
        assert_eq!(daemon.count(asked), 1, "{how:?}");
        daemon.wait_for_log(&format!("pid {before} has ended while no hostprobe ran"));
        assert!(daemon.stop().success());
    }
    // A replay of all that decides alike.
    let file = lab.home.path("hostprobe.toml");
    std::fs::write(&file, lab.config(LEAVE)).expect("the configuration is written");
    let mut replay = Command::new(built("hostprobe"));
    let replayed = replay.arg("replay").arg("--config").arg(&file).output().expect("hostprobe can be run");
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stdout));
}

#[test]
fn a_changed_command_starts_anew_and_a_removed_one_ends_before_its_port_is_used_again() {
    if !require_root() {
        return;
    }
    let lab = Lab::new();
    let (gone, heir) = (Supervised::new(), Supervised::new());
    let _leftovers = Leftovers(gone.port.to_string());
    let victim = Victim::program().display().to_string();
    let on = |service: &Supervised, port: u16| {
        let run = service.service(&[&victim, "--port", &port.to_string()]);
        format!("{run}[[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\n")
    };
    let config = lab.config(&(LEAVE.to_owned() + &on(&gone, gone.port)));
    let daemon = Daemon::start(&config, &[]);
    lab.service.until_healthy(&daemon);
    gone.until_healthy(&daemon);
    let (changed, removed) = (lab.pid(), with_argument(&gone.port.to_string()));
    end(daemon, End::Clean);

    let command = format!("\"--port\", \"{}\"", lab.service.port);
    let next = config.replace(&command, &format!("{command}, \"--start-delay-ms\", \"0\""));
    let next = next.replace(&on(&gone, gone.port), &on(&heir, gone.port));
    assert!(next.contains("--start-delay-ms") && !next.contains(&gone.name), "{next}");
    let mut daemon = Daemon::start(&next, &[]);
    lab.service.until_healthy(&daemon);
    heir.until_healthy(&daemon);
    assert!(!lives(changed) && !lives(removed[0]));
    let now = with_argument("--start-delay-ms");
    assert!(now.contains(&lab.pid()));
    assert_eq!(with_argument(&gone.port.to_string()).len(), 1);
    assert_eq!(troubles(&daemon), 0, "{}", daemon.log());
    daemon.wait_for_log(&format!(
        "{}: ends pid {changed}, which an earlier hostprobe started: its command has changed",
        lab.service.name
    ));
    daemon.wait_for_log(&format!("{}: ends pid {}, which", gone.name, removed[0]));
    assert!(daemon.stop().success());
    // What has ended is not known any more.
    let daemon = Daemon::start(&next, &[]);
    heir.until_healthy(&daemon);
    assert!(!daemon.log().contains(&gone.name), "{}", daemon.log());
    assert_eq!(troubles(&daemon), 0);
}

/// Changes what the state file says of the command of a service.
fn forge(folder: PathBuf, service: &str, change: impl Fn(&mut Value)) {
    let options = StateOptions { directory: folder, ..StateOptions::default() };
    let (store, remembered) = StateStore::open(&options, &Origin::read("/proc".as_ref())).expect("it opens");
    let known = remembered.commands.get(service).expect("the command is kept");
    let mut known = serde_json::to_value(known).expect("JSON");
    change(&mut known);
    let forged: RunningCommand = serde_json::from_value(known).expect("a command");
    store.keep_command(service, Some(Box::new(forged)));
    store.shutdown(LONG);
}

fn key_of(pid: u32) -> ProcessKey {
    ProcReader::new("/").expect("/proc").key_of(pid).expect("it runs")
}

#[test]
fn another_process_than_the_one_that_was_started_is_never_touched() {
    if !require_root() {
        return;
    }
    let lab = Lab::new();
    let bystander = Victim::start_on(free_port());
    let other = key_of(bystander.process.pid());
    type Change = fn(&mut Value, ProcessKey);
    let changes: [(&str, Change, bool); 4] = [
        ("its pid has another process", |known, other| known["process"]["pid"] = json!(other.pid), true),
        ("another process in another cgroup", |known, other| known["process"] = json!(other), false),
        (
            "another boot",
            |known, other| {
                known["process"] = json!(other);
                known["scope"]["boot_id"] = json!("another");
            },
            false,
        ),
        (
            "another pid namespace",
            |known, other| {
                known["process"] = json!(other);
                known["scope"]["pid_namespace"] = json!(1);
            },
            false,
        ),
    ];
    for (what, change, is_an_end) in changes {
        let daemon = lab.start(LEAVE, &[]);
        let before = lab.pid();
        end(daemon, End::Clean);
        forge(lab.home.path("state"), &lab.service.name, |known| change(known, other));
        // The cgroup knows better than the file.
        let daemon = lab.start(LEAVE, &[]);
        assert_eq!((lab.pid(), troubles(&daemon)), (before, 0), "{what}");
        end(daemon, End::Clean);
        forge(lab.home.path("state"), &lab.service.name, |known| change(known, other));
        removexattr(cgroup::v2_of(before), "user.hostprobe.command").expect("it had one");
        let mut daemon = Daemon::start(&lab.config(LEAVE), &[]);
        let asked = |event: &Value| is(event, "restart.request", &lab.service.name);
        if is_an_end {
            daemon.wait_for(|event| is(event, "incident.resolve", &lab.service.name), LONG);
        }
        // The process that was left is in the cgroup of the service, which its start empties.
        until("another process", LONG, || {
            let pids = with_argument(&lab.service.port.to_string());
            (pids.len() == 1 && pids[0] != before).then_some(())
        });
        lab.service.until_healthy(&daemon);
        assert_eq!(daemon.count(asked), usize::from(is_an_end), "{what}");
        assert!(lives(other.pid) && key_of(other.pid) == other, "{what}: the other process is ended");
        assert!(daemon.stop().success());
    }
    assert_eq!(http::get(bystander.port, "/count").expect("an answer").1.trim(), "0");
}

#[test]
fn a_changed_command_waits_for_what_it_starts_after_and_starts_once() {
    if !require_root() {
        return;
    }
    let (lab, next) = (Lab::new(), Supervised::new());
    let _leftovers = Leftovers(next.port.to_string());
    let (victim, port) = (Victim::program().display().to_string(), next.port.to_string());
    let run = next.service(&[&victim, "--port", &port]);
    let (first, port) = (&lab.service.name, next.port);
    let probe = format!("[[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\n");
    let config = lab.config(&format!("{LEAVE}{run}start_after = [\"{first}\"]\n{probe}"));
    let daemon = Daemon::start(&config, &[]);
    lab.service.until_healthy(&daemon);
    next.until_healthy(&daemon);
    end(daemon, End::Clean);

    let mut changed = config;
    for port in [lab.service.port, next.port] {
        let command = format!("\"--port\", \"{port}\"");
        changed = changed.replace(&command, &format!("{command}, \"--start-delay-ms\", \"300\""));
    }
    let daemon = Daemon::start(&changed, &[]);
    lab.service.until_healthy(&daemon);
    next.until_healthy(&daemon);
    let events = daemon.events();
    let position = |name: &str| events.iter().position(becomes(name, "healthy")).expect("it is healthy");
    assert!(position(first) < position(&next.name), "{events:#?}");
    let ends =
        |event: &&Value| event_action(event) == "process.exit" && event["service"]["name"] == *next.name;
    assert_eq!(events.iter().filter(ends).count(), 1, "the former process alone: {events:#?}");
    assert_eq!(daemon.count(|event| event_action(event).starts_with("incident.")), 0, "{}", daemon.log());
}

#[test]
fn a_restart_that_a_killed_daemon_began_goes_on_as_the_same_one() {
    if !require_root() {
        return;
    }
    let (home, service) = (Home::new(), Supervised::new());
    let port = service.port.to_string();
    let _leftovers = Leftovers(port.clone());
    // It takes its time to end.
    let victim = Victim::program().display().to_string();
    let run = service.service(&["/bin/sh", "-c", "trap '' TERM; \"$0\" --port $1; true", &victim, &port]);
    let config = home.config(&format!(
        "{LEAVE}{run}stop_timeout = \"60s\"\n[[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\n\
         interval = \"200ms\"\ntimeout = \"200ms\"\nfailures = 2\n[service.restart]\nenabled = true\n"
    ));
    let of_it = |event: &Value, action: &str| is(event, action, &service.name);
    let first = Daemon::start(&config, &[]);
    service.until_healthy(&first);
    let pids = with_argument(&port);
    assert_eq!(pids.len(), 2, "the shell and the server");
    pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
    first.wait_for(|event| of_it(event, "restart.request"), LONG);
    // The signal to end comes with SIGCONT, once the state file knows of the restart.
    let runs = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('T'))
    };
    until("the signal to end", LONG, || pids.iter().all(runs).then_some(()));
    crash(first);
    pids.iter().for_each(|pid| kill(*pid));
    until("its end", LONG, || pids.iter().all(|pid| !lives(*pid)).then_some(()));
    let second = Daemon::start(&config, &[]);
    let done = second.wait_for(|event| of_it(event, "restart.done"), LONG);
    assert_eq!(done["restart"]["attempt"], 1, "{done:#}");
    second.wait_for_log("the restart that an earlier hostprobe began goes on");
    let again = |event: &Value| of_it(event, "process.exit") || of_it(event, "incident.open");
    assert_eq!(second.count(again), 0, "{:#?}", second.events());
}

#[test]
fn a_daemon_with_another_state_directory_leaves_alone_what_waits_for_its_own_next_daemon() {
    if !require_root() {
        return;
    }
    let (lab, pid) = Lab::left();
    // It has a service of the same name.
    let (other, its) = (Home::new(), Supervised::new());
    let config = other.supervising(&its).replace(&its.name, &lab.service.name) + LEAVE;
    let stranger = Daemon::start(&config, &[]);
    lab.service.until_healthy(&stranger);
    assert!(lives(pid) && lab.answers());
    let second = lab.start(LEAVE, &[]);
    assert_eq!(lab.pid(), pid);
    crash(second);
    drop(stranger);
    // Also what was taken over.
    let stranger = Daemon::start(&config, &[]);
    lab.service.until_healthy(&stranger);
    assert!(lives(pid) && lab.answers());
    drop(stranger);
    for pid in with_argument(&its.port.to_string()) {
        kill(pid);
    }
    let mut last = lab.start(STOP, &[]);
    assert_eq!((lab.pid(), troubles(&last)), (pid, 0));
    assert!(last.stop().success());
}

#[test]
fn a_daemon_that_only_observes_ends_nothing_that_an_earlier_one_started() {
    if !require_root() {
        return;
    }
    let (lab, pid) = Lab::left();
    // Its configuration is another one, or has nothing of the service, and it ends its services when it ends itself.
    let command = format!("\"--port\", \"{}\"", lab.service.port);
    let changed = lab.config(STOP).replace(&command, &format!("{command}, \"--start-delay-ms\", \"0\""));
    assert!(changed.contains("--start-delay-ms"), "{changed}");
    for (config, is_known) in [(changed.clone(), true), (lab.home.config(STOP), true), (changed, false)] {
        if !is_known {
            // As if the disk had been too slow.
            std::fs::remove_file(lab.home.path("state/state.db")).expect("it was there");
        }
        let mut observer = Daemon::start(&config, &["--observe"]);
        observer.ready();
        assert!(observer.stop().success());
        assert_eq!((lab.pid(), lives(pid)), (pid, true), "{}", observer.log());
    }
    let mut last = lab.start(STOP, &[]);
    assert_eq!((lab.pid(), troubles(&last)), (pid, 0), "{}", last.log());
    assert!(last.stop().success());
    assert_eq!(with_argument(&lab.service.port.to_string()), [0_u32; 0]);
}

#[test]
fn a_service_outlives_a_daemon_whose_state_file_does_not_know_it_yet() {
    if !require_root() {
        return;
    }
    let (lab, pid) = Lab::left();
    // As if the disk had been too slow.
    std::fs::remove_file(lab.home.path("state/state.db")).expect("it was there");
    let second = lab.start(LEAVE, &[]);
    assert_eq!((lab.pid(), troubles(&second)), (pid, 0), "{}", second.log());
    crash(second);
    let mut last = lab.start(STOP, &[]);
    assert_eq!((lab.pid(), troubles(&last)), (pid, 0), "{}", last.log());
    assert!(last.stop().success());
}
