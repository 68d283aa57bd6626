//! What a real PostgreSQL server says of its replication, its transactions, their locks, and its transaction ids: the daemon
//! reports it, and nothing of it restarts the server.

use std::time::Duration;

use hostprobe_tests::{
    daemon::Mark,
    http::free_port,
    incident_events::{is, number, text},
    lab::server::{DB, ServerLab},
    parts::{Postgres, PostgresFolder, Standby, pgbouncer, require_root},
    process::{Running, until},
};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A server under the supervisor that another one may copy.
fn server(options: &[&str], probe: &str) -> Option<(PostgresFolder, ServerLab, u16)> {
    if !require_root() {
        return None;
    }
    let (folder, port) = (PostgresFolder::new()?, free_port());
    let mut command = folder.command(port);
    command.extend(options.iter().map(|&option| option.to_owned()));
    Some((folder, watched(&command, port, probe), port))
}

fn lab(command: &[String], port: u16, probe: &str) -> ServerLab {
    let probe = format!("postgres = \"postgres://postgres@127.0.0.1:{port}/postgres\"\n{probe}");
    ServerLab::start(&format!("exec = {command:?}"), &probe, "")
}

fn watched(command: &[String], port: u16, probe: &str) -> ServerLab {
    let lab = lab(command, port, probe);
    lab.wait_until_healthy();
    lab
}

/// A standby that is not served yet.
fn standby() -> Option<(Postgres, Standby)> {
    if !require_root() {
        return None;
    }
    let primary = Postgres::start(&[])?;
    let mut standby = Standby::of(&primary);
    standby.process.stop();
    Some((primary, standby))
}

/// A standby under the supervisor that follows its primary.
fn watched_standby(probe: &str) -> Option<(Postgres, Standby, ServerLab)> {
    let (primary, standby) = standby()?;
    let lab = watched(&standby.command(), standby.port, probe);
    until("the standby receives", LONG, || {
        (standby.sql("SELECT count(*) FROM pg_stat_wal_receiver") == "1").then_some(())
    });
    Some((primary, standby, lab))
}

/// Keeps a session open that has run these statements.
fn session(folder: &PostgresFolder, port: u16, statements: &str) -> Running {
    let sql = format!("{statements}; SELECT pg_sleep(600)");
    folder.keep_busy(port, &sql)
}

