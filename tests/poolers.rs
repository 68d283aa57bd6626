//! A pooler that works is not restarted for its clients or for what is behind it, and the probe takes no connection
//! that an application needs.

use std::time::{Duration, Instant};

use hostprobe_tests::{
    http::free_port,
    incident_events::{is, listening_pid, number, text},
    lab::server::{DB, ServerLab},
    parts::{Postgres, PostgresFolder, pgbouncer, require_root},
    process::until,
};
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A pooler under the supervisor, before a server that is not watched.
struct Pooled {
    lab: ServerLab,
    server: Postgres,
    port: u16,
}

impl Pooled {
    fn start(settings: &str) -> Option<Self> {
        Self::start_for(settings, "postgres")
    }

    /// Probes the pooler's database of this name.
    fn start_for(settings: &str, database: &str) -> Option<Self> {
        if !require_root() {
            return None;
        }
        let (server, port) = (Postgres::start(&[])?, free_port());
        let command = pgbouncer(&server.folder, port, server.port, settings)?;
        let probe = format!("postgres = \"postgres://postgres@127.0.0.1:{port}/{database}\"");
        let lab = ServerLab::start(&format!("exec = {command:?}"), &probe, "");
        Some(Self { lab, server, port })
    }

    /// Asserts that it is the same process and that no restart was even thought of, but for holds.
    fn was_never_restarted(&mut self, pid: u32) {
        assert_eq!(listening_pid(&self.lab.daemon, DB), pid);
        let restarts = |event: &Value| {
            let action = text(event, "event.action");
            action.starts_with("restart.") && action != "restart.hold"
        };
        assert_eq!(self.lab.daemon.count(restarts), 0);
        let ended =
            |event: &Value| is(event, "process.exit", DB) && number(event, "process.pid") == Some(pid.into());
        assert_eq!(self.lab.daemon.count(ended), 0);
        self.lab.daemon.stop();
    }
}

/// A client that holds the only connection of the pool for longer than the probe's timeout.
fn a_client_holds_the_pool(settings: &str) -> Option<Value> {
    let mut pooled = Pooled::start(settings)?;
    pooled.lab.wait_until_healthy();
    let pid = listening_pid(&pooled.lab.daemon, DB);
    let mark = pooled.lab.daemon.mark();
    let sql = "SET application_name = 'orders'; SELECT pg_sleep(12)";
    let mut client = pooled.server.folder.keep_busy(pooled.port, sql);
    let opened = pooled.lab.daemon.wait_for_after(mark, |event| is(event, "incident.open", DB), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "pool_exhausted", "{opened:#}");
    assert!(client.wait(LONG).success(), "its transaction ends as it would without a probe");
    pooled.lab.daemon.wait_for_after(mark, |event| is(event, "incident.resolve", DB), LONG);
    pooled.was_never_restarted(pid);
    Some(opened)
}

#[test]
fn a_client_that_holds_a_poolers_only_connection_is_not_interrupted() {
    a_client_holds_the_pool("pool_mode = transaction");
}

#[test]
fn a_pooler_that_lets_the_probe_ask_names_the_client_that_holds_its_connection() {
    for mode in ["session", "statement"] {
        let settings = format!("pool_mode = {mode}\nstats_users = postgres");
        let Some(opened) = a_client_holds_the_pool(&settings) else { return };
        let summary = text(&opened, "incident.summary");
        assert!(summary.contains("1 of 1 connections are in use, most by"), "{summary}");
        assert!(summary.contains("user postgres, from 127.0.0.1 (1)"), "{summary}");
    }
}

#[test]
fn the_probe_leaves_a_pools_only_connection_to_its_application() {
    for settings in [
        "pool_mode = session",
        "pool_mode = session\nstats_users = postgres",
        "pool_mode = session\nserver_reset_query =\nserver_check_delay = 0",
        "pool_mode = transaction",
    ] {
        let Some(mut pooled) = Pooled::start(settings) else { return };
        pooled.lab.wait_until_healthy();
        let pid = listening_pid(&pooled.lab.daemon, DB);
        for _ in 0..6 {
            let begun = Instant::now();
            assert_eq!(pooled.server.folder.sql(pooled.port, "SELECT 6"), "6");
            // A probe that kept the connection would keep it for its timeout of 5 s at least.
            assert!(begun.elapsed() < Duration::from_secs(4), "{settings}: {:?}", begun.elapsed());
        }
        assert_eq!(pooled.lab.daemon.count(|event| is(event, "incident.open", DB)), 0, "{settings}");
        pooled.was_never_restarted(pid);
    }
}

