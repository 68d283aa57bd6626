//! The main process of a supervised service ends while the service goes on: upgrades in place, daemons that put themselves
//! into the background, wrappers, and ends that an operator asked for.

use std::{fs, path::Path, process::Command, time::Duration};

use hostprobe_tests::{
    daemon::{Daemon, Mark, event_action},
    http,
    incident_events::{is, number, text},
    parts::{Redis, require, require_root},
    process::{signal, until, with_argument},
    supervised::Supervised,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Longer than a restart that is not wanted would take to come.
const QUIET: Duration = Duration::from_secs(3);

const NGINX: &str = "/usr/sbin/nginx";
const GUNICORN: &str = "/usr/bin/gunicorn";

/// Both ways to see: with the hooks, and without any.
const SEEING: [&[&str]; 2] = [&[], &["--without-hook", "all"]];

/// The service with this command, probed over HTTP.
fn start(service: &Supervised, command: &[&str], further: &str, args: &[&str]) -> Daemon {
    let probe = format!(
        "[[service.probe]]\nhttp = \"http://127.0.0.1:{}/health\"\ninterval = \"200ms\"\ntimeout = \"1s\"\nfailures = 3\n",
        service.port
    );
    let restart = format!("[service.restart]\ngrace = \"2s\"\n{further}");
    let config = format!("[http]\nlisten = \"\"\n{}{probe}{restart}", service.service(command));
    Daemon::start(&config, args)
}

fn restarts(daemon: &Daemon, mark: Mark) -> usize {
    daemon.since(mark).iter().filter(|event| event_action(event) == "restart.request").count()
}

fn incidents(daemon: &Daemon, mark: Mark) -> Vec<Value> {
    let events = daemon.since(mark);
    events.into_iter().filter(|event| event_action(event) == "incident.open").collect()
}

fn pid_in(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.split_whitespace().next()?.parse().ok()
}

fn lives(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The configuration of an nginx that writes only below the service's folder.
fn nginx_config(service: &Supervised, daemon: &str) -> String {
    let base = service.folder().display();
    let config = format!(
        "daemon {daemon};\nuser root;\nworker_processes 2;\npid {base}/pid;\nerror_log {base}/error.log;\n\
         events {{ worker_connections 64; }}\nhttp {{ access_log off; client_body_temp_path {base}/b; \
         proxy_temp_path {base}/p; fastcgi_temp_path {base}/f; uwsgi_temp_path {base}/u; scgi_temp_path {base}/s;\n\
         server {{ listen 127.0.0.1:{}; location / {{ return 200 ok; }} }} }}\n",
        service.port
    );
    let file = service.folder().join("nginx.conf");
    fs::write(&file, config).expect("the configuration is written");
    file.display().to_string()
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
    if !require_root() || !require("nginx-light", NGINX) {
        return;
    }
    for args in SEEING {
        let service = Supervised::new();
        // In the foreground nginx does not take the signal: its parent has to be another process than the one that started it.
        let config = nginx_config(&service, "on");
        let error_log = service.folder().join("error.log").display().to_string();
        let daemon = start(&service, &[NGINX, "-e", &error_log, "-c", &config], "", args);
        daemon.wait_for(|event| is(event, "incident.resolve", &service.name), LONG);
        let (file, former) = (service.folder().join("pid"), service.folder().join("pid.oldbin"));
        let old = pid_in(&file).expect("nginx writes its pid");
        let mark = daemon.mark();
        signal(old, Signal::USR2);
        until("the new master writes its pid", LONG, || pid_in(&former));
        let new = until("it is another", LONG, || pid_in(&file).filter(|pid| *pid != old));
        signal(old, Signal::QUIT);
        until("the old master ends", LONG, || (!lives(old)).then_some(()));
        goes_on(&daemon, &service, mark, new);
    }
}

#[test]
fn an_upgrade_of_gunicorn_in_place_makes_the_new_master_the_main_process() {
    if !require_root() || !require("gunicorn", GUNICORN) {
        return;
    }
    let app = "def app(environ, start):\n    start('200 OK', [])\n    return [b'ok']\n";
    for (args, end) in SEEING.into_iter().zip([Signal::TERM, Signal::KILL]) {
        let service = Supervised::new();
        fs::write(service.folder().join("app.py"), app).expect("the application is written");
        let folder = service.folder().display().to_string();
        let (file, bind) = (service.folder().join("pid"), format!("127.0.0.1:{}", service.port));
        let pidfile = file.display().to_string();
        let command = ["--bind", &bind, "--workers", "2", "--pid", &pidfile, "--chdir", &folder, "app:app"];
        let daemon = start(&service, &[&[GUNICORN], &command[..]].concat(), "", args);
        service.until_healthy(&daemon);
        let old = pid_in(&file).expect("gunicorn writes its pid");
        let mark = daemon.mark();
        signal(old, Signal::USR2);
        let second = service.folder().join("pid.2");
        let new = until("the new master writes its pid", LONG, || pid_in(&second));
        // Its workers serve as well by then.
        std::thread::sleep(Duration::from_secs(1));
        signal(old, end);
        until("the old master ends", LONG, || (!lives(old)).then_some(()));
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
    if !require_root() || !require("nginx-light", NGINX) {
        return;
    }
    for args in SEEING {
        let service = Supervised::new();
        let config = nginx_config(&service, "on");
        let error_log = service.folder().join("error.log").display().to_string();
        let mut daemon = start(&service, &[NGINX, "-e", &error_log, "-c", &config], "", args);
        stays_in_background(&daemon, &service, "daemon off;");
        let main = pid_in(&service.folder().join("pid")).expect("nginx writes its pid");
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
    if !require_root() || !require("util-linux", "/usr/bin/unshare") {
        return;
    }
    let service = Supervised::new();
    let victim = Victim::program().display().to_string();
    // The init of the namespace is a shell, and the service is its child.
    let script = format!("{victim} --port {} & wait", service.port);
    let mut unshare = Command::new("/usr/bin/unshare");
    unshare.args(["--pid", "--fork", "--kill-child", "/bin/sh", "-c", &script]);
    let running = hostprobe_tests::process::Running::start(&mut unshare, Signal::KILL);
    until("it listens", LONG, || http::get(service.port, "/").ok());
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = {:?}\nmatch = {{ port = {} }}\n",
        service.name, service.port
    );
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    daemon.wait_for(|event| is(event, "service.state", &service.name), LONG);
    let children =
        fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.pid())).expect("it lives");
    let init: u32 = children.trim().parse().expect("unshare has one child");
    signal(init, Signal::KILL);
    let opened = daemon.wait_for(|event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "killed");
    let summary = text(&opened, "incident.summary");
    assert!(summary.contains(&format!("whose init sh (pid {init}) was killed by SIGKILL from")), "{summary}");
    assert!(summary.contains(&format!("pid {}, uid 0", std::process::id())), "{summary}");
}

#[test]
fn a_clean_end_that_a_tool_asks_for_is_a_stop_where_the_configuration_says_so() {
    if !require_root() || !require("nginx-light", NGINX) {
        return;
    }
    for (further, args) in
        [("on_clean_exit = \"never\"\n", SEEING[0]), ("on_clean_exit = \"never\"\n", SEEING[1]), ("", &[])]
    {
        let service = Supervised::new();
        let config = nginx_config(&service, "off");
        let error_log = service.folder().join("error.log").display().to_string();
        let nginx = [NGINX, "-e", &error_log, "-c", &config];
        let daemon = start(&service, &nginx, further, args);
        service.until_healthy(&daemon);
        let mark = daemon.mark();
        // At a terminal, as an operator does it.
        let line = format!("{} -s quit", nginx.join(" "));
        let asked = Command::new("/usr/bin/script").args(["-qec", &line, "/dev/null"]).status();
        assert!(asked.is_ok_and(|asked| asked.success()), "nginx takes the request");
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
