//! Redis, PostgreSQL, MariaDB and nginx over TLS and over Unix sockets: what is well, what is wrong with the certificates,
//! and what is slow.

use std::{fs, path::Path, time::Duration};

use hostprobe_tests::{
    http::free_port,
    parts::{
        Authority, Certificate, LOCALHOST, MariadbFolder, PostgresFolder, Redis, delayed, nginx, require,
        require_root,
    },
    process::{Running, until},
    protocols::{Case, Reported, Server, run},
};
use rustix::process::Signal;
use tempfile::TempDir;

/// Longest wait for a server, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A relay holds each connection up for this long, and a probe through it calls that slow.
const DELAY: Duration = Duration::from_millis(400);
const SLOW: &str = "slow = \"300ms\"";

/// The authorities and the client's certificate of a test.
struct Pki {
    folder: TempDir,
    ours: Authority,
    others: Authority,
    client: Certificate,
}

impl Pki {
    fn new() -> Option<Self> {
        let folder = TempDir::new().expect("a folder");
        let (ours, others) =
            (Authority::new(folder.path(), "ours")?, Authority::new(folder.path(), "others")?);
        let client = ours.issue("client", "DNS:client", 300);
        Some(Self { folder, ours, others, client })
    }

    /// The `tls` of a probe that trusts our authority, with these further keys.
    fn tls(&self, more: &str) -> String {
        format!("tls = {{ ca_file = {:?}{more} }}", self.ours.pem())
    }

    fn identity(&self) -> String {
        self.tls(&format!(", cert = {:?}, key = {:?}", self.client.pem, self.client.key))
    }
}

fn start(command: &[String], says: &str) -> Running {
    let (program, arguments) = command.split_first().expect("a program");
    let server =
        Running::start(std::process::Command::new(program).args(arguments).current_dir("/"), Signal::QUIT);
    until(says, LONG, || {
        let lines = [server.stdout.all(), server.stderr.all()].concat();
        lines.iter().any(|line| line.contains(says)).then_some(())
    });
    server
}

#[test]
fn redis_over_tls_and_over_its_socket() {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return;
    }
    let Some(pki) = Pki::new() else { return };
    let folder = pki.folder.path();
    let [port, plain, old, strict] = [(); 4].map(|()| free_port());
    let server = |port: u16, plain: u16, certificate: &Certificate, clients: &str| {
        let mut command = Redis::command(plain, folder);
        let (tls_port, ca) = (port.to_string(), pki.ours.pem().display().to_string());
        let (pem, key) = (certificate.pem.display().to_string(), certificate.key.display().to_string());
        let socket = folder.join(format!("{port}.sock")).display().to_string();
        let options = ["--tls-port", &tls_port, "--tls-cert-file", &pem, "--tls-key-file", &key];
        command.extend(options.map(str::to_owned));
        let options = ["--tls-ca-cert-file", &ca, "--tls-auth-clients", clients, "--unixsocket", &socket];
        command.extend(options.map(str::to_owned));
        start(&command, "Ready to accept connections")
    };
    let main = server(port, plain, &pki.ours.issue("localhost", LOCALHOST, 300), "no");
    let _old = server(old, free_port(), &pki.ours.issue("old", LOCALHOST, -1), "no");
    let _strict = server(strict, free_port(), &pki.ours.issue("strict", LOCALHOST, 5), "yes");
    let at = |port: u16, more: String| format!("redis = \"rediss://localhost:{port}\"\n{more}");
    let slow = delayed(port, DELAY);
    let cases = [
        Case {
            state: "good, its authority in `ca_file`",
            probe: at(port, pki.tls("")),
            reported: Reported::Healthy,
        },
        Case {
            state: "good, over its Unix socket",
            probe: format!("redis = \"redis+unix://{}\"", folder.join(format!("{port}.sock")).display()),
            reported: Reported::Healthy,
        },
        Case {
            state: "good, asks for a client's certificate and gets it",
            probe: at(strict, pki.identity()),
            reported: Reported::Healthy,
        },
        Case {
            state: "its certificate is signed by another authority",
            probe: at(port, format!("tls = {{ ca_file = {:?} }}", pki.others.pem())),
            reported: Reported::Held("tls", "no certificate that is trusted signs it"),
        },
        Case {
            state: "the same, with `insecure`",
            probe: at(port, "tls = { insecure = true }".to_owned()),
            reported: Reported::Healthy,
        },
        Case {
            state: "its certificate is for another name",
            probe: at(port, pki.tls(", server_name = \"cache.example\"")),
            reported: Reported::Held("tls", "it is for another name"),
        },
        Case {
            state: "its certificate has expired",
            probe: at(old, pki.tls("")),
            reported: Reported::Held("tls", "it expired on "),
        },
        Case {
            state: "its certificate expires in 5 days, with `expires_within = \"14d\"`",
            probe: at(strict, pki.identity().replace(" }", ", expires_within = \"14d\" }")),
            reported: Reported::Degraded("limit_exceeded", "expires on "),
        },
        Case {
            state: "it asks for a client's certificate, and the probe has none",
            probe: at(strict, pki.tls("")),
            reported: Reported::Held("tls", "it asks for a client's certificate"),
        },
        Case {
            state: "it speaks no TLS, and waits for the end of a line",
            probe: at(plain, pki.tls("")),
            reported: Reported::Held("tls", "speaks plain text, not TLS"),
        },
        Case {
            state: "a file of `tls` is missing",
            probe: at(port, "tls = { ca_file = \"/nonexistent/ca.pem\" }".to_owned()),
            reported: Reported::Held("cannot_ask", "/nonexistent/ca.pem: no such file"),
        },
        Case {
            state: "slow, with `slow`",
            probe: at(slow, format!("{}\n{SLOW}", pki.tls(""))),
            reported: Reported::Slow,
        },
    ];
    run(Server { title: "Redis over TLS", pid: main.pid() }, &cases, &[]);
}

