//! Resources that run out, as a real daemon announces them: descriptors, memory and connections that leak for real.

use std::{
    io::Write as _,
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use hostprobe_tests::{
    daemon::{Daemon, field},
    http::{self, free_port},
    incident_events::{is, number, text},
    lab::server::{DB, ServerLab},
    memcg::MemoryCgroup,
    parts::{PostgresFolder, available, require, require_root},
    process::Running,
    supervised::Supervised,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(120);

const PYTHON: &str = "/usr/bin/python3";

/// So short that a block is a second: a leak is found within half a minute.
const GROWTH: &str = "growth = \"4m\"\n";

fn ready_to_go() -> bool {
    require_root() && require("python3", PYTHON)
}

/// Opens eight descriptors a second until there are none left, and goes on.
const LEAKS_DESCRIPTORS: &str = "
import os, time
kept = []
while True:
    try:
        kept.append(os.open('/dev/null', os.O_RDONLY))
    except OSError:
        pass
    time.sleep(0.125)
";

/// Fills four MiB a second, up to 140 of them.
const LEAKS_MEMORY: &str = "
import time
kept = []
print('leaks', flush=True)
while True:
    if len(kept) < 140:
        kept.append(b'x' * (1 << 20))
    time.sleep(0.25)
";

/// The incident of a service whose resource runs out, with the event that is its evidence.
fn announced(daemon: &Daemon, service: &str) -> (Value, Value) {
    let exhausting = |event: &Value| {
        is(event, "incident.open", service) && text(event, "incident.verdict") == "exhausting"
    };
    let open = daemon.wait_for(exhausting, LONG);
    let growth = daemon.wait_for(|event| is(event, "service.growth", service), LONG);
    let evidence = field(&open, "incident.evidence").cloned().unwrap_or_default();
    assert_eq!(evidence[0], growth["event"]["id"], "{open:#}");
    assert_eq!(text(&open, "incident.severity"), "warning");
    let of = |name: &str| field(&growth, &format!("growth.{name}")).and_then(Value::as_f64).expect(name);
    assert!(of("earliest_ms") <= of("left_ms") && of("left_ms") <= of("latest_ms"), "{growth:#}");
    assert!(of("latest_ms") <= 240_000.0 && of("used") < of("ceiling"), "{growth:#}");
    (open, growth)
}

#[test]
fn descriptors_that_leak_are_announced_before_the_last_is_open() {
    if !ready_to_go() {
        return;
    }
    let (service, page) = (Supervised::new(), free_port());
    let name = service.name.as_str();
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:{page}\"\n{}rlimits = {{ nofile = 300 }}\n[service.limits]\n{GROWTH}",
        service.service(&[PYTHON, "-c", LEAKS_DESCRIPTORS])
    );
    let mut daemon = Daemon::start(&config, &[]);
    let (open, growth) = announced(&daemon, name);
    assert_eq!(text(&growth, "growth.resource"), "fds");
    assert_eq!(
        (text(&growth, "growth.limit"), number(&growth, "growth.ceiling")),
        ("RLIMIT_NOFILE", Some(300))
    );
    let per_hour = number(&growth, "growth.per_hour").expect("a slope");
    // Eight a second, and a busy machine is slower.
    assert!((3000..30_000).contains(&per_hour), "{growth:#}");
    let summary = text(&open, "incident.summary");
    assert!(summary.contains("descriptors more an hour and reaches its limit in "), "{summary}");
    assert!(summary.contains(" of 300 descriptors are used (RLIMIT_NOFILE)"), "{summary}");
    let (_, metrics) = http::get(page, "/metrics").expect("the daemon serves");
    let gauge = format!("hostprobe_resource_time_left_seconds{{service=\"{name}\",resource=\"fds\"}}");
    assert!(metrics.contains(&gauge), "{metrics}");
    assert_eq!(daemon.count(|event| is(event, "restart.request", name)), 0);
    daemon.stop();
}

#[test]
fn a_leak_is_mended_by_a_restart_within_a_window_of_maintenance() {
    if !ready_to_go() {
        return;
    }
    let service = Supervised::new();
    let name = service.name.as_str();
    let config = format!(
        "[http]\nlisten = \"\"\n{}rlimits = {{ nofile = 300 }}\nmaintenance = [\"daily 00:00-24:00\"]\n[service.limits]\n\
         {GROWTH}[service.policy]\nexhausting = \"restart\"\n",
        service.service(&[PYTHON, "-c", LEAKS_DESCRIPTORS])
    );
    let mut daemon = Daemon::start(&config, &[]);
    announced(&daemon, name);
    let mark = daemon.mark();
    daemon.wait_for(|event| is(event, "restart.done", name), LONG);
    daemon.wait_for(|event| is(event, "incident.resolve", name), LONG);
    let again = |event: &&Value| is(event, "restart.request", name);
    assert!(daemon.since(mark).iter().filter(again).count() <= 1);
    daemon.stop();
}

/// Opens 200 descriptors and starts 20 threads, and does nothing more.
const USES_MUCH: &str = "
import os, threading, time
kept = [os.open('/dev/null', os.O_RDONLY) for _ in range(200)]
for _ in range(20):
    threading.Thread(target=time.sleep, args=(1000,)).start()
";

#[test]
fn descriptors_and_threads_are_measured_against_their_own_limits() {
    if !ready_to_go() {
        return;
    }
    let service = Supervised::new();
    let config = format!(
        "[http]\nlisten = \"\"\n{}rlimits = {{ nofile = 300 }}\n[service.limits]\nfds_percent = 50\n\
         threads_percent = 0.01\n",
        service.service(&[PYTHON, "-c", USES_MUCH])
    );
    let mut daemon = Daemon::start(&config, &[]);
    let open = daemon.wait_for(|event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&open, "incident.verdict"), "limit_exceeded");
    let summary = text(&open, "incident.summary");
    assert!(summary.contains("share of RLIMIT_NOFILE 6"), "{summary}");
    assert!(summary.contains("% is above its limit of 50%"), "{summary}");
    assert!(summary.contains("share of the tightest limit on threads "), "{summary}");
    daemon.stop();
}

