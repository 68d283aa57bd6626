//! What a real Redis server says of its replication, its disk, its cluster and its sentinels: the daemon reports it, and
//! nothing of it restarts the server.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use hostprobe_tests::{
    http::free_port,
    incident_events::{number, text},
    lab::server::ServerLab,
    parts::{Redis, require, require_root},
    process::until,
};
use rustix::process::Signal;

/// Longest wait for a first copy, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Redis under the supervisor, with these further options and further lines of its probe.
fn redis(folder: &Path, options: &[&str], probe: &str) -> Option<(ServerLab, u16)> {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return None;
    }
    let port = free_port();
    let mut command = Redis::command(port, folder);
    command.extend(options.iter().map(|&option| option.to_owned()));
    let probe = format!("redis = \"redis://127.0.0.1:{port}\"\n{probe}");
    Some((ServerLab::start(&format!("exec = {command:?}"), &probe, ""), port))
}

/// A replica of a primary that sends something each second.
fn replica(folder: &Path, probe: &str) -> Option<(Redis, ServerLab, u16)> {
    let primary = Redis::start(&["--repl-ping-replica-period", "1", "--repl-diskless-sync-delay", "0"])?;
    let of = primary.port.to_string();
    let (lab, port) = redis(folder, &["--replicaof", "127.0.0.1", &of], probe)?;
    lab.wait_until_healthy();
    let follows = || Redis::request(port, "INFO replication").contains("master_link_status:up");
    until("it copies its primary", LONG, || follows().then_some(()));
    Some((primary, lab, port))
}

#[test]
fn a_replica_whose_primary_is_gone_fails_and_is_held() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some((mut primary, mut lab, port)) = replica(folder.path(), "role = \"replica\"") else { return };
    lab.wait_until_healthy();
    lab.wait_until_measured("is_replica", 1.0);
    let mark = lab.daemon.mark();
    primary.process.stop();
    let failed = lab.fails_with(mark, "replication", "its link to its primary");
    assert_eq!(text(&failed, "probe.server.role"), "replica", "{failed:#}");
    let opened = lab.is_found(mark, "unhealthy", "unhealthy");
    assert!(text(&opened, "incident.summary").contains("is down for"), "{opened:#}");

    assert!(Redis::request(port, "REPLICAOF NO ONE").starts_with("+OK"));
    let failed = lab.fails_with(mark, "role", "takes writes, and its `role` is \"replica\"");
    assert_eq!(text(&failed, "probe.server.role"), "primary", "{failed:#}");
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn a_replica_whose_primary_is_silent_is_degraded_until_it_follows_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some((primary, mut lab, _)) = replica(folder.path(), "lag = \"3s\"") else { return };
    lab.wait_until_healthy();
    lab.wait_until_measured("lag_seconds", 0.0);
    let mark = lab.daemon.mark();
    primary.process.signal(Signal::STOP);
    let opened = lab.is_found(mark, "limit_exceeded", "degraded");
    let summary = text(&opened, "incident.summary");
    assert!(summary.contains("s, above its limit of 3s"), "{summary}");
    let failed = lab.fails_with(mark, "lag", "is behind its primary");
    assert!(failed["probe"]["server"]["lag_ms"].as_f64() >= Some(4000.0), "{failed:#}");
    primary.process.signal(Signal::CONT);
    lab.is_resolved(mark);
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn a_redis_that_cannot_save_is_degraded_until_it_can() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some((mut lab, port)) = redis(folder.path(), &["--save", "3600", "1"], "") else { return };
    lab.wait_until_healthy();
    // The finished file cannot take the name of a folder, whatever user the server runs as.
    let in_its_place = folder.path().join("dump.rdb");
    fs::create_dir_all(in_its_place.join("full")).expect("the folder can be written");
    let mark = lab.daemon.mark();
    assert!(Redis::request(port, "SET a b").starts_with("+OK"));
    assert!(Redis::request(port, "BGSAVE").starts_with('+'));
    let failed = lab.fails_with(mark, "persistence", "could not save its data when it last tried");
    assert_eq!(number(&failed, "probe.server.unsaved_changes"), Some(1), "{failed:#}");
    lab.is_found(mark, "unhealthy", "degraded");
    assert!(Redis::request(port, "SET a c").starts_with("-MISCONF"));

    fs::remove_dir_all(&in_its_place).expect("the folder can be written");
    assert!(Redis::request(port, "BGSAVE").starts_with('+'));
    lab.is_resolved(mark);
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn a_cluster_that_lacks_a_slot_fails_until_it_is_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // By itself it takes the port 10,000 above its own. Linux may have given that to the end of a client.
    let bus = free_port().to_string();
    let options = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let Some((mut lab, port)) = redis(folder.path(), &options, "") else { return };
    lab.fails_with(lab.daemon.mark(), "cluster", "16384 of its 16384 slots are served by no node");
    assert!(Redis::request(port, "CLUSTER ADDSLOTSRANGE 0 16383").starts_with("+OK"));
    lab.wait_until_healthy();
    let mark = lab.daemon.mark();
    assert!(Redis::request(port, "CLUSTER DELSLOTS 7").starts_with("+OK"));
    let failed = lab.fails_with(mark, "cluster", "cluster_state:fail");
    assert!(text(&failed, "probe.detail").contains("1 of its 16384 slots"), "{failed:#}");
    lab.is_found(mark, "unhealthy", "unhealthy");
    lab.wait_until_measured("uncovered_slots", 1.0);
    assert!(Redis::request(port, "CLUSTER ADDSLOTS 7").starts_with("+OK"));
    lab.is_resolved(mark);
    lab.was_never_restarted();
    lab.daemon.stop();
}

/// A sentinel knows no `QUIT`, which ends other requests.
fn set_quorum(port: u16, sentinels: u32) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    write!(stream, "SENTINEL SET orders quorum {sentinels}\r\n").expect("it hears");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("it answers");
    assert_eq!(answer, "+OK\r\n");
}

#[test]
fn a_sentinel_without_a_quorum_fails_until_it_has_one() {
    if !require_root() {
        return;
    }
    let Some(primary) = Redis::start(&[]) else { return };
    let (folder, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
    let config = folder.path().join("sentinel.conf");
    let text_of_it = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor orders 127.0.0.1 {} 1\n",
        folder.path().display(),
        primary.port
    );
    fs::write(&config, text_of_it).expect("the folder can be written");
    let command = [Redis::PROGRAM.to_owned(), config.display().to_string(), "--sentinel".to_owned()];
    let probe = format!("redis = \"redis://127.0.0.1:{port}\"");
    let mut lab = ServerLab::start(&format!("exec = {command:?}"), &probe, "");
    lab.wait_until_healthy();
    let mark = lab.daemon.mark();
    set_quorum(port, 2);
    let failed = lab.fails_with(mark, "cluster", "has too few sentinels to fail over orders");
    assert!(text(&failed, "probe.detail").contains("NOQUORUM"), "{failed:#}");
    lab.is_found(mark, "unhealthy", "unhealthy");
    set_quorum(port, 1);
    lab.is_resolved(mark);
    lab.was_never_restarted();
    lab.daemon.stop();
}
