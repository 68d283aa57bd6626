//! Surroundings that are hostile or broken: bounded, named, and without a cost for the other services.

use std::{fs, net::TcpListener};

use rustix::process::Signal;

use super::{
    judge::{Expected, Held},
    row::{Measured, Row},
    scene::{PATIENCE, Scene, Service},
};
use crate::{
    descriptors,
    hostile_server::{Answer, Relay},
    http::{self, free_port},
    incident_events::{is, number, text},
    network::{self, Firewall},
    parts::{Postgres, pgbouncer, require_root},
    process::{cpu_time, peak_resident, signal, until},
};

const API: &str = "api";
const DB: &str = "db";
const POOL: &str = "pool";
const FAR: &str = "remote";

/// The name of the daemon's own service in its events.
const HOSTPROBE: &str = "hostprobe";

/// So much memory more is no sign of a message that is kept.
const MEMORY: u64 = 64 << 20;

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "26a",
        fault: "answers 100 Continue without an end",
        verdicts: &["unhealthy"],
        action: "restart",
        run: endless_head,
    },
    Row {
        number: "26b",
        fault: "another host's PostgreSQL sends 2 GB",
        verdicts: &["unhealthy"],
        action: "alert",
        run: huge_message,
    },
    Row {
        number: "26c",
        fault: "a dead port that a probe may connect from",
        verdicts: &["unhealthy"],
        action: "alert",
        run: connects_to_itself,
    },
    Row {
        number: "26d",
        fault: "a firewall drops connections to its port",
        verdicts: &["network"],
        action: "hold, alert",
        run: firewall,
    },
    Row {
        number: "26e",
        fault: "pgbouncer: a client has its one connection",
        verdicts: &["pool_exhausted"],
        action: "hold, alert",
        run: client_has_the_connection,
    },
    Row {
        number: "26f",
        fault: "SIGKILL while the daemon lacks descriptors",
        verdicts: &["agent_impaired"],
        action: "alert; restart of the killed one",
        run: lacks_descriptors,
    },
];

fn endless_head(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let port = free_port();
    let scene = Scene::start(&[Service::victim(API, port)]);
    let used = || cpu_time(scene.daemon.pid()).expect("the daemon lives");
    let before = used();
    let _ = http::get(port, "/interim");
    scene.healed(API);
    scene.more_probes();
    let used_ms = (used() - before) / 1_000_000;
    let expected = Expected {
        service: API,
        restarts: &[(API, 1, 1)],
        alerts: Some(&[]),
        resolved: true,
        ..Expected::default()
    };
    let mut measured = scene.judge(row, &expected);
    measured.expect(used_ms < 1000, || format!("the daemon used {used_ms} ms of CPU time"));
    Some(measured)
}

fn huge_message(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let server = Postgres::start(&[])?;
    let relay = Relay::to(server.port, Answer::HugeMessage);
    let probe =
        format!("postgres = \"postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable\"", relay.port);
    let scene = Scene::start(&[Service::new(DB, "", relay.port).probe(&probe).restart("")]);
    let before = peak_resident(scene.daemon.pid());
    relay.set_hostile(true);
    let mut grown = 0;
    let end = |scene: &Scene| {
        grown = peak_resident(scene.daemon.pid()) - before;
        relay.set_hostile(false);
    };
    let held = Held { service: DB, because: "", alert: true, named: Vec::new() };
    let mut measured = scene.judge_held(row, held, end);
    measured.expect(grown < MEMORY, || format!("the daemon took {grown} bytes more"));
    Some(measured)
}

