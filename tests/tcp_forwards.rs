//! What passes TCP connections on works when the server behind it does not: it is not restarted.

use std::{thread, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    http::free_port,
    incident_events::{is, listening_pid, text, wait_until_healthy},
    lab::probed::{QUICK, restarts, service},
    parts::{Certificate, haproxy, nginx_stream, require_root, socat, stunnel},
    process::signal,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Each kind of program, probed through its port.
struct Forwards {
    names: Vec<&'static str>,
    daemon: Daemon,
    _folder: TempDir,
}

impl Forwards {
    /// All of them before one server. None where one of them is not installed.
    fn start(server: u16) -> Option<Self> {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path();
        let certificate = Certificate::self_signed(path, "forward")?;
        let [stream, tls, pipe, balancer] = [(); 4].map(|()| free_port());
        let kinds = [
            ("stream", "http", stream, nginx_stream(path, stream, server)?),
            ("tls", "https", tls, stunnel(path, &certificate, tls, server)?),
            ("pipe", "http", pipe, socat(pipe, server)?),
            ("balancer", "http", balancer, haproxy(path, balancer, server)?),
        ];
        let mut config = "[http]\nlisten = \"\"\n".to_owned();
        for (name, scheme, port, command) in &kinds {
            let probe = format!("http = \"{scheme}://localhost:{port}/health\"");
            config += &service(name, command, &probe, QUICK, path);
        }
        let daemon = Daemon::start_with(&config, &[], |command| {
            command.env("SSL_CERT_FILE", &certificate.pem).env_remove("SSL_CERT_DIR")
        });
        daemon.ready();
        Some(Self { names: kinds.map(|(name, ..)| name).to_vec(), daemon, _folder: folder })
    }
}

#[test]
fn a_forward_before_a_server_that_dies_is_held_until_the_server_is_back() {
    if !require_root() {
        return;
    }
    let mut server = Victim::start();
    let port = server.port;
    let Some(Forwards { names, mut daemon, _folder }) = Forwards::start(port) else { return };
    for name in &names {
        wait_until_healthy(&daemon, name);
    }
    let pids: Vec<u32> = names.iter().map(|name| listening_pid(&daemon, name)).collect();
    thread::sleep(Duration::from_secs(2));
    let mark = daemon.mark();
    server.process.stop();
    for name in &names {
        let open = daemon.wait_for_after(mark, |event| is(event, "incident.open", name), LONG);
        assert_eq!(text(&open, "incident.verdict"), "unhealthy", "{open:#}");
        let hold = daemon.wait_for_after(mark, |event| is(event, "restart.hold", name), LONG);
        assert!(text(&hold, "event.reason").starts_with("a restart does not mend what"), "{hold:#}");
    }
    thread::sleep(Duration::from_secs(15));
    let again = Victim::start_on(port);
    for (name, pid) in names.iter().zip(pids) {
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", name), LONG);
        assert_eq!(restarts(&daemon, mark, name), Vec::<Value>::new());
        assert_eq!(listening_pid(&daemon, name), pid, "{name} is the same process");
    }
    drop(again);
    daemon.stop();
}

#[test]
fn a_forward_before_a_server_that_hangs_is_held_and_one_that_hangs_itself_is_not() {
    if !require_root() {
        return;
    }
    let server = Victim::start();
    let Some(Forwards { names, mut daemon, _folder }) = Forwards::start(server.port) else { return };
    for name in &names {
        wait_until_healthy(&daemon, name);
    }
    let pids: Vec<u32> = names.iter().map(|name| listening_pid(&daemon, name)).collect();
    let mark = daemon.mark();
    signal(server.process.pid(), Signal::STOP);
    for name in &names {
        let open = daemon.wait_for_after(mark, |event| is(event, "incident.open", name), LONG);
        assert_eq!(text(&open, "incident.verdict"), "unhealthy", "{open:#}");
        let waits = format!("waits for 127.0.0.1:{}", server.port);
        assert!(text(&open, "incident.summary").contains(&waits), "{open:#}");
    }
    // Each of them is judged again with every further failure.
    for name in &names {
        for _ in 0..5 {
            let mark = daemon.mark();
            daemon.wait_for_after(mark, |event| is(event, "probe.fail", name), LONG);
        }
    }
    signal(server.process.pid(), Signal::CONT);
    for (name, pid) in names.iter().zip(&pids) {
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", name), LONG);
        assert_eq!(restarts(&daemon, mark, name), Vec::<Value>::new());
        assert_eq!(listening_pid(&daemon, name), *pid, "{name} is the same process");
    }
    // The other two have processes of their own for the work.
    let alone = names.iter().zip(&pids).filter(|(name, _)| ["tls", "pipe"].contains(name));
    let mark = daemon.mark();
    for (name, pid) in alone {
        signal(*pid, Signal::STOP);
        daemon.wait_for_after(mark, |event| is(event, "restart.done", name), LONG);
    }
    daemon.stop();
}

#[test]
fn a_forward_before_a_server_that_never_ran_is_held() {
    if !require_root() {
        return;
    }
    let Some(Forwards { names, mut daemon, _folder }) = Forwards::start(free_port()) else { return };
    for name in &names {
        daemon.wait_for(|event| is(event, "restart.hold", name), LONG);
    }
    thread::sleep(Duration::from_secs(10));
    assert_eq!(daemon.count(|event| text(event, "event.action") == "restart.request"), 0);
    daemon.stop();
}
