//! HTTP beyond loopback: over TLS, with a token, and with clients that mean it no good.

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use hostprobe_tests::{
    daemon::Daemon,
    http::{self, free_port},
    incident_events::{IncidentEvents, number},
    operator::Home,
    parts::{Authority, Certificate, LOCALHOST, built, require, require_root},
    process::until,
    supervised::Supervised,
};
use rustix::process::Signal;

const CURL: &str = "/usr/bin/curl";
const OPENSSL: &str = "/usr/bin/openssl";

const PATIENCE: Duration = Duration::from_secs(30);

const TOKEN: &str = "correct-horse-battery-staple";
const NEXT_TOKEN: &str = "another-horse-another-staple";

/// The most connections at once, and some descriptors of the daemon's own.
const CONNECTIONS_MAX: usize = 32;

/// A daemon's page on every address of the host, with a certificate and a token.
struct Guarded {
    home: Home,
    authority: Authority,
    shown: Certificate,
    token: PathBuf,
    port: u16,
}

impl Guarded {
    fn new() -> Option<Self> {
        if !require_root() || !require("curl", CURL) || !require("openssl", OPENSSL) {
            return None;
        }
        let home = Home::new();
        let authority = Authority::new(&home.path(""), "ours")?;
        let shown = Certificate { key: home.path("shown.key"), pem: home.path("shown.pem") };
        let token = home.path("token");
        let guarded = Self { authority, shown, token, port: free_port(), home };
        guarded.shown.becomes(&guarded.authority.issue("first", LOCALHOST, 300));
        guarded.write_token(TOKEN);
        Some(guarded)
    }

    fn write_token(&self, token: &str) {
        fs::write(&self.token, format!("{token}\n")).expect("it is written");
        fs::set_permissions(&self.token, Permissions::from_mode(0o600)).expect("it is ours");
    }

    fn http(&self) -> String {
        format!(
            "listen = \"0.0.0.0:{}\"\ntls = {{ cert = {:?}, key = {:?} }}\ntoken_file = {:?}",
            self.port, self.shown.pem, self.shown.key, self.token
        )
    }

    fn config(&self, service: &Supervised) -> String {
        self.home.supervising(service).replace("listen = \"\"", &self.http())
    }

    /// What curl gets: the status and the body.
    fn curl(&self, path: &str, options: &[&str]) -> (String, String) {
        let output = Command::new(CURL)
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "20",
                "--write-out",
                "\n%{http_code}",
                "--cacert",
            ])
            .arg(self.authority.pem())
            .args(options)
            .arg(format!("https://localhost:{}{path}", self.port))
            .output()
            .expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or_default();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {complaint}{text}");
        (status.to_owned(), body.to_owned())
    }

    fn with_token(&self, path: &str, token: &str) -> (String, String) {
        self.curl(path, &["--header", &format!("Authorization: Bearer {token}")])
    }

    /// What openssl says of a session.
    fn session(&self, options: &[&str]) -> String {
        let mut command = Command::new(OPENSSL);
        command.args(["s_client", "-connect", &format!("127.0.0.1:{}", self.port)]).args(options);
        let output = command.stdin(Stdio::null()).output().expect("openssl runs");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    fn connect(&self) -> TcpStream {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        TcpStream::connect_timeout(&address, PATIENCE).expect("the daemon listens")
    }
}

fn check(file: &Path) -> Output {
    Command::new(built("hostprobe")).arg("check").arg(file).output().expect("hostprobe runs")
}

