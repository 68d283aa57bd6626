//! Without a configuration hostprobe watches what listens on the host, says so, and restarts nothing.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, Mark, event_action},
    http,
    incident_events::{is, number, text},
    memcg::MemoryCgroup,
    network,
    parts::{Postgres, Redis, available, built, require_root},
    process::Running,
    schema,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Where health is served when nothing else is said.
const PAGE: u16 = 9464;

/// Where a configuration would be found.
const DEFAULT_CONFIG: &str = "/etc/hostprobe/hostprobe.toml";

/// A host with two known servers and an unknown one.
struct Host {
    redis: Redis,
    postgres: Postgres,
    victim: Victim,
}

impl Host {
    fn start() -> Option<Self> {
        Some(Self { redis: Redis::start(&[])?, postgres: Postgres::start(&[])?, victim: Victim::start() })
    }
}

/// Without a configuration, all daemons of a host have the same state directory, which one of them takes.
static STATE: Mutex<()> = Mutex::new(());

/// Runs a test on a host of its own, as far as listeners go.
fn on_a_host(test: impl FnOnce(Host) + Send + 'static) {
    if !require_root() || !available(!Path::new(DEFAULT_CONFIG).exists(), "a host without configuration") {
        return;
    }
    let _taken = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    network::in_its_own(|| {
        if let Some(host) = Host::start() {
            test(host);
        }
    });
}

fn watch() -> Daemon {
    let daemon = Daemon::start_without_configuration();
    let ready = daemon.ready();
    assert_eq!(ready["watching"], json!({"services": 3, "restartable": 0}));
    for service in ["redis-server", "postgres", "victim"] {
        daemon.wait_for(becomes(service, "healthy"), LONG);
    }
    daemon
}

fn becomes<'s>(service: &'s str, state: &'s str) -> impl Fn(&Value) -> bool + 's {
    move |event| is(event, "service.state", service) && text(event, "service.state") == state
}

#[test]
fn listening_servers_are_watched_and_named() {
    on_a_host(|host| {
        let mut daemon = watch();
        // The last line of what it says of itself.
        daemon.wait_for_log(&format!("hostprobe discover --write {DEFAULT_CONFIG}"));
        let said = daemon.log();
        assert!(said.contains("restarting nothing"), "{said}");
        for (name, port, how) in [
            ("redis-server", host.redis.port, "redis"),
            ("postgres", host.postgres.port, "postgres"),
            ("victim", host.victim.port, "kernel evidence only"),
        ] {
            let port = port.to_string();
            let line = said.lines().find(|line| line.split_whitespace().next() == Some(name));
            let line = line.unwrap_or_else(|| panic!("{name} is not named: {said}"));
            assert!(line.contains(&port) && line.trim_end().ends_with(how), "{line}");
        }
        assert!(said.contains(&format!("http://127.0.0.1:{PAGE}/")), "{said}");

        let (code, body) = http::get(PAGE, "/api/v1/status").expect("the daemon answers");
        let status: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((code, &status["ready"]), (200, &json!(true)));
        let services = status["services"].as_array().expect("services");
        assert_eq!(services.len(), 3, "{status:#}");
        for service in services {
            assert_eq!(service["state"], json!("healthy"), "{service}");
            let probed = text(service, "name") != "victim";
            assert_eq!(service["response_time_ms"].is_number(), probed, "{service}");
        }
        assert_eq!(http::get(PAGE, "/health").expect("the daemon answers").0, 200);
        assert_eq!(daemon.stop().code(), Some(0));
        schema::has_no_gap(&daemon.events());
    });
}

#[test]
fn a_killed_server_is_reported_and_not_restarted() {
    on_a_host(|mut host| {
        let mut daemon = watch();
        for (name, process) in
            [("redis-server", &mut host.redis.process), ("victim", &mut host.victim.process)]
        {
            let mark = daemon.mark();
            process.signal(Signal::KILL);
            let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", name), LONG);
            assert_eq!(text(&opened, "incident.verdict"), "killed");
            assert_eq!(opened["incident"]["confidence"], json!(1.0));
            let summary = text(&opened, "incident.summary");
            assert!(summary.contains("SIGKILL") && summary.contains(&me()), "{summary}");
            let hold = daemon.wait_for_after(mark, |event| is(event, "restart.hold", name), LONG);
            assert_eq!(text(&hold, "event.reason"), "restarts are not enabled for this service");
            daemon.wait_for_after(mark, becomes(name, "down"), LONG);
            process.wait(LONG);
        }
        let (code, health) = http::get(PAGE, "/health").expect("the daemon answers");
        let health: Value = serde_json::from_str(&health).expect("JSON");
        assert_eq!((code, &health["checks"]["redis-server"]["verdict"]), (503, &json!("killed")));
        assert_eq!(health["checks"]["postgres"]["status"], json!("healthy"));
        // Its supervisor restarts the server, and the daemon discovers it again.
        let mark = daemon.mark();
        let _redis = Running::start(&mut redis_again(&host.redis), Signal::KILL);
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "redis-server"), LONG);
        daemon.wait_for_after(mark, becomes("redis-server", "healthy"), LONG);
        daemon.stop();
        assert_eq!(daemon.count(|event| event_action(event).starts_with("restart.re")), 0);
        schema::has_no_gap(&daemon.events());
    });
}

