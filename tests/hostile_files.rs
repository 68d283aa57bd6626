//! Paths of the configuration that lead to a FIFO, a device, an endless file or a file system that does not answer: the
//! daemon says so, watches and restarts the others, and ends when it is asked to.

use std::{
    fs::{self, File},
    path::Path,
    time::Duration,
};

use hostprobe_tests::{
    daemon::Daemon,
    hanging_mount::HangingMount,
    http::free_port,
    incident_events::{IncidentEvents, is, text},
    lab::probed,
    parts::{Redis, require, require_root},
    process::{peak_resident, until},
    supervised::Supervised,
};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};
use serde_json::Value;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(60);

/// The daemon and a few megabytes for its tables; a file that is read whole takes gigabytes.
const RESIDENT_MAX: u64 = 200 << 20;

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO can be made");
}

fn matched(name: &str, pidfile: &Path) -> String {
    format!("[[service]]\nname = {name:?}\n[service.match]\npidfile = {:?}\n", pidfile.display().to_string())
}

/// A neighbour under the supervisor, next to these services.
fn with_neighbour(others: &str) -> (Supervised, Daemon) {
    let neighbour = Supervised::new();
    let daemon = Daemon::start(&format!("{}{others}", neighbour.config("")), &[]);
    daemon.ready();
    neighbour.until_healthy(&daemon);
    (neighbour, daemon)
}

/// The neighbour is restarted when it is killed, and the daemon ends in time.
fn works_and_ends(neighbour: &Supervised, mut daemon: Daemon, within: Duration) {
    let mark = daemon.mark();
    neighbour.kill(&daemon);
    IncidentEvents::of(&daemon, mark, &neighbour.name);
    daemon.signal(Signal::TERM);
    daemon.wait(within);
}

#[test]
fn a_pidfile_that_is_no_short_file_holds_up_nothing() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    fifo(&at("fifo"));
    std::os::unix::fs::symlink("/dev/zero", at("zero")).expect("a link");
    File::create(at("sparse")).and_then(|file| file.set_len(3 << 30)).expect("a sparse file");
    fs::create_dir(at("folder")).expect("a folder");
    std::os::unix::fs::symlink("nowhere", at("dangling")).expect("a link");
    let kinds = ["fifo", "zero", "sparse", "folder", "dangling"];
    let services: String = kinds.iter().map(|kind| matched(kind, &at(kind))).collect();
    let (neighbour, daemon) = with_neighbour(&services);
    // Two rounds of the search for them.
    std::thread::sleep(Duration::from_secs(3));
    let peak = peak_resident(daemon.pid());
    assert!(peak < RESIDENT_MAX, "{peak} bytes");
    works_and_ends(&neighbour, daemon, Duration::from_secs(15));
}

#[test]
fn an_output_that_is_a_fifo_without_a_reader_is_refused_with_its_reason() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("output");
    fifo(&path);
    let service = format!(
        "[[service]]\nname = \"mute\"\nexec = [\"/bin/sleep\", \"60\"]\noutput = {:?}\n",
        path.display().to_string()
    );
    let (neighbour, daemon) = with_neighbour(&service);
    let incident = daemon.wait_for(|event| is(event, "incident.open", "mute"), LONG);
    let summary = text(&incident, "incident.summary");
    assert!(summary.contains("a FIFO that no process reads") && summary.contains("/output"), "{summary}");
    works_and_ends(&neighbour, daemon, Duration::from_secs(15));
}

