//! Servers that are changed from TLS to plain text under a probe that has succeeded, and the other way round: they are well, and
//! no restart is right for them.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, Mark},
    http::free_port,
    incident_events::{is, text, wait_until_healthy},
    parts::{Certificate, MariadbFolder, PostgresFolder, Redis, gunicorn, nginx, require_root},
    process::{Running, pid_in, until},
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const PLAIN: &str = "speaks plain text, not TLS";
const TLS: &str = "speaks TLS, not plain text";

/// Services that a daemon would restart, each known by the same process.
#[derive(Default)]
struct Services(String);

impl Services {
    fn add(&mut self, name: &str, pid: u32, folder: &Path, probe: &str) {
        // Two services may not watch the same, so that each has a pidfile of its own.
        let pidfile = folder.join(format!("service-{name}"));
        fs::write(&pidfile, pid.to_string()).expect("the folder can be written");
        write!(
            self.0,
            "[[service]]\nname = \"{name}\"\nmatch = {{ pidfile = {pidfile:?} }}\n[service.restart]\nenabled = true\n\
             command = [\"/bin/true\"]\ngrace = \"0s\"\n[[service.probe]]\ninterval = \"300ms\"\ntimeout = \"2s\"\n\
             failures = 2\n{probe}\n"
        )
        .expect("a text");
    }

    fn start(&self, names: &[&str]) -> Daemon {
        let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{}", self.0), &[]);
        daemon.ready();
        names.iter().for_each(|name| wait_until_healthy(&daemon, name));
        daemon
    }
}

/// Waits until a service is held for this error, with these words, and asserts that it is not restarted.
#[track_caller]
fn is_held(daemon: &Daemon, mark: Mark, name: &str, error: &str, words: &str) {
    let held = daemon.wait_for_after(mark, |event| is(event, "restart.hold", name), LONG);
    let failed = |event: &Value| is(event, "probe.fail", name) && text(event, "probe.error") == error;
    let failed = daemon.wait_for_after(mark, failed, LONG);
    println!("{name}: {}; {}", text(&failed, "probe.detail"), text(&held, "event.reason"));
    assert!(text(&failed, "probe.detail").contains(words), "{failed:#}");
    let open = daemon.wait_for_after(mark, |event| is(event, "incident.open", name), LONG);
    assert_eq!(text(&open, "incident.verdict"), "unhealthy", "{open:#}");
    assert_eq!(daemon.count(|event| is(event, "restart.request", name)), 0);
}

#[track_caller]
fn recovers(daemon: &Daemon, mark: Mark, name: &str) {
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", name), LONG);
}

#[test]
fn redis_speaks_plain_text_instead_of_tls_and_the_other_way_round() {
    let folder = TempDir::new().expect("a folder");
    let Some(certificate) = Certificate::self_signed(folder.path(), "redis") else { return };
    let (secure, plain) = (free_port(), free_port());
    let (pem, key) = (certificate.pem.display().to_string(), certificate.key.display().to_string());
    let [tls_port, port] = [secure, plain].map(|port| port.to_string());
    let options = ["--tls-port", &tls_port, "--tls-cert-file", &pem, "--tls-key-file", &key];
    let options = [&options[..], &["--tls-ca-cert-file", &pem, "--tls-auth-clients", "no"]].concat();
    let socket = folder.path().join("socket").display().to_string();
    let options = [&options[..], &["--unixsocket", &socket, "--port", &port]].concat();
    let Some(server) = Redis::start(&options) else { return };
    let mut services = Services::default();
    let pid = server.process.pid();
    let trusted = format!("redis = \"rediss://localhost:{secure}\"\ntls = {{ ca_file = {pem:?} }}");
    services.add("secure", pid, folder.path(), &trusted);
    services.add("plain", pid, folder.path(), &format!("redis = \"redis://localhost:{plain}\""));
    let exchange =
        format!("tcp = \"localhost:{plain}\"\nsend = 'PING\\r\\n'\nexpect = {{ starts_with = '+PONG' }}");
    services.add("exchange", pid, folder.path(), &exchange);
    let mut daemon = services.start(&["secure", "plain", "exchange"]);

    // All at once: a port is without a listener in between, and two refused probes in a row would be a fault.
    let configure = |settings: &[(&str, u16)]| {
        let words: String =
            settings.iter().map(|(name, port)| format!("CONFIG SET {name} {port}\r\n")).collect();
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        stream.set_read_timeout(Some(LONG)).expect("a timeout is set");
        stream.write_all(words.as_bytes()).expect("it hears");
        let mut replies = BufReader::new(stream).lines();
        for (name, port) in settings {
            let said = replies.next().expect("a reply").expect("it answers");
            assert_eq!(said, "+OK", "{name} {port}");
        }
    };
    let mark = daemon.mark();
    configure(&[("port", 0), ("tls-port", plain), ("port", secure)]);
    is_held(&daemon, mark, "secure", "tls", PLAIN);
    is_held(&daemon, mark, "plain", "tls", TLS);
    is_held(&daemon, mark, "exchange", "tls", TLS);
    let mark = daemon.mark();
    configure(&[("port", 0), ("tls-port", secure), ("port", plain)]);
    ["secure", "plain", "exchange"].iter().for_each(|name| recovers(&daemon, mark, name));
    daemon.stop();
}