/// A PostgreSQL with TLS, and the port of one without.
fn postgres(pki: &Pki) -> Option<(PostgresFolder, Running, u16)> {
    let (folder, port) = (PostgresFolder::new()?, free_port());
    let certificate = pki.ours.issue("db", "DNS:localhost,DNS:db.example", 5);
    let put = |name: &str, from: &Path| {
        let path = folder.write(name, &fs::read_to_string(from).expect("a file of the test"));
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("its mode is set");
        path
    };
    let (pem, key) = (put("own.pem", &certificate.pem), put("own.key", &certificate.key));
    let ca = put("ca.pem", pki.ours.pem());
    folder.write(
        "data/pg_hba.conf",
        "local all all trust\nhostssl all strict all trust clientcert=verify-ca\nhostssl all secret all trust\n\
         host all postgres all trust\n",
    );
    let mut command = folder.command(port);
    for option in [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", pem.display()),
        format!("ssl_key_file={}", key.display()),
        format!("ssl_ca_file={}", ca.display()),
    ] {
        command.extend(["-c".to_owned(), option]);
    }
    let server = start(&command, "ready to accept connections");
    folder.sql(port, "CREATE ROLE strict LOGIN; CREATE ROLE secret LOGIN");
    Some((folder, server, port))
}

#[test]
fn postgres_over_tls_and_over_its_socket() {
    if !require_root() {
        return;
    }
    let Some(pki) = Pki::new() else { return };
    let Some((folder, main, port)) = postgres(&pki) else { return };
    let Some(plain_folder) = PostgresFolder::new() else { return };
    let plain = free_port();
    let _plain = start(&plain_folder.command(plain), "ready to accept connections");
    let at = |user: &str, port: u16, query: &str, more: &str| {
        format!("postgres = \"postgres://{user}@localhost:{port}/postgres{query}\"\n{more}")
    };
    let slow = delayed(port, DELAY);
    let others = format!("tls = {{ ca_file = {:?} }}", pki.others.pem());
    let cases = [
        Case {
            state: "good, `sslmode=verify-full`",
            probe: at(
                "postgres",
                port,
                &format!("?sslmode=verify-full&sslrootcert={}", pki.ours.pem().display()),
                "",
            ),
            reported: Reported::Healthy,
        },
        Case {
            state: "good, with `tls`",
            probe: at("postgres", port, "", &pki.tls("")),
            reported: Reported::Healthy,
        },
        Case {
            state: "good, over its Unix socket",
            probe: format!(
                "postgres = \"postgres://postgres@:{port}/postgres?host={}\"",
                folder.path().display()
            ),
            reported: Reported::Healthy,
        },
        Case {
            state: "good, takes a login with TLS alone, `sslmode=prefer`",
            probe: at("secret", port, "?sslmode=prefer", ""),
            reported: Reported::Healthy,
        },
        Case {
            state: "the same, `sslmode=allow`",
            probe: at("secret", port, "?sslmode=allow", ""),
            reported: Reported::Healthy,
        },
        Case {
            state: "the same, `sslmode=disable`",
            probe: at("secret", port, "?sslmode=disable", ""),
            reported: Reported::Held("auth", "28000"),
        },
        Case {
            state: "good, without TLS, `sslmode=prefer`",
            probe: at("postgres", plain, "?sslmode=prefer", ""),
            reported: Reported::Healthy,
        },
        Case {
            state: "the same, `sslmode=require`",
            probe: at("postgres", plain, "?sslmode=require", ""),
            reported: Reported::Held("tls", "it offers none"),
        },
        Case {
            state: "good, asks for a client's certificate and gets it",
            probe: at("strict", port, "", &pki.identity()),
            reported: Reported::Healthy,
        },
        Case {
            state: "it asks for a client's certificate, and the probe has none",
            probe: at("strict", port, "", &pki.tls("")),
            reported: Reported::Held("auth", "28000"),
        },
        Case {
            state: "its certificate is signed by another authority",
            probe: at("postgres", port, "?sslmode=verify-ca", &others),
            reported: Reported::Held("tls", "no certificate that is trusted signs it"),
        },
        Case {
            state: "its certificate is for another name, `sslmode=verify-full`",
            probe: at("postgres", port, "", &pki.tls(", server_name = \"other.example\"")),
            reported: Reported::Held("tls", "it is for another name"),
        },
        Case {
            state: "the same, `sslmode=verify-ca`",
            probe: at("postgres", port, "?sslmode=verify-ca", &pki.tls(", server_name = \"other.example\"")),
            reported: Reported::Healthy,
        },
        Case {
            state: "its certificate expires in 5 days, with `expires_within = \"14d\"`",
            probe: at("postgres", port, "", &pki.tls(", expires_within = \"14d\"")),
            reported: Reported::Degraded("limit_exceeded", "expires on "),
        },
        Case {
            state: "slow, with `slow`",
            probe: at("postgres", slow, "", &format!("{}\n{SLOW}", pki.tls(""))),
            reported: Reported::Slow,
        },
    ];
    run(Server { title: "PostgreSQL over TLS", pid: main.pid() }, &cases, &[]);
}