#[test]
fn a_file_system_that_does_not_answer_costs_its_own_services_only() {
    let Some(mount) = HangingMount::new() else { return };
    let folder = TempDir::new().expect("a temporary folder");
    let exec = |name: &str, output: &Path, further: &str| {
        format!(
            "[[service]]\nname = {name:?}\nexec = [\"/bin/sleep\", \"60\"]\noutput = {:?}\n{further}\n",
            output.display().to_string()
        )
    };
    let directory = format!("directory = {:?}", mount.path("work").display().to_string());
    let services = [
        matched("pidfile", &mount.path("pid")),
        exec("output", &mount.path("output"), ""),
        exec("directory", &folder.path().join("directory"), &directory),
    ]
    .concat();
    let (neighbour, daemon) = with_neighbour(&services);
    for name in ["output", "directory"] {
        let incident = daemon.wait_for(|event| is(event, "incident.open", name), LONG);
        let summary = text(&incident, "incident.summary");
        assert!(summary.contains("no answer within"), "{summary}");
    }
    works_and_ends(&neighbour, daemon, Duration::from_secs(28));
}

#[test]
fn an_event_file_that_is_no_file_is_refused_with_its_reason() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("events");
    fifo(&path);
    let config = format!("[http]\nlisten = \"\"\n[events]\noutput = {:?}\n", path.display().to_string());
    let mut daemon = Daemon::start_to_file(&config, &[]);
    assert_eq!(daemon.wait(LONG).code(), Some(1));
    let log = daemon.log();
    assert!(log.contains("/events: a FIFO that no process reads"), "{log}");
}

#[test]
fn a_command_gets_the_limit_on_descriptors_that_the_daemon_was_started_with() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let config = service.service(&["/bin/sh", "-c", "ulimit -Sn; exec sleep 60"]);
    let under = ["/usr/bin/prlimit", "--nofile=777:5000"];
    let mut daemon = Daemon::start_under(&under, &format!("[http]\nlisten = \"\"\n{config}"), &[]);
    daemon.ready();
    let said =
        until("the command says its limit", LONG, || Some(service.output()).filter(|said| !said.is_empty()));
    assert_eq!(said.trim(), "777");
    let own = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).expect("the daemon lives");
    let files = own.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert_eq!(files.split_whitespace().nth(3), Some("5000"), "its own is raised: {files}");
    // It ends the command.
    daemon.signal(Signal::TERM);
    daemon.wait(LONG);
}

#[test]
fn files_of_a_probe_on_a_mount_that_hangs_cost_one_thread_and_no_service_its_process() {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return;
    }
    let Some(mount) = HangingMount::new() else { return };
    let (folder, port) = (TempDir::new().expect("a temporary folder"), free_port());
    let probes = [
        (
            "tls",
            format!(
                "redis = \"rediss://127.0.0.1:{port}\"\ntls = {{ ca_file = {:?} }}",
                mount.path("ca.pem")
            ),
        ),
        ("socket", format!("redis = \"redis+unix://{}\"", mount.path("redis.sock").display())),
    ];
    let redis = Redis::command(port, folder.path());
    let sleep = probed::words(&["/bin/sleep", "1000"]);
    let services: String = probes
        .iter()
        .zip([&redis, &sleep])
        .map(|((name, probe), command)| {
            probed::service(name, command, probe, probed::QUICK, folder.path()) + "enabled = true\n"
        })
        .collect();
    let mut daemon = probed::start(&services);
    for (name, _) in &probes {
        let fails =
            |event: &Value| is(event, "probe.fail", name) && text(event, "probe.error") == "cannot_ask";
        daemon.wait_for(fails, LONG);
        daemon.wait_for(|event| is(event, "restart.hold", name), LONG);
    }
    let waiting = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs").flatten();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        tasks.map(name).filter(|name| name == "probe files\n").count()
    };
    assert_eq!(waiting(), 2, "one for each probe");
    // Four more runs of each at least.
    let mark = daemon.mark();
    for (name, _) in &probes {
        let count = || daemon.since(mark).iter().filter(|event| is(event, "probe.fail", name)).count();
        until("further runs", LONG, || (count() >= 4).then_some(()));
    }
    assert_eq!(waiting(), 2);
    for (name, _) in &probes {
        assert_eq!(daemon.count(|event| is(event, "restart.request", name)), 0, "{name}");
    }
    drop(mount);
    daemon.stop();
}
