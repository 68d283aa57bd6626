//! Services that fail for the fault of another, or only for their probe, are not restarted.

use std::{fs, io::Write, net::TcpStream, path::Path, thread, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    http::{self, free_port},
    incident_events::{is, text, wait_until_healthy},
    lab::probed::{QUICK, restarts, service, start, words},
    network,
    parts::{Certificate, MariadbFolder, Redis, built, haproxy, haproxy_http, nginx, require, require_root},
    process::{Running, until},
    victim::Victim,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

fn victim(port: u16, more: &[&str]) -> Vec<String> {
    let program = Victim::program().display().to_string();
    words(&[&[&program, "--port", &port.to_string()], more].concat())
}

/// A Redis that hostprobe does not watch.
fn store(port: u16, folder: &Path) -> Running {
    let command = Redis::command(port, folder);
    let (program, arguments) = command.split_first().expect("a program");
    let server = Running::start(std::process::Command::new(program).args(arguments), Signal::KILL);
    server.wait_until_it_says("Ready to accept connections", &server.stdout, LONG);
    server
}

/// No service was restarted, and each of these names was held.
fn all_are_held(daemon: &mut Daemon, names: &[&str], words: &str) {
    for name in names {
        let hold = daemon.wait_for(|event| is(event, "restart.hold", name), LONG);
        assert!(text(&hold, "event.reason").contains(words), "{name}: {hold:#}");
    }
    thread::sleep(Duration::from_secs(3));
    assert_eq!(daemon.count(|event| text(event, "event.action") == "restart.request"), 0);
    daemon.stop();
}

/// The command of a server on a port.
type Start<'f> = &'f dyn Fn(u16) -> Option<Vec<String>>;

#[test]
fn a_proxy_or_an_application_before_a_dead_server_is_held_until_the_server_is_back() {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return;
    }
    let (folder, [behind, proxy, app]) = (TempDir::new().expect("a folder"), [(); 3].map(|()| free_port()));
    let Some(proxied) = haproxy(folder.path(), proxy, behind) else { return };
    let mut server = store(behind, folder.path());
    let store_port = behind.to_string();
    let mut services =
        service("proxy", &proxied, &format!("redis = \"redis://127.0.0.1:{proxy}\""), QUICK, folder.path());
    let probe = format!("http = \"http://127.0.0.1:{app}/health\"");
    services += &service("app", &victim(app, &["--redis", &store_port]), &probe, QUICK, folder.path());
    let mut daemon = start(&services);
    for name in ["proxy", "app"] {
        wait_until_healthy(&daemon, name);
    }
    thread::sleep(Duration::from_secs(2));
    let mark = daemon.mark();
    server.stop();
    for name in ["proxy", "app"] {
        let open = daemon.wait_for_after(mark, |event| is(event, "incident.open", name), LONG);
        assert_eq!(text(&open, "incident.verdict"), "unhealthy", "{open:#}");
        let cause = format!("127.0.0.1:{behind} failed with ECONNREFUSED");
        assert!(text(&open, "incident.summary").contains(&cause), "{open:#}");
        let hold = daemon.wait_for_after(mark, |event| is(event, "restart.hold", name), LONG);
        assert_eq!(text(&hold, "event.reason"), "a restart does not mend what it connects to");
    }
    thread::sleep(Duration::from_secs(15));
    let again = store(behind, folder.path());
    for name in ["proxy", "app"] {
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", name), LONG);
        assert_eq!(restarts(&daemon, mark, name), Vec::<Value>::new());
    }
    drop(again);
    daemon.stop();
}

