//! Socket errors of services and connections between them, as a real daemon reports them.

use std::{
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hostprobe::sensor::loss::LossClass;
use hostprobe_tests::{
    daemon::{Daemon, field},
    http::free_port,
    incident_events::{is, listening_pid, number, text, wait_until_healthy},
    parts::{built, require, require_root},
    process::{Running, until},
    schema,
    supervised::Supervised,
    victim::Victim,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const BASH: &str = "/bin/bash";

fn ready_to_go() -> bool {
    require_root() && require("bash", BASH)
}

/// A service that connects to these loopback ports again and again.
fn client_of(ports: &[u16]) -> (Supervised, String) {
    let client = Supervised::new();
    let connects: String =
        ports.iter().map(|port| format!("(exec 3<>/dev/tcp/127.0.0.1/{port}); ")).collect();
    let service = client.service(&[BASH, "-c", &format!("while :; do {connects}sleep 0.1; done")]);
    (client, service)
}

#[test]
fn a_refused_connection_names_the_client_the_server_and_the_error() {
    if !ready_to_go() {
        return;
    }
    let closed = free_port();
    let (server, idle) = (Supervised::new(), Supervised::new());
    let (client, service) = client_of(&[closed, server.port]);
    // Lives, and does not listen where it should.
    let idle_service = format!(
        "{}[[service.probe]]\ntcp = \"127.0.0.1:{closed}\"\ninterval = \"1h\"\n",
        idle.service(&["/bin/sleep", "1000"])
    );
    let mut daemon = Daemon::start(&format!("{}{idle_service}{service}", server.config("")), &[]);

    let ours = |event: &Value| {
        is(event, "socket.error", &client.name) && number(event, "server.port") == Some(closed.into())
    };
    let error = daemon.wait_for(ours, LONG);
    for (name, value) in [
        ("event.provider", "ebpf"),
        ("socket.error", "ECONNREFUSED"),
        ("socket.transition", "syn_sent>close"),
        ("socket.protocol", "tcp"),
        ("socket.direction", "outbound"),
        ("socket.peer_service", idle.name.as_str()),
        ("server.ip", "127.0.0.1"),
    ] {
        assert_eq!(text(&error, name), value, "{name} of {error:#}");
    }
    assert_eq!(number(&error, "socket.count"), Some(1));
    assert!(
        field(&error, "socket.age_ms").and_then(Value::as_f64).is_some_and(|age| age < 1000.0),
        "{error}"
    );
    assert!(number(&error, "process.pid").is_some(), "{error}");

    for (peer, port) in [(&server, server.port), (&idle, closed)] {
        let learned = |event: &Value| {
            is(event, "service.dependency", &client.name)
                && text(event, "dependency.service") == peer.name
                && number(event, "dependency.port") == Some(port.into())
        };
        daemon.wait_for(learned, LONG);
    }
    daemon.stop();
    let events = daemon.events();
    let learned = events.iter().filter(|event| is(event, "service.dependency", &client.name)).count();
    assert_eq!(learned, 2, "each is reported once");
    // The daemon's own probe is refused as well, which is its failure and no socket error.
    let others = events.iter().filter(|event| {
        text(event, "event.action") == "socket.error" && text(event, "service.name") != client.name
    });
    assert_eq!(others.count(), 0);
    schema::has_no_gap(&events);
}

#[test]
fn repeated_errors_are_summed_up_for_one_process_and_for_many() {
    if !ready_to_go() {
        return;
    }
    let (own, others) = (free_port(), free_port());
    let client = Supervised::new();
    let script = format!(
        "while :; do exec 3<>/dev/tcp/127.0.0.1/{own}; (exec 3<>/dev/tcp/127.0.0.1/{others}); sleep 0.1; done"
    );
    let service = client.service(&[BASH, "-c", &script]);
    let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{service}"), &[]);
    for port in [own, others] {
        let ours = |event: &Value| {
            is(event, "socket.error", &client.name) && number(event, "server.port") == Some(port.into())
        };
        let first = daemon.wait_for(ours, LONG);
        assert_eq!(number(&first, "socket.count"), Some(1));
        let sum = daemon.wait_for(|event| ours(event) && number(event, "socket.count") > Some(1), LONG);
        assert_eq!(text(&sum, "socket.error"), "ECONNREFUSED");
        assert_eq!(field(&sum, "socket.age_ms"), None);
        assert_eq!(daemon.count(|event| ours(event) && number(event, "socket.count") == Some(1)), 1);
    }
}

#[test]
fn a_stopped_service_names_the_sender_of_the_stop_and_its_queue_fills_up() {
    if !ready_to_go() {
        return;
    }
    let service = Supervised::new();
    let daemon = Daemon::start(&service.config("interval = \"1h\"\n"), &["--observe"]);
    service.until_healthy(&daemon);
    let pid = listening_pid(&daemon, &service.name);
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), Signal::STOP).expect("it lives");
    let stop = daemon.wait_for(|event| is(event, "process.suspend", &service.name), LONG);
    assert_eq!(number(&stop, "process.pid"), Some(pid.into()));
    let signal = field(&stop, "process.received_signal").expect("a signal");
    assert_eq!(signal["name"], json!("SIGSTOP"), "{stop:#}");
    assert_eq!(signal["sender"]["pid"], json!(std::process::id()), "{stop:#}");

    let full = |event: &Value| is(event, "socket.backlog", &service.name);
    let mut waiting = Vec::new();
    // The backlog of the standard library's listeners is 128, or -1, which stands for the host's 4096.
    while daemon.count(full) == 0 && waiting.len() < 4200 {
        let address = ([127, 0, 0, 1], service.port).into();
        match TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            Ok(stream) => waiting.push(stream),
            // There is no room left.
            Err(_) => break,
        }
    }
    let queue = daemon.wait_for(full, LONG);
    assert_eq!(number(&queue, "server.port"), Some(service.port.into()));
    let (waits, may) = (number(&queue, "accept_queue.waiting"), number(&queue, "accept_queue.backlog"));
    assert!(waits > may && may > Some(0), "{queue:#}");
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), Signal::CONT).expect("it lives");
}

