//! Probes of further protocols against real servers: each answers, refuses, answers wrongly, and is silent.

use std::{fs, path::Path, time::Duration};

use hostprobe_tests::{
    daemon::{Daemon, Mark},
    http::free_port,
    incident_events::{is, text, wait_until_healthy},
    parts::{Certificate, dnsmasq, grpc_server, memcached, require, require_root},
    process::{lives, until},
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
    start_text(&format!("[http]\nlisten = \"\"\n{}", services.concat()))
}

fn start_text(config: &str) -> Daemon {
    let daemon = Daemon::start(config, &[]);
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
        service(
            "wrong",
            &format!("tcp = \"127.0.0.1:{port}\"\nsend = 'version\\r\\n'\nexpect = {{ contains = 'Redis' }}"),
        ),
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

#[test]
fn a_dns_server_is_asked_for_records() {
    let port = free_port();
    let Some(mut server) = dnsmasq(port) else { return };
    let probe = |name: &str, more: &str| format!("dns = \"dns://127.0.0.1:{port}/{name}\"\n{more}");
    let mut daemon = start(&[
        service("well", &probe("host.test", "expect = { answers = [\"192.0.2.7\"] }")),
        service("long", &probe("long.test?type=txt", "")),
        service("other", &probe("host.test", "expect = { answers = [\"192.0.2.8\"] }")),
        service("absent", &probe("absent.test", "")),
        service("no-data", &probe("host.test?type=MX", "")),
        service("refused", &probe("example.org", "")),
    ]);
    wait_until_healthy(&daemon, "well");
    wait_until_healthy(&daemon, "long");
    let says = |service: &str, error: &str, words: &str| {
        let detail = fails(&daemon, Mark::default(), service, error);
        assert!(detail.contains(words), "{detail}");
    };
    says("other", "answer", "about host.test. A: expected 192.0.2.8, got 192.0.2.7");
    says("absent", "answer", "NXDOMAIN");
    says("no-data", "answer", "no such record");
    says("refused", "rejected", "REFUSED");
    let mark = daemon.mark();
    server.signal(Signal::STOP);
    fails(&daemon, mark, "well", "timeout");
    let mark = daemon.mark();
    server.signal(Signal::KILL);
    server.wait(LONG);
    fails(&daemon, mark, "well", "refused");
    daemon.stop();
}

#[test]
fn a_grpc_server_serves_or_says_what_it_does_not() {
    let (port, bare_port, web_port) = (free_port(), free_port(), free_port());
    let Some(mut server) = grpc_server(port, true, None) else { return };
    let Some(_bare) = grpc_server(bare_port, false, None) else { return };
    let Some(_web) = memcached(&["-l", "127.0.0.1", "-p", &web_port.to_string()]) else { return };
    let probe = |port: u16, service: &str| format!("grpc = \"grpc://127.0.0.1:{port}{service}\"");
    let mut daemon = start(&[
        service("server", &probe(port, "")),
        service("orders", &probe(port, "/shop.v1.Orders")),
        service("down", &probe(port, "/not-serving")),
        service("unknown", &probe(port, "/unknown")),
        service("absent", &probe(port, "/no.such.Service")),
        service("slow", &probe(port, "/slow")),
        service("bare", &probe(bare_port, "")),
        service("other", &probe(web_port, "")),
    ]);
    wait_until_healthy(&daemon, "server");
    wait_until_healthy(&daemon, "orders");
    let says = |service: &str, error: &str, words: &str| {
        let detail = fails(&daemon, Mark::default(), service, error);
        assert!(detail.contains(words), "{detail}");
    };
    says("down", "status", "NOT_SERVING");
    says("unknown", "rejected", "SERVICE_UNKNOWN");
    says("absent", "rejected", "NOT_FOUND, it does not know this service: no such service");
    says("slow", "timeout", "still waiting for the answer");
    says("bare", "rejected", "UNIMPLEMENTED");
    let mark = daemon.mark();
    server.signal(Signal::KILL);
    server.wait(LONG);
    fails(&daemon, mark, "server", "refused");
    // It closes with a reset if it has not read all that was sent.
    says("other", "reset", "the connection before its answer was whole");
    daemon.stop();
}

#[test]
fn a_grpc_server_is_asked_over_tls() {
    let (port, plain_port) = (free_port(), free_port());
    let folder = tempfile::tempdir().expect("a folder");
    let Some(certificate) = Certificate::self_signed(folder.path(), "grpc") else { return };
    let Some(_server) = grpc_server(port, true, Some(&certificate)) else { return };
    let Some(_plain) = grpc_server(plain_port, true, None) else { return };
    let trusted = format!("tls = {{ ca_file = {:?}, server_name = \"localhost\" }}", certificate.pem);
    let probe = |port: u16, keys: &str| format!("grpc = \"grpcs://127.0.0.1:{port}\"\n{keys}");
    let mut daemon = start(&[
        service("trusted", &probe(port, &trusted)),
        service("stranger", &probe(port, "tls = { server_name = \"localhost\" }")),
        service("plain", &probe(plain_port, &trusted)),
        service("open", &format!("grpc = \"grpc://127.0.0.1:{port}\"")),
    ]);
    wait_until_healthy(&daemon, "trusted");
    fails(&daemon, Mark::default(), "stranger", "tls");
    for (wrong, words) in [("plain", "speaks plain text, not TLS"), ("open", "speaks TLS, not plain text")] {
        let why = fails(&daemon, Mark::default(), wrong, "tls");
        assert!(why.contains(words), "{why}");
    }
    daemon.stop();
}

/// Starts what follows in a network namespace whose only way out leads nowhere.
const LOST_NETWORK: [&str; 6] = [
    "/usr/bin/unshare",
    "--net",
    "/bin/sh",
    "-c",
    "ip link add lost type veth peer name far && ip link set far up && ip address add 192.0.2.2/24 dev lost && ip link set lost up && exec \"$@\"",
    "sh",
];

#[test]
fn a_host_answers_an_echo_or_is_far_away() {
    if !require_root() || !require("iproute2", "/usr/sbin/ip") {
        return;
    }
    let mut daemon = start(&[
        service("v4", "icmp = \"127.0.0.1\""),
        service("v6", "icmp = \"::1\""),
        service("name", "icmp = \"localhost\""),
    ]);
    for well in ["v4", "v6", "name"] {
        wait_until_healthy(&daemon, well);
    }
    daemon.stop();

    let (silent, unreachable) =
        (service("silent", "icmp = \"192.0.2.1\""), service("no-way", "icmp = \"198.51.100.1\""));
    let config = format!("[http]\nlisten = \"\"\n{silent}{unreachable}");
    let mut lost = Daemon::start_under(&LOST_NETWORK, &config, &[]);
    let ping = fails(&lost, Mark::default(), "silent", "no_echo");
    assert!(ping.contains("still waiting for the echo"), "{ping}");
    fails(&lost, Mark::default(), "no-way", "unreachable");
    for service in ["silent", "no-way"] {
        let opened = lost.wait_for(|event| is(event, "incident.open", service), LONG);
        assert_eq!(text(&opened, "incident.verdict"), "network");
        assert_eq!(lost.count(|event| is(event, "restart.request", service)), 0);
    }
    lost.stop();
}

/// The folder of Debian's Nagios plugins.
const PLUGINS: &str = "/usr/lib/nagios/plugins";

#[test]
fn a_nagios_plugin_warns_fails_and_does_not_know() {
    if !require("monitoring-plugins-basic", PLUGINS) {
        return;
    }
    let port = free_port();
    let Some(mut server) = memcached(&["-l", "127.0.0.1", "-p", &port.to_string()]) else { return };
    let plugin =
        |arguments: &str| format!("exec = [\"{PLUGINS}/check_tcp\", \"-H\", \"127.0.0.1\", {arguments}]");
    let mut daemon = start(&[
        service("well", &plugin(&format!("\"-p\", \"{port}\""))),
        // Above no time at all it warns.
        service("warns", &plugin(&format!("\"-p\", \"{port}\", \"-w\", \"0\""))),
        service("unknown", &plugin("\"--no-such-option\"")),
        service("absent", &format!("exec = [\"{PLUGINS}/check_nothing\"]")),
    ]);
    wait_until_healthy(&daemon, "well");
    let warning = fails(&daemon, Mark::default(), "warns", "plugin_warning");
    assert!(
        warning.contains("check_tcp reports WARNING: TCP WARNING - ") && !warning.contains('|'),
        "{warning}"
    );
    let opened = daemon.wait_for(|event| is(event, "incident.open", "warns"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "limit_exceeded");
    fails(&daemon, Mark::default(), "unknown", "plugin_unknown");
    let absent = fails(&daemon, Mark::default(), "absent", "cannot_ask");
    assert!(absent.contains("check_nothing: cannot be started: No such file"), "{absent}");
    let mark = daemon.mark();
    server.signal(Signal::KILL);
    server.wait(LONG);
    let critical = fails(&daemon, mark, "well", "plugin_critical");
    assert!(critical.contains("refused"), "{critical}");
    daemon.stop();
}

/// A program that writes its pid, and one of its own, to a folder, and hangs.
fn hanging_check(folder: &Path) -> String {
    let script =
        format!("setsid sleep 1000 & echo $! > {0}/child; echo $$ > {0}/main; wait", folder.display());
    let script = serde_json::Value::from(script);
    format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = \"hangs\"\n[[service.probe]]\nexec = [\"/bin/sh\", \"-c\", {script}]\n"
    )
}

fn pids(folder: &Path) -> [u32; 2] {
    ["main", "child"].map(|name| {
        until("the check runs", LONG, || fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok())
    })
}

fn are_gone(pids: [u32; 2]) {
    until("the check and what it started are gone", LONG, || (!pids.into_iter().any(lives)).then_some(()));
}

#[test]
fn a_check_ends_with_what_it_started_at_its_time_limit_and_with_the_daemon() {
    if !require_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = hanging_check(folder.path());
    let mut daemon = start_text(&format!("{config}timeout = \"1s\"\ninterval = \"24h\"\n"));
    let left = pids(folder.path());
    let late = fails(&daemon, Mark::default(), "hangs", "plugin_timeout");
    assert!(late.contains("did not end within 1s, and was killed"), "{late}");
    are_gone(left);
    daemon.stop();

    for name in ["main", "child"] {
        fs::remove_file(folder.path().join(name)).expect("the check has written it");
    }
    let mut daemon = start_text(&format!("{config}timeout = \"1h\"\n"));
    let left = pids(folder.path());
    daemon.stop();
    are_gone(left);
}

#[test]
fn the_next_daemon_ends_the_check_of_one_that_was_killed() {
    if !require_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = format!("{}timeout = \"1h\"\n", hanging_check(folder.path()));
    let mut daemon = start_text(&config);
    let left = pids(folder.path());
    daemon.signal(Signal::KILL);
    daemon.wait(LONG);
    let mut next = start_text("[http]\nlisten = \"\"\n");
    are_gone(left);
    next.stop();
}
