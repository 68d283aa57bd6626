//! Web servers that are busy, that refuse the probe, that stream, or that a firewall hides: what a restart cannot mend is
//! not restarted.

use std::{fs, path::Path, thread, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    http::free_port,
    incident_events::{is, text, wait_until_healthy},
    lab::probed::{QUICK, restarts, service, start, words},
    network::{self, Firewall},
    parts::{Certificate, Redis, gunicorn, nginx, require, require_root},
    victim::Victim,
};
use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_pool_whose_workers_are_busy_is_not_restarted_and_loses_no_request() {
    if !require_root() {
        return;
    }
    let (folder, port) = (TempDir::new().expect("a folder"), free_port());
    let probe = format!("http = \"http://127.0.0.1:{port}/\"");
    let times = "interval = \"2s\"\ntimeout = \"2s\"\nfailures = 5";
    let Some(command) = gunicorn(folder.path(), port) else { return };
    let mut daemon = start(&service("app", &command, &probe, times, folder.path()));
    wait_until_healthy(&daemon, "app");
    thread::sleep(Duration::from_secs(2));
    let mark = daemon.mark();
    let requests = [(); 2].map(|()| thread::spawn(move || gunicorn::slow_request(port, 12)));
    for request in requests {
        let answer = request.join().expect("a thread ends").expect("the request is answered");
        assert!(answer.contains(" 200 OK") && answer.ends_with("ok"), "{answer}");
    }
    daemon.wait_for_after(mark, |event| is(event, "probe.recover", "app"), LONG);
    assert_eq!(restarts(&daemon, mark, "app"), Vec::<Value>::new());
    assert_eq!(daemon.since(mark).iter().filter(|event| is(event, "incident.open", "app")).count(), 0);
    assert!(daemon.since(mark).iter().any(|event| is(event, "probe.fail", "app")), "the pool was full");
    daemon.stop();
}

#[test]
fn a_stream_without_end_behind_a_right_status_is_healthy() {
    if !require_root() {
        return;
    }
    let (folder, port) = (TempDir::new().expect("a folder"), free_port());
    let probe = format!("http = \"http://127.0.0.1:{port}/events\"");
    let Some(command) = gunicorn(folder.path(), port) else { return };
    let mut daemon = start(&service("app", &command, &probe, QUICK, folder.path()));
    wait_until_healthy(&daemon, "app");
    thread::sleep(Duration::from_secs(4));
    assert_eq!(daemon.count(|event| is(event, "incident.open", "app")), 0);
    daemon.stop();
}

/// An nginx without workers that serves this part of a `server` block.
fn web_server(folder: &Path, name: &str, server: &str) -> Option<Vec<String>> {
    nginx(folder, name, "daemon off; master_process off;", server)
}

#[test]
fn a_server_that_refuses_the_probe_or_whose_backend_fails_is_held_with_the_reason() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    // Six servers start at once. What they refuse before they listen is not what counts.
    let times = QUICK.replace("failures = 3", "failures = 15");
    let (mut services, nowhere) = (String::new(), free_port());
    let proxied = format!("location / {{ proxy_pass http://127.0.0.1:{nowhere}; }}");
    let auth = "a restart gives the probe no rights";
    let question = "a restart does not change the question";
    let cases = [
        ("unauthorized", "return 401;", "auth", auth),
        ("forbidden", "deny all;", "auth", auth),
        ("missing", "root /nonexistent;", "rejected", question),
        ("vhost", "return 421;", "rejected", question),
        ("busy", "add_header Retry-After 5 always; return 503;", "busy", "asks for time"),
        ("proxy", proxied.as_str(), "upstream", "what is behind it fails"),
    ];
    for (name, server, ..) in cases {
        let port = free_port();
        let server = format!("listen 127.0.0.1:{port}; {server}");
        let Some(command) = web_server(folder.path(), name, &server) else { return };
        let probe = format!("http = \"http://127.0.0.1:{port}/health\"");
        services += &service(name, &command, &probe, &times, folder.path());
    }
    let mut daemon = start(&services);
    for (name, _, error, reason) in cases {
        let hold = daemon.wait_for(|event| is(event, "restart.hold", name), LONG);
        assert!(text(&hold, "event.reason").contains(reason), "{name}: {hold:#}");
        // It may be asked before it listens.
        daemon.wait_for(|event| is(event, "probe.fail", name) && text(event, "probe.error") == error, LONG);
    }
    thread::sleep(Duration::from_secs(2));
    assert_eq!(daemon.count(|event| text(event, "event.action") == "restart.request"), 0);
    daemon.stop();
}