/// The kernel may choose the port of the dead server for a probe's own end: then the probe is connected to itself.
fn connects_to_itself(row: &Row) -> Option<Measured> {
    const PORT: u16 = 40_000;
    if !require_root() || !network::enter() {
        return None;
    }
    // The alert's connection may get the port too. Without this, the kernel holds it for a minute after the end.
    fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0").expect("a limit is set");
    // A probe may be connected to itself there for a moment.
    let listen = || until("its port is free", PATIENCE, || TcpListener::bind(("127.0.0.1", PORT)).ok());
    let listener = listen();
    let probe = format!("tcp = \"127.0.0.1:{PORT}\"");
    let times = "interval = \"100ms\"\ntimeout = \"800ms\"\nfailures = 2";
    let service = Service::new(FAR, "", PORT).probe(&probe).times(times).restart("");
    let scene = Scene::start(&[service]);
    // It chooses from these, every second one first.
    let range = format!("{PORT} {}", PORT + 15);
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).expect("a range is set");
    drop(listener);
    let end = |scene: &Scene| {
        let many = |event: &serde_json::Value| {
            is(event, "probe.fail", FAR) && number(event, "probe.consecutive") >= Some(30)
        };
        scene.event("many probes fail in a row", many);
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999").expect("a range is set");
        std::mem::forget(listen());
    };
    let held = Held { service: FAR, because: "", alert: true, named: Vec::new() };
    Some(scene.judge_held(row, held, end))
}

fn firewall(row: &Row) -> Option<Measured> {
    if !require_root() || !Firewall::is_there() || !network::enter() {
        return None;
    }
    let port = free_port();
    let scene = Scene::start(&[Service::victim(API, port)]);
    let firewall = Firewall::before(port);
    let because = "a restart does not open the way to its port";
    let held = Held { service: API, because, alert: true, named: Vec::new() };
    Some(scene.judge_held(row, held, |_| drop(firewall)))
}

fn client_has_the_connection(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (server, port) = (Postgres::start(&[])?, free_port());
    let settings = "pool_mode = transaction\nstats_users = postgres";
    let command = pgbouncer(&server.folder, port, server.port, settings)?;
    let probe = format!("postgres = \"postgres://postgres@127.0.0.1:{port}/postgres\"");
    let scene = Scene::start(&[Service::exec(POOL, &command, port).probe(&probe)]);
    let mut client = server.folder.keep_busy(port, "SELECT pg_sleep(6)");
    let mut succeeded = false;
    let end = |_: &Scene| succeeded = client.wait(PATIENCE).success();
    let named = vec!["1 of 1 connections are in use".to_owned()];
    let held = Held { service: POOL, because: "the connections that it serves", alert: true, named };
    let mut measured = scene.judge_held(row, held, end);
    measured.expect(succeeded, || "the client's transaction was broken off".to_owned());
    Some(measured)
}

/// The probes of other services need more descriptors than there are; the killed service is restarted all the same. The
/// daemon's own incident ends ten seconds after the shortage, for which the row does not wait.
fn lacks_descriptors(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let port = free_port();
    let peers = descriptors::peers(40);
    let scene = Scene::start_with(&[Service::victim(API, port)], &peers, |command| command);
    descriptors::take_from(&scene.daemon);
    scene.verdict(HOSTPROBE, "agent_impaired");
    signal(scene.pid(API), Signal::KILL);
    let restarted = scene.restarted(API);
    descriptors::give_back(&scene.daemon);
    scene.healed(API);
    scene.more_probes();
    let moved = scene.daemon.since(scene.mark).into_iter().filter(|event| {
        let concerns_a_peer = text(event, "service.name").starts_with("peer-");
        concerns_a_peer && ["service.state", "incident.open"].contains(&text(event, "event.action"))
    });
    let moved = moved.count();
    let expected = Expected {
        service: HOSTPROBE,
        restarts: &[(API, 1, 1)],
        alerts: Some(&[HOSTPROBE]),
        named: vec!["Too many open files".to_owned()],
        ..Expected::default()
    };
    let mut measured = scene.judge(row, &expected);
    measured.expect(restarted, || "the killed service was not restarted meanwhile".to_owned());
    measured.expect(moved == 0, || format!("{moved} events blame the other services"));
    Some(measured)
}