/// hostprobe knows the server by the address that it probes, which is on this host, and by nothing else.
#[test]
fn an_application_before_a_server_that_is_only_probed_is_held_each_time_that_the_server_hangs_or_dies() {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return;
    }
    let (folder, [behind, app]) = (TempDir::new().expect("a folder"), [(); 2].map(|()| free_port()));
    let mut server = store(behind, folder.path());
    let command = words(&[&built("app").display().to_string(), "--port", &app.to_string()]);
    let command = [command, words(&["--redis", &behind.to_string()])].concat();
    let probe = format!("http = \"http://127.0.0.1:{app}/health\"");
    let services = format!(
        "[[service]]\nname = \"store\"\n[[service.probe]]\nredis = \"redis://localhost:{behind}\"\n{QUICK}\n{}",
        service("app", &command, &probe, QUICK, folder.path())
    );
    let mut daemon = start(&services);
    wait_until_healthy(&daemon, "app");
    daemon.wait_for(|event| is(event, "service.dependency", "app"), LONG);
    for dies in [false, true, false] {
        let mark = daemon.mark();
        if dies {
            server.stop();
        } else {
            server.signal(Signal::STOP);
        }
        let held = daemon.wait_for_after(mark, |event| is(event, "restart.hold", "app"), LONG);
        assert!(text(&held, "event.reason").contains("store"), "{held:#}");
        let caused = |event: &Value| text(event, "incident.verdict") == "dependency_down";
        daemon.wait_for_after(mark, caused, LONG);
        if dies {
            server = store(behind, folder.path());
        } else {
            server.signal(Signal::CONT);
        }
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "app"), LONG);
        assert_eq!(restarts(&daemon, mark, "app"), Vec::<Value>::new());
    }
    daemon.stop();
}

#[test]
fn a_server_that_refuses_requests_beyond_its_limit_is_held() {
    if !require_root() {
        return;
    }
    let (folder, [limited, closed, balancer]) =
        (TempDir::new().expect("a folder"), [(); 3].map(|()| free_port()));
    fs::write(folder.path().join("index.html"), "ok").expect("a file is written");
    // The zone is of the `http` block, between two servers.
    let servers = format!(
        "listen 127.0.0.1:{limited}; root {}; location / {{ limit_req zone=one; }} }} \
         limit_req_zone $server_port zone=one:1m rate=1r/m; \
         server {{ listen 127.0.0.1:{closed}; location / {{ return 503; }}",
        folder.path().display()
    );
    let main = "daemon off; master_process off;";
    let Some(server) = nginx(folder.path(), "limit", main, &servers) else { return };
    let Some(pool) = haproxy_http(folder.path(), balancer, free_port()) else { return };
    // A load of one request in a quarter of a second, of which one in a minute is let through.
    let probe = |port: u16| format!("http = \"http://127.0.0.1:{port}/\"");
    let services = service("limited", &server, &probe(limited), QUICK, folder.path())
        + &service("pool", &pool, &probe(balancer), QUICK, folder.path());
    let mut daemon = start(&services);
    for (name, words) in [
        ("limited", "nginx itself refuses it, by limit_req, limit_conn or a configured `return 503`"),
        ("pool", "got 503: what answers is a proxy, whose server behind it fails"),
    ] {
        let open = daemon.wait_for(|event| is(event, "incident.open", name), LONG);
        assert_eq!(text(&open, "incident.verdict"), "unhealthy", "{open:#}");
        assert!(text(&open, "incident.summary").contains(words), "{open:#}");
    }
    let (status, page) = hostprobe_tests::http::get(closed, "/").expect("it answers");
    assert!(status == 503 && page.contains("<title>503 Service Temporarily Unavailable</title>"), "{page}");
    all_are_held(&mut daemon, &["limited"], "the service asks for time");
}

#[test]
fn an_application_that_fails_by_itself_is_restarted() {
    if !require_root() {
        return;
    }
    let (folder, port) = (TempDir::new().expect("a folder"), free_port());
    let probe = format!("http = \"http://127.0.0.1:{port}/health\"");
    let mut daemon = start(&service("app", &victim(port, &[]), &probe, QUICK, folder.path()));
    wait_until_healthy(&daemon, "app");
    thread::sleep(Duration::from_secs(2));
    let mark = daemon.mark();
    hostprobe_tests::http::get(port, "/fail").expect("it answers");
    daemon.wait_for_after(mark, |event| is(event, "restart.request", "app"), LONG);
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "app"), LONG);
    daemon.stop();
}

/// A service whose later starts do this before it listens.
fn slow_start(name: &str, port: u16, first: &str, folder: &Path) -> String {
    let started = folder.join(format!("{name}.started")).display().to_string();
    let program = victim(port, &[]).join(" ");
    let script = format!("if [ -e {started} ]; then {first}; fi; : >{started}; exec {program}");
    let probe = format!("http = \"http://127.0.0.1:{port}/health\"");
    service(name, &words(&["/bin/sh", "-c", &script]), &probe, QUICK, folder)
}

