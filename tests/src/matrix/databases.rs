//! Stores that are full, out of connections, recovering from a crash, at odds with their disk, or busy with it.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
};

use super::{
    judge::{Expected, Held},
    row::{Measured, Row},
    scene::{PATIENCE, Scene, Service},
};
use crate::{
    http::{self, free_port},
    incident_events::{is, text},
    parts::{PostgresFolder, Redis, built, require, require_root},
    process::{signal, until},
};
use rustix::process::Signal;

const CACHE: &str = "cache";
const DB: &str = "db";
const SHOP: &str = "shop";

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "11",
        fault: "Redis at maxmemory, noeviction",
        verdicts: &["memory_full"],
        action: "alert",
        run: memory_full,
    },
    Row {
        number: "12",
        fault: "PostgreSQL: all connections taken by a client",
        verdicts: &["pool_exhausted"],
        action: "alert; never the database",
        run: pool_exhausted,
    },
    Row {
        number: "13",
        fault: "PostgreSQL SIGKILLed (crash recovery)",
        verdicts: &["killed"],
        action: "restart; starting meanwhile",
        run: crash_recovery,
    },
    Row {
        number: "28a",
        fault: "PostgreSQL: a file of its database is missing",
        verdicts: &["unhealthy"],
        action: "hold, alert",
        run: missing_file,
    },
    Row {
        number: "28b",
        fault: "PostgreSQL may not read a file of its database",
        verdicts: &["unhealthy"],
        action: "hold, alert",
        run: denied_file,
    },
    Row {
        number: "28c",
        fault: "PostgreSQL: a session locks what each login reads",
        verdicts: &["unhealthy"],
        action: "hold, alert",
        run: locked_out,
    },
    Row {
        number: "28d",
        fault: "Redis saves its data in the foreground for 15 s",
        verdicts: &["unhealthy"],
        action: "hold until it is done",
        run: foreground_save,
    },
];

fn memory_full(row: &Row) -> Option<Measured> {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let mut command = Redis::command(port, folder.path());
    let options = ["--maxmemory", "8mb", "--maxmemory-policy", "noeviction", "--enable-debug-command", "yes"];
    command.extend(options.map(str::to_owned));
    let probe = format!("redis = \"redis://127.0.0.1:{port}\"\nmemory_percent = 90");
    let scene = Scene::start(&[Service::exec(CACHE, &command, port).probe(&probe)]);
    Redis::request(port, "DEBUG POPULATE 7000 filling 1024");
    until("Redis refuses a write", PATIENCE, || {
        Redis::request(port, "DEBUG POPULATE 100 more 1024");
        Redis::request(port, "SET one more").contains("OOM command not allowed").then_some(())
    });
    let found = scene.verdict(CACHE, "memory_full");
    scene.more_probes();
    assert!(Redis::request(port, "FLUSHALL").starts_with("+OK"), "Redis can be emptied");
    if found.is_some() {
        scene.healed(CACHE);
    }
    scene.more_probes();
    let alerts = Some(&[CACHE][..]);
    let expected = Expected { service: CACHE, alerts, resolved: true, ..Expected::default() };
    Some(scene.judge(row, &expected))
}

fn pool_exhausted(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let folder = PostgresFolder::new()?;
    let (port, shop) = (free_port(), free_port());
    let mut command = folder.command(port);
    // Three of them are reserved for superusers; twelve remain.
    command.extend(["-c", "max_connections=15"].map(str::to_owned));
    // The probe needs its user from the start.
    folder.serve_once(port, "CREATE ROLE probe LOGIN IN ROLE pg_monitor; CREATE ROLE shop LOGIN");
    let client = built("client").display().to_string();
    let client = [client, "--port".into(), shop.to_string(), "--postgres".into(), port.to_string()];
    let probe =
        format!("postgres = \"postgres://probe@127.0.0.1:{port}/postgres\"\nconnections_percent = 90");
    let scene =
        Scene::start(&[Service::exec(DB, &command, port).probe(&probe), Service::exec(SHOP, &client, shop)]);
    let taken = until("the client has all connections", PATIENCE, || {
        let (_, taken) = http::get(shop, "/take?n=20").ok()?;
        taken.parse::<usize>().ok().filter(|&taken| taken >= 11)
    });
    let found = scene.verdict(DB, "pool_exhausted");
    scene.more_probes();
    let _ = http::get(shop, "/take?n=0");
    if found.is_some() {
        scene.healed(DB);
    }
    scene.more_probes();
    let named = vec![SHOP.to_owned(), "orders".to_owned()];
    let expected =
        Expected { service: DB, alerts: Some(&[DB]), named, resolved: true, ..Expected::default() };
    let mut measured = scene.judge(row, &expected);
    measured.expect(taken <= 12, || format!("the client got {taken} connections, more than there are"));
    Some(measured)
}

