//! The main process of a supervised service ends while the service goes on: upgrades in place, daemons that put themselves
//! into the background, wrappers, and ends that an operator asked for.

use std::time::Duration;

use hostprobe_tests::{
    daemon::{Daemon, Mark, event_action},
    http,
    incident_events::{is, number, text},
    parts::{Redis, gunicorn, nginx, require, require_root},
    pid_namespace::PidNamespace,
    process::{lives, pid_in, signal, with_argument},
    supervised::Supervised,
    terminal, upgrade,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Longer than a restart that is not wanted would take to come.
const QUIET: Duration = Duration::from_secs(3);

/// Both ways to see: with the hooks, and without any.
const SEEING: [&[&str]; 2] = [&[], &["--without-hook", "all"]];

/// The service with this command, probed over HTTP.
fn start(service: &Supervised, command: &[impl AsRef<str>], further: &str, args: &[&str]) -> Daemon {
    let command: Vec<&str> = command.iter().map(AsRef::as_ref).collect();
    let probe = format!(
        "[[service.probe]]\nhttp = \"http://127.0.0.1:{}/health\"\ninterval = \"200ms\"\ntimeout = \"1s\"\nfailures = 3\n",
        service.port
    );
    let restart = format!("[service.restart]\ngrace = \"2s\"\n{further}");
    let config = format!("[http]\nlisten = \"\"\n{}{probe}{restart}", service.service(&command));
    Daemon::start(&config, args)
}

fn restarts(daemon: &Daemon, mark: Mark) -> usize {
    daemon.since(mark).iter().filter(|event| event_action(event) == "restart.request").count()
}

fn incidents(daemon: &Daemon, mark: Mark) -> Vec<Value> {
    let events = daemon.since(mark);
    events.into_iter().filter(|event| event_action(event) == "incident.open").collect()
}

/// The command of an nginx with two workers that answers on the service's port.
fn nginx_of(service: &Supervised, daemon: &str) -> Option<Vec<String>> {
    let main = format!("daemon {daemon}; worker_processes 2;");
    nginx(service.folder(), "nginx", &main, &nginx::ok(service.port))
}

/// After an upgrade in place: nothing was restarted, the successor lives, and its own death is seen.
fn goes_on(daemon: &Daemon, service: &Supervised, mark: Mark, successor: u32) {
    std::thread::sleep(QUIET);
    assert_eq!((restarts(daemon, mark), incidents(daemon, mark)), (0, vec![]));
    assert!(lives(successor), "the successor is left alone");
    assert_eq!(http::get(service.port, "/").expect("an answer").0, 200);
    let mark = daemon.mark();
    signal(successor, Signal::KILL);
    let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "killed");
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
    assert!(restarts(daemon, mark) > 0, "the successor is restarted like any main process");
}

#[test]
fn an_upgrade_of_nginx_in_place_makes_the_new_master_the_main_process() {
    if !require_root() {
        return;
    }
    for args in SEEING {
        let service = Supervised::new();
        let Some(command) = nginx_of(&service, "on") else { return };
        let daemon = start(&service, &command, "", args);
        daemon.wait_for(|event| is(event, "incident.resolve", &service.name), LONG);
        let mark = daemon.mark();
        let new = upgrade::of_nginx(&service.folder().join("nginx.pid"));
        goes_on(&daemon, &service, mark, new);
    }
}

#[test]
fn an_upgrade_of_gunicorn_in_place_makes_the_new_master_the_main_process() {
    if !require_root() {
        return;
    }
    for (args, end) in SEEING.into_iter().zip([Signal::TERM, Signal::KILL]) {
        let service = Supervised::new();
        let Some(command) = gunicorn(service.folder(), service.port) else { return };
        let daemon = start(&service, &command, "", args);
        service.until_healthy(&daemon);
        let mark = daemon.mark();
        let new = upgrade::of_gunicorn(&service.folder().join("pid"), end);
        goes_on(&daemon, &service, mark, new);
    }
}

/// A command that puts its daemon into the background is adopted, and the incident says what to write instead.
fn stays_in_background(daemon: &Daemon, service: &Supervised, hint: &str) {
    let opened = daemon.wait_for(|event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "exited");
    let summary = text(&opened, "incident.summary");
    assert!(summary.contains("in the background") && summary.contains(hint), "{summary}");
    service.until_healthy(daemon);
    daemon.wait_for(|event| is(event, "incident.resolve", &service.name), LONG);
    std::thread::sleep(QUIET);
    let requests = restarts(daemon, Mark::default());
    let kills = |event: &Value| {
        is(event, "process.exit", &service.name) && text(event, "process.exit_signal.name") == "SIGKILL"
    };
    assert_eq!((requests, daemon.count(kills)), (0, 0));
}

#[test]
fn an_nginx_that_goes_into_the_background_is_kept_and_named() {
    if !require_root() {
        return;
    }
    for args in SEEING {
        let service = Supervised::new();
        let Some(command) = nginx_of(&service, "on") else { return };
        let mut daemon = start(&service, &command, "", args);
        stays_in_background(&daemon, &service, "daemon off;");
        let main = pid_in(&service.folder().join("nginx.pid")).expect("nginx writes its pid");
        let mark = daemon.mark();
        signal(main, Signal::KILL);
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", &service.name), LONG);
        assert_eq!(restarts(&daemon, mark), 1);
        daemon.stop();
        assert!(http::get(service.port, "/").is_err(), "nothing of it is left");
    }
}