#[test]
fn a_start_that_takes_longer_than_its_grace_is_let_go_on_while_it_works() {
    if !require_root() {
        return;
    }
    let (folder, ports) = (TempDir::new().expect("a folder"), [free_port(), free_port()]);
    let go = folder.path().join("go");
    let work = format!("while ! [ -e {} ]; do :; done", go.display());
    let services = slow_start("works", ports[0], &work, folder.path())
        + &slow_start("idles", ports[1], "sleep 1000", folder.path());
    let mut daemon = start(&services);
    for name in ["works", "idles"] {
        wait_until_healthy(&daemon, name);
    }
    let mark = daemon.mark();
    for port in ports {
        http::get(port, "/abort").ok();
    }
    // The third restart of the one is long after the other's grace.
    until("the idle one is restarted again and again", LONG, || {
        (restarts(&daemon, mark, "idles").len() >= 3).then_some(())
    });
    assert_eq!(restarts(&daemon, mark, "works").len(), 1, "the one after the crash");
    fs::write(go, "").expect("a file");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "works"), LONG);
    assert_eq!(restarts(&daemon, mark, "works").len(), 1);
    daemon.stop();
}

#[test]
fn a_probe_of_a_port_or_an_address_that_the_service_never_had_is_held() {
    if !require_root() {
        return;
    }
    network::in_its_own(|| {
        network::ip(&["address", "add", "10.77.0.1/32", "dev", "lo"]);
        let folder = TempDir::new().expect("a folder");
        let mut services = String::new();
        for (name, host, offset) in [("port", "127.0.0.1", 1), ("address", "10.77.0.1", 0)] {
            let port = free_port();
            let probe = format!("http = \"http://{host}:{}/health\"", port + offset);
            services += &service(name, &victim(port, &[]), &probe, QUICK, folder.path());
        }
        let mut daemon = start(&services);
        let open = daemon.wait_for(|event| is(event, "incident.open", "address"), LONG);
        assert!(text(&open, "incident.summary").contains("ever listened on port"), "{open:#}");
        all_are_held(&mut daemon, &["port", "address"], "never answered this probe");
    });
}

#[test]
fn an_answer_that_was_never_right_is_held() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let cases = [
        ("failing", "500", ""),
        ("status", "204", "expect = { status = [200] }"),
        ("body", "200 starting", "expect = { body_contains = \"ready\" }"),
    ];
    let mut services = String::new();
    for (name, answer, expected) in cases {
        let port = free_port();
        let server = format!("listen 127.0.0.1:{port}; return {answer};");
        let main = "daemon off; master_process off;";
        let Some(command) = nginx(folder.path(), name, main, &server) else { return };
        let probe = format!("http = \"http://127.0.0.1:{port}/\"\n{expected}");
        services += &service(name, &command, &probe, QUICK, folder.path());
    }
    let mut daemon = start(&services);
    all_are_held(&mut daemon, &cases.map(|(name, ..)| name), "never answered this probe rightly");
}

