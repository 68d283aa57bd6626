//! Processes that outlive the main process of a supervised service: second main processes, workers, servers of a wrapper,
//! and daemons; and processes that repeat the end of their child.

use std::{fs, path::Path, time::Duration};

use hostprobe_tests::{
    daemon::{Daemon, Mark, event_action},
    http,
    incident_events::{is, text},
    parts::{require, require_root},
    process::{signal, until, with_argument},
    supervised::Supervised,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Longer than a restart that is not wanted would take to come.
const QUIET: Duration = Duration::from_secs(4);

/// A process that starts later than this is none of the first workers of a service without probes.
const STARTED: Duration = Duration::from_secs(11);

const PYTHON: &str = "/usr/bin/python3";
const GUNICORN: &str = "/usr/bin/gunicorn";

/// A server that serves in processes of its own, and does with its listener what its argument says.
const SERVER: &str = r#"
import os, signal, socket, subprocess, sys, time
kind, port = sys.argv[1], int(sys.argv[2])

def serve(listener, status="200 OK"):
    while True:
        client, _ = listener.accept()
        # A request may come in parts. One that is not read whole is answered by a reset.
        request = client.recv(4096)
        while request and b"\r\n\r\n" not in request:
            more = client.recv(4096)
            request = request + more if more else b""
        code = "500 Failed" if os.path.exists(sys.argv[3] + "/broken") else status
        client.sendall(f"HTTP/1.1 {code}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())
        client.close()

if kind == "worker":
    serve(socket.socket(fileno=int(sys.argv[4])))
listener = socket.create_server(("127.0.0.1", port), backlog=64)
listener.set_inheritable(True)
if kind == "spawns":
    for _ in range(2):
        words = [sys.executable, sys.argv[0], "worker", str(port), sys.argv[3], str(listener.fileno())]
        subprocess.Popen(words, close_fds=False)
    signal.pause()
if kind == "forks":
    def pass_on(*_):
        if os.fork() == 0:
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)
            serve(listener)
    signal.signal(signal.SIGUSR1, pass_on)
    serve(listener)
if kind == "saves":
    def save(*_):
        time.sleep(0.7)
        open(sys.argv[3] + "/saved", "w").close()
        os._exit(0)
    signal.signal(signal.SIGTERM, save)
    serve(listener)
if kind == "repeats":
    def again(number, _):
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    signal.signal(signal.SIGTERM, again)
    serve(listener)
"#;

/// The words of a [`SERVER`] of this kind.
fn server(service: &Supervised, kind: &str) -> [String; 5] {
    let script = service.folder().join("server.py");
    fs::write(&script, SERVER).expect("the script is written");
    let folder = service.folder().display().to_string();
    [PYTHON.to_owned(), script.display().to_string(), kind.to_owned(), service.port.to_string(), folder]
}

/// The service with this command, probed over HTTP.
fn probed(service: &Supervised, command: &[&str], further: &str) -> Daemon {
    let probe = format!(
        "[[service.probe]]\nhttp = \"http://127.0.0.1:{}/health\"\ninterval = \"200ms\"\ntimeout = \"1s\"\nfailures = 3\n",
        service.port
    );
    let restart = format!("[service.restart]\ngrace = \"2s\"\n{further}");
    Daemon::start(&format!("[http]\nlisten = \"\"\n{}{probe}{restart}", service.service(command)), &[])
}

/// The service with this command, without a probe.
fn unprobed(service: &Supervised, command: &[&str]) -> Daemon {
    Daemon::start(&format!("[http]\nlisten = \"\"\n{}", service.service(command)), &[])
}

fn restarts(daemon: &Daemon, mark: Mark) -> usize {
    daemon.since(mark).iter().filter(|event| event_action(event) == "restart.request").count()
}

fn incidents(daemon: &Daemon, mark: Mark) -> Vec<Value> {
    let events = daemon.since(mark);
    events.into_iter().filter(|event| event_action(event) == "incident.open").collect()
}

fn lives(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn pid_in(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.split_whitespace().next()?.parse().ok()
}

/// The process whose parent is this one; there is one.
fn child(parent: u32) -> u32 {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let read = || fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok();
    until("it has a child", LONG, read)
}

#[test]
fn an_upgrade_on_a_unix_socket_without_a_probe_is_left_alone() {
    if !require_root() || !require("gunicorn", GUNICORN) {
        return;
    }
    let service = Supervised::new();
    let app = "def app(environ, start):\n    start('200 OK', [])\n    return [b'ok']\n";
    fs::write(service.folder().join("app.py"), app).expect("the application is written");
    let folder = service.folder().display().to_string();
    let (bind, file) = (format!("unix:{folder}/socket"), service.folder().join("pid"));
    let pidfile = file.display().to_string();
    let command =
        [GUNICORN, "--bind", &bind, "--workers", "2", "--pid", &pidfile, "--chdir", &folder, "app:app"];
    let daemon = unprobed(&service, &command);
    service.until_healthy(&daemon);
    let old = until("gunicorn writes its pid", LONG, || pid_in(&file));
    std::thread::sleep(STARTED);
    let mark = daemon.mark();
    signal(old, Signal::USR2);
    let second = service.folder().join("pid.2");
    let new = until("the new master writes its pid", LONG, || pid_in(&second));
    // Its workers serve as well by then.
    std::thread::sleep(Duration::from_secs(2));
    signal(old, Signal::TERM);
    until("the old master ends", LONG, || (!lives(old)).then_some(()));
    std::thread::sleep(QUIET);
    assert_eq!((restarts(&daemon, mark), incidents(&daemon, mark)), (0, vec![]));
    assert!(lives(new), "the new master is left alone");
    let mark = daemon.mark();
    signal(new, Signal::KILL);
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "killed");
}

#[test]
fn workers_that_execute_a_program_do_not_hide_the_death_of_their_main_process() {
    if !require_root() || !require("python3", PYTHON) {
        return;
    }
    let service = Supervised::new();
    let words = server(&service, "spawns");
    let daemon = probed(&service, &words.each_ref().map(String::as_str), "");
    service.until_healthy(&daemon);
    let main = service.pid(&daemon);
    // One worker may answer before the other one is started.
    let workers = until("it has two workers", LONG, || {
        Some(with_argument(&service.port.to_string())).filter(|pids| pids.len() == 3)
    });
    let mark = daemon.mark();
    signal(main, Signal::KILL);
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "killed");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
    assert_eq!(restarts(&daemon, mark), 1);
    assert!(!workers.iter().any(|pid| lives(*pid)), "nothing is left of the former ones");
}