/// This process, as an incident names who sent a signal.
fn me() -> String {
    format!("(pid {}, uid 0", std::process::id())
}

fn redis_again(redis: &Redis) -> Command {
    let words = Redis::command(redis.port, redis.folder());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

#[test]
fn the_death_of_any_process_by_a_signal_is_reported() {
    on_a_host(|_host| {
        let daemon = watch();
        let mark = daemon.mark();
        // In a cgroup of its own, whatever else dies on this host does not use up its share of the stream.
        let cgroup = match MemoryCgroup::new(64 << 20) {
            Ok(cgroup) => cgroup,
            Err(error) => {
                available(false, &format!("a memory cgroup ({error})"));
                return;
            }
        };
        let mut unwatched = Command::new("/bin/sh");
        unwatched.args(["-c", "read word; kill -SEGV $$"]).stdin(Stdio::piped());
        let mut unwatched = unwatched.spawn().expect("a shell can be run");
        cgroup.add(unwatched.id()).expect("it can be moved");
        drop(unwatched.stdin.take());
        unwatched.wait().expect("it ends");
        let its = |event: &Value| {
            event_action(event) == "process.exit"
                && number(event, "process.pid") == Some(unwatched.id().into())
        };
        let death = daemon.wait_for_after(mark, its, LONG);
        assert_eq!(text(&death, "process.exit_signal.name"), "SIGSEGV");
        assert_eq!(text(&death, "process.exit_signal.sender.origin"), "itself");
        assert_eq!(text(&death, "process.command_line"), "/bin/sh -c read word; kill -SEGV $$");
        assert_eq!(death["service"], Value::Null);
        assert_eq!(incidents_after(&daemon, mark), 0);
    });
}

fn incidents_after(daemon: &Daemon, mark: Mark) -> usize {
    daemon.since(mark).iter().filter(|event| event_action(event) == "incident.open").count()
}

#[test]
fn the_discovered_configuration_is_accepted_and_watches_the_same() {
    on_a_host(|_host| {
        let config = discovered();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("hostprobe.toml");
        std::fs::write(&file, &config).expect("the file is written");
        let check = Command::new(built("hostprobe")).arg("check").arg("--config").arg(&file).output();
        let check = check.expect("it can be run");
        assert!(check.status.success(), "{}\n{config}", String::from_utf8_lossy(&check.stderr));
        assert!(String::from_utf8_lossy(&check.stdout).ends_with(": valid, 3 services\n"), "{check:?}");

        let daemon = Daemon::start(&config, &[]);
        assert_eq!(daemon.ready()["watching"], json!({"services": 3, "restartable": 0}));
        for service in ["redis-server", "postgres", "victim"] {
            daemon.wait_for(becomes(service, "healthy"), LONG);
        }
    });
}

/// The configuration that `discover` prints.
fn discovered() -> String {
    let discovered = Command::new(built("hostprobe")).arg("discover").output().expect("it can be run");
    assert!(discovered.status.success(), "{discovered:?}");
    String::from_utf8(discovered.stdout).expect("UTF-8")
}

#[test]
fn servers_that_ask_for_a_password_are_healthy_with_the_discovered_configuration_as_without_one() {
    on_a_host(|host| {
        host.postgres.folder.write("data/pg_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n");
        host.postgres.folder.sql(host.postgres.port, "SELECT pg_reload_conf()");
        assert!(Redis::request(host.redis.port, "CONFIG SET requirepass word").starts_with("+OK"));
        watch().stop();

        let daemon = Daemon::start(&discovered(), &[]);
        for service in ["redis-server", "postgres", "victim"] {
            daemon.wait_for(becomes(service, "healthy"), LONG);
        }
        assert_eq!(daemon.count(|event| event_action(event) == "probe.fail"), 0);
    });
}
