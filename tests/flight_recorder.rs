//! `hostprobe explain` as a flight recorder: what happened around an incident, to it, to others and to the host, as one
//! timeline, also when no daemon runs and from a later run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, Mark},
    http::{self, free_port},
    incident_events::{is, text, wait_until_healthy},
    memcg::MemoryCgroup,
    operator::{ENDS, Home, ask, end, said},
    parts::{built, require_root},
    process::{Running, kill, until, with_argument},
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// It clears the screen and begins a line of its own.
const HOSTILE: &str = "an upgrade\u{1b}[2J\u{202e}\u{9b}31m";

const APP: &str = "app";
const NEIGHBOUR: &str = "neighbour";

/// An application that a deployment brings, with a file of its configuration, and a neighbour.
struct Stack {
    home: Home,
    folder: TempDir,
    port: u16,
    neighbour: u16,
    config: String,
    config_file: PathBuf,
}

impl Stack {
    /// None where this user lacks the rights for it.
    fn new() -> Option<Self> {
        if !require_root() {
            return None;
        }
        let (home, folder, port) = (Home::new(), TempDir::new().expect("a temporary folder"), free_port());
        let own = |name: &str| folder.path().join(name);
        copy(&Victim::program(), &own(APP));
        fs::write(own("app.conf"), "cheese = none").expect("the folder can be written");
        let service = |name: &str, command: &[String], port: u16| {
            format!(
                "[[service]]\nname = \"{name}\"\nexec = {command:?}\noutput = {:?}\n[[service.probe]]\n\
                 http = \"http://127.0.0.1:{port}/health\"\ninterval = \"200ms\"\ntimeout = \"1s\"\nfailures = 3\n\
                 [service.restart]\ngrace = \"1s\"\nbackoff = \"100ms..1s\"\n",
                own(&format!("{name}.output"))
            )
        };
        let command = |program: &Path, port: u16| {
            [program.display().to_string(), "--port".to_owned(), port.to_string()].to_vec()
        };
        let mut application = command(&own(APP), port);
        application.push(format!("--config={}", own("app.conf").display()));
        let neighbour = free_port();
        let services = service(APP, &application, port)
            + &service(NEIGHBOUR, &command(&Victim::program(), neighbour), neighbour);
        let config = home.config(&services);
        let config_file = home.path("hostprobe.toml");
        fs::write(&config_file, &config).expect("the configuration is written");
        Some(Self { home, folder, port, neighbour, config, config_file })
    }

    fn own(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> Daemon {
        let daemon = Daemon::start(&self.config, &[]);
        for name in [APP, NEIGHBOUR] {
            wait_until_healthy(&daemon, name);
        }
        daemon
    }

    /// What explains a fault comes a moment after it, also where it is healed sooner.
    fn explain_once_it_is_known(&self, id: &str) -> (Value, String) {
        until("its changes are known", LONG, || {
            let (json, page) = self.explain(id);
            json["incident"]["changes"].is_array().then_some((json, page))
        })
    }

    fn explain(&self, id: &str) -> (Value, String) {
        let json = said(&ask(&self.config_file, &["explain", id, "--json"]));
        (serde_json::from_str(&json).expect("JSON"), said(&ask(&self.config_file, &["explain", id])))
    }
}

/// The process that was started to serve a port; an earlier daemon may have started it.
fn pid(port: u16) -> u32 {
    until("its process", LONG, || with_argument(&port.to_string()).first().copied())
}

/// A copy of a program. Another test's child could inherit a file that this process writes, and keep it from being executed.
fn copy(program: &Path, to: &Path) {
    let copied = Command::new("/bin/cp").arg(program).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "the program is copied");
}

/// Waits until the application is healthy again after an incident; its id.
#[track_caller]
fn healed(daemon: &Daemon, mark: Mark, service: &str) -> String {
    let over = daemon.wait_for_after(mark, |event| is(event, "incident.resolve", service), LONG);
    text(&over, "incident.id").to_owned()
}

