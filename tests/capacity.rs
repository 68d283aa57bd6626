//! Databases that are full, lost their primary, or do not answer: each case has its own verdict, and the holders of connections are named even when no new one can be had.

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, field},
    http::free_port,
    incident_events::{is, listening_pid, number, text},
    lab::server::{DB, ServerLab},
    parts::{MariadbFolder, PostgresFolder, Redis, require, require_root},
    process::Running,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A command and further options as the configuration's `exec`.
fn exec(mut command: Vec<String>, options: &[&str]) -> String {
    command.extend(options.iter().map(|&option| option.to_owned()));
    format!("exec = {command:?}")
}

/// Whether a probe failed in this word.
fn fails(event: &Value, error: &str) -> bool {
    is(event, "probe.fail", DB) && text(event, "probe.error") == error
}

/// Whether a server is said to have so many connections, so many of them in the hands of its first holder.
fn says(event: &Value, used: i64, most: i64, first: i64) -> bool {
    let connections = field(event, "probe.server.connections");
    connections == Some(&json!({ "used": used, "max": most })) && first_holder(event)["connections"] == first
}

/// Who holds most connections, as the event says.
fn first_holder(event: &Value) -> Value {
    field(event, "probe.server.holders").map_or(Value::Null, |holders| holders[0].clone())
}

/// The same without the process behind them, which must be one of this program.
#[track_caller]
fn first_holder_but(event: &Value, program: &str) -> Value {
    let mut first = first_holder(event);
    let process = first.as_object_mut().and_then(|holder| holder.remove("process")).unwrap_or_default();
    assert_eq!(process["name"], program, "{event:#}");
    first
}

/// Waits until a client is served or turned away; whether it is served.
fn is_served(client: &Running) -> bool {
    client.stdout.wait_for(LONG, |lines| lines.iter().any(|line| line == "in").then_some(())).is_some()
}

/// Lets clients in until the server turns the probe away because of them.
///
/// Sessions of the probe come and go as well, and one that ends holds its place for a moment: that a client or the
/// probe is turned away does not mean that all places are taken for good.
fn fill(daemon: &Daemon, is_full: impl Fn(&Value) -> bool, client: impl Fn() -> Running) -> Vec<Running> {
    let mut clients = Vec::new();
    while daemon.count(&is_full) == 0 {
        let client = client();
        if is_served(&client) {
            clients.push(client);
        }
    }
    clients
}

/// All is well again, and nothing was restarted.
fn recovers(mut lab: ServerLab) {
    lab.daemon.wait_for(|event| is(event, "probe.recover", DB), LONG);
    assert_eq!(lab.daemon.count(|event| is(event, "restart.request", DB)), 0);
    lab.daemon.stop();
}

const SLEEP: &str = "SELECT 'in'; SELECT pg_sleep(1000)";

/// PostgreSQL under the supervisor, and a client of it that stays.
fn postgres(options: &[&str], probe: &str) -> Option<(ServerLab, PostgresFolder, u16)> {
    if !require_root() {
        return None;
    }
    let (folder, port) = (PostgresFolder::new()?, free_port());
    let probe = format!("postgres = \"postgres://postgres@127.0.0.1:{port}/postgres\"\n{probe}");
    // A backend that sleeps would not notice by itself that its client is gone.
    let gone = ["-c", "superuser_reserved_connections=0", "-c", "client_connection_check_interval=100ms"];
    let options = [&gone, options].concat();
    let lab = ServerLab::start(&exec(folder.command(port), &options), &probe, "");
    lab.wait_until_healthy();
    Some((lab, folder, port))
}

#[test]
fn a_postgres_without_free_connections_names_their_holders() {
    let Some((lab, folder, port)) = postgres(&["-c", "max_connections=6"], "") else { return };
    let full = |event: &Value| fails(event, "too_many_connections") && says(event, 6, 6, 5);
    let clients = fill(&lab.daemon, full, || folder.keep_busy_in_turn(port, SLEEP));
    let event = lab.daemon.wait_for(full, LONG);
    assert_eq!(
        first_holder_but(&event, "psql"),
        json!({ "user": "postgres", "application": "psql", "client": { "ip": "127.0.0.1" }, "connections": 5 })
    );
    let detail = text(&event, "probe.detail");
    assert!(detail.contains("SQLSTATE 53300"), "{detail}");
    let holder = "6 of 6 connections are in use, most by application psql, user postgres, from 127.0.0.1 (5)";
    assert!(detail.ends_with(holder), "{detail}");
    drop(clients);
    recovers(lab);
}