#[test]
fn a_server_outlives_its_wrapper_and_an_incident_tells_of_the_wrapper() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let script = format!("{} --port {} & wait", Victim::program().display(), service.port);
    let daemon = probed(&service, &["/bin/sh", "-c", &script], "");
    service.until_healthy(&daemon);
    let real = service.pid(&daemon);
    let status = fs::read_to_string(format!("/proc/{real}/status")).expect("it lives");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("it has a parent");
    let mark = daemon.mark();
    signal(parent.trim().parse().expect("a pid"), Signal::KILL);
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "killed");
    let summary = text(&opened, "incident.summary");
    assert!(summary.contains(&format!("its process victim (pid {real}) still serves")), "{summary}");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
    std::thread::sleep(QUIET);
    assert_eq!(restarts(&daemon, mark), 0);
    assert!(lives(real), "the server is left alone");
    let mark = daemon.mark();
    signal(real, Signal::KILL);
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
    assert_eq!(restarts(&daemon, mark), 1);
}

#[test]
fn a_fork_that_has_the_listener_goes_on_when_its_main_process_was_asked_to_end() {
    if !require_root() || !require("python3", PYTHON) {
        return;
    }
    let service = Supervised::new();
    let words = server(&service, "forks");
    let daemon = probed(&service, &words.each_ref().map(String::as_str), "");
    service.until_healthy(&daemon);
    let main = service.pid(&daemon);
    std::thread::sleep(Duration::from_secs(2));
    let mark = daemon.mark();
    signal(main, Signal::USR1);
    let fork = child(main);
    signal(main, Signal::TERM);
    until("the former one ends", LONG, || (!lives(main)).then_some(()));
    std::thread::sleep(QUIET);
    assert_eq!((restarts(&daemon, mark), incidents(&daemon, mark)), (0, vec![]));
    assert!(lives(fork) && http::get(service.port, "/").is_ok(), "the fork serves");
}