#[test]
fn beyond_loopback_check_wants_tls_and_a_token_and_a_pair_that_fits() {
    let Some(guarded) = Guarded::new() else { return };
    let file = guarded.home.path("hostprobe.toml");
    let checked = |http: &str| {
        fs::write(&file, format!("[http]\n{http}\n")).expect("it is written");
        let output = check(&file);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let plain = format!("listen = \"0.0.0.0:{}\"", guarded.port);
    let (code, said) = checked(&plain);
    assert_eq!(code, Some(2), "{said}");
    for word in [":2:10: ", "is beyond loopback", "`tls = { cert = ", "`token_file`", "ssh -L"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    let (code, said) = checked(&format!("{plain}\ntoken_file = {:?}", guarded.token));
    assert!(code == Some(2) && said.contains("expected `tls"), "{said}");
    let (code, said) = checked(&guarded.http());
    assert_ne!(code, Some(2), "{said}");
    // Each error has the place of its key.
    let others = guarded.authority.issue("others", LOCALHOST, 300);
    let wrong = guarded.http().replace("shown.key", "ours/others.key");
    let (code, said) = checked(&wrong);
    assert!(
        code == Some(2) && said.contains(":3:7: ") && said.contains("are no certificate and its key"),
        "{said}"
    );
    assert!(said.contains(&others.key.display().to_string()), "{said}");
    fs::set_permissions(&guarded.token, Permissions::from_mode(0o644)).expect("it is ours");
    let (code, said) = checked(&guarded.http());
    assert!(code == Some(2) && said.contains(":4:14: ") && said.contains("chmod 640"), "{said}");
    assert!(!said.contains(TOKEN), "{said}");
    // On loopback, each works without the other.
    guarded.write_token(TOKEN);
    for line in guarded.http().lines().skip(1) {
        let (code, said) = checked(&format!("listen = \"127.0.0.1:{}\"\n{line}", guarded.port));
        assert_ne!(code, Some(2), "{said}");
    }
}

#[test]
fn only_who_has_the_token_is_answered_and_over_tls_alone() {
    let Some(guarded) = Guarded::new() else { return };
    let service = Supervised::new();
    let mut daemon = Daemon::start(&guarded.config(&service), &[]);
    service.until_healthy(&daemon);
    for path in ["/livez", "/readyz"] {
        assert_eq!(guarded.curl(path, &[]).0, "200", "{path}");
    }
    for path in [
        "/",
        "/health",
        "/metrics",
        "/events",
        "/api/v1/status",
        "/api/v1/openapi.json",
        "/dashboard/main.js",
    ] {
        let (status, body) = guarded.curl(path, &["--include"]);
        assert_eq!(status, "401", "{path}");
        let challenge = body.to_ascii_lowercase();
        assert!(
            challenge.contains("www-authenticate: basic realm=")
                && challenge.contains("www-authenticate: bearer"),
            "{body}"
        );
        assert!(!body.contains(&service.name), "{body}");
    }
    assert_eq!(guarded.with_token("/health", TOKEN).0, "200");
    assert_eq!(guarded.with_token("/health", &format!("{TOKEN}x")).0, "401");
    assert_eq!(guarded.curl("/health", &["--user", &format!("anyone:{TOKEN}")]).0, "200");
    assert_eq!(guarded.curl("/health", &["--user", &format!("{TOKEN}:")]).0, "401");
    assert!(guarded.with_token("/api/v1/status", TOKEN).1.contains(&service.name));
    // A job's report has a token of its own, and this heartbeat is not configured.
    assert_eq!(guarded.curl("/beat/backup", &["--request", "POST"]).0, "404");

    let (status, body) = http::get(guarded.port, "/health").expect("plain text is answered");
    assert!(status == 400 && body.contains("https://"), "{status} {body}");
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(
            guarded.session(&[version]).contains("Cipher is TLS_")
                || guarded.session(&[version]).contains("Cipher is ECDHE"),
            "{version}"
        );
    }
    let old = guarded.session(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(old.contains("Cipher is (NONE)"), "{old}");
    assert!(daemon.stop().success());
    assert!(!daemon.log().contains(TOKEN), "{}", daemon.log());
    assert!(!daemon.events().iter().any(|event| event.to_string().contains(TOKEN)));
}

#[test]
fn renewed_files_are_used_without_a_restart_and_bad_ones_change_nothing() {
    let Some(guarded) = Guarded::new() else { return };
    let service = Supervised::new();
    let daemon = Daemon::start(&guarded.config(&service), &[]);
    service.until_healthy(&daemon);
    let shows = |name: &str| guarded.session(&[]).contains(&format!("CN = {name}"));
    assert!(shows("first"));
    guarded.shown.becomes(&guarded.authority.issue("second", LOCALHOST, 300));
    until("the renewed certificate", PATIENCE, || shows("second").then_some(()));
    guarded.write_token(NEXT_TOKEN);
    until("the next token", PATIENCE, || {
        (guarded.with_token("/health", NEXT_TOKEN).0 == "200").then_some(())
    });
    assert_eq!(guarded.with_token("/health", TOKEN).0, "401");

    let third = guarded.authority.issue("third", LOCALHOST, 300);
    fs::copy(&third.pem, &guarded.shown.pem).expect("it is copied");
    daemon.wait_for_log("are no certificate and its key");
    assert!(shows("second"));
    fs::set_permissions(&guarded.token, Permissions::from_mode(0o666)).expect("it is ours");
    daemon.wait_for_log("chmod 640");
    assert_eq!(guarded.with_token("/health", NEXT_TOKEN).0, "200");
    fs::copy(&third.key, &guarded.shown.key).expect("it is copied");
    until("the pair", PATIENCE, || shows("third").then_some(()));
    for secret in [TOKEN, NEXT_TOKEN] {
        assert!(!daemon.log().contains(secret), "{}", daemon.log());
    }
}

/// A handshake that begins and does not go on: the head of a record, and a part of a hello.
const BEGUN: [u8; 9] = [22, 3, 1, 2, 0, 1, 0, 1, 252];

#[test]
fn handshakes_that_never_end_and_wrong_tokens_hold_nothing_up() {
    let Some(guarded) = Guarded::new() else { return };
    let service = Supervised::new();
    let daemon = Daemon::start(&guarded.config(&service), &[]);
    service.until_healthy(&daemon);
    let mut silent: Vec<TcpStream> = (0..10 * CONNECTIONS_MAX)
        .map(|_| {
            let mut stream = guarded.connect();
            // It may have been closed for the next one already.
            let _ = stream.write_all(&BEGUN);
            stream
        })
        .collect();
    let open = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("it lives").count();
    assert!(open() < 200, "{} descriptors are open", open());
    let begun = Instant::now();
    assert_eq!(guarded.with_token("/health", TOKEN).0, "200");
    println!("an answer beside {} handshakes that do not go on took {:?}", silent.len(), begun.elapsed());

    // One curl asks for all of them, over one connection.
    let wrong = Command::new(CURL)
        .args([
            "--silent",
            "--insecure",
            "--max-time",
            "60",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}\n",
        ])
        .args(["--header", "Authorization: Bearer wrong-horse-battery-staple"])
        .arg(format!("https://localhost:{}/health?[1-300]", guarded.port))
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl runs");
    let mark = daemon.mark();
    service.kill(&daemon);
    for _ in 0..5 {
        assert_eq!(guarded.with_token("/livez", TOKEN).0, "200");
    }
    let events = IncidentEvents::of(&daemon, mark, &service.name);
    assert_eq!(number(events.one("restart.request"), "restart.attempt"), Some(1));
    let answers = wrong.wait_with_output().expect("it ends");
    let answers = String::from_utf8_lossy(&answers.stdout).into_owned();
    assert!(answers.lines().count() == 300 && answers.lines().all(|line| line == "401"), "{answers}");
    daemon.wait_for_log("requests without the right token");
    let told = daemon.log().matches("requests without the right token").count();
    assert!((1..=2).contains(&told), "it is told {told} times\n{}", daemon.log());
    assert!(!daemon.log().contains("wrong-horse"), "{}", daemon.log());

    // The time of each handshake is over.
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let read = stream.read(&mut [0; 64]);
        assert!(!read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it is still open");
    }
    daemon.signal(Signal::TERM);
}
