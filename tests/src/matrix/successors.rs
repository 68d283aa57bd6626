//! The main process ends, or its command does, while the service goes on; and ends that were asked for.

use rustix::process::Signal;

use super::{
    judge::Expected,
    row::{Measured, Row},
    scene::{Scene, Service, victim},
    source::Source,
};
use crate::{
    daemon::Mark,
    http::free_port,
    parts::{Redis, gunicorn, nginx, require, require_root},
    pid_namespace::PidNamespace,
    process::{children, lives, signal},
    terminal, upgrade,
};

const WEB: &str = "web";
const CACHE: &str = "cache";
const APP: &str = "app";

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "24a",
        fault: "nginx is upgraded in place (SIGUSR2)",
        verdicts: &[],
        action: "none; the new master counts",
        run: nginx_is_upgraded,
    },
    Row {
        number: "24b",
        fault: "gunicorn is upgraded in place (SIGUSR2)",
        verdicts: &[],
        action: "none; the new master counts",
        run: gunicorn_is_upgraded,
    },
    Row {
        number: "24c",
        fault: "Redis puts itself into the background",
        verdicts: &["exited"],
        action: "none; says what to write",
        run: goes_into_the_background,
    },
    Row {
        number: "24d",
        fault: "SIGKILL of the command of a shell script",
        verdicts: &["exited"],
        action: "restart",
        run: wrapped,
    },
    Row {
        number: "24e",
        fault: "SIGKILL of the init of its pid namespace",
        verdicts: &["killed"],
        action: "none; alert after 10 s",
        run: namespace_ends,
    },
    Row {
        number: "24f",
        fault: "nginx -s quit, on_clean_exit = \"never\"",
        verdicts: &["stopped"],
        action: "none",
        run: asked_to_quit,
    },
];

/// An upgrade is nothing, and the successor is left alone.
fn is_upgraded(row: &Row, scene: Scene, successor: u32) -> Measured {
    scene.looked_at(WEB);
    let left_alone = lives(successor);
    let mut measured = scene.judge_left_alone(row, WEB);
    measured.expect(left_alone, || "the successor was ended".to_owned());
    measured
}

fn nginx_is_upgraded(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let command = nginx(folder.path(), "nginx", "daemon on; worker_processes 2;", &nginx::ok(port))?;
    let scene = Scene::start(&[Service::exec(WEB, &command, port)]);
    let successor = upgrade::of_nginx(&folder.path().join("nginx.pid"));
    Some(is_upgraded(row, scene, successor))
}

fn gunicorn_is_upgraded(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let scene = Scene::start(&[Service::exec(WEB, &gunicorn(folder.path(), port)?, port)]);
    let successor = upgrade::of_gunicorn(&folder.path().join("pid"), Signal::TERM);
    Some(is_upgraded(row, scene, successor))
}

fn goes_into_the_background(row: &Row) -> Option<Measured> {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let mut command = Redis::command(port, folder.path());
    command.extend(["--daemonize", "yes"].map(str::to_owned));
    let probe = format!("redis = \"redis://127.0.0.1:{port}\"");
    let mut scene = Scene::start(&[Service::exec(CACHE, &command, port).probe(&probe)]);
    scene.mark = Mark::default();
    scene.healed(CACHE);
    scene.looked_at(CACHE);
    let named = ["in the background", "--daemonize no"].map(str::to_owned).to_vec();
    let expected =
        Expected { service: CACHE, alerts: Some(&[]), named, resolved: true, ..Expected::default() };
    Some(scene.judge(row, &expected))
}

fn wrapped(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let port = free_port();
    let script = format!("{} & wait", victim(port).join(" "));
    let command = ["/bin/sh", "-c", &script].map(str::to_owned);
    // The end of the victim is an incident of its own if the shell takes its time to end.
    let keys = "policy = { worker_died = \"ignore\" }";
    let scene = Scene::start(&[Service::exec(APP, &command, port).keys(keys)]);
    // Without hooks, a listener is reported as one of the main process: here of the shell.
    let reported = scene.pid(APP);
    signal(children(reported).first().copied().unwrap_or(reported), Signal::KILL);
    scene.healed(APP);
    scene.more_probes();
    let mut named = vec!["exited with code 0".to_owned()];
    // Without hooks, two ends within a millisecond may be told in the other order, and nothing is known of the sender.
    if Source::of_row() == Source::Hooks {
        named.push("its process victim".to_owned());
        named.push(format!("(pid {}", std::process::id()));
    }
    let restarts = &[(APP, 1, 1)];
    let expected =
        Expected { service: APP, restarts, alerts: Some(&[]), named, resolved: true, ..Expected::default() };
    Some(scene.judge(row, &expected))
}

/// The kernel kills what is left of a pid namespace, as of a container that is killed.
fn namespace_ends(row: &Row) -> Option<Measured> {
    if !require_root() {
        return None;
    }
    let namespace = PidNamespace::start()?;
    let service = Service::new(APP, &format!("match = {{ port = {} }}", namespace.port), namespace.port);
    let scene = Scene::start(&[service.restart("")]);
    let init = namespace.init();
    signal(init, Signal::KILL);
    scene.verdict(APP, "killed");
    scene.more_probes();
    let mut named = vec!["SIGKILL".to_owned()];
    if Source::of_row() == Source::Hooks {
        named.push(format!("whose init sh (pid {init}) was killed by SIGKILL from"));
        named.push(format!("(pid {}", std::process::id()));
    }
    let expected = Expected { service: APP, alerts: Some(&[]), named, ..Expected::default() };
    Some(scene.judge(row, &expected))
}

fn asked_to_quit(row: &Row) -> Option<Measured> {
    if !require_root() || !terminal::is_there() {
        return None;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let command = nginx(folder.path(), "nginx", "daemon off;", &nginx::ok(port))?;
    let restart = "enabled = true\non_clean_exit = \"never\"\nbackoff = \"100ms..2s\"\ngrace = \"1s\"";
    let scene = Scene::start(&[Service::exec(WEB, &command, port).restart(restart)]);
    terminal::run(&format!("{} -s quit", command.join(" ")));
    scene.until_state(WEB, "stopped");
    scene.more_probes();
    let expected = Expected { service: WEB, alerts: Some(&[]), stopped: true, ..Expected::default() };
    Some(scene.judge(row, &expected))
}
