//! Faults that only a probe of the right kind tells: certificates, health checks, plugins, jobs that report in, full disks.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    judge::{Expected, Held},
    row::{Measured, Row},
    scene::{PATIENCE, Scene, Service},
};
use crate::{
    http::{self, free_port},
    incident_events::{is, text},
    loop_disk::LoopDisk,
    parts::{Authority, LOCALHOST, PostgresFolder, Redis, built, grpc_command, require, require_root},
    process::until,
};

const API: &str = "api";
const CACHE: &str = "cache";
const DB: &str = "db";
const JOB: &str = "job";

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "27a",
        fault: "Redis: its certificate expires in 5 days",
        verdicts: &["limit_exceeded"],
        action: "degraded, alert",
        run: expires_soon,
    },
    Row {
        number: "27b",
        fault: "gRPC server: NOT_SERVING",
        verdicts: &["unhealthy"],
        action: "restart",
        run: not_serving,
    },
    Row {
        number: "27c",
        fault: "a Nagios plugin: CRITICAL",
        verdicts: &["unhealthy"],
        action: "restart",
        run: critical,
    },
    Row {
        number: "27d",
        fault: "a job does not report in",
        verdicts: &["unhealthy"],
        action: "alert",
        run: silent_job,
    },
    Row {
        number: "27e",
        fault: "PostgreSQL panics on a full file system",
        verdicts: &["exited"],
        action: "hold until there is room",
        run: full_disk,
    },
];

fn expires_soon(row: &Row) -> Option<Measured> {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let authority = Authority::new(folder.path(), "authority")?;
    let [late, soon] =
        [("late", 300), ("soon", 5)].map(|(name, days)| authority.issue(name, LOCALHOST, days));
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (pem, key) = (file("now.pem"), file("now.key"));
    let have = |certificate: &crate::parts::Certificate| {
        fs::copy(&certificate.pem, &pem)
            .and_then(|_| fs::copy(&certificate.key, &key))
            .expect("it is copied");
    };
    have(&late);
    let mut command = Redis::command(0, folder.path());
    let (tls_port, socket) = (port.to_string(), file("socket"));
    let options = ["--tls-port", &tls_port, "--tls-cert-file", &pem, "--tls-key-file", &key];
    let options = [&options[..], &["--tls-auth-clients", "no", "--unixsocket", &socket]].concat();
    command.extend(options.into_iter().map(str::to_owned));
    let trust = format!("tls = {{ ca_file = {:?}, expires_within = \"14d\" }}", authority.pem());
    let probe = format!("redis = \"rediss://localhost:{port}\"\n{trust}");
    let scene = Scene::start(&[Service::exec(CACHE, &command, port).probe(&probe)]);
    // Redis reads a certificate again when it is named again.
    let read_again = || {
        let set = ["-s", &socket, "CONFIG", "SET", "tls-cert-file", &pem, "tls-key-file", &key];
        let said =
            Command::new("/usr/bin/redis-cli").args(set).output().expect("redis-cli can be run").stdout;
        assert_eq!(String::from_utf8_lossy(&said).trim(), "OK");
    };
    have(&soon);
    read_again();
    let named = vec!["expires on ".to_owned()];
    let held = Held { service: CACHE, because: "", alert: true, named };
    Some(scene.judge_held(row, held, |scene| {
        scene.event("the alert", |event| is(event, "alert.send", CACHE));
        have(&late);
        read_again();
    }))
}

fn not_serving(row: &Row) -> Option<Measured> {
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let command = grpc_command(port)?;
    // The server says so while there is this file, and removes it at its start.
    let flag = folder.path().join("not-serving");
    let keys = format!("environment = {{ NOT_SERVING = {flag:?} }}");
    let probe = format!("grpc = \"grpc://127.0.0.1:{port}/shop.v1.Orders\"");
    let scene = Scene::start(&[Service::exec(API, &command, port).probe(&probe).keys(&keys)]);
    fs::write(&flag, "").expect("the folder can be written");
    Some(restarted_once(row, scene))
}

