//! Redis and PostgreSQL die, load, recover, and refuse a password: what helps is done once, and what does not
//! help is not done.

use std::{fs, path::Path, time::Duration};

use hostprobe_tests::{
    http::free_port,
    incident_events::{is, listening_pid, number, text},
    lab::server::{DB, ServerLab},
    latch::Latch,
    parts::{PostgresFolder, Redis, require, require_root},
    process::{kill, until},
    victim::Victim,
};
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A command as the configuration's `exec`.
fn exec(command: &[String]) -> String {
    format!("exec = {command:?}")
}

/// Redis under the supervisor, with these further options.
fn redis(
    folder: &Path,
    options: &[&str],
    probe: impl Fn(u16) -> String,
    more: &str,
) -> Option<(ServerLab, u16)> {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return None;
    }
    let port = free_port();
    let mut command = Redis::command(port, folder);
    command.extend(options.iter().map(|&option| option.to_owned()));
    Some((ServerLab::start(&exec(&command), &probe(port), more), port))
}

fn redis_probe(port: u16) -> String {
    format!(r#"redis = "redis://127.0.0.1:{port}""#)
}

#[test]
fn a_killed_redis_is_restarted_once_and_its_killer_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some((mut lab, _)) = redis(folder.path(), &[], redis_probe, "") else { return };
    lab.wait_until_healthy();
    for _ in 0..5 {
        let mark = lab.kill();
        let incident = lab.healed_at_once(mark);
        println!("recovered in {:.1} ms", incident.millis("healthy"));
    }
    lab.daemon.stop();
}

#[test]
fn a_redis_that_loads_its_data_is_starting_not_failing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // 300 keys of 1 KB at 10 ms each load for 3 s, and clients are answered after each KB.
    let options = [
        ["--enable-debug-command", "yes"],
        ["--key-load-delay", "10000"],
        ["--loading-process-events-interval-bytes", "1024"],
        ["--rdbcompression", "no"],
    ];
    let Some((mut lab, port)) = redis(folder.path(), &options.concat(), redis_probe, "") else { return };
    lab.wait_until_healthy();
    assert!(Redis::request(port, "DEBUG POPULATE 300 key 1000").starts_with("+OK"));
    assert!(Redis::request(port, "SAVE").starts_with("+OK"));

    let mark = lab.kill();
    lab.wait_until_it_says("Redis is loading the dataset in memory");
    let incident = lab.healed_at_once(mark);
    assert!(incident.millis("healthy") >= 3000.0, "it is well only once it has loaded");
    assert!(Redis::request(port, "DBSIZE").starts_with(":300"));
    lab.daemon.stop();
}

