//! Services whose processes are kept from running on purpose are held: frozen, traced, stopped from a terminal, or writing
//! their core dump.

use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Command, time::Duration};

use hostprobe_tests::{
    cgroup::Group,
    core_dump::{SlowDumps, allocate},
    daemon::{Daemon, Mark, event_action},
    http,
    incident_events::{is, number, text},
    parts::{available, require, require_root},
    process::{Running, Traced, signal, with_argument},
    supervised::Supervised,
    terminal,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Longer than a restart that is not wanted would take to come.
const QUIET: Duration = Duration::from_secs(3);

/// Both ways to see: with the hooks, and without any.
const SEEING: [&[&str]; 2] = [&[], &["--without-hook", "all"]];

const TIMES: &str =
    "interval = \"200ms\"\ntimeout = \"1s\"\nfailures = 3\n[service.restart]\ngrace = \"1s\"\n";

fn start(service: &Supervised, args: &[&str]) -> Daemon {
    let daemon = Daemon::start(&service.config(TIMES), args);
    service.until_healthy(&daemon);
    // Failures count after the grace.
    std::thread::sleep(Duration::from_secs(1));
    daemon
}

/// The victim that serves.
fn main_of(service: &Supervised) -> u32 {
    let [main] = with_argument(&service.port.to_string())[..] else { panic!("one process serves") };
    main
}

fn restarts(daemon: &Daemon, mark: Mark) -> usize {
    daemon.since(mark).iter().filter(|event| event_action(event) == "restart.request").count()
}

/// Has a service paused, and checks that it is held and goes on afterwards. Returns the incident's summary.
fn is_held<P>(
    service: &Supervised,
    daemon: &Daemon,
    pause: impl FnOnce(u32) -> P,
    resume: impl FnOnce(P),
) -> String {
    let (mark, main) = (daemon.mark(), main_of(service));
    let paused = pause(main);
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "paused", "{opened}");
    let held = daemon.wait_for_after(mark, |event| is(event, "restart.hold", &service.name), LONG);
    assert!(text(&held, "event.reason").contains("a restart would"), "{held}");
    std::thread::sleep(QUIET);
    resume(paused);
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
    assert_eq!(restarts(daemon, mark), 0);
    assert_eq!(main_of(service), main);
    text(&opened, "incident.summary").to_owned()
}

#[test]
fn a_frozen_cgroup_of_version_2_is_a_pause() {
    if !require_root() {
        return;
    }
    for args in SEEING {
        let service = Supervised::new();
        let daemon = start(&service, args);
        let freeze = service.cgroup(&daemon).join("cgroup.freeze");
        let set = |value: &str| fs::write(&freeze, value).expect("the cgroup is frozen or thawed");
        let summary = is_held(&service, &daemon, |_| set("1"), |()| set("0"));
        assert!(summary.contains("its cgroup /") && summary.contains("is frozen"), "{summary}");
    }
}

#[test]
fn a_frozen_cgroup_of_version_1_names_the_container() {
    let freezer = Path::new("/sys/fs/cgroup/freezer");
    if !require_root() || !available(freezer.join("cgroup.procs").exists(), "the freezer of cgroup v1") {
        return;
    }
    let id = "0123456789abcdef".repeat(4);
    for args in SEEING {
        let service = Supervised::new();
        let daemon = start(&service, args);
        let group = Group::new(freezer, &format!("docker-{id}.scope"));
        let set = |value: &str| fs::write(group.folder().join("freezer.state"), value).expect("it is set");
        let pause = |main| {
            group.add(main);
            set("FROZEN");
            main
        };
        let resume = |main: u32| {
            set("THAWED");
            fs::write(freezer.join("cgroup.procs"), main.to_string()).expect("it is moved");
        };
        let summary = is_held(&service, &daemon, pause, resume);
        assert!(summary.contains(&format!("container {id} is paused")), "{summary}");
    }
}

#[test]
fn a_debugger_that_stops_a_service_is_named() {
    if !require_root() {
        return;
    }
    for args in SEEING {
        let service = Supervised::new();
        let daemon = start(&service, args);
        let summary = is_held(&service, &daemon, Traced::stop, drop);
        let own = std::process::id();
        assert!(summary.contains(&format!("(pid {own}) traces it")), "{summary}");
    }
}

#[test]
fn a_stop_from_a_terminal_is_a_pause_and_names_its_sender() {
    if !require_root() || !terminal::is_there() {
        return;
    }
    let service = Supervised::new();
    let daemon = start(&service, &[]);
    let stop = |main| {
        // The operator's shell is still there when the daemon hears of the signal.
        terminal::run(&format!("kill -STOP {main}; sleep 1"));
        main
    };
    let summary = is_held(&service, &daemon, stop, |main| signal(main, Signal::CONT));
    assert!(
        summary.contains("stopped (state T) by SIGSTOP from") && summary.contains("at a terminal"),
        "{summary}"
    );
}

#[test]
fn job_control_is_a_pause() {
    if !require_root() {
        return;
    }
    for stop in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
        let service = Supervised::new();
        let port = service.port;
        let mut command = Command::new(Victim::program());
        // As a shell with job control starts it: in a group of its own, and in its parent's session.
        command.args(["--port", &port.to_string()]).process_group(0);
        let victim = Running::start(&mut command, Signal::KILL);
        victim.wait_until_it_says("listening on", &victim.stdout, LONG);
        let config = format!(
            "[http]\nlisten = \"\"\n[[service]]\nname = {:?}\nmatch = {{ port = {port} }}\n\
             [[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\n{TIMES}\
             enabled = true\ncommand = [\"/usr/bin/true\"]\n",
            service.name
        );
        let daemon = Daemon::start(&config, &[]);
        service.until_healthy(&daemon);
        let pause = |main| {
            signal(main, stop);
            main
        };
        is_held(&service, &daemon, pause, |main| signal(main, Signal::CONT));
    }
}