#[test]
fn a_probe_of_the_wrong_protocol_is_held() {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let Some(own) = Certificate::self_signed(folder.path(), "own") else { return };
    let (key, pem) = (own.key.display().to_string(), own.pem.display().to_string());
    let redis_with_tls = |port: u16| {
        let mut command = Redis::command(0, folder.path());
        let port = port.to_string();
        command.extend(words(&["--tls-port", &port, "--tls-cert-file", &pem, "--tls-key-file", &key]));
        command.extend(words(&["--tls-auth-clients", "no"]));
        Some(command)
    };
    let plain = |port: u16| Some(Redis::command(port, folder.path()));
    let serve = |port: u16, more: &str| {
        let server = format!("listen 127.0.0.1:{port}{more}; return 200;");
        nginx(folder.path(), &format!("web-{port}"), "daemon off; master_process off;", &server)
    };
    let web = |port: u16| serve(port, "");
    // HTTP/2 without TLS, by prior knowledge.
    let http2 = |port: u16| serve(port, " http2");
    let cases: [(&str, Start<'_>, &str); 7] = [
        ("http-on-tls", &redis_with_tls, "http = \"http://127.0.0.1:PORT/\""),
        ("redis-on-tls", &redis_with_tls, "redis = \"redis://127.0.0.1:PORT\""),
        ("mysql-on-redis", &plain, "mysql = \"mysql://127.0.0.1:PORT\""),
        ("postgres-on-redis", &plain, "postgres = \"postgres://probe@127.0.0.1:PORT/postgres\""),
        ("redis-on-http", &web, "redis = \"redis://127.0.0.1:PORT\""),
        ("mysql-on-http", &web, "mysql = \"mysql://probe@127.0.0.1:PORT\""),
        ("http-on-http2", &http2, "http = \"http://127.0.0.1:PORT/\""),
    ];
    let (mut services, mut names) = (String::new(), Vec::new());
    for (name, command, probe) in cases {
        let port = free_port();
        let probe = probe.replace("PORT", &port.to_string());
        let Some(command) = command(port) else { return };
        services += &service(name, &command, &probe, QUICK, folder.path());
        names.push(name);
    }
    // Where one side speaks TLS, its answer says so.
    let (over_tls, others): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.ends_with("-on-tls"));
    let mut daemon = start(&services);
    for name in over_tls {
        let hold = daemon.wait_for(|event| is(event, "restart.hold", name), LONG);
        assert!(text(&hold, "event.reason").contains("what the two sides accept"), "{name}: {hold:#}");
    }
    all_are_held(&mut daemon, &others, "never answered this probe");
}

#[test]
fn a_mariadb_that_takes_only_encrypted_logins_is_held() {
    if !require_root() {
        return;
    }
    let Some(folder) = MariadbFolder::new("CREATE USER probe@'%';") else { return };
    let port = free_port();
    let mut command = folder.command(port);
    command.push("--require-secure-transport=ON".to_owned());
    let (program, arguments) = command.split_first().expect("a program");
    let server = Running::start(std::process::Command::new(program).args(arguments), Signal::KILL);
    // Probes that fail before it listens are held for another reason.
    server.wait_until_it_says("ready for connections", &server.stderr, LONG);
    let mut daemon = start(&format!(
        "[[service]]\nname = \"db\"\nmatch = {{ port = {port} }}\n[[service.probe]]\n\
         mysql = \"mysql://probe@127.0.0.1:{port}\"\n{QUICK}\n[service.restart]\nenabled = true\n\
         command = [\"/bin/true\"]\ngrace = \"1s\"\n"
    ));
    let fail =
        daemon.wait_for(|event| is(event, "probe.fail", "db") && text(event, "probe.error") == "auth", LONG);
    // MySQL says 3159.
    assert!(text(&fail, "probe.detail").contains("error 1045: Access denied"), "{fail:#}");
    all_are_held(&mut daemon, &["db"], "gives the probe no rights");
}

/// Looks up a name for each request.
const LOOKS_UP: &str = r#"
import http.server, socket, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        socket.getaddrinfo("store.example", 80)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"#;

#[test]
fn a_service_that_waits_for_a_silent_dns_server_is_held_until_that_answers() {
    const DNSMASQ: &str = "/usr/sbin/dnsmasq";
    if !require_root() || !require("dnsmasq-base", DNSMASQ) || !require("python3", "/usr/bin/python3") {
        return;
    }
    let (folder, port) = (TempDir::new().expect("a folder"), free_port());
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("it is written");
        path.display().to_string()
    };
    let mut resolver = std::process::Command::new(DNSMASQ);
    resolver.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--pid-file=",
    ]);
    resolver.args(["--listen-address=127.0.0.77", "--bind-interfaces", "--address=/store.example/192.0.2.1"]);
    let resolver = Running::start(&mut resolver, Signal::KILL);
    let settings = file("resolv.conf", "nameserver 127.0.0.77\n");
    let program = file("looks_up.py", LOOKS_UP);
    let start_it = format!("mount --bind {settings} /etc/resolv.conf && exec python3 {program} {port}");
    let command = words(&["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &start_it]);
    let probe = format!("http = \"http://127.0.0.1:{port}/\"");
    let config = service("app", &command, &probe, QUICK, folder.path()) + "enabled = true\n";
    let mut daemon = start(&config);
    wait_until_healthy(&daemon, "app");
    let mark = daemon.mark();
    resolver.signal(Signal::STOP);
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", "app"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "unhealthy", "{opened:#}");
    let words = "it waits for the DNS server 127.0.0.77:53, which does not answer it";
    assert!(text(&opened, "incident.summary").contains(words), "{opened:#}");
    let held = daemon.wait_for_after(mark, |event| is(event, "restart.hold", "app"), LONG);
    assert_eq!(text(&held, "event.reason"), "a restart does not mend what it connects to");
    resolver.signal(Signal::CONT);
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "app"), LONG);
    assert_eq!(restarts(&daemon, mark, "app"), [""; 0]);
    daemon.stop();
}

