//! Certificates that change on disk while hostprobe runs: those of a probe, and those of the host's store.

use std::{net::TcpStream, process::Command, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    http::free_port,
    incident_events::{is, text},
    lab::probed,
    parts::{Authority, Certificate, LOCALHOST, Redis, nginx, require, require_root},
    process::{Running, until},
};
use rustix::process::Signal;
use tempfile::TempDir;

/// Longest wait for a server, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn start(command: &[String], port: u16) -> Running {
    let (program, arguments) = command.split_first().expect("a program");
    let server = Running::start(Command::new(program).args(arguments).current_dir("/"), Signal::QUIT);
    until("the server listens", LONG, || TcpStream::connect(("127.0.0.1", port)).ok());
    server
}

#[test]
fn a_file_of_a_probe_is_read_again_without_a_reload() {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let Some(ours) = Authority::new(folder.path(), "ours") else { return };
    let Some(others) = Authority::new(folder.path(), "others") else { return };
    let (port, certificate) = (free_port(), ours.issue("localhost", LOCALHOST, 300));
    let mut command = Redis::command(free_port(), folder.path());
    let files = [&certificate.pem, &certificate.key].map(|file| file.display().to_string());
    let (port_text, ca) = (port.to_string(), ours.pem().display().to_string());
    let options = ["--tls-port", &port_text, "--tls-cert-file", &files[0], "--tls-key-file", &files[1]];
    command.extend(options.into_iter().chain(["--tls-ca-cert-file", &ca]).map(str::to_owned));
    let _server = start(&command, port);
    // The probe's certificate is of another authority at first.
    let shown = Certificate { key: folder.path().join("shown.key"), pem: folder.path().join("shown.pem") };
    shown.becomes(&others.issue("client", "DNS:client", 300));
    let mut daemon = probed::start(&format!(
        "[[service]]\nname = \"cache\"\n[[service.probe]]\nredis = \"rediss://localhost:{port}\"\n\
         tls = {{ ca_file = {:?}, cert = {:?}, key = {:?} }}\n{}\n",
        ours.pem(),
        shown.pem,
        shown.key,
        probed::QUICK
    ));
    let fail = daemon.wait_for(|event| is(event, "probe.fail", "cache"), LONG);
    assert_eq!(text(&fail, "probe.error"), "tls", "{fail:#}");
    let mark = daemon.mark();
    shown.becomes(&ours.issue("client", "DNS:client", 300));
    daemon.wait_for_after(mark, |event| is(event, "probe.recover", "cache"), LONG);
    daemon.stop();
}

#[test]
fn a_certificate_that_is_added_to_the_hosts_store_is_trusted_without_a_restart() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let Some(ours) = Authority::new(folder.path(), "ours") else { return };
    let Some(others) = Authority::new(folder.path(), "others") else { return };
    let (port, certificate) = (free_port(), ours.issue("localhost", LOCALHOST, 300));
    let server = format!(
        "listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; return 200 ok;",
        certificate.pem.display(),
        certificate.key.display()
    );
    let Some(command) = nginx(folder.path(), "tls", "daemon off; master_process off;", &server) else {
        return;
    };
    let _server = start(&command, port);
    let store = folder.path().join("store.pem");
    std::fs::copy(others.pem(), &store).expect("the folder can be written");
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = \"web\"\n[[service.probe]]\nhttp = \"https://localhost:{port}/\"\n{}\n",
        probed::QUICK
    );
    let mut daemon = Daemon::start_with(&config, &[], |command| command.env("SSL_CERT_FILE", &store));
    daemon.ready();
    let fail = daemon.wait_for(|event| is(event, "probe.fail", "web"), LONG);
    assert_eq!(text(&fail, "probe.error"), "tls", "{fail:#}");
    let mark = daemon.mark();
    let both = [std::fs::read(others.pem()), std::fs::read(ours.pem())].map(|pem| pem.expect("it is there"));
    let next = folder.path().join("next.pem");
    std::fs::write(&next, both.concat()).expect("the folder can be written");
    std::fs::rename(&next, &store).expect("the store can be replaced");
    daemon.wait_for_after(mark, |event| is(event, "probe.recover", "web"), LONG);
    daemon.stop();
}