/// Two servers of one program, one with TLS and one without, under probes that expect that.
struct Web {
    folder: TempDir,
    secure: u16,
    plain: u16,
    tls: String,
}

impl Web {
    fn new() -> Option<(Self, Certificate)> {
        let folder = TempDir::new().expect("a folder");
        let certificate = Certificate::self_signed(folder.path(), "web")?;
        let tls = format!("tls = {{ ca_file = {:?} }}", certificate.pem);
        Some((Self { folder, secure: free_port(), plain: free_port(), tls }, certificate))
    }

    fn start(&self, [secure, plain]: [u32; 2]) -> Daemon {
        let mut services = Services::default();
        let folder = self.folder.path();
        let probe = format!("http = \"https://localhost:{}/\"\n{}", self.secure, self.tls);
        services.add("secure", secure, folder, &probe);
        services.add("plain", plain, folder, &format!("http = \"http://localhost:{}/\"", self.plain));
        services.start(&["secure", "plain"])
    }
}

#[test]
fn nginx_speaks_http_instead_of_https_and_the_other_way_round() {
    if !require_root() {
        return;
    }
    let Some((web, certificate)) = Web::new() else { return };
    let folder = web.folder.path();
    let server = |port: u16, is_tls: bool| {
        let (pem, key) = (certificate.pem.display(), certificate.key.display());
        let tls = format!("ssl_certificate {pem}; ssl_certificate_key {key};");
        let (word, tls) = if is_tls { (" ssl", tls) } else { ("", String::new()) };
        format!("listen 127.0.0.1:{port}{word}; {tls} location / {{ return 200 ok; }}")
    };
    let configure = |is_changed: bool| {
        let secure = nginx(folder, "secure", "daemon off;", &server(web.secure, !is_changed))?;
        let plain = nginx(folder, "plain", "daemon off;", &server(web.plain, is_changed))?;
        Some([secure, plain])
    };
    let Some(commands) = configure(false) else { return };
    let running = commands.map(|command| start(&command, Signal::TERM));
    let mut daemon = web.start([running[0].pid(), running[1].pid()]);
    let mark = daemon.mark();
    configure(true);
    running.iter().for_each(|server| server.signal(Signal::HUP));
    is_held(&daemon, mark, "secure", "tls", PLAIN);
    // It says so in plain text, with the status 400.
    is_held(&daemon, mark, "plain", "rejected", "got 400");
    daemon.stop();
}

#[test]
fn gunicorn_speaks_http_instead_of_https_and_the_other_way_round() {
    let Some((web, certificate)) = Web::new() else { return };
    let configure = |name: &str, is_tls: bool| {
        let (pem, key) = (&certificate.pem, &certificate.key);
        let tls = format!("certfile = {pem:?}\nkeyfile = {key:?}\n");
        let folder = web.folder.path().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("settings.py"), if is_tls { tls.as_str() } else { "" }).expect("a file");
        folder
    };
    let run = |name: &str, port: u16, is_tls: bool| {
        let folder = configure(name, is_tls);
        let mut command = gunicorn(&folder, port)?;
        command.extend(["--config".to_owned(), folder.join("settings.py").display().to_string()]);
        Some(start(&command, Signal::TERM))
    };
    let Some(secure) = run("secure", web.secure, true) else { return };
    let Some(plain) = run("plain", web.plain, false) else { return };
    let mut daemon = web.start([secure.pid(), plain.pid()]);
    let mark = daemon.mark();
    for (server, name, is_tls) in [(&secure, "secure", false), (&plain, "plain", true)] {
        let folder = configure(name, is_tls);
        server.signal(Signal::HUP);
        // It writes its pidfile again.
        let is_same = || (pid_in(&folder.join("pid")) == Some(server.pid())).then_some(());
        until("it goes on as the same process", LONG, is_same);
    }
    // Its workers wait for the end of a line, and break off what is no TLS.
    is_held(&daemon, mark, "secure", "tls", PLAIN);
    is_held(&daemon, mark, "plain", "tls", TLS);
    daemon.stop();
}