/// The pooler answers with an error: it is held, and why is said.
fn is_held_as(mut pooled: Pooled, error: &str, words: &str) {
    let failed = |event: &Value| is(event, "probe.fail", DB) && text(event, "probe.error") == error;
    let failure = pooled.lab.daemon.wait_for(failed, LONG);
    assert!(text(&failure, "probe.detail").contains(words), "{failure:#}");
    pooled.lab.daemon.wait_for(|event| is(event, "restart.hold", DB), LONG);
    let pid = listening_pid(&pooled.lab.daemon, DB);
    let many = |event: &Value| is(event, "probe.fail", DB) && number(event, "probe.consecutive") >= Some(5);
    pooled.lab.daemon.wait_for(many, LONG);
    pooled.was_never_restarted(pid);
}

#[test]
fn a_pooler_whose_server_is_down_is_held() {
    let Some(mut pooled) = Pooled::start("server_login_retry = 1\nquery_wait_timeout = 2") else { return };
    pooled.lab.wait_until_healthy();
    pooled.server.process.stop();
    is_held_as(pooled, "upstream", "08P01");
}

#[test]
fn a_pooler_that_knows_no_such_database_is_held() {
    let Some(pooled) = Pooled::start_for("", "orders") else { return };
    is_held_as(pooled, "auth", "no such database");
}

#[test]
fn a_pooler_whose_server_hangs_is_held() {
    let Some(pooled) = Pooled::start("pool_mode = transaction\nstats_users = postgres") else { return };
    pooled.lab.wait_until_healthy();
    let backends =
        "SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND application_name <> 'psql'";
    let pid = until("the pool's backend", LONG, || {
        pooled.server.folder.sql(pooled.server.port, backends).lines().next()?.parse::<u32>().ok()
    });
    hostprobe_tests::process::signal(pid, rustix::process::Signal::STOP);
    pooled.server.process.signal(rustix::process::Signal::STOP);
    let opened = pooled.lab.daemon.wait_for(|event| is(event, "incident.open", DB), LONG);
    assert!(["pool_exhausted", "unhealthy"].contains(&text(&opened, "incident.verdict")), "{opened:#}");
    let pooler = listening_pid(&pooled.lab.daemon, DB);
    hostprobe_tests::process::signal(pid, rustix::process::Signal::CONT);
    pooled.server.process.signal(rustix::process::Signal::CONT);
    let mut pooled = pooled;
    pooled.was_never_restarted(pooler);
}

/// A server of its own with a role that may have one connection.
#[test]
fn an_account_with_one_connection_is_enough_for_a_probe() {
    if !require_root() {
        return;
    }
    let Some(folder) = PostgresFolder::new() else { return };
    let port = free_port();
    folder.serve_once(port, "CREATE ROLE probe LOGIN CONNECTION LIMIT 1");
    let probe = format!("postgres = \"postgres://probe@127.0.0.1:{port}/postgres\"");
    let mut lab = ServerLab::start(&format!("exec = {:?}", folder.command(port)), &probe, "");
    lab.wait_until_healthy();
    // Its first start may take longer than its grace.
    let well = lab.daemon.mark();
    std::thread::sleep(Duration::from_secs(3));
    assert!(!lab.daemon.since(well).iter().any(|event| is(event, "probe.fail", DB)));

    // Another session of the account takes its connection.
    let command = folder.command_as("probe", port, "SELECT pg_sleep(5)");
    let taken = until("the connection is taken", LONG, || {
        let client = folder.run(&command);
        let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'probe' AND query LIKE '%sleep%'";
        std::thread::sleep(Duration::from_millis(200));
        (folder.sql(port, count) == "1").then_some(client)
    });
    let failed = |event: &Value| is(event, "probe.fail", DB) && text(event, "probe.error") == "account_limit";
    lab.daemon.wait_for_after(well, failed, LONG);
    lab.daemon.wait_for_after(well, |event| is(event, "restart.hold", DB), LONG);
    drop(taken);
    lab.daemon.wait_for_after(well, |event| is(event, "incident.resolve", DB), LONG);
    lab.daemon.stop();
    assert_eq!(lab.daemon.count(|event| is(event, "restart.request", DB)), 0);
}
