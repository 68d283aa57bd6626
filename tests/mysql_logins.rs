//! A mysql probe costs its host no right to connect, and its account no more than one connection where it has no more.

use std::time::Duration;

use hostprobe_tests::{
    http::free_port,
    incident_events::{is, text},
    lab::server::{DB, ServerLab},
    network,
    parts::{MariadbFolder, require_root},
    process::until,
};
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// An address of this host that a server does not take for its own.
const FAR: &str = "10.99.7.1";

fn exec(command: &[String]) -> String {
    format!("exec = {command:?}")
}

#[test]
fn probes_without_a_user_do_not_get_their_host_blocked() {
    if !require_root() {
        return;
    }
    network::in_its_own(|| {
        network::ip(&["address", "add", &format!("{FAR}/32"), "dev", "lo"]);
        let sql = "CREATE USER app@'%' IDENTIFIED BY 'word';";
        for address in [FAR, "127.0.0.1"] {
            let Some(folder) = MariadbFolder::new(sql) else { return };
            let port = free_port();
            let probe = format!("mysql = \"mysql://{address}:{port}\"");
            let mut lab = ServerLab::start(&exec(&folder.strict_command(port)), &probe, "");
            lab.wait_until_healthy();
            let well = lab.daemon.mark();
            std::thread::sleep(Duration::from_secs(2));
            let errors = "SELECT count(*) FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME LIKE \
                          'Connection_errors_%' AND VARIABLE_VALUE > 0";
            assert_eq!(MariadbFolder::answer(port, errors), "0");
            let warned = lab.output().matches("Aborted connection").count();
            assert_eq!(warned, 0, "{}", lab.output());
            // The application of this host is let in.
            assert_eq!(MariadbFolder::login(FAR, port, "app", "word"), Ok(()), "{address}");
            assert!(!lab.daemon.since(well).iter().any(|event| is(event, "probe.fail", DB)));
            lab.daemon.stop();
        }
    });
}

#[test]
fn an_account_with_one_connection_is_enough_for_a_probe() {
    if !require_root() {
        return;
    }
    let sql = "CREATE USER probe@'%' WITH MAX_USER_CONNECTIONS 1;";
    let Some(folder) = MariadbFolder::new(sql) else { return };
    let port = free_port();
    let probe = format!("mysql = \"mysql://probe@127.0.0.1:{port}\"");
    let mut lab = ServerLab::start(&exec(&folder.strict_command(port)), &probe, "");
    lab.wait_until_healthy();
    // Its first start may take longer than its grace.
    let well = lab.daemon.mark();
    std::thread::sleep(Duration::from_secs(3));
    assert!(!lab.daemon.since(well).iter().any(|event| is(event, "probe.fail", DB)));

    // Another session of the account takes its connection.
    let count =
        "SELECT count(*) FROM information_schema.PROCESSLIST WHERE USER = 'probe' AND INFO LIKE '%SLEEP%'";
    let taken = until("the connection is taken", LONG, || {
        let client = MariadbFolder::client(port, "probe", "SELECT SLEEP(5)");
        std::thread::sleep(Duration::from_millis(200));
        (MariadbFolder::answer(port, count) == "1").then_some(client)
    });
    let failed = |event: &Value| is(event, "probe.fail", DB) && text(event, "probe.error") == "account_limit";
    lab.daemon.wait_for_after(well, failed, LONG);
    lab.daemon.wait_for_after(well, |event| is(event, "restart.hold", DB), LONG);
    drop(taken);
    lab.daemon.wait_for_after(well, |event| is(event, "incident.resolve", DB), LONG);
    lab.daemon.stop();
    assert_eq!(lab.daemon.count(|event| is(event, "restart.request", DB)), 0);
}
