//! A daemon without descriptors: one incident of its own, and none of a service.

use std::{
    collections::BTreeSet, fs, io::Read as _, net::TcpListener, process::Command, thread, time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    http::{self, free_port, respond},
    incident_events::{IncidentEvents, is, text},
    parts::require_root,
    supervised::Supervised,
};

const LONG: Duration = Duration::from_secs(60);

/// Probed services beside the one that is killed.
const PEERS: usize = 40;

/// How long the server of the peers takes to answer, so that many probes wait at a time.
const ANSWER: Duration = Duration::from_millis(300);

/// Descriptors that the daemon gets beyond those that it has between its probes.
const FREE: usize = 4;

/// An HTTP server that answers each client after a while.
fn slow_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let port = listener.local_addr().expect("a port").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                thread::sleep(ANSWER);
                respond(stream, "200 OK", "ok");
            });
        }
    });
    port
}

fn limit_descriptors(daemon: &Daemon, limit: usize) {
    let (pid, limit) = (daemon.pid().to_string(), format!("--nofile={limit}:{limit}"));
    let status = Command::new("/usr/bin/prlimit").args(["--pid", &pid, &limit]).status();
    assert!(status.expect("prlimit runs").success());
}

/// The descriptors that the daemon has open at least.
fn descriptors(daemon: &Daemon) -> usize {
    let count = || {
        thread::sleep(Duration::from_millis(20));
        fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("the daemon lives").count()
    };
    (0..100).map(|_| count()).min().expect("a count")
}

#[test]
fn a_lack_of_descriptors_is_an_incident_of_the_daemon_and_of_no_service() {
    if !require_root() {
        return;
    }
    let (server, page, victim) = (slow_server(), free_port(), Supervised::new());
    let peers: String = (0..PEERS)
        .map(|at| {
            format!(
                "[[service]]\nname = \"peer-{at}\"\n[[service.probe]]\nhttp = \"http://127.0.0.1:{server}/\"\n\
                 interval = \"200ms\"\ntimeout = \"2s\"\nfailures = 3\n"
            )
        })
        .collect();
    let config = victim.config("").replace("listen = \"\"", &format!("listen = \"127.0.0.1:{page}\""));
    let daemon = Daemon::start(&format!("{config}{peers}"), &[]);
    daemon.ready();
    victim.until_healthy(&daemon);
    let mut healthy = BTreeSet::new();
    let all_healthy = |event: &serde_json::Value| {
        event_action(event) == "service.state" && text(event, "service.state") == "healthy"
    };
    daemon.stream().wait_for(LONG, |lines| {
        let events = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
        healthy.extend(events.filter(all_healthy).map(|event| text(&event, "service.name").to_owned()));
        (healthy.len() > PEERS).then_some(())
    });
    assert_eq!(healthy.len(), PEERS + 1, "all are healthy at first");

    let mark = daemon.mark();
    limit_descriptors(&daemon, descriptors(&daemon) + FREE);
    let open = daemon.wait_for_after(mark, |event| is(event, "incident.open", "hostprobe"), LONG);
    assert_eq!(text(&open, "incident.verdict"), "agent_impaired");
    assert!(text(&open, "incident.summary").contains("Too many open files"), "{open:#}");
    // A death is still seen, and the restart has descriptors in reserve.
    let killed = daemon.mark();
    victim.kill(&daemon);
    daemon.wait_for_after(killed, |event| is(event, "restart.done", &victim.name), LONG);
    thread::sleep(Duration::from_secs(5));
    let (status, health) = http::get(page, "/health").expect("the page answers");
    assert_eq!(status, 200, "{health}");
    assert!(health.contains("\"stale\":true"), "{health}");

    limit_descriptors(&daemon, 4096);
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "hostprobe"), LONG);
    let events = IncidentEvents::of(&daemon, killed, &victim.name);
    assert_eq!(events.verdict(), "killed");
    let of_peers = |event: &serde_json::Value| {
        text(event, "service.name").starts_with("peer-")
            && matches!(event_action(event), "service.state" | "incident.open" | "restart.request")
    };
    let moved: Vec<_> = daemon.since(mark).into_iter().filter(of_peers).collect();
    assert!(moved.is_empty(), "{moved:#?}");
}