fn crash_recovery(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (folder, port) = (PostgresFolder::new()?, free_port());
    let probe = format!("postgres = \"postgres://postgres@127.0.0.1:{port}/postgres\"");
    let scene = Scene::start(&[Service::exec(DB, &folder.command(port), port).probe(&probe)]);
    folder.sql(port, "CREATE TABLE kept AS SELECT generate_series(1, 200000) AS n");
    signal(scene.pid(DB), Signal::KILL);
    scene.healed(DB);
    scene.more_probes();
    let events = scene.daemon.since(scene.mark);
    let starting = events
        .iter()
        .any(|event| is(event, "service.state", DB) && text(event, "service.state") == "starting");
    let unhealthy = events
        .iter()
        .any(|event| is(event, "service.state", DB) && text(event, "service.state") == "unhealthy");
    let kept = folder.sql(port, "SELECT count(*) FROM kept");
    let expected = Expected { service: DB, restarts: &[(DB, 1, 1)], resolved: true, ..Expected::default() };
    let mut measured = scene.judge(row, &expected);
    measured.expect(starting && !unhealthy, || "it was not starting while it recovered".to_owned());
    measured.expect(kept == "200000", || format!("{kept} rows are left of 200000"));
    Some(measured)
}

fn missing_file(row: &Row) -> Option<Measured> {
    let away = |file: &Path| file.with_extension("away");
    let breaks = |file: &Path| fs::rename(file, away(file));
    broken_file(row, breaks, |file| fs::rename(away(file), file), "58P01")
}

fn denied_file(row: &Row) -> Option<Measured> {
    let mode = |file: &Path, mode| fs::set_permissions(file, Permissions::from_mode(mode));
    broken_file(row, |file| mode(file, 0), |file| mode(file, 0o600), "42501")
}

/// Each new session reads the file; those that exist go on.
fn broken_file(
    row: &Row,
    breaks: impl FnOnce(&Path) -> io::Result<()>,
    mends: impl FnOnce(&Path) -> io::Result<()>,
    code: &str,
) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (folder, port) = (PostgresFolder::new()?, free_port());
    let probe = format!("postgres = \"postgres://postgres@127.0.0.1:{port}/template1\"");
    let scene = Scene::start(&[Service::exec(DB, &folder.command(port), port).probe(&probe)]);
    // The folder of `template1` has the same name everywhere.
    let file = folder.path().join("data/base/1/pg_filenode.map");
    breaks(&file).expect("it is there");
    let because = "a restart mends neither its files nor the disk";
    let held = Held { service: DB, because, alert: true, named: vec![code.to_owned()] };
    Some(scene.judge_held(row, held, |_| mends(&file).expect("it is still there")))
}

fn locked_out(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (folder, port) = (PostgresFolder::new()?, free_port());
    let probe = format!("postgres = \"postgres://postgres@127.0.0.1:{port}/postgres\"");
    let scene = Scene::start(&[Service::exec(DB, &folder.command(port), port).probe(&probe)]);
    let mut session = folder.command_as("postgres", port, "BEGIN");
    session.extend(["-c", "LOCK TABLE pg_authid", "-c", "SELECT pg_sleep(1000)"].map(str::to_owned));
    let mut session = folder.run(&session);
    let because = "a restart would end all sessions for one that holds a lock";
    let held = Held { service: DB, because, alert: true, named: vec!["waits for a lock".to_owned()] };
    Some(scene.judge_held(row, held, |_| {
        // The client cancels its request, and the end of its session releases the lock.
        signal(session.pid(), Signal::INT);
        session.wait(PATIENCE);
    }))
}

/// It answers no request meanwhile.
fn foreground_save(row: &Row) -> Option<Measured> {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let mut command = Redis::command(port, folder.path());
    // A quarter of a millisecond for each of its keys.
    command.extend(["--enable-debug-command", "yes", "--rdb-key-save-delay", "250"].map(str::to_owned));
    let probe = format!("redis = \"redis://127.0.0.1:{port}\"");
    let scene = Scene::start(&[Service::exec(CACHE, &command, port).probe(&probe)]);
    assert!(Redis::request(port, "DEBUG POPULATE 60000 key 200").starts_with("+OK"));
    let saving = thread::spawn(move || Redis::request(port, "SAVE"));
    let because = "a restart would cut off what it writes";
    let held = Held { service: CACHE, because, alert: true, named: vec!["temp-".to_owned()] };
    Some(scene.judge_held(row, held, |_| {
        assert!(saving.join().expect("it answers").starts_with("+OK"), "it was let finish");
    }))
}