#[test]
fn a_postgres_with_nearly_all_connections_in_use_alerts_before_it_refuses() {
    let options = ["-c", "max_connections=10"];
    let Some((lab, folder, port)) = postgres(&options, "connections_percent = 70") else { return };
    let clients = [(); 6].map(|()| folder.keep_busy_in_turn(port, SLEEP));
    assert!(clients.iter().all(is_served));
    // Six clients, the standby session, and the one that asks.
    let event = lab.daemon.wait_for(|event| fails(event, "connections") && says(event, 8, 10, 6), LONG);
    assert_eq!(first_holder(&event)["application"], "psql");
    let detail = text(&event, "probe.detail");
    assert!(detail.contains("8 of 10 connections are in use, most by application psql"), "{detail}");
    assert!(detail.ends_with("above the limit of 70 %"), "{detail}");
    drop(clients);
    recovers(lab);
}

#[test]
fn the_standby_session_does_not_delay_the_end_of_postgres() {
    let Some((mut lab, _folder, _)) = postgres(&[], "") else { return };
    let mark = lab.daemon.mark();
    let pid = i64::from(listening_pid(&lab.daemon, DB));
    // On SIGTERM it waits for the last client to leave.
    let postmaster = Pid::from_raw(pid as i32).expect("a pid");
    kill_process(postmaster, Signal::TERM).expect("it lives");
    let ended = |event: &Value| is(event, "process.exit", DB) && number(event, "process.pid") == Some(pid);
    lab.daemon.wait_for_after(mark, ended, LONG);
    lab.daemon.stop();
}

const MARIADB_USERS: &str = "CREATE USER IF NOT EXISTS 'probe'@'localhost' IDENTIFIED BY 's3cret';\n\
                             GRANT PROCESS ON *.* TO 'probe'@'localhost';\n\
                             CREATE USER IF NOT EXISTS 'web'@'localhost';\n";

/// MariaDB under the supervisor, probed with this password.
fn mariadb(password: &str, probe: &str) -> Option<(ServerLab, MariadbFolder, u16)> {
    if !require_root() {
        return None;
    }
    let (folder, port) = (MariadbFolder::new(MARIADB_USERS)?, free_port());
    let probe = format!("mysql = \"mysql://probe:{password}@127.0.0.1:{port}/\"\n{probe}");
    let lab = ServerLab::start(&exec(folder.command(port), &["--max-connections=10"]), &probe, "");
    Some((lab, folder, port))
}

fn web(port: u16) -> Running {
    MariadbFolder::client(port, "web", "SELECT 'in'; SELECT SLEEP(1000)")
}

#[test]
fn a_mariadb_without_free_connections_names_their_holders() {
    let Some((lab, _folder, port)) = mariadb("s3cret", "") else { return };
    lab.wait_until_healthy();
    let full = |event: &Value| fails(event, "too_many_connections") && says(event, 10, 10, 9);
    let clients = fill(&lab.daemon, full, || web(port));
    let event = lab.daemon.wait_for(full, LONG);
    assert_eq!(
        first_holder_but(&event, "mariadb"),
        json!({ "user": "web", "client": { "ip": "127.0.0.1" }, "connections": 9 })
    );
    let detail = text(&event, "probe.detail");
    assert!(detail.contains("error 1040: Too many connections"), "{detail}");
    let holder = "10 of 10 connections are in use, most by user web, from 127.0.0.1 (9)";
    assert!(detail.ends_with(holder), "{detail}");
    drop(clients);
    recovers(lab);
}

#[test]
fn a_mariadb_with_nearly_all_connections_in_use_alerts_before_it_refuses() {
    let Some((lab, _folder, port)) = mariadb("s3cret", "connections_percent = 70") else { return };
    lab.wait_until_healthy();
    let clients = [(); 6].map(|()| web(port));
    assert!(clients.iter().all(is_served));
    let event = lab.daemon.wait_for(|event| fails(event, "connections") && says(event, 8, 10, 6), LONG);
    assert_eq!(first_holder(&event)["user"], "web");
    drop(clients);
    recovers(lab);
}

#[test]
fn a_mariadb_that_refuses_the_password_is_up() {
    let Some((mut lab, _folder, _)) = mariadb("not-the-password", "") else { return };
    let event = lab.daemon.wait_for(|event| fails(event, "auth"), LONG);
    assert!(text(&event, "probe.detail").contains("error 1045: Access denied"), "{event:#}");
    assert_eq!(lab.daemon.count(|event| is(event, "restart.request", DB)), 0);
    lab.daemon.stop();
    let said = format!("{:?}{}", lab.daemon.events(), lab.daemon.log());
    assert!(!said.contains("not-the-password"), "{said}");
}

/// Redis under the supervisor with these further options.
fn redis(options: &[&str]) -> Option<(ServerLab, tempfile::TempDir, u16)> {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return None;
    }
    let (folder, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
    let probe = format!("redis = \"redis://127.0.0.1:{port}\"");
    let lab = ServerLab::start(&exec(Redis::command(port, folder.path()), options), &probe, "");
    lab.wait_until_healthy();
    Some((lab, folder, port))
}

/// Writes a megabyte under a new name; the server's answer.
fn write(port: u16, number: usize) -> String {
    Redis::request(port, &format!("SETRANGE key{number} 1000000 x"))
}