fn critical(row: &Row) -> Option<Measured> {
    const PLUGIN: &str = "/usr/lib/nagios/plugins/check_http";
    if !require_root() || !require("monitoring-plugins-basic", PLUGIN) {
        return None;
    }
    let port = free_port();
    let probe =
        format!("exec = [\"{PLUGIN}\", \"-H\", \"127.0.0.1\", \"-p\", \"{port}\", \"-u\", \"/health\"]");
    let times = "interval = \"250ms\"\ntimeout = \"5s\"\nfailures = 2";
    let scene = Scene::start(&[Service::victim(API, port).probe(&probe).times(times)]);
    let _ = http::get(port, "/fail");
    Some(restarted_once(row, scene))
}

/// Waits until a restart has mended it, and judges.
fn restarted_once(row: &Row, scene: Scene) -> Measured {
    scene.healed(API);
    scene.more_probes();
    let expected = Expected { service: API, restarts: &[(API, 1, 1)], resolved: true, ..Expected::default() };
    scene.judge(row, &expected)
}

fn silent_job(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let job = Service::new(JOB, "", 0).restart("").times("interval = \"250ms\"");
    let scene = Scene::start(&[job.probe("heartbeat = \"job\"\nevery = \"10s\"")]);
    let socket = scene.daemon.socket();
    let report = move || {
        let mut beat = Command::new(built("hostprobe"));
        beat.args(["beat", JOB, "--socket"]).arg(&socket).output().is_ok_and(|output| output.status.success())
    };
    assert!(report(), "the daemon hears the job");
    let reports = Arc::new(AtomicBool::new(true));
    // It ends with the row.
    let goes_on = Arc::downgrade(&reports);
    thread::spawn(move || {
        while let Some(reports) = goes_on.upgrade() {
            if reports.load(Ordering::SeqCst) {
                report();
            }
            drop(reports);
            thread::sleep(Duration::from_millis(500));
        }
    });
    reports.store(false, Ordering::SeqCst);
    let held = Held { service: JOB, because: "", alert: true, named: vec!["has not reported in".to_owned()] };
    Some(scene.judge_held(row, held, |scene| {
        scene.event("the alert", |event| is(event, "alert.send", JOB));
        reports.store(true, Ordering::SeqCst);
    }))
}

fn full_disk(row: &Row) -> Option<Measured> {
    let disk = LoopDisk::new(300, &[])?;
    let (folder, port) = (PostgresFolder::below(disk.path())?, free_port());
    let mut command = folder.command(port);
    // A server that gives up at a PANIC, and leaves the restart to what watches it.
    command.extend(["-c", "restart_after_crash=off"].map(str::to_owned));
    let probe = format!("postgres = \"postgres://postgres@127.0.0.1:{port}/postgres\"");
    let point = disk.path().display().to_string();
    let host = format!("[host]\nfilesystems = {{ \"*\" = false, {point:?} = {{}} }}\n");
    // Its disk is slow on a busy machine.
    let times = "interval = \"250ms\"\ntimeout = \"5s\"\nfailures = 2";
    // The backend that panics ends first, and takes the server with it.
    let keys = "policy = { worker_died = \"ignore\" }";
    let db = Service::exec(DB, &command, port).probe(&probe).times(times).keys(keys);
    let scene = Scene::start_with(&[db], &host, |command| command);
    disk.fill();
    scene.event("the file system is full", |event| {
        is(event, "incident.open", "host") && text(event, "incident.verdict") == "host_disk_full"
    });
    // The write-ahead log needs its next file.
    let log = "select pg_logical_emit_message(false, 'x', repeat('x', 1000000)) from generate_series(1, 40)";
    folder.try_sql(port, log);
    scene.event("the restart is held", |event| is(event, "restart.hold", DB));
    scene.more_probes();
    let early =
        scene.daemon.since(scene.mark).iter().filter(|event| is(event, "restart.request", DB)).count();
    disk.make_room();
    until("the server is well again", PATIENCE * 2, || scene.healed(DB).then_some(()));
    scene.more_probes();
    let held = "which takes no more data";
    let expected =
        Expected { service: DB, restarts: &[(DB, 1, 1)], held, resolved: true, ..Expected::default() };
    let mut measured = scene.judge(row, &expected);
    measured.expect(early == 0, || "it was restarted on a full file system".to_owned());
    Some(measured)
}