#[test]
fn a_redis_whose_clients_are_paused_is_let_be_and_one_that_a_command_holds_is_not() {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return;
    }
    let (folder, port) = (TempDir::new().expect("a folder"), free_port());
    let mut command = Redis::command(port, folder.path());
    command.extend(words(&["--enable-debug-command", "yes"]));
    let probe = format!("redis = \"redis://127.0.0.1:{port}\"");
    let config = service("cache", &command, &probe, QUICK, folder.path()) + "enabled = true\n";
    let mut daemon = start(&config);
    wait_until_healthy(&daemon, "cache");
    let mark = daemon.mark();
    assert!(Redis::request(port, "CLIENT PAUSE 12000 ALL").starts_with("+OK"));
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", "cache"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "paused", "{opened:#}");
    assert!(text(&opened, "incident.summary").contains("CLIENT PAUSE"), "{opened:#}");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "cache"), LONG);
    assert_eq!(restarts(&daemon, mark, "cache"), [""; 0]);

    // A command holds its only loop.
    let mark = daemon.mark();
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    client.write_all(b"DEBUG SLEEP 600\r\n").expect("it hears");
    daemon.wait_for_after(mark, |event| is(event, "restart.request", "cache"), LONG);
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "cache"), LONG);
    daemon.stop();
}

#[test]
fn a_server_that_was_asked_to_quit_serves_its_clients_to_the_end() {
    if !require_root() {
        return;
    }
    let (folder, port) = (TempDir::new().expect("a folder"), free_port());
    let root = folder.path().join("www");
    std::fs::create_dir(&root).expect("a folder");
    std::fs::write(root.join("big"), vec![b'x'; 3 << 20]).expect("the folder can be written");
    // Its workers, of another user, read from there.
    let public = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(folder.path(), public).expect("it is ours");
    let server = format!("listen 127.0.0.1:{port}; root {}; limit_rate 500k;", root.display());
    let Some(command) = nginx(folder.path(), "quits", "daemon off;", &server) else { return };
    let probe = format!("tcp = \"127.0.0.1:{port}\"");
    let config = service("web", &command, &probe, QUICK, folder.path()) + "enabled = true\n";
    let mut daemon = start(&config);
    wait_until_healthy(&daemon, "web");
    let up = daemon.wait_for(|event| is(event, "listener.up", "web"), LONG);
    let main = up["process"]["pid"].as_u64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
    let mark = daemon.mark();
    let client = thread::spawn(move || http::get(port, "/big"));
    thread::sleep(Duration::from_secs(1));
    kill_process(Pid::from_raw(main).expect("a pid"), Signal::QUIT).expect("it lives");
    daemon.wait_for_after(mark, |event| is(event, "restart.hold", "web"), LONG);
    let (status, body) = client.join().expect("it ends").expect("an answer");
    assert_eq!((status, body.len()), (200, 3 << 20), "the client got all of it");
    // Its workers end one by one, and then itself.
    let ended = |event: &Value| is(event, "process.exit", "web") && event["process"]["pid"] == main;
    let end = daemon.wait_for_after(mark, ended, LONG);
    let before = restarts(&daemon, mark, "web").into_iter();
    let before = before.filter(|it| it["event"]["sequence"].as_u64() < end["event"]["sequence"].as_u64());
    assert_eq!(before.collect::<Vec<_>>(), [""; 0], "a restart before its end");
    daemon.stop();
}