#[test]
fn a_firewall_that_drops_or_rejects_the_packets_to_the_port_is_a_network_fault() {
    if !require_root() || !Firewall::is_there() {
        return;
    }
    network::in_its_own(|| {
        let (folder, port) = (TempDir::new().expect("a folder"), free_port());
        let program = Victim::program().display().to_string();
        let command = words(&[&program, "--port", &port.to_string()]);
        let probe = format!("http = \"http://127.0.0.1:{port}/health\"");
        let mut daemon = start(&service("app", &command, &probe, QUICK, folder.path()));
        wait_until_healthy(&daemon, "app");
        thread::sleep(Duration::from_secs(1));
        for target in [&["DROP"][..], &["REJECT"], &["REJECT", "--reject-with", "tcp-reset"]] {
            let mark = daemon.mark();
            let firewall = Firewall::with_target(port, target);
            let open = daemon.wait_for_after(mark, |event| is(event, "incident.open", "app"), LONG);
            assert_eq!(text(&open, "incident.verdict"), "network", "{target:?}: {open:#}");
            let hold = daemon.wait_for_after(mark, |event| is(event, "restart.hold", "app"), LONG);
            assert_eq!(text(&hold, "event.reason"), "a restart does not open the way to its port");
            thread::sleep(Duration::from_secs(3));
            drop(firewall);
            daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "app"), LONG);
            assert_eq!(restarts(&daemon, mark, "app"), Vec::<Value>::new(), "{target:?}");
        }
        daemon.stop();
    });
}

#[test]
fn a_probe_that_connects_to_itself_is_refused() {
    if !require_root() {
        return;
    }
    network::in_its_own(|| {
        // The kernel chooses the local port from these, of which nothing listens on the first.
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").expect("a range is set");
        let mut services = String::new();
        for (name, probe) in [
            ("tcp", "tcp = \"127.0.0.1:40000\""),
            ("http", "http = \"http://localhost:40000/\""),
            ("redis", "redis = \"redis://127.0.0.1:40000\""),
            ("postgres", "postgres = \"postgres://probe@127.0.0.1:40000/postgres\""),
        ] {
            services += &format!(
                "[[service]]\nname = \"{name}\"\n[[service.probe]]\n{probe}\ninterval = \"100ms\"\n\
                 timeout = \"1s\"\nfailures = 3\n"
            );
        }
        let mut daemon = start(&services);
        thread::sleep(Duration::from_secs(5));
        let fails: Vec<Value> =
            daemon.events().into_iter().filter(|event| text(event, "event.action") == "probe.fail").collect();
        assert!(fails.len() > 40, "{}", fails.len());
        for fail in fails {
            // With two ports for all, one may be in use: the probe is then not made.
            assert!(["refused", "local"].contains(&text(&fail, "probe.error")), "{fail:#}");
        }
        assert_eq!(daemon.count(|event| text(event, "event.action") == "probe.recover"), 0);
        assert_eq!(daemon.count(|event| text(event, "service.state") == "healthy"), 0);
        daemon.stop();
    });
}

#[test]
fn a_redis_in_protected_mode_is_held() {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return;
    }
    network::in_its_own(|| {
        network::ip(&["address", "add", "10.77.0.1/32", "dev", "lo"]);
        let (folder, port) = (TempDir::new().expect("a folder"), free_port());
        let mut command = Redis::command(port, folder.path());
        // Redis turns protected mode off where it is bound by name, unless it is asked for.
        command.extend(words(&["--bind", "0.0.0.0", "--protected-mode", "yes"]));
        let probe = format!("redis = \"redis://10.77.0.1:{port}\"");
        let mut daemon = start(&service("store", &command, &probe, QUICK, folder.path()));
        let hold = daemon.wait_for(|event| is(event, "restart.hold", "store"), LONG);
        assert!(text(&hold, "event.reason").contains("no rights"), "{hold:#}");
        // It may be asked before it listens.
        let auth = |event: &Value| is(event, "probe.fail", "store") && text(event, "probe.error") == "auth";
        let fail = daemon.wait_for(auth, LONG);
        assert!(text(&fail, "probe.detail").contains("DENIED"), "{fail:#}");
        assert_eq!(daemon.count(|event| is(event, "restart.request", "store")), 0);
        daemon.stop();
    });
}

#[test]
fn a_self_signed_certificate_of_an_authority_is_trusted_if_the_store_holds_it() {
    if !require_root() {
        return;
    }
    let (folder, port) = (TempDir::new().expect("a folder"), free_port());
    let Some(own) = Certificate::self_signed(folder.path(), "own") else { return };
    let Some(other) = Certificate::self_signed(folder.path(), "other") else { return };
    let (pem, key) = (own.pem.display(), own.key.display());
    let server =
        format!("listen 127.0.0.1:{port} ssl; ssl_certificate {pem}; ssl_certificate_key {key}; return 200;");
    let Some(command) = web_server(folder.path(), "tls", &server) else { return };
    let probe = format!("http = \"https://localhost:{port}/\"");
    let config = service("tls", &command, &probe, QUICK, folder.path());
    for (store, is_trusted) in [(&own.pem, true), (&other.pem, false)] {
        let config = format!("[http]\nlisten = \"\"\n{config}");
        let mut daemon = Daemon::start_with(&config, &[], |command| {
            command.env("SSL_CERT_FILE", store).env_remove("SSL_CERT_DIR")
        });
        daemon.ready();
        if is_trusted {
            wait_until_healthy(&daemon, "tls");
        } else {
            let tls = |event: &Value| is(event, "probe.fail", "tls") && text(event, "probe.error") == "tls";
            let fail = daemon.wait_for(tls, LONG);
            assert!(text(&fail, "probe.detail").contains("add it to the host's store"), "{fail:#}");
            daemon.wait_for(|event| is(event, "restart.hold", "tls"), LONG);
        }
        daemon.stop();
    }
}