#[test]
fn a_long_start_leaves_its_daemon_in_the_background() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let daemon_words = format!("sleep {}", 100_000 + u32::from(service.port));
    let is_daemon = "[ \"$(cat /proc/$!/comm)\" = sleep ]";
    let script = format!("sleep 11; setsid {daemon_words} & until {is_daemon}; do sleep 0.01; done; exit 0");
    let daemon = unprobed(&service, &["/bin/sh", "-c", &script]);
    let opened = daemon.wait_for(|event| is(event, "incident.open", &service.name), LONG);
    let summary = text(&opened, "incident.summary");
    assert!(summary.contains("left sleep (pid ") && summary.contains("in the background"), "{summary}");
    daemon.wait_for(|event| is(event, "incident.resolve", &service.name), LONG);
    std::thread::sleep(QUIET);
    assert_eq!(restarts(&daemon, Mark::default()), 0);
    assert_eq!(with_argument(&(100_000 + u32::from(service.port)).to_string()).len(), 1, "its daemon lives");
}

#[test]
fn a_program_that_repeats_the_end_of_its_child_names_the_sender() {
    if !require_root() || !require("coreutils", "/usr/bin/timeout") {
        return;
    }
    let victim = Victim::program().display().to_string();
    for number in [Signal::KILL, Signal::USR1] {
        let service = Supervised::new();
        let port = service.port.to_string();
        let daemon = probed(&service, &["/usr/bin/timeout", "1h", &victim, "--port", &port], "");
        service.until_healthy(&daemon);
        let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let [real] =
            with_argument(&port).into_iter().filter(|pid| name(pid) == "victim\n").collect::<Vec<_>>()[..]
        else {
            panic!("one process serves")
        };
        let mark = daemon.mark();
        signal(real, number);
        // If the program takes its time to repeat it, the end of its child alone is reported first.
        let killed = |event: &Value| {
            event_action(event).starts_with("incident.")
                && text(event, "service.name") == service.name
                && text(event, "incident.verdict") == "killed"
        };
        let told = daemon.wait_for_after(mark, killed, LONG);
        let summary = text(&told, "incident.summary");
        assert!(summary.contains("ended itself by") && summary.contains("its process victim"), "{summary}");
        assert!(summary.contains(&format!("(pid {}, uid 0", std::process::id())), "{summary}");
    }
}

#[test]
fn a_program_that_ends_itself_by_the_signal_that_it_got_was_ended_by_the_sender() {
    if !require_root() || !require("python3", PYTHON) {
        return;
    }
    for never in [false, true] {
        let service = Supervised::new();
        let words = server(&service, "repeats");
        let further = if never { "on_clean_exit = \"never\"\n" } else { "" };
        let daemon = probed(&service, &words.each_ref().map(String::as_str), further);
        service.until_healthy(&daemon);
        let mark = daemon.mark();
        signal(service.pid(&daemon), Signal::TERM);
        if never {
            let stopped = |event: &Value| {
                is(event, "service.state", &service.name) && text(event, "service.state") == "stopped"
            };
            daemon.wait_for_after(mark, stopped, LONG);
            std::thread::sleep(QUIET);
            assert_eq!(restarts(&daemon, mark), 0);
            continue;
        }
        let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", &service.name), LONG);
        let summary = text(&opened, "incident.summary");
        assert_eq!(text(&opened, "incident.verdict"), "killed", "{summary}");
        assert!(summary.contains(&format!("(pid {}, uid 0", std::process::id())), "{summary}");
    }
}

#[test]
fn a_server_ends_in_order_though_its_wrapper_ends_at_once() {
    if !require_root() || !require("python3", PYTHON) {
        return;
    }
    let service = Supervised::new();
    let words = server(&service, "saves").join(" ");
    let daemon = probed(&service, &["/bin/sh", "-c", &format!("{words} & wait")], "");
    service.until_healthy(&daemon);
    let mark = daemon.mark();
    fs::write(service.folder().join("broken"), "").expect("the server answers with an error now");
    daemon.wait_for_after(mark, |event| is(event, "restart.request", &service.name), LONG);
    daemon.wait_for_after(mark, |event| is(event, "restart.done", &service.name), LONG);
    assert!(service.folder().join("saved").exists(), "it had the time to save");
}