#[test]
fn job_control_does_not_stop_a_supervised_command() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let daemon = start(&service, &[]);
    let mark = daemon.mark();
    // The kernel discards it: the command leads a session of its own.
    signal(main_of(&service), Signal::TSTP);
    service.kill(&daemon);
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
    let stopped = |event: &Value| is(event, "process.suspend", &service.name);
    assert!(!daemon.since(mark).iter().any(stopped), "the daemon reports no stop");
}

/// Crashes a service whose dump takes so long, and returns its incident and the size of the dump.
fn crash_with_dump(service: &Supervised, daemon: &Daemon, seconds: u32) -> (Value, u64) {
    let main = main_of(service);
    allocate(service.port, main, 200);
    let mark = daemon.mark();
    let dumps = SlowDumps::new(service.folder(), main, seconds);
    drop(http::get(service.port, "/segv"));
    dumps.until_begun();
    drop(dumps);
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", &service.name), LONG);
    let over = daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "crashed", "{opened}");
    assert_eq!((text(&over, "incident.verdict"), restarts(daemon, mark)), ("crashed", 1));
    (opened, SlowDumps::size(service.folder()))
}

#[test]
fn a_core_dump_is_left_to_finish_before_the_restart() {
    if !require_root() {
        return;
    }
    for args in SEEING {
        let service = Supervised::new();
        let daemon = start(&service, args);
        // Longer than the supervisor waits after SIGTERM.
        let (opened, size) = crash_with_dump(&service, &daemon, 13);
        let summary = text(&opened, "incident.summary");
        assert!(summary.contains("writes its core dump"), "{summary}");
        assert!(size > 200_000_000, "the dump has {size} bytes");
    }
}

#[test]
fn a_core_dump_is_seen_from_its_signal_on_without_a_probe_that_fails() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let patient =
        "interval = \"200ms\"\ntimeout = \"60s\"\nfailures = 3\n[service.restart]\ngrace = \"1s\"\n";
    let daemon = Daemon::start(&service.config(patient), &[]);
    service.until_healthy(&daemon);
    let mark = daemon.mark();
    let (opened, size) = crash_with_dump(&service, &daemon, 3);
    let summary = text(&opened, "incident.summary");
    assert!(summary.contains("crashed with SIGSEGV and writes its core dump"), "{summary}");
    assert!(size > 200_000_000, "the dump has {size} bytes");
    let events = daemon.since(mark);
    let first = |action| events.iter().position(|event| is(event, action, &service.name));
    assert!(first("incident.open") < first("process.exit"), "it is open before the exit");
    assert!(first("probe.fail").is_none_or(|fail| first("incident.open") < Some(fail)));
}

#[test]
fn the_core_dump_of_a_wrappers_command_is_left_to_finish() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let (victim, port) = (Victim::program().display().to_string(), service.port);
    let script = format!("{victim} --port {port} & wait");
    let config = service.service(&["/bin/sh", "-c", &script]);
    let probe = format!(
        "[[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\ninterval = \"200ms\"\ntimeout = \"1s\"\n\
         [service.restart]\ngrace = \"1s\"\n"
    );
    let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{config}{probe}"), &[]);
    service.until_healthy(&daemon);
    std::thread::sleep(Duration::from_secs(1));
    let main = main_of(&service);
    allocate(service.port, main, 200);
    let mark = daemon.mark();
    let dumps = SlowDumps::new(service.folder(), main, 13);
    drop(http::get(port, "/segv"));
    dumps.until_begun();
    drop(dumps);
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "crashed", "{opened}");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
    assert!(SlowDumps::size(service.folder()) > 200_000_000);
    assert_eq!(restarts(&daemon, mark), 1);
}

#[test]
fn a_program_that_writes_no_dump_is_restarted_at_once() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let daemon = start(&service, &[]);
    let mark = daemon.mark();
    drop(http::get(service.port, "/segv"));
    let over = daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
    assert_eq!((text(&over, "incident.verdict"), restarts(&daemon, mark)), ("crashed", 1));
    assert!(number(&over, "incident.attempts").is_none_or(|attempts| attempts == 1));
}

#[test]
fn a_service_that_hangs_while_it_is_traced_is_restarted_after_the_trace() {
    if !require_root() || !require("strace", "/usr/bin/strace") {
        return;
    }
    let service = Supervised::new();
    let daemon = start(&service, &[]);
    let main = main_of(&service).to_string();
    let mark = daemon.mark();
    let strace = Running::start(
        Command::new("/usr/bin/strace").args(["-f", "-o", "/dev/null", "-p", &main]),
        Signal::TERM,
    );
    strace.wait_until_it_says("attached", &strace.stderr, LONG);
    std::thread::sleep(Duration::from_secs(2));
    // A service that is traced and answers is healthy.
    let opened = daemon.since(mark).iter().filter(|event| event_action(event) == "incident.open").count();
    assert_eq!(opened, 0);
    // What does not answer while it is traced is held.
    drop(http::get(service.port, "/hang"));
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "paused");
    assert!(text(&opened, "incident.summary").contains(&format!("strace (pid {}) traces it", strace.pid())));
    drop(strace);
    daemon.wait_for_after(mark, |event| is(event, "restart.request", &service.name), LONG);
}