fn timeline(explained: &Value) -> &[Value] {
    explained["timeline"].as_array().expect("a list")
}

/// The place of the first such entry.
#[track_caller]
fn place(explained: &Value, what: &str, such: impl Fn(&Value) -> bool) -> usize {
    let found = timeline(explained).iter().position(such);
    found.unwrap_or_else(|| panic!("no {what} in {explained:#}"))
}

/// Whether an entry is this action of this service.
fn entry<'a>(action: &'a str, service: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |entry| entry["action"] == action && entry["service"] == service
}

/// What does not depend on when the recording is written.
fn without_pressure(explained: &Value) -> Vec<&Value> {
    timeline(explained).iter().filter(|entry| entry["action"] != "pressure").collect()
}

#[test]
fn a_program_that_was_replaced_before_the_crash_is_named_at_the_top_and_in_the_timeline() {
    let Some(stack) = Stack::new() else { return };
    let daemon = stack.start();
    copy(&Victim::program(), &stack.own("app.new"));
    fs::rename(stack.own("app.new"), stack.own(APP)).expect("it is renamed");
    let mark = daemon.mark();
    stack.home.done(&["restart", APP, "--reason", HOSTILE]);
    let well = |event: &Value| is(event, "service.state", APP) && text(event, "service.state") == "healthy";
    daemon.wait_for_after(mark, well, LONG);
    let mark = daemon.mark();
    let _ = http::get(stack.port, "/segv");
    let id = healed(&daemon, mark, APP);

    let (explained, page) = stack.explain_once_it_is_known(&id);
    let program = stack.own(APP).display().to_string();
    let replaced = format!("its program {program} was replaced ");
    // Packages of this host may change meanwhile, too.
    let top: Vec<&str> = page.lines().skip(2).take_while(|line| !line.starts_with("  fault:")).collect();
    assert!(top.first().is_some_and(|line| line.starts_with("  changes:")), "{page}");
    assert!(top.iter().any(|line| line.contains(&replaced)), "{page}");
    let of_program = |entry: &Value| {
        entry["action"] == "change" && entry["message"].as_str().is_some_and(|it| it.starts_with(&replaced))
    };
    let steps = [
        place(&explained, "change", of_program),
        place(&explained, "command", entry("operator.command", APP)),
        place(&explained, "crash", |it| entry("process.exit", APP)(it) && it["evidence"] == true),
        place(&explained, "incident", entry("incident.open", APP)),
        place(&explained, "request", entry("restart.request", APP)),
        // The operator's is before it.
        place(&explained, "restart", |it| {
            entry("restart.done", APP)(it) && it["after_ms"].as_f64() > Some(0.0)
        }),
        place(&explained, "end", entry("incident.resolve", APP)),
    ];
    assert!(steps.is_sorted(), "{steps:?} in {explained:#}");
    let change = &timeline(&explained)[steps[0]];
    let before = change["after_ms"].as_f64().expect("a time");
    assert!((-60_000.0..0.0).contains(&before), "{change}");
    assert!(page.contains("an upgrade\\u{1b}[2J\\u{202e}"), "foreign text is shown as it is: {page}");
    assert!(!page.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{page:?}");
    assert!(page.lines().any(|line| line.contains(" ! its program ")), "{page}");
}

#[test]
fn one_timeline_has_the_deployment_the_command_the_neighbour_and_the_oom_kill_in_every_run() {
    let Some(stack) = Stack::new() else { return };
    let mut ids = Vec::new();
    for how in ENDS {
        let daemon = stack.start();
        // All of it within a minute before the fault.
        fs::write(stack.own("app.conf"), "cheese = gouda").expect("it can be written");
        stack.home.done(&["pause", NEIGHBOUR, "--for", "1h", "--reason", HOSTILE]);
        stack.home.done(&["resume", NEIGHBOUR]);
        let mark = daemon.mark();
        kill(pid(stack.neighbour));
        healed(&daemon, mark, NEIGHBOUR);
        let cgroup = MemoryCgroup::new(30 << 20).expect("a memory cgroup");
        cgroup.add(pid(stack.port)).expect("it is moved");
        let mark = daemon.mark();
        let _ = http::get(stack.port, "/alloc?mb=100");
        let id = healed(&daemon, mark, APP);

        let (live, page) = stack.explain_once_it_is_known(&id);
        let changed = format!("its file {} was changed ", stack.own("app.conf").display());
        let of_file = |it: &Value| {
            it["action"] == "change" && it["message"].as_str().is_some_and(|it| it.starts_with(&changed))
        };
        let steps = [
            place(&live, "change", of_file),
            place(&live, "command", entry("operator.command", NEIGHBOUR)),
            place(&live, "neighbour's incident", entry("incident.open", NEIGHBOUR)),
            place(&live, "neighbour's restart", entry("restart.done", NEIGHBOUR)),
            place(&live, "neighbour's end", entry("incident.resolve", NEIGHBOUR)),
            // There may be others on the host.
            place(&live, "OOM kill", entry("process.oom_kill", APP)),
            place(&live, "incident", entry("incident.open", APP)),
            place(&live, "end", entry("incident.resolve", APP)),
        ];
        assert!(steps.is_sorted(), "{steps:?} in {live:#}");
        assert!(page.lines().nth(2).is_some_and(|line| line.starts_with("  changes:")), "{page}");
        assert!(page.contains(&changed) && page.contains(" ~ neighbour: incident opened"), "{page}");
        assert!(page.lines().count() < 200 && page.len() < 100_000, "{page}");
        ids.push((id.clone(), live.clone()));

        until("the file has all of it", LONG, || {
            let kept = stack.home.kept(&id)?;
            (without_pressure(&kept) == without_pressure(&live)).then_some(())
        });
        end(daemon, how);
        for (id, live) in &ids {
            let (kept, page) = stack.explain(id);
            assert_eq!(without_pressure(&kept), without_pressure(live), "{how:?}");
            assert!(page.starts_with("the daemon does not run"), "{page}");
        }
    }
    // Nor does a later run forget it.
    let mut daemon = stack.start();
    for (id, live) in &ids {
        assert_eq!(without_pressure(&stack.explain(id).0), without_pressure(live));
    }
    daemon.stop();
}

#[test]
fn the_pressure_of_the_moment_is_read_from_the_recording() {
    let Some(stack) = Stack::new() else { return };
    let daemon = stack.start();
    // As few as keep each CPU short: other tests run beside this one.
    let threads = 2 * std::thread::available_parallelism().map_or(8, usize::from);
    let mut busy = Command::new(built("busy_loop"));
    let busy = Running::start(busy.args(["--threads", &threads.to_string()]), Signal::KILL);
    let folder = stack.home.path("state").join("recording");
    // The samples of ten seconds are written together.
    let samples = || {
        let files = fs::read_dir(&folder).ok()?.map_while(Result::ok);
        let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        let count: usize = texts.map(|text| text.matches("{\"Pressure\":").count()).sum();
        (count >= 3).then_some(())
    };
    until("some pressure is recorded", LONG, samples);
    let mark = daemon.mark();
    let _ = http::get(stack.port, "/segv");
    let id = healed(&daemon, mark, APP);
    let explained = until("the pressure is shown", LONG, || {
        let (explained, page) = stack.explain(&id);
        let shown = page.contains(" ~ the host was under pressure");
        (shown && timeline(&explained).iter().any(|it| it["action"] == "pressure")).then_some(explained)
    });
    let pressure = place(&explained, "pressure", |it| it["action"] == "pressure");
    let message = timeline(&explained)[pressure]["message"].as_str().unwrap_or_default();
    assert!(message.contains("tasks waited for a CPU up to "), "{message}");
    assert!(pressure < place(&explained, "end", entry("incident.resolve", APP)));
    drop(busy);
    end(daemon, ENDS[0]);
    let (kept, _) = stack.explain(&id);
    place(&kept, "pressure", |it| it["action"] == "pressure");
}