#[test]
fn mariadb_over_tls_and_over_its_socket() {
    if !require_root() {
        return;
    }
    let Some(pki) = Pki::new() else { return };
    // One statement a line.
    let sql = "CREATE USER IF NOT EXISTS plain@localhost;\nCREATE USER IF NOT EXISTS secret@localhost REQUIRE SSL;\n\
               CREATE USER IF NOT EXISTS strict@localhost REQUIRE X509;\n";
    let Some(folder) = MariadbFolder::new(sql) else { return };
    let port = free_port();
    let certificate = pki.ours.issue("db", "DNS:localhost", 5);
    let put =
        |name: &str, from: &Path| folder.write(name, &fs::read_to_string(from).expect("a file of the test"));
    let mut command = folder.command(port);
    command.extend([
        format!("--ssl-cert={}", put("own.pem", &certificate.pem).display()),
        format!("--ssl-key={}", put("own.key", &certificate.key).display()),
        format!("--ssl-ca={}", put("ca.pem", pki.ours.pem()).display()),
    ]);
    let main = start(&command, "ready for connections");
    let at = |user: &str, port: u16, query: &str, more: &str| {
        format!("mysql = \"mysql://{user}@localhost:{port}/{query}\"\n{more}")
    };
    let slow = delayed(port, DELAY);
    let others = format!("tls = {{ ca_file = {:?} }}", pki.others.pem());
    let cases = [
        Case {
            state: "good, `ssl-mode=VERIFY_IDENTITY`",
            probe: at(
                "plain",
                port,
                &format!("?ssl-mode=VERIFY_IDENTITY&ssl-ca={}", pki.ours.pem().display()),
                "",
            ),
            reported: Reported::Healthy,
        },
        Case {
            state: "good, with `tls`",
            probe: at("plain", port, "", &pki.tls("")),
            reported: Reported::Healthy,
        },
        Case {
            state: "good, without a user, with `tls`",
            probe: format!("mysql = \"mysql://localhost:{port}\"\n{}", pki.tls("")),
            reported: Reported::Healthy,
        },
        Case {
            state: "good, over its Unix socket",
            probe: format!("mysql = \"mysql://plain@/?socket={}\"", folder.path().join("socket").display()),
            reported: Reported::Healthy,
        },
        Case {
            state: "good, takes a login with TLS alone, `ssl-mode=PREFERRED`",
            probe: at("secret", port, "?ssl-mode=PREFERRED", ""),
            reported: Reported::Healthy,
        },
        Case {
            state: "the same, `ssl-mode=DISABLED`",
            probe: at("secret", port, "?ssl-mode=DISABLED", ""),
            reported: Reported::Held("auth", "1045"),
        },
        Case {
            state: "good, asks for a client's certificate and gets it",
            probe: at("strict", port, "", &pki.identity()),
            reported: Reported::Healthy,
        },
        Case {
            state: "it asks for a client's certificate, and the probe has none",
            probe: at("strict", port, "", &pki.tls("")),
            reported: Reported::Held("auth", "1045"),
        },
        Case {
            state: "its certificate is signed by another authority",
            probe: at("plain", port, "?ssl-mode=VERIFY_CA", &others),
            reported: Reported::Held("tls", "no certificate that is trusted signs it"),
        },
        Case {
            state: "its certificate is for another name",
            probe: at("plain", port, "", &pki.tls(", server_name = \"other.example\"")),
            reported: Reported::Held("tls", "it is for another name"),
        },
        Case {
            state: "its certificate expires in 5 days, with `expires_within = \"14d\"`",
            probe: at("plain", port, "", &pki.tls(", expires_within = \"14d\"")),
            reported: Reported::Degraded("limit_exceeded", "expires on "),
        },
        Case {
            state: "slow, with `slow`",
            probe: at("plain", slow, "", &format!("{}\n{SLOW}", pki.tls(""))),
            reported: Reported::Slow,
        },
    ];
    run(Server { title: "MariaDB over TLS", pid: main.pid() }, &cases, &[]);
}