#[test]
fn a_redis_that_is_full_and_evicts_nothing_is_reported_with_its_figures() {
    // Each write takes a MiB, and an empty server somewhat less. So the last one that it takes leaves it well above.
    let options = ["--maxmemory", "5632kb", "--maxmemory-policy", "noeviction"];
    let Some((lab, _folder, port)) = redis(&options) else { return };
    let refused = (0..100).any(|number| write(port, number).starts_with("-OOM"));
    assert!(refused, "a hundred megabytes do not fit into six");
    let event = lab.daemon.wait_for(|event| fails(event, "memory_full"), LONG);
    let detail = text(&event, "probe.detail");
    let end = "of its maxmemory of 5.5 MiB and its policy is noeviction: it refuses writes";
    assert!(detail.ends_with(end), "{detail}");
    assert_eq!(number(&event, "probe.server.memory.max"), Some(5632 << 10));
    assert!(number(&event, "probe.server.memory.used") >= Some(5632 << 10), "{event:#}");
    assert!(Redis::request(port, "FLUSHALL").starts_with("+OK"));
    recovers(lab);
}

#[test]
fn a_redis_that_finds_nothing_to_evict_is_detected_by_its_refused_writes() {
    let options = ["--maxmemory", "5mb", "--maxmemory-policy", "volatile-lru"];
    let Some((lab, _folder, port)) = redis(&options) else { return };
    let mut numbers = 0..;
    while lab.daemon.count(|event| fails(event, "memory_full")) == 0 {
        write(port, numbers.next().unwrap_or_default());
    }
    let event = lab.daemon.wait_for(|event| fails(event, "memory_full"), LONG);
    let detail = text(&event, "probe.detail");
    assert!(detail.contains(" since it was last asked: its memory is full"), "{detail}");
    // Nothing is refused any more as nothing is written.
    recovers(lab);
}

#[test]
fn a_replica_without_its_primary_is_reported() {
    let Some(primary) = Redis::start(&["--repl-diskless-sync-delay", "0"]) else { return };
    let address = format!("127.0.0.1 {}", primary.port);
    let Some((mut lab, _folder, _)) = redis(&["--replicaof", &address]) else { return };
    let port = primary.port;
    // Answers once the replica has made its first sync. One that never had a link is starting, not cut off.
    let answer = Redis::request(port, "WAIT 1 0");
    assert!(answer.starts_with(":1"), "{answer}");
    drop(primary);
    let event = lab.daemon.wait_for(|event| fails(event, "replication"), LONG);
    let link = format!("its link to its primary 127.0.0.1:{port} is down for ");
    assert!(text(&event, "probe.detail").contains(&link), "{event:#}");
    assert_eq!(lab.daemon.count(|event| is(event, "restart.request", DB)), 0);
    lab.daemon.stop();
}

/// Probes of every protocol against one address; the word in which each fails.
fn words_of_failure(address: std::net::SocketAddr, protocols: &[&str]) -> Vec<String> {
    let probes: String = protocols
        .iter()
        .map(|protocol| {
            let target = match *protocol {
                "tcp" => format!("tcp = \"{address}\""),
                "https" => format!("http = \"https://{address}/\""),
                "postgres" => format!("postgres = \"postgres://u@{address}/d\""),
                "mysql with a user" => format!("mysql = \"mysql://u@{address}/\""),
                other => format!("{other} = \"{other}://{address}/\""),
            };
            format!("[[service.probe]]\n{target}\ninterval = \"1s\"\ntimeout = \"200ms\"\nfailures = 1\n")
        })
        .collect();
    let config = format!("[http]\nlisten = \"\"\n[[service]]\nname = \"{DB}\"\n{probes}");
    let mut daemon = Daemon::start(&config, &[]);
    let words = (0..protocols.len()).map(|index| {
        let failed =
            |event: &Value| is(event, "probe.fail", DB) && number(event, "probe.index") == Some(index as i64);
        text(&daemon.wait_for(failed, LONG), "probe.error").to_owned()
    });
    let words = words.collect();
    daemon.stop();
    words
}

const PROTOCOLS: [&str; 6] = ["http", "https", "redis", "postgres", "mysql", "mysql with a user"];

#[test]
fn a_server_that_sends_nothing_times_out() {
    // The kernel takes the connections; no process will ever read from them.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has an address");
    assert_eq!(words_of_failure(address, &PROTOCOLS), ["timeout"; 6]);
}

#[test]
fn a_server_that_accepts_no_connection_times_out_while_connecting() {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
        .expect("a socket");
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    rustix::net::bind(&socket, &any).expect("a free port");
    rustix::net::listen(&socket, 0).expect("it listens");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("it has an address");
    // A backlog of 0 holds one connection; what comes after it is not answered.
    let _full = TcpStream::connect(address).expect("there is room for one");
    let protocols = [PROTOCOLS.as_slice(), &["tcp"]].concat();
    assert_eq!(words_of_failure(address, &protocols), ["connect_timeout"; 7]);
}