#[test]
fn a_redis_that_goes_into_the_background_is_kept_and_named() {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return;
    }
    let service = Supervised::new();
    let mut command = Redis::command(service.port, service.folder());
    command.extend(["--daemonize", "yes"].map(str::to_owned));
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let probe =
        format!("[[service.probe]]\nredis = \"redis://127.0.0.1:{}\"\ninterval = \"200ms\"\n", service.port);
    let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{}{probe}", service.service(&words)), &[]);
    stays_in_background(&daemon, &service, "--daemonize no");
}

#[test]
fn a_script_that_leaves_its_service_in_the_background_is_kept_and_named() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let victim = Victim::program().display().to_string();
    let script = format!("setsid {victim} --port {} --start-delay-ms 500 & exit 0", service.port);
    let daemon = start(&service, &["/bin/sh", "-c", &script], "", &[]);
    stays_in_background(&daemon, &service, "pidfile");
}

/// The incident after the end of a process of a service, whose command is a shell script around the victim.
fn after(script: &str, fault: impl Fn(&Supervised, &Daemon), args: &[&str]) -> Value {
    let service = Supervised::new();
    let victim = format!("{} --port {}", Victim::program().display(), service.port);
    let daemon = start(&service, &["/bin/sh", "-c", &script.replace("REAL", &victim)], "", args);
    service.until_healthy(&daemon);
    fault(&service, &daemon);
    daemon.wait_for(|event| is(event, "incident.resolve", &service.name), LONG)
}

#[test]
fn a_wrapper_that_exits_after_its_command_names_the_end_of_the_command() {
    if !require_root() {
        return;
    }
    let kill = |service: &Supervised, _: &Daemon| {
        let [victim] = with_argument(&service.port.to_string())[..] else { panic!("one process serves") };
        signal(victim, Signal::KILL);
    };
    // Without hooks, two ends within a millisecond may be told in the other order, and nothing is known of the sender.
    let over = after("REAL & wait", kill, &[]);
    assert_eq!(text(&over, "incident.verdict"), "exited");
    let summary = text(&over, "incident.summary");
    assert!(summary.contains("exited with code 0; its process victim"), "{summary}");
    assert!(summary.contains("was killed by SIGKILL from"), "{summary}");
    assert!(summary.contains(&format!("(pid {}, uid 0", std::process::id())), "{summary}");
    assert_eq!(text(&after("REAL & wait", kill, SEEING[1]), "incident.verdict"), "exited");
    let crashes = |service: &Supervised, _: &Daemon| drop(http::get(service.port, "/segv"));
    for script in ["REAL; exit 0", "REAL & wait; sleep 0.3; exit 1", "trap '' TERM; REAL"] {
        let over = after(script, crashes, &[]);
        let summary = text(&over, "incident.summary");
        assert!(summary.contains("main process") && summary.contains("crashed with SIGSEGV"), "{summary}");
    }
}

#[test]
fn a_process_whose_pid_namespace_ends_was_killed_by_what_killed_the_init() {
    if !require_root() {
        return;
    }
    let Some(namespace) = PidNamespace::start() else { return };
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = \"app\"\nmatch = {{ port = {} }}\n",
        namespace.port
    );
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    daemon.wait_for(|event| is(event, "service.state", "app"), LONG);
    let init = namespace.init();
    signal(init, Signal::KILL);
    let opened = daemon.wait_for(|event| is(event, "incident.open", "app"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "killed");
    let summary = text(&opened, "incident.summary");
    assert!(summary.contains(&format!("whose init sh (pid {init}) was killed by SIGKILL from")), "{summary}");
    assert!(summary.contains(&format!("pid {}, uid 0", std::process::id())), "{summary}");
}

#[test]
fn a_clean_end_that_a_tool_asks_for_is_a_stop_where_the_configuration_says_so() {
    if !require_root() || !terminal::is_there() {
        return;
    }
    for (further, args) in
        [("on_clean_exit = \"never\"\n", SEEING[0]), ("on_clean_exit = \"never\"\n", SEEING[1]), ("", &[])]
    {
        let service = Supervised::new();
        let Some(nginx) = nginx_of(&service, "off") else { return };
        let daemon = start(&service, &nginx, further, args);
        service.until_healthy(&daemon);
        let mark = daemon.mark();
        // At a terminal, as an operator does it.
        terminal::run(&format!("{} -s quit", nginx.join(" ")));
        if further.is_empty() {
            let opened = daemon.wait_for_after(mark, |event| is(event, "incident.open", &service.name), LONG);
            let summary = text(&opened, "incident.summary");
            assert!(summary.contains("exited with code 0 after SIGQUIT from nginx (pid "), "{summary}");
            daemon.wait_for_after(mark, |event| is(event, "restart.done", &service.name), LONG);
            continue;
        }
        let stopped = |event: &Value| {
            is(event, "service.state", &service.name) && text(event, "service.state") == "stopped"
        };
        daemon.wait_for_after(mark, stopped, LONG);
        std::thread::sleep(QUIET);
        assert_eq!(restarts(&daemon, mark), 0);
        assert_eq!(number(&daemon.ready(), "event.sequence").map(|it| it > 0), Some(true));
    }
}