#[test]
fn a_postgres_that_recovers_is_starting_not_failing() {
    if !require_root() {
        return;
    }
    let Some(folder) = PostgresFolder::new() else { return };
    let port = free_port();
    // Recovery asks for archived WAL first: it lasts until the latch opens.
    let mut latch = Latch::new(folder.path());
    latch.close();
    let script = folder.write("restore", &format!("{}; exit 1\n", latch.script()));
    let mut command = folder.command(port);
    command.extend(["-c".to_owned(), format!("restore_command=/bin/sh {}", script.display())]);
    let probe = format!(r#"postgres = "postgres://postgres@127.0.0.1:{port}/postgres""#);
    let mut lab = ServerLab::start(&exec(&command), &probe, "");
    lab.wait_until_healthy();
    folder.sql(port, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n");

    // A busy backend outlives its postmaster and holds the shared memory.
    let busy = folder.keep_busy(port, "DO 'BEGIN LOOP PERFORM 1; END LOOP; END'");
    until("the backend is busy", LONG, || {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'";
        (folder.sql(port, count) == "1").then_some(())
    });
    folder.write("data/recovery.signal", "");

    let mark = lab.kill();
    lab.wait_until_it_says("the database system is starting up");
    // By then the second of grace is long over.
    until("it was asked 70 times", LONG, || {
        (lab.output().matches("the database system is starting up").count() >= 70).then_some(())
    });
    latch.open();
    let incident = lab.healed_at_once(mark);
    assert!(incident.millis("healthy") > 1000.0, "it is well only once it has recovered");
    assert_eq!(folder.sql(port, "SELECT count(*) FROM kept"), "1000");
    drop(busy);
    lab.daemon.stop();
}

#[test]
fn a_killed_postmaster_is_restarted_at_the_first_attempt_however_busy_its_backends() {
    if !require_root() {
        return;
    }
    let Some(folder) = PostgresFolder::new() else { return };
    let port = free_port();
    let probe = format!(r#"postgres = "postgres://postgres@127.0.0.1:{port}/postgres""#);
    let mut lab = ServerLab::start(&exec(&folder.command(port)), &probe, "");
    lab.wait_until_healthy();
    folder.sql(port, "CREATE TABLE written (n int)");
    for _ in 0..5 {
        let before = folder.sql(port, "SELECT count(*) FROM written");
        let write = "DO 'BEGIN LOOP INSERT INTO written VALUES (1); COMMIT; END LOOP; END'";
        let writers = [(); 3].map(|()| folder.keep_busy(port, write));
        until("rows are written", LONG, || {
            (folder.sql(port, "SELECT count(*) FROM written") != before).then_some(())
        });
        let mark = lab.kill();
        let incident = lab.healed_at_once(mark);
        println!("recovered in {:.1} ms", incident.millis("healthy"));
        drop(writers);
    }
    lab.daemon.stop();
}

/// A server that runs and refuses the probe's password is not restarted, and an alert is sent.
fn is_held(mut lab: ServerLab) {
    let hold = lab.daemon.wait_for(|event| is(event, "restart.hold", DB), LONG);
    assert_eq!(
        text(&hold, "event.reason"),
        "the service works and does not let the probe in: a restart gives the probe no rights"
    );
    lab.daemon.wait_for(|event| is(event, "alert.send", DB), LONG);
    let open = lab.daemon.wait_for(|event| is(event, "incident.open", DB), LONG);
    assert_eq!(text(&open, "incident.verdict"), "unhealthy");
    assert_eq!(text(&open, "incident.severity"), "critical");
    let fifth = |event: &Value| is(event, "probe.fail", DB) && number(event, "probe.consecutive") >= Some(5);
    let fail = lab.daemon.wait_for(fifth, LONG);
    assert_eq!(text(&fail, "probe.error"), "auth");
    assert_eq!(lab.daemon.count(|event| text(event, "event.action").starts_with("restart.")), 1);
    let pid = i64::from(listening_pid(&lab.daemon, DB));
    let ended = |event: &Value| is(event, "process.exit", DB) && number(event, "process.pid") == Some(pid);
    assert_eq!(lab.daemon.count(ended), 0);
    lab.daemon.stop();
    let said = format!("{:?}{}", lab.daemon.events(), lab.daemon.log());
    assert!(!said.contains("not-the-password"), "{said}");
}

/// The end of a configuration that has alerts posted to this victim.
fn alert_to(receiver: &Victim) -> String {
    format!("[[alert]]\nwebhook = \"http://127.0.0.1:{}/health\"\nformat = \"json\"", receiver.port)
}

#[test]
fn a_redis_that_refuses_the_password_is_not_restarted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let probe = |port| format!(r#"redis = "redis://:not-the-password@127.0.0.1:{port}""#);
    let receiver = Victim::start();
    let options = ["--requirepass", "the-password"];
    let Some((lab, _)) = redis(folder.path(), &options, probe, &alert_to(&receiver)) else { return };
    is_held(lab);
}

#[test]
fn a_postgres_that_refuses_the_password_is_not_restarted() {
    if !require_root() {
        return;
    }
    let Some(folder) = PostgresFolder::new() else { return };
    let port = free_port();
    folder.write("data/pg_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n");
    let probe = format!(r#"postgres = "postgres://postgres:not-the-password@127.0.0.1:{port}/postgres""#);
    let receiver = Victim::start();
    is_held(ServerLab::start(&exec(&folder.command(port)), &probe, &alert_to(&receiver)));
}

#[test]
fn a_redis_that_does_not_let_the_probe_ask_is_not_restarted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let receiver = Victim::start();
    let options = ["--user", "default", "on", "nopass", "~*", "+@all", "-ping"];
    let Some((lab, _)) = redis(folder.path(), &options, redis_probe, &alert_to(&receiver)) else { return };
    is_held(lab);
}

/// It is starting for as long as it waits for its primary.
fn is_starting(mut lab: ServerLab, words: &str) {
    lab.wait_until_it_says(words);
    std::thread::sleep(Duration::from_secs(3));
    lab.wait_until_it_says(words);
    assert_eq!(lab.daemon.count(|event| is(event, "incident.open", DB)), 0);
    lab.daemon.stop();
}

#[test]
fn a_replica_that_waits_for_its_first_synchronization_is_starting() {
    let primary = free_port().to_string();
    for stale in ["yes", "no"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = ["--replicaof", "127.0.0.1", &primary, "--replica-serve-stale-data", stale];
        let Some((lab, _)) = redis(folder.path(), &options, redis_probe, "") else { return };
        is_starting(lab, "has not come up");
    }
}

#[test]
fn a_postgres_standby_that_serves_no_clients_is_starting() {
    if !require_root() {
        return;
    }
    let Some(folder) = PostgresFolder::new() else { return };
    let port = free_port();
    folder.write("data/standby.signal", "");
    let mut command = folder.command(port);
    command.extend(["-c", "hot_standby=off", "-c", "restore_command=false"].map(str::to_owned));
    let probe = format!(r#"postgres = "postgres://postgres@127.0.0.1:{port}/postgres""#);
    is_starting(
        ServerLab::start(&exec(&command), &probe, ""),
        "the database system is not accepting connections",
    );
}

/// Ends the server on this port.
struct Ended(u16);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = std::net::TcpStream::connect(("127.0.0.1", self.0))
            .and_then(|mut stream| std::io::Write::write_all(&mut stream, b"SHUTDOWN NOSAVE\r\n"));
    }
}

#[test]
fn a_server_known_by_its_port_is_restarted_by_its_command() {
    if !require_root() {
        return;
    }
    let Some(server) = Redis::start(&[]) else { return };
    let (port, folder) = (server.port, tempfile::tempdir().expect("a temporary folder"));
    let _ended = Ended(port);
    let script = folder.path().join("restart");
    let again = Redis::command(port, folder.path()).join(" ").replace("--save ", "--save '' ");
    fs::write(&script, format!("exec {again} --daemonize yes\n")).expect("the script is written");
    let command = format!(r#"command = ["/bin/sh", "{}"]"#, script.display());
    let mut lab = ServerLab::start(&format!("match = {{ port = {port} }}"), &redis_probe(port), &command);
    lab.wait_until_healthy();
    let mark = lab.daemon.mark();
    kill(server.process.pid());
    let incident = lab.healed_at_once(mark);
    assert_eq!(text(incident.one("restart.request"), "restart.method"), "command");
    lab.daemon.stop();
    assert!(Redis::request(port, "PING").starts_with("+PONG"), "what the daemon did not start outlives it");
}
