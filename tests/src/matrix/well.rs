//! Services that are well, or on their way to be, and look as if they were not.

use std::{fs, process::Command, thread};

use rustix::process::Signal;

use super::{
    row::{Measured, Row},
    scene::{Scene, Service},
};
use crate::{
    daemon::Mark,
    http::free_port,
    incident_events::is,
    network,
    parts::{MariadbFolder, Postgres, PostgresFolder, Redis, gunicorn, pgbouncer, require, require_root},
    process::{Running, pid_in, signal},
};

const WEB: &str = "web";
const CACHE: &str = "cache";
const DB: &str = "db";
const POOL: &str = "pool";

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "22a",
        fault: "gunicorn: both workers busy for 4 s",
        verdicts: &[],
        action: "none",
        run: workers_are_busy,
    },
    Row {
        number: "22b",
        fault: "events without an end behind status 200",
        verdicts: &[],
        action: "none",
        run: endless_body,
    },
    Row {
        number: "22c",
        fault: "pgbouncer: an app needs the one session",
        verdicts: &[],
        action: "none",
        run: pool_of_one_session,
    },
    Row {
        number: "22d",
        fault: "MariaDB blocks hosts that break off logins",
        verdicts: &[],
        action: "none",
        run: logins_are_counted,
    },
    Row {
        number: "22e",
        fault: "a Redis replica waits for its first copy",
        verdicts: &[],
        action: "none; starting meanwhile",
        run: first_copy,
    },
    Row {
        number: "22f",
        fault: "a PostgreSQL standby that serves no clients",
        verdicts: &[],
        action: "none; starting meanwhile",
        run: standby,
    },
];

fn workers_are_busy(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let command = gunicorn(folder.path(), port)?;
    // The requests last for more probes than `failures` says.
    let times = "interval = \"1s\"\ntimeout = \"1s\"\nfailures = 3";
    let scene = Scene::start(&[Service::exec(WEB, &command, port).times(times)]);
    let requests = [(); 2].map(|()| thread::spawn(move || gunicorn::slow_request(port, 4)));
    scene.event("the pool is full", |event| is(event, "probe.fail", WEB));
    scene.event("the pool has room", |event| is(event, "probe.recover", WEB));
    let answers = requests.map(|request| request.join().expect("the thread ends"));
    let mut measured = scene.judge_left_alone(row, WEB);
    for answer in answers {
        let answered = answer.as_ref().is_ok_and(|answer| answer.ends_with("ok"));
        measured.expect(answered, || format!("a request was lost: {answer:?}"));
    }
    Some(measured)
}

fn endless_body(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let probe = format!("http = \"http://127.0.0.1:{port}/events\"");
    let service = Service::exec(WEB, &gunicorn(folder.path(), port)?, port).probe(&probe);
    Some(Scene::start(&[service]).judge_left_alone(row, WEB))
}

/// The application asks for the session six times, and has it soon each time.
fn pool_of_one_session(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (server, port) = (Postgres::start(&[])?, free_port());
    let command = pgbouncer(&server.folder, port, server.port, "pool_mode = session")?;
    let probe = format!("postgres = \"postgres://postgres@127.0.0.1:{port}/postgres\"");
    let scene = Scene::start(&[Service::exec(POOL, &command, port).probe(&probe)]);
    let begun = std::time::Instant::now();
    let answers = [(); 6].map(|()| server.folder.sql(port, "SELECT 6"));
    let took = begun.elapsed();
    let mut measured = scene.judge_left_alone(row, POOL);
    measured.expect(answers.iter().all(|answer| answer == "6"), || format!("it was answered {answers:?}"));
    measured.expect(took.as_secs() < 3, || format!("the application waited {took:?} for its session"));
    Some(measured)
}

/// The probe has no user, so it cannot log in, and must not get its host blocked for the application.
fn logins_are_counted(row: &Row) -> Option<Measured> {
    /// An address of this host that the server does not take for its own.
    const FAR: &str = "10.99.7.1";
    if !require_root() || !network::enter() {
        return None;
    }
    network::ip(&["address", "add", &format!("{FAR}/32"), "dev", "lo"]);
    let folder = MariadbFolder::new("CREATE USER app@'%' IDENTIFIED BY 'word';")?;
    let port = free_port();
    let probe = format!("mysql = \"mysql://{FAR}:{port}\"");
    let scene = Scene::start(&[Service::exec(DB, &folder.strict_command(port), port).probe(&probe)]);
    scene.looked_at(DB);
    let login = MariadbFolder::login(FAR, port, "app", "word");
    let mut measured = scene.judge_left_alone(row, DB);
    measured.expect(login.is_ok(), || format!("the application is refused: {login:?}"));
    Some(measured)
}

fn first_copy(row: &Row) -> Option<Measured> {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return None;
    }
    let (port, primary) = (free_port(), free_port());
    let [folder, of_primary] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let mut command = Redis::command(port, folder.path());
    command.extend(["--replicaof", "127.0.0.1", &primary.to_string()].map(str::to_owned));
    let probe = format!("redis = \"redis://127.0.0.1:{port}\"");
    let mut scene = Scene::start(&[Service::exec(CACHE, &command, port).probe(&probe).unawaited()]);
    scene.mark = Mark::default();
    scene.until_it_starts(CACHE, "has not come up");
    scene.looked_at(CACHE);
    scene.until_it_starts(CACHE, "has not come up");
    let server = Redis::command(primary, of_primary.path());
    let mut server = {
        let mut command = Command::new(&server[0]);
        Running::start(command.args(&server[1..]).args(["--repl-diskless-sync-delay", "0"]), Signal::KILL)
    };
    scene.until_state(CACHE, "healthy");
    let measured = scene.judge_left_alone(row, CACHE);
    server.stop();
    Some(measured)
}

fn standby(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (folder, port) = (PostgresFolder::new()?, free_port());
    folder.write("data/standby.signal", "");
    let mut command = folder.command(port);
    command.extend(["-c", "hot_standby=off", "-c", "restore_command=false"].map(str::to_owned));
    let probe = format!("postgres = \"postgres://postgres@127.0.0.1:{port}/postgres\"");
    let words = "the database system is not accepting connections";
    let mut scene = Scene::start(&[Service::exec(DB, &command, port).probe(&probe).unawaited()]);
    scene.mark = Mark::default();
    scene.until_it_starts(DB, words);
    scene.looked_at(DB);
    scene.until_it_starts(DB, words);
    // As `pg_ctl promote` does it.
    folder.write("data/promote", "");
    let data = folder.path().join("data");
    signal(pid_in(&data.join("postmaster.pid")).expect("it runs"), Signal::USR1);
    scene.until_state(DB, "healthy");
    let measured = scene.judge_left_alone(row, DB);
    assert!(!fs::exists(data.join("standby.signal")).unwrap_or(true), "it is a primary");
    Some(measured)
}