#[test]
fn a_standby_whose_primary_is_gone_fails_and_is_held() {
    let Some((mut primary, _standby, mut lab)) = watched_standby("role = \"replica\"") else { return };
    lab.wait_until_measured("is_replica", 1.0);
    let mark = lab.daemon.mark();
    primary.process.stop();
    let failed = lab.fails_with(mark, "replication", "receives nothing from its primary");
    assert_eq!(text(&failed, "probe.server.role"), "replica", "{failed:#}");
    lab.is_found(mark, "unhealthy", "unhealthy");
    let hold = lab.daemon.wait_for_after(mark, |event| is(event, "restart.hold", DB), LONG);
    assert!(text(&hold, "event.reason").contains("brings the primary back"), "{hold:#}");
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn a_standby_that_does_not_replay_is_degraded_until_it_does() {
    let Some((primary, standby, mut lab)) = watched_standby("lag = \"2s\"") else { return };
    lab.wait_until_measured("is_replica", 1.0);
    // Until it has replayed a transaction, a standby has no time of its last one.
    for statement in ["CREATE TABLE written (n int)", "INSERT INTO written VALUES (1)"] {
        let mark = lab.daemon.mark();
        standby.sql("SELECT pg_wal_replay_pause()");
        // The request is carried out when the standby waits for more to replay.
        let is_paused = || (standby.sql("SELECT pg_get_wal_replay_pause_state()") == "paused").then_some(());
        until("the replay is paused", LONG, is_paused);
        primary.folder.sql(primary.port, statement);
        let opened = lab.is_found(mark, "limit_exceeded", "degraded");
        let summary = text(&opened, "incident.summary");
        assert!(summary.contains("is behind its primary by "), "{summary}");
        let failed = lab.fails_with(mark, "lag", "above its limit of 2s");
        assert!(number(&failed, "probe.server.lag_bytes") > Some(0), "{failed:#}");
        standby.sql("SELECT pg_wal_replay_resume()");
        lab.is_resolved(mark);
    }
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn a_primary_that_is_a_standby_fails_and_is_held_until_it_is_promoted() {
    let Some((_primary, standby)) = standby() else { return };
    let mut lab = lab(&standby.command(), standby.port, "role = \"primary\"");
    // It may be found before this thread goes on.
    let mark = Mark::default();
    lab.fails_with(mark, "role", "is a replica or read-only, and its `role` is \"primary\"");
    lab.is_found(mark, "unhealthy", "unhealthy");
    standby.sql("SELECT pg_promote()");
    lab.is_resolved(mark);
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn sessions_that_wait_for_a_lock_name_the_session_that_holds_it() {
    // Both sessions have to wait by the time that the first of them has waited for too long.
    let limits = "wait = \"3s\"\ntransaction = \"1h\"";
    let Some((folder, mut lab, port)) = server(&[], limits) else { return };
    folder.sql(port, "CREATE TABLE orders (n int)");
    lab.wait_until_measured("waiting", 0.0);
    let mark = lab.daemon.mark();
    let holder = session(&folder, port, "SET application_name = 'import'; BEGIN; LOCK TABLE orders");
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
    until("the table is locked", LONG, || (folder.sql(port, held) == "1").then_some(()));
    let waiting = [(); 2].map(|()| folder.keep_busy(port, "SELECT * FROM orders"));
    let opened = lab.is_found(mark, "limit_exceeded", "degraded");
    let summary = text(&opened, "incident.summary");
    let expected = "has 2 waiting for application import, user postgres, from 127.0.0.1, the longest for ";
    assert!(summary.contains(expected), "{summary}");
    drop(holder);
    folder.sql(
        port,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'import'",
    );
    lab.is_resolved(mark);
    drop(waiting);
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn a_transaction_that_stays_open_names_its_session() {
    let Some((folder, mut lab, port)) = server(&[], "transaction = \"2s\"") else { return };
    lab.wait_until_healthy();
    let mark = lab.daemon.mark();
    let holder = session(&folder, port, "SET application_name = 'report'; BEGIN");
    let opened = lab.is_found(mark, "limit_exceeded", "degraded");
    let summary = text(&opened, "incident.summary");
    assert!(summary.contains("has a transaction that is open for "), "{summary}");
    assert!(summary.contains("s, by application report, user postgres, from 127.0.0.1"), "{summary}");
    drop(holder);
    folder.sql(
        port,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'report'",
    );
    lab.is_resolved(mark);
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn transaction_ids_beyond_the_emergency_of_autovacuum_degrade_the_server() {
    let options = [
        ["-c", "autovacuum_freeze_max_age=100000"],
        ["-c", "vacuum_failsafe_age=0"],
        ["-c", "synchronous_commit=off"],
        // The ids of the other databases are freed at once, and those of this one as soon as they may be.
        ["-c", "autovacuum_naptime=1"],
    ];
    let Some((folder, mut lab, port)) = server(&options.concat(), "") else { return };
    let mark = lab.daemon.mark();
    // VACUUM cannot freeze what this transaction may still see.
    let holder = session(&folder, port, "SET application_name = 'old'; BEGIN; SELECT txid_current()");
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'old' AND backend_xid IS NOT NULL";
    until("the transaction is open", LONG, || (folder.sql(port, open) == "1").then_some(()));
    folder.sql(port, "DO 'BEGIN FOR i IN 1..106000 LOOP PERFORM txid_current(); COMMIT; END LOOP; END'");
    let failed = lab.fails_with(mark, "wraparound", "beyond the emergency of autovacuum at 105000");
    assert!(number(&failed, "probe.server.transaction_id_age") > Some(105_000), "{failed:#}");
    lab.is_found(mark, "unhealthy", "degraded");
    drop(holder);
    folder.sql(port, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'old'");
    lab.is_resolved(mark);
    lab.was_never_restarted();
    lab.daemon.stop();
}

#[test]
fn a_user_without_rights_gets_less_and_the_log_says_so_once() {
    let Some((folder, lab, port)) = server(&[], "") else { return };
    folder.sql(port, "CREATE ROLE guest LOGIN");
    let probe = format!(
        "postgres = \"postgres://guest@127.0.0.1:{port}/postgres\"\nrole = \"replica\"\ntransaction = \"1s\""
    );
    let mut guest =
        ServerLab::start(&format!("match = {{ port = {port} }}"), &probe, "command = [\"/bin/false\"]");
    let failed = guest.fails_with(guest.daemon.mark(), "role", "takes writes");
    assert_eq!(failed["probe"]["server"]["withheld"], true, "{failed:#}");
    let many = |event: &_| is(event, "probe.fail", DB) && number(event, "probe.consecutive") >= Some(5);
    guest.daemon.wait_for(many, LONG);
    guest.daemon.stop();
    assert_eq!(guest.daemon.log().matches("keeps some of its numbers").count(), 1, "{}", guest.daemon.log());
    lab.was_never_restarted();
}

#[test]
fn clients_that_wait_for_a_connection_of_pgbouncer_are_counted() {
    if !require_root() {
        return;
    }
    let Some(server) = Postgres::start(&[]) else { return };
    let port = free_port();
    let settings = "pool_mode = transaction\nstats_users = postgres";
    let Some(command) = pgbouncer(&server.folder, port, server.port, settings) else { return };
    server.folder.sql(server.port, "CREATE ROLE app LOGIN");
    let mut lab = watched(&command, port, "wait = \"1s\"");
    lab.wait_until_measured("waiting", 0.0);
    let mark = lab.daemon.mark();
    // The pool of this user has one connection as well.
    let client = server.folder.command_as("app", port, "SELECT pg_sleep(3)");
    let clients = [(); 3].map(|()| server.folder.run(&client));
    let opened = lab.is_found(mark, "limit_exceeded", "degraded");
    let summary = text(&opened, "incident.summary");
    assert!(
        summary.contains(" waiting for application psql, user app, from 127.0.0.1, the longest for "),
        "{summary}"
    );
    lab.is_resolved(mark);
    drop(clients);
    lab.was_never_restarted();
    lab.daemon.stop();
}
