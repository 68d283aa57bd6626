//! Servers that need no folder of their own.

use std::process::Command;

use rustix::process::Signal;

use super::{Certificate, START, require};
use crate::process::Running;

/// Memcached with these options, as it listens there.
///
/// # Panics
/// If it does not start.
pub fn memcached(options: &[&str]) -> Option<Running> {
    const PROGRAM: &str = "/usr/bin/memcached";
    if !require("memcached", PROGRAM) {
        return None;
    }
    // It says nothing of its start without `-vv`.
    let process = Running::start(
        Command::new(PROGRAM).args(["-u", "root", "-vv", "-m", "8", "-t", "1"]).args(options),
        Signal::KILL,
    );
    process.wait_until_it_says("server listening", &process.stderr, START);
    Some(process)
}

/// A DNS server on a loopback port that knows `host.test` and asks no other one.
///
/// # Panics
/// If it does not start.
pub fn dnsmasq(port: u16) -> Option<Running> {
    const PROGRAM: &str = "/usr/sbin/dnsmasq";
    if !require("dnsmasq-base", PROGRAM) {
        return None;
    }
    let mut command = Command::new(PROGRAM);
    command.args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"]);
    command.args(["--user=root", "--pid-file=", "--listen-address=127.0.0.1", "--local=/test/"]);
    command.args(["--host-record=host.test,192.0.2.7", &format!("--port={port}")]);
    // Its answer does not fit into a datagram of 512 bytes.
    command.arg(format!("--txt-record=long.test,{0},{0},{0}", "x".repeat(200)));
    let process = Running::start(&mut command, Signal::KILL);
    process.wait_until_it_says("started, version", &process.stderr, START);
    Some(process)
}

/// A gRPC server of Google's library with health checks (`grpc_server.py`), or without; over TLS with a certificate.
///
/// # Panics
/// If it does not start.
pub fn grpc_server(port: u16, has_health: bool, certificate: Option<&Certificate>) -> Option<Running> {
    if !require("python3-grpcio", GRPC_LIBRARY) {
        return None;
    }
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", GRPC_SERVER, &port.to_string()]);
    command.arg(if has_health { "health" } else { "none" });
    command.args(certificate.into_iter().flat_map(|it| [&it.pem, &it.key]));
    let process = Running::start(&mut command, Signal::KILL);
    process.wait_until_it_says("serving", &process.stdout, START);
    Some(process)
}

/// A mail server of aiosmtpd (`smtp_server.py`) that takes mails of this user, by `starttls` or with TLS from the start
/// (`implicit`). It prints each mail as a line of JSON.
///
/// # Panics
/// If it does not start.
pub fn smtp_server(
    port: u16,
    mode: &str,
    certificate: &Certificate,
    (user, password): (&str, &str),
) -> Option<Running> {
    if !require("python3-aiosmtpd", "/usr/lib/python3/dist-packages/aiosmtpd/controller.py") {
        return None;
    }
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", include_str!("smtp_server.py"), &port.to_string(), mode]);
    command.args([&certificate.pem, &certificate.key]).args([user, password]);
    let process = Running::start(&mut command, Signal::KILL);
    process.wait_until_it_says("serving", &process.stdout, START);
    Some(process)
}

/// A webhook on a loopback port that verifies signatures with this key (`webhook_server.py`). It prints each request as a
/// line of JSON.
///
/// # Panics
/// If it does not start.
pub fn webhook_server(port: u16, key: &str) -> Option<Running> {
    const PROGRAM: &str = "/usr/bin/python3";
    if !require("python3", PROGRAM) {
        return None;
    }
    let mut command = Command::new(PROGRAM);
    command.args(["-c", include_str!("webhook_server.py"), &port.to_string(), key]);
    let process = Running::start(&mut command, Signal::KILL);
    process.wait_until_it_says("serving", &process.stdout, START);
    Some(process)
}

const GRPC_SERVER: &str = include_str!("grpc_server.py");
const GRPC_LIBRARY: &str = "/usr/lib/python3/dist-packages/grpc/__init__.py";

/// The command of a gRPC server with health checks. While there is the file that the variable `NOT_SERVING` names, it reports
/// `NOT_SERVING`; it removes the file at its start.
pub fn grpc_command(port: u16) -> Option<Vec<String>> {
    let command = ["/usr/bin/python3", "-c", GRPC_SERVER, &port.to_string(), "health"].map(str::to_owned);
    require("python3-grpcio", GRPC_LIBRARY).then(|| command.to_vec())
}