#[test]
fn postgresql_takes_tls_alone_and_then_plain_text_alone() {
    let folder = TempDir::new().expect("a folder");
    let Some(certificate) = Certificate::self_signed(folder.path(), "db") else { return };
    let Some(database) = PostgresFolder::new() else { return };
    let put = |name: &str, from: &Path| {
        let path = database.write(name, &fs::read_to_string(from).expect("a file of the test"));
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("its mode is set");
        path.display().to_string()
    };
    let port = free_port();
    let options = [
        format!("ssl_cert_file={}", put("own.pem", &certificate.pem)),
        format!("ssl_key_file={}", put("own.key", &certificate.key)),
    ];
    database.write("data/postgresql.auto.conf", "ssl = on\n");
    let mut command = database.command(port);
    command.extend(options.into_iter().flat_map(|option| ["-c".to_owned(), option]));
    let server = start(&command, Signal::QUIT);
    server.wait_until_it_says("ready to accept connections", &server.stderr, LONG);
    let mut services = Services::default();
    let probe =
        |mode: &str| format!("postgres = \"postgres://postgres@localhost:{port}/postgres?sslmode={mode}\"");
    services.add("secure", server.pid(), folder.path(), &probe("require"));
    services.add("plain", server.pid(), folder.path(), &probe("disable"));
    let mut daemon = services.start(&["secure", "plain"]);
    let rights = fs::read_to_string(database.path().join("data/pg_hba.conf")).expect("its rights");

    let mark = daemon.mark();
    database.write("data/pg_hba.conf", "hostssl all all all trust\n");
    server.signal(Signal::HUP);
    is_held(&daemon, mark, "plain", "auth", "no encryption");
    let mark = daemon.mark();
    database.write("data/pg_hba.conf", &rights);
    database.write("data/postgresql.auto.conf", "ssl = off\n");
    server.signal(Signal::HUP);
    recovers(&daemon, mark, "plain");
    is_held(&daemon, mark, "secure", "tls", "it offers none");
    daemon.stop();
}

#[test]
fn mariadb_takes_no_plain_text_any_more() {
    let folder = TempDir::new().expect("a folder");
    let Some(certificate) = Certificate::self_signed(folder.path(), "db") else { return };
    let Some(database) = MariadbFolder::new("CREATE USER IF NOT EXISTS probe@localhost;\n") else { return };
    let port = free_port();
    let put = |name: &str, from: &Path| {
        database.write(name, &fs::read_to_string(from).expect("a file of the test")).display().to_string()
    };
    let mut command = database.command(port);
    command.push(format!("--ssl-cert={}", put("own.pem", &certificate.pem)));
    command.push(format!("--ssl-key={}", put("own.key", &certificate.key)));
    let server = start(&command, Signal::KILL);
    server.wait_until_it_says("ready for connections", &server.stderr, LONG);
    let mut services = Services::default();
    let probe = |mode: &str| format!("mysql = \"mysql://probe@localhost:{port}/?ssl-mode={mode}\"");
    services.add("secure", server.pid(), folder.path(), &probe("REQUIRED"));
    services.add("plain", server.pid(), folder.path(), &probe("DISABLED"));
    let mut daemon = services.start(&["secure", "plain"]);
    let mark = daemon.mark();
    MariadbFolder::answer(port, "SET GLOBAL require_secure_transport = ON");
    // Its code is that of a wrong password.
    is_held(&daemon, mark, "plain", "auth", "1045");
    assert_eq!(daemon.count(|event| is(event, "incident.open", "secure")), 0);
    daemon.stop();
}

fn start(command: &[String], end: Signal) -> Running {
    let (program, arguments) = command.split_first().expect("a program");
    Running::start(Command::new(program).args(arguments).current_dir("/"), end)
}
