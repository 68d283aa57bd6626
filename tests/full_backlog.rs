//! Listeners that stay full although their service works, in the daemon's network namespace and in another one.

use std::{process::Command, time::Duration};

use hostprobe_tests::{
    daemon::{Daemon, Mark},
    incident_events::{is, number, text},
    parts::{require, require_root},
    process::Running,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Listens with a backlog of 4 and has ten clients of its own. It accepts none of them before a file is there.
const ACCEPTS_LATE: &str = "
import os, socket, sys, time
server = socket.socket()
server.bind(('127.0.0.1', 0))
server.listen(4)
clients = []
for _ in range(10):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(server.getsockname())
    clients.append(client)
print('port', server.getsockname()[1], flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.1)
while True:
    clients.append(server.accept()[0])
";

/// Starts the program under another one, if `under` is not empty, with the file that it waits for.
fn announced_until_it_accepts(under: &[&str]) {
    if !require_root() || !require("python3", "/usr/bin/python3") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("accept").display().to_string();
    let words = [under, &["/usr/bin/python3", "-c", ACCEPTS_LATE, &file]].concat();
    let server = Running::start(Command::new(words[0]).args(&words[1..]), Signal::KILL);
    let port =
        |lines: &[String]| lines.iter().find_map(|line| line.strip_prefix("port ")?.parse::<i64>().ok());
    let port = server.stdout.wait_for(LONG, port).expect("it listens");
    let pidfile = folder.path().join("pid").display().to_string();
    std::fs::write(&pidfile, server.pid().to_string()).expect("it is written");
    let config =
        format!("[http]\nlisten = \"\"\n[[service]]\nname = \"app\"\nmatch = {{ pidfile = {pidfile:?} }}\n");
    let mut daemon = Daemon::start(&config, &[]);
    let full = |event: &Value| {
        is(event, "incident.open", "app") && text(event, "incident.verdict") == "backlog_full"
    };
    let open = daemon.wait_for(full, LONG);
    let summary = text(&open, "incident.summary");
    let words =
        format!("it accepts too few of its connections on 127.0.0.1:{port}: 5 wait, its backlog is 4");
    assert!(summary.starts_with(&words), "{summary}");
    let event = daemon.wait_for(|event| is(event, "socket.backlog", "app"), LONG);
    assert_eq!(number(&event, "accept_queue.backlog"), Some(4));
    let mark: Mark = daemon.mark();
    std::fs::write(&file, "").expect("it is written");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "app"), LONG);
    assert_eq!(daemon.count(|event| is(event, "restart.request", "app")), 0);
    daemon.stop();
}

#[test]
fn a_full_listener_is_announced_with_its_address_and_backlog() {
    announced_until_it_accepts(&[]);
}

#[test]
fn a_full_listener_in_another_network_namespace_is_announced_as_well() {
    if !require("iproute2", "/sbin/ip") || !require("util-linux", "/usr/bin/unshare") {
        return;
    }
    let script = "/sbin/ip link set lo up; exec \"$@\"";
    announced_until_it_accepts(&["/usr/bin/unshare", "--net", "/bin/sh", "-c", script, "sh"]);
}
