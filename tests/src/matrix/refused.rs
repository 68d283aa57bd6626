//! Servers that work and refuse what the probe asks for.

use std::fs;

use rustix::process::Signal;

use super::{
    judge::Held,
    row::{Measured, Row},
    scene::{PATIENCE, Scene, Service},
};
use crate::{
    http::free_port,
    incident_events::{is, text},
    network,
    parts::{Certificate, PostgresFolder, Redis, nginx, require, require_root},
    process::{children, pid_in, signal, until},
};

const WEB: &str = "web";
const CACHE: &str = "cache";
const DB: &str = "db";

const NO_RIGHTS: &str = "a restart gives the probe no rights";

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "21a",
        fault: "nginx wants a login (401)",
        verdicts: &["unhealthy"],
        action: "hold, alert",
        run: |row| refuses(row, "auth_basic staff; auth_basic_user_file /dev/null;", NO_RIGHTS),
    },
    Row {
        number: "21b",
        fault: "nginx denies access (403)",
        verdicts: &["unhealthy"],
        action: "hold, alert",
        run: |row| refuses(row, "deny all;", NO_RIGHTS),
    },
    Row {
        number: "21c",
        fault: "nginx asks for time (429, Retry-After)",
        verdicts: &["unhealthy"],
        action: "hold, alert",
        run: |row| refuses(row, "add_header Retry-After 5 always; return 429;", "the service asks for time"),
    },
    Row {
        number: "21d",
        fault: "502 of nginx before a dead backend",
        verdicts: &["unhealthy"],
        action: "hold, alert",
        run: backend_is_dead,
    },
    Row {
        number: "21e",
        fault: "nginx gets a certificate that is not trusted",
        verdicts: &["unhealthy"],
        action: "hold, alert",
        run: certificate_is_not_trusted,
    },
    Row {
        number: "21f",
        fault: "Redis in protected mode (DENIED)",
        verdicts: &["unhealthy"],
        action: "hold, alert",
        run: protected_mode,
    },
    Row {
        number: "21g",
        fault: "PostgreSQL: the only connection of the role",
        verdicts: &["unhealthy"],
        action: "hold, alert",
        run: account_limit,
    },
];

const fn held<'a>(service: &'a str, because: &'a str) -> Held<'a> {
    Held { service, because, alert: true, named: Vec::new() }
}

/// An nginx answers with 200, and for as long as a file is there as this part of its `location` says.
fn refuses(row: &Row, answer: &str, because: &str) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    // Its workers may enter a temporary folder as the user that they run as: root.
    let refuses = folder.path().join("refuses");
    let location = format!("location / {{ if (!-f {}) {{ return 200 ok; }} {answer} }}", refuses.display());
    let server = format!("listen 127.0.0.1:{port}; {location}");
    let command = nginx(folder.path(), "nginx", "daemon off;", &server)?;
    let scene = Scene::start(&[Service::exec(WEB, &command, port)]);
    fs::write(&refuses, "").expect("a file is written");
    let end = |_: &Scene| fs::remove_file(&refuses).expect("it is there");
    Some(scene.judge_held(row, held(WEB, because), end))
}

fn backend_is_dead(row: &Row) -> Option<Measured> {
    let answer = format!("proxy_pass http://127.0.0.1:{};", free_port());
    refuses(row, &answer, "what is behind it fails")
}

/// The host's store holds the certificate, which signed itself and calls itself an authority, and then another one takes
/// its place.
fn certificate_is_not_trusted(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let [first, second, used] = ["first", "second", "used"].map(|name| (name, folder.path()));
    let first = Certificate::self_signed(first.1, first.0)?;
    let second = Certificate::self_signed(second.1, second.0)?;
    let used = Certificate { key: used.1.join("used.key"), pem: used.1.join("used.pem") };
    let main = "daemon off; worker_processes 2;";
    let server = format!(
        "listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; return 200 ok;",
        used.pem.display(),
        used.key.display()
    );
    let command = nginx(folder.path(), "nginx", main, &server)?;
    used.becomes(&first);
    let probe = format!("http = \"https://localhost:{port}/\"");
    let service = Service::exec(WEB, &command, port).probe(&probe);
    let store = first.pem.clone();
    let scene = Scene::start_with(&[service], "", |command| {
        command.env("SSL_CERT_FILE", store).env_remove("SSL_CERT_DIR")
    });
    let master = pid_in(&folder.path().join("nginx.pid")).expect("nginx writes its pid");
    let reload = |certificate: &Certificate| {
        used.becomes(certificate);
        let old = children(master);
        signal(master, Signal::HUP);
        until("new workers serve", PATIENCE, || {
            let now = children(master);
            (now.len() == 2 && !now.iter().any(|worker| old.contains(worker))).then_some(())
        });
    };
    reload(&second);
    Some(scene.judge_held(row, held(WEB, "certificates"), |_| reload(&first)))
}

fn protected_mode(row: &Row) -> Option<Measured> {
    /// An address of this host that Redis does not take for its own.
    const FAR: &str = "10.77.0.1";
    if !require_root() || !require("redis-server", Redis::PROGRAM) || !network::enter() {
        return None;
    }
    network::ip(&["address", "add", &format!("{FAR}/32"), "dev", "lo"]);
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let mut command = Redis::command(port, folder.path());
    command.extend(["--bind", "0.0.0.0", "--protected-mode", "no"].map(str::to_owned));
    let probe = format!("redis = \"redis://{FAR}:{port}\"");
    let scene = Scene::start(&[Service::exec(CACHE, &command, port).probe(&probe)]);
    let protect = |word: &str| {
        let answer = Redis::request(port, &format!("CONFIG SET protected-mode {word}"));
        assert!(answer.starts_with("+OK"), "{answer}");
    };
    protect("yes");
    Some(scene.judge_held(row, held(CACHE, NO_RIGHTS), |_| protect("no")))
}

/// The probe's role may have one connection, which is enough for the probe, and then another session has it.
fn account_limit(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (folder, port) = (PostgresFolder::new()?, free_port());
    folder.serve_once(port, "CREATE ROLE probe LOGIN CONNECTION LIMIT 1");
    let probe = format!("postgres = \"postgres://probe@127.0.0.1:{port}/postgres\"");
    let scene = Scene::start(&[Service::exec(DB, &folder.command(port), port).probe(&probe)]);
    let failed = scene
        .daemon
        .count(|event| is(event, "probe.fail", DB) && text(event, "probe.error") == "account_limit");
    let others = "FROM pg_stat_activity WHERE usename = 'probe' AND query LIKE '%sleep%'";
    let sleep = folder.command_as("probe", port, "SELECT pg_sleep(1000)");
    // The probe may have the connection at the moment.
    let session = until("the connection is taken", PATIENCE, || {
        let mut session = folder.run(&sleep);
        let is_taken = || (folder.sql(port, &format!("SELECT count(*) {others}")) == "1").then_some(true);
        let mut is_refused = || (!session.runs()).then_some(false);
        let taken = until("it is let in or not", PATIENCE, || is_refused().or_else(is_taken));
        taken.then_some(session)
    });
    let end = |_: &Scene| {
        folder.sql(port, &format!("SELECT pg_terminate_backend(pid) {others}"));
        drop(session);
    };
    let mut measured = scene.judge_held(row, held(DB, "only the probe's account"), end);
    measured.expect(failed == 0, || "one connection was not enough for the probe".to_owned());
    Some(measured)
}
