//! What a real MariaDB server says of its replication, and whether it takes writes: the daemon reports it, and nothing of
//! it restarts the server.

use std::{process::Command, time::Duration};

use hostprobe_tests::{
    http::free_port,
    incident_events::text,
    lab::server::ServerLab,
    parts::{MariadbFolder, require_root},
    process::{Running, until},
};
use rustix::process::Signal;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A server that a replica may copy.
struct Primary {
    process: Running,
    port: u16,
    _folder: MariadbFolder,
}

fn answers(port: u16) {
    until("the server answers", LONG, || {
        let mut client = MariadbFolder::client(port, "root", "SELECT 1");
        client.wait(LONG).success().then_some(())
    });
}

fn primary() -> Option<Primary> {
    let sql = "CREATE USER IF NOT EXISTS copy@'%' IDENTIFIED BY 'word';\nGRANT REPLICATION SLAVE ON *.* TO copy@'%';";
    let (folder, port) = (MariadbFolder::new(sql)?, free_port());
    let mut command = folder.command(port);
    command.extend(["--log-bin=binlog", "--server-id=1"].map(str::to_owned));
    let (program, arguments) = command.split_first().expect("it has a program");
    let process = Running::start(Command::new(program).args(arguments).current_dir("/"), Signal::KILL);
    answers(port);
    Some(Primary { process, port, _folder: folder })
}

/// A replica under the supervisor that follows a primary, and that also the user `guest` may log in to.
fn replica(user: &str, probe: &str) -> Option<(Primary, MariadbFolder, ServerLab, u16)> {
    if !require_root() {
        return None;
    }
    let primary = primary()?;
    let (folder, port) = (MariadbFolder::new("CREATE USER IF NOT EXISTS guest@'%';")?, free_port());
    let mut command = folder.command(port);
    command.extend(["--server-id=2", "--read-only=1", "--relay-log=relay"].map(str::to_owned));
    let probe = format!("mysql = \"mysql://{user}@127.0.0.1:{port}\"\n{probe}");
    let lab = ServerLab::start(&format!("exec = {command:?}"), &probe, "");
    answers(port);
    let follow = format!(
        "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='copy', MASTER_PASSWORD='word', \
         MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos; START SLAVE",
        primary.port
    );
    MariadbFolder::answer(port, &follow);
    lab.wait_until_healthy();
    Some((primary, folder, lab, port))
}

#[test]
fn a_replica_whose_thread_is_stopped_fails_where_replication_is_expected() {
    let Some((_primary, _folder, mut lab, port)) = replica("root", "role = \"replica\"\nlag = \"30s\"")
    else {
        return;
    };
    lab.wait_until_measured("lag_seconds", 0.0);
    let mark = lab.daemon.mark();
    MariadbFolder::answer(port, "STOP SLAVE IO_THREAD");
    let failed =
        lab.fails_with(mark, "replication", "is a replica of 127.0.0.1, and its IO thread is stopped");
    assert_eq!(text(&failed, "probe.server.role"), "replica", "{failed:#}");
    MariadbFolder::answer(port, "START SLAVE");
    lab.daemon.wait_for_after(mark, |event| text(event, "event.action") == "probe.recover", LONG);

    let mark = lab.daemon.mark();
    MariadbFolder::answer(port, "SET GLOBAL read_only = 0");
    lab.fails_with(mark, "role", "takes writes, and its `role` is \"replica\"");
    MariadbFolder::answer(port, "SET GLOBAL read_only = 1");
    lab.daemon.wait_for_after(mark, |event| text(event, "event.action") == "probe.recover", LONG);
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn a_replica_that_cannot_apply_a_change_fails_and_is_held() {
    let Some((primary, _folder, mut lab, port)) = replica("root", "") else { return };
    MariadbFolder::answer(primary.port, "CREATE DATABASE shop; CREATE TABLE shop.orders (n INT PRIMARY KEY)");
    until("the table is copied", LONG, || {
        let sql = "SELECT count(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'shop'";
        (MariadbFolder::answer(port, sql) == "1").then_some(())
    });
    let mark = lab.daemon.mark();
    MariadbFolder::answer(port, "INSERT INTO shop.orders VALUES (7)");
    MariadbFolder::answer(primary.port, "INSERT INTO shop.orders VALUES (7)");
    let failed = lab.fails_with(mark, "replication", "its SQL thread is stopped: ");
    assert!(text(&failed, "probe.detail").contains("Duplicate entry"), "{failed:#}");
    lab.is_found(mark, "unhealthy", "unhealthy");
    MariadbFolder::answer(port, "DELETE FROM shop.orders; START SLAVE");
    lab.is_resolved(mark);
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn a_replica_whose_primary_is_gone_fails_and_one_that_an_operator_stops_does_not() {
    let Some((mut primary, _folder, mut lab, port)) = replica("root", "") else { return };
    let mark = lab.daemon.mark();
    MariadbFolder::answer(port, "STOP SLAVE");
    // Ten runs.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(lab.daemon.count(|event| text(event, "probe.error") == "replication"), 0);
    MariadbFolder::answer(port, "START SLAVE");
    primary.process.stop();
    lab.fails_with(mark, "replication", "its IO thread does not reach it: ");
    lab.is_found(mark, "unhealthy", "unhealthy");
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn a_user_without_rights_is_told_nothing_and_the_server_is_well() {
    let Some((mut primary, _folder, mut lab, port)) = replica("guest", "role = \"replica\"") else { return };
    primary.process.stop();
    until("the replica has lost its primary", LONG, || {
        MariadbFolder::answer(port, "SHOW SLAVE STATUS").contains("error").then_some(())
    });
    // Ten runs.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(lab.daemon.count(|event| text(event, "probe.error") == "replication"), 0);
    lab.daemon.stop();
    assert_eq!(lab.daemon.log().matches("keeps some of its numbers").count(), 1, "{}", lab.daemon.log());
}