#[test]
fn memory_that_leaks_is_announced_before_its_cgroup_is_full() {
    if !ready_to_go() {
        return;
    }
    let cgroup = MemoryCgroup::new(160 << 20);
    if !available(cgroup.is_ok(), "a memory cgroup") {
        return;
    }
    let cgroup = cgroup.expect("it was made");
    let leak = Running::start(Command::new(PYTHON).args(["-c", LEAKS_MEMORY]), Signal::KILL);
    cgroup.add(leak.pid()).expect("it moves");
    leak.wait_until_it_says("leaks", &leak.stdout, LONG);
    let pidfile = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(pidfile.path(), leak.pid().to_string()).expect("it is written");
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = \"app\"\nmatch = {{ pidfile = {:?} }}\n[service.limits]\n{GROWTH}",
        pidfile.path().display().to_string()
    );
    let mut daemon = Daemon::start(&config, &[]);
    let (open, growth) = announced(&daemon, "app");
    assert_eq!(text(&growth, "growth.resource"), "memory");
    assert_eq!(number(&growth, "growth.ceiling"), Some(160 << 20));
    let limit = text(&growth, "growth.limit");
    assert!(limit.ends_with(&format!(" of {}", cgroup.path())), "{limit}");
    let summary = text(&open, "incident.summary");
    assert!(summary.contains(" of 160.0 MiB are used"), "{summary}");
    daemon.stop();
}

/// A session of the user `postgres` that does nothing, as an application without a pool has many.
fn connection(port: u16) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let mut startup = vec![0, 0, 0, 0, 0, 3, 0, 0];
    startup.extend(b"user\0postgres\0database\0postgres\0\0");
    startup[3] = u8::try_from(startup.len()).ok()?;
    stream.write_all(&startup).ok()?;
    Some(stream)
}

#[test]
fn connections_of_a_postgres_that_grow_are_announced_before_none_is_left() {
    if !require_root() {
        return;
    }
    let Some(folder) = PostgresFolder::new() else { return };
    let port = free_port();
    let mut command = folder.command(port);
    command.extend(["-c", "max_connections=103"].map(str::to_owned));
    let probe =
        format!("postgres = \"postgres://postgres@127.0.0.1:{port}/postgres\"\nconnections_percent = 99");
    let lab =
        ServerLab::start(&format!("exec = {command:?}"), &probe, &format!("[service.limits]\n{GROWTH}"));
    lab.wait_until_healthy();
    let (begin, mut clients) = (Instant::now(), Vec::new());
    let grows = |event: &Value| is(event, "service.growth", DB);
    while lab.daemon.count(grows) == 0 && begin.elapsed() < LONG {
        // Two a second: the pace is what is measured.
        std::thread::sleep(Duration::from_millis(500));
        clients.extend(connection(port));
    }
    let (_, growth) = announced(&lab.daemon, DB);
    assert_eq!(text(&growth, "growth.resource"), "connections");
    assert_eq!(number(&growth, "growth.ceiling"), Some(100), "{growth:#}");
    drop(clients);
}
