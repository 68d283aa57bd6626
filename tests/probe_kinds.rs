//! Probes of further protocols against real servers: each answers, refuses, answers wrongly, and is silent.

use std::time::Duration;

use hostprobe_tests::{
    daemon::{Daemon, Mark},
    http::free_port,
    incident_events::{is, text, wait_until_healthy},
    parts::{dnsmasq, memcached},
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A quick probe of a service that nothing restarts.
fn service(name: &str, probe: &str) -> String {
    let times = "interval = \"100ms\"\ntimeout = \"1s\"\nfailures = 2";
    format!("[[service]]\nname = \"{name}\"\n[[service.probe]]\n{probe}\n{times}\n")
}

fn start(services: &[String]) -> Daemon {
    let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{}", services.concat()), &[]);
    daemon.ready();
    daemon
}

/// Waits until a probe of a service fails with this error, and returns what it says.
fn fails(daemon: &Daemon, mark: Mark, service: &str, error: &str) -> String {
    let such = |event: &Value| is(event, "probe.fail", service) && text(event, "probe.error") == error;
    text(&daemon.wait_for_after(mark, such, LONG), "probe.detail").to_owned()
}

fn recovers(daemon: &Daemon, mark: Mark, service: &str) {
    daemon.wait_for_after(mark, |event| is(event, "probe.recover", service), LONG);
}

#[test]
fn memcached_answers_over_tcp_and_a_unix_socket_or_is_silent_or_gone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (port, socket) = (free_port(), folder.path().join("memcached.sock"));
    let Some(mut over_tcp) = memcached(&["-l", "127.0.0.1", "-p", &port.to_string()]) else { return };
    let path = socket.display().to_string();
    let Some(mut over_unix) = memcached(&["-s", &path]) else { return };
    let exchange = r"send = 'stats\r\n'
        expect = { starts_with = 'STAT pid ' }";
    let mut daemon = start(&[
        service("tcp", &format!("tcp = \"127.0.0.1:{port}\"\n{exchange}")),
        service("unix", &format!("unix = \"{path}\"\n{exchange}")),
        service("wrong", &format!("tcp = \"127.0.0.1:{port}\"\nsend = 'version\\r\\n'\nexpect = {{ contains = 'Redis' }}")),
    ]);
    wait_until_healthy(&daemon, "tcp");
    wait_until_healthy(&daemon, "unix");
    let wrong = fails(&daemon, Mark::default(), "wrong", "body");
    assert!(wrong.contains("contains \"Redis\", got \"VERSION 1."), "{wrong}");

    for (server, name) in [(&mut over_tcp, "tcp"), (&mut over_unix, "unix")] {
        let mark = daemon.mark();
        server.signal(Signal::STOP);
        let silent = fails(&daemon, mark, name, "timeout");
        assert!(silent.contains("still waiting for the answer"), "{silent}");
        let mark = daemon.mark();
        server.signal(Signal::CONT);
        recovers(&daemon, mark, name);
        let mark = daemon.mark();
        server.signal(Signal::KILL);
        server.wait(LONG);
        fails(&daemon, mark, name, "refused");
    }
    daemon.stop();
}

/// A question for the address of `host.test`, and the beginning of the answer with one address.
const QUESTION: &str = r"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04host\x04test\0\0\x01\0\x01";
const ANSWER: &str = r"\x12\x34\x85\x80\0\x01\0\x01";

#[test]
fn a_dns_server_answers_a_datagram_or_is_silent_or_gone() {
    let port = free_port();
    let Some(mut server) = dnsmasq(port) else { return };
    let probe = |answer: &str| {
        format!("udp = \"localhost:{port}\"\nsend = '{QUESTION}'\nexpect = {{ starts_with = '{answer}' }}")
    };
    let mut daemon = start(&[service("dns", &probe(ANSWER)), service("wrong", &probe(r"\x12\x35"))]);
    wait_until_healthy(&daemon, "dns");
    let wrong = fails(&daemon, Mark::default(), "wrong", "body");
    assert!(wrong.contains(r#"got "\x124\x85\x80"#), "{wrong}");
    let mark = daemon.mark();
    server.signal(Signal::STOP);
    fails(&daemon, mark, "dns", "timeout");
    let mark = daemon.mark();
    server.signal(Signal::KILL);
    server.wait(LONG);
    let gone = fails(&daemon, mark, "dns", "refused");
    assert!(gone.contains("nothing listens there"), "{gone}");
    daemon.stop();
}