#[test]
fn dependencies_are_learned_from_connections_older_than_the_daemon() {
    if !ready_to_go() {
        return;
    }
    let server = Victim::start();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; echo connected; exec /bin/sleep 1000", server.port);
    let client = Running::start(Command::new(BASH).args(["-c", &script]), Signal::KILL);
    client.wait_until_it_says("connected", &client.stdout, LONG);
    let pidfile = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(pidfile.path(), client.pid().to_string()).expect("it is written");
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = \"client\"\nmatch = {{ pidfile = {:?} }}\n\
         [[service]]\nname = \"server\"\nmatch = {{ port = {} }}\n",
        pidfile.path(),
        server.port
    );
    let daemon = Daemon::start(&config, &[]);
    let learned = daemon.wait_for(|event| is(event, "service.dependency", "client"), LONG);
    assert_eq!(text(&learned, "dependency.service"), "server");
    assert_eq!(number(&learned, "dependency.port"), Some(server.port.into()));
}

#[test]
fn every_hook_for_sockets_is_in_the_coverage() {
    if !require_root() {
        return;
    }
    let daemon = Daemon::start("[http]\nlisten = \"\"\n", &[]);
    let ready = daemon.ready();
    let coverage = field(&ready, "coverage").and_then(Value::as_array).expect("a list");
    for hook in ["inet_sock_set_state", "inet_sk_error_report", "tcp_retransmit_skb", "signal_generate"] {
        let covered = coverage.iter().find(|it| it["hook"] == hook).unwrap_or_else(|| panic!("no {hook}"));
        assert_eq!(covered["attached"], json!(true), "{covered}");
    }
}

/// Five processes with the usual limit on descriptors hold more connections than the map of unwatched ones does.
const PROCESSES: u32 = 5;
const HELD: u32 = 9000;

/// The size of that map.
const ROOM: u32 = 32_768;

/// One crowd at a time: it displaces what another test has to see displaced by its own.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections of another user that stay open.
fn crowd() -> Vec<Running> {
    let held = HELD.to_string();
    let crowd: Vec<Running> = (0..PROCESSES)
        .map(|_| {
            let crowd = Running::start(Command::new(built("connects")).args(["held", &held]), Signal::KILL);
            crowd.wait_until_it_says("ready", &crowd.stdout, LONG);
            crowd.signal(Signal::USR1);
            crowd
        })
        .collect();
    for process in &crowd {
        process.wait_until_it_says(&format!("made {HELD}"), &process.stdout, LONG);
    }
    crowd
}

/// Closes a connection with a reset.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
    drop(stream);
}

#[test]
fn a_crowd_of_connections_does_not_displace_those_of_a_service() {
    if !ready_to_go() {
        return;
    }
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let port = listener.local_addr().expect("a port").port();
    let client = Supervised::new();
    // It connects once it is watched.
    let script = format!("sleep 1; exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3; sleep 1000");
    let service = client.service(&[BASH, "-c", &script]);
    let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{service}"), &[]);
    daemon.ready();
    let (stream, _) = listener.accept().expect("the service connects");
    let _crowd = crowd();
    let displaced = PROCESSES * HELD - ROOM;
    until("those that the crowd displaced are counted", LONG, || {
        let events = daemon.events();
        let lost = |class: LossClass| -> i64 {
            let such = events.iter().filter(|event| text(event, "loss.class") == class.as_str());
            such.filter_map(|event| number(event, "loss.count")).sum()
        };
        assert_eq!(lost(LossClass::SocketOwner), 0, "the service has room of its own");
        (lost(LossClass::SocketOwnerUnwatched) >= displaced.into()).then_some(())
    });
    reset(stream);
    let ours = |event: &Value| {
        is(event, "socket.error", &client.name) && number(event, "server.port") == Some(port.into())
    };
    let reset = daemon.wait_for(ours, LONG);
    assert_eq!(text(&reset, "socket.error"), "ECONNRESET", "{reset:#}");
}

#[test]
fn a_crowd_of_connections_does_not_displace_those_from_before_the_watch() {
    if !ready_to_go() {
        return;
    }
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let port = listener.local_addr().expect("a port").port();
    let pidfile = tempfile::NamedTempFile::new().expect("a temporary file");
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = \"client\"\nmatch = {{ pidfile = {:?} }}\n",
        pidfile.path()
    );
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo connected; cat <&3; sleep 1000");
    let client = Running::start(Command::new(BASH).args(["-c", &script]), Signal::KILL);
    client.wait_until_it_says("connected", &client.stdout, LONG);
    let (stream, _) = listener.accept().expect("the client connects");
    std::fs::write(pidfile.path(), client.pid().to_string()).expect("it is written");
    wait_until_healthy(&daemon, "client");
    // The daemon looks every second for connections from before the watch.
    std::thread::sleep(Duration::from_secs(3));
    let _crowd = crowd();
    reset(stream);
    let ours = |event: &Value| {
        is(event, "socket.error", "client") && number(event, "server.port") == Some(port.into())
    };
    let error = daemon.wait_for(ours, LONG);
    assert_eq!(text(&error, "socket.error"), "ECONNRESET", "{error:#}");
}