#[test]
fn nginx_over_tls() {
    if !require_root() {
        return;
    }
    let Some(pki) = Pki::new() else { return };
    let [port, old, strict, foreign] = [(); 4].map(|()| free_port());
    let server = |port: u16, certificate: &Certificate, more: &str| {
        format!(
            "listen 127.0.0.1:{port} ssl http2; ssl_certificate {}; ssl_certificate_key {}; {more} return 200 ok;",
            certificate.pem.display(),
            certificate.key.display()
        )
    };
    let good = pki.ours.issue("localhost", LOCALHOST, 300);
    let clients = format!("ssl_client_certificate {}; ssl_verify_client on;", pki.ours.pem().display());
    let servers = [
        server(port, &good, ""),
        server(old, &pki.ours.issue("old", LOCALHOST, -1), ""),
        server(strict, &pki.ours.issue("soon", LOCALHOST, 5), &clients),
        format!("listen 127.0.0.1:{foreign} ssl; ssl_reject_handshake on;"),
    ];
    let Some(command) = nginx(
        pki.folder.path(),
        "tls",
        "daemon off; master_process off; error_log stderr notice;",
        &servers.join(" } server { "),
    ) else {
        return;
    };
    let main = Running::start(std::process::Command::new(&command[0]).args(&command[1..]), Signal::QUIT);
    until("nginx listens", LONG, || std::net::TcpStream::connect(("127.0.0.1", strict)).ok());
    let at = |port: u16, more: &str| format!("http = \"https://localhost:{port}/\"\n{more}");
    let slow = delayed(port, DELAY);
    let cases = [
        Case { state: "good, HTTP/2 by ALPN", probe: at(port, &pki.tls("")), reported: Reported::Healthy },
        Case {
            state: "good, `http_version = \"1.1\"`",
            probe: at(port, &format!("{}\nhttp_version = \"1.1\"", pki.tls(""))),
            reported: Reported::Healthy,
        },
        Case {
            state: "good, its authority in the host's store",
            probe: at(port, ""),
            reported: Reported::Healthy,
        },
        Case {
            state: "good, asks for a client's certificate and gets it",
            probe: at(strict, &pki.identity()),
            reported: Reported::Healthy,
        },
        Case {
            state: "it asks for a client's certificate, and the probe has none",
            probe: at(strict, &pki.tls("")),
            reported: Reported::Held("rejected", "got 400"),
        },
        Case {
            state: "its certificate is signed by another authority",
            probe: at(port, &format!("tls = {{ ca_file = {:?} }}", pki.others.pem())),
            reported: Reported::Held("tls", "no certificate that is trusted signs it"),
        },
        Case {
            state: "its own certificate is in `ca_file`, and its authority is not",
            probe: at(port, &format!("tls = {{ ca_file = {:?} }}", good.pem)),
            reported: Reported::Healthy,
        },
        Case {
            state: "its certificate is for another name",
            probe: at(port, &pki.tls(", server_name = \"www.example\"")),
            reported: Reported::Held("tls", "it is for another name"),
        },
        Case {
            state: "its certificate has expired",
            probe: at(old, &pki.tls("")),
            reported: Reported::Held("tls", "it expired on "),
        },
        Case {
            state: "its certificate expires in 5 days, with `expires_within = \"14d\"`",
            probe: at(strict, &pki.identity().replace(" }", ", expires_within = \"14d\" }")),
            reported: Reported::Degraded("limit_exceeded", "expires on "),
        },
        Case {
            state: "it has no site of the name",
            probe: at(foreign, &pki.tls("")),
            reported: Reported::Held(
                "tls",
                "it has no site of the name that it is asked for; set `server_name`",
            ),
        },
        Case {
            state: "slow, with `slow`",
            probe: at(slow, &format!("{}\n{SLOW}", pki.tls(""))),
            reported: Reported::Slow,
        },
    ];
    run(Server { title: "nginx over TLS", pid: main.pid() }, &cases, &[("SSL_CERT_FILE", pki.ours.pem())]);
}
