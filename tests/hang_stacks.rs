//! The incident of a service that hangs says what its threads wait for, and the service goes on as before where it is not
//! restarted.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use hostprobe_tests::{
    daemon::{Daemon, field},
    hanging_mount::HangingMount,
    hanging_program::{Form, HangingProgram},
    http,
    incident_events::{is, text},
    network,
    parts::{built, require, require_root},
    process::{kill, until},
    supervised::Supervised,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Far more than the daemon takes to notice a hang.
const PATIENCE: Duration = Duration::from_secs(20);

const TIMES: &str =
    "interval = \"200ms\"\ntimeout = \"500ms\"\nfailures = 3\n[service.restart]\ngrace = \"1s\"\n";

/// The page that shows these lines.
const PAGE: &str = include_str!("../docs/design/hangs.md");

/// A program that hangs, under a daemon that does not restart it.
struct Hang {
    service: Supervised,
    program: HangingProgram,
    daemon: Daemon,
    /// The incident with the stacks.
    incident: Value,
    pid: u32,
}

impl Hang {
    fn new(form: Form, way: &str, threads: u32, arguments: &[&str], further: &str) -> Option<Self> {
        if !require_root() {
            return None;
        }
        let program = HangingProgram::new(form)?;
        let service = Supervised::new();
        let command = program.command(service.port, way, threads, arguments);
        let config = config(&service, &command, further, false);
        let daemon = start(&service, &config);
        service.until_healthy(&daemon);
        let pid = service.pid(&daemon);
        program.hang();
        let incident = with_stacks(&daemon, &service);
        Some(Self { service, program, daemon, incident, pid })
    }

    fn summary(&self) -> &str {
        text(&self.incident, "incident.stacks.summary")
    }

    fn snapshot(&self) -> String {
        fs::read_to_string(text(&self.incident, "incident.snapshot")).expect("the snapshot is there")
    }

    /// The sentence is this one, and the page shows it.
    #[track_caller]
    fn says(&self, expected: &str) {
        let said = plain(self.summary(), &[self.service.port]);
        assert_eq!(said, expected, "{:#}\n{}", self.incident["incident"]["stacks"], self.snapshot());
        assert!(PAGE.contains(&format!("`{expected}`")), "docs/design/hangs.md lacks `{expected}`");
    }

    /// Nothing traces it, and the same process serves again.
    fn goes_on(&self) {
        assert_eq!(traced(self.pid), Vec::<u32>::new());
        self.program.go_on();
        let resolved = |event: &Value| is(event, "incident.resolve", &self.service.name);
        self.daemon.wait_for(resolved, LONG);
        assert_eq!(self.service.pid(&self.daemon), self.pid);
    }
}

fn config(service: &Supervised, command: &[String], further: &str, restarts: bool) -> String {
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let snapshots = service.folder().join("snapshots").display().to_string();
    format!(
        "[http]\nlisten = \"\"\n[snapshots]\ndirectory = {snapshots:?}\n{further}\n{}[[service.probe]]\n\
         http = \"http://127.0.0.1:{}/\"\n{TIMES}enabled = {restarts}\n",
        service.service(&command),
        service.port
    )
}

/// A daemon that sees a fake of `/proc/pressure/cpu`, which says that no task waits for a CPU: the builds and tests beside
/// this one are no reason to call a host overloaded.
fn start(service: &Supervised, config: &str) -> Daemon {
    let quiet = service.folder().join("fake-pressure");
    fs::write(&quiet, "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n").expect("the folder can be written");
    let script = format!("mount --bind {} /proc/pressure/cpu && exec \"$@\"", quiet.display());
    Daemon::start_under(&["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &script, "sh"], config, &[])
}

fn with_stacks(daemon: &Daemon, service: &Supervised) -> Value {
    let such = |event: &Value| {
        is(event, "incident.update", &service.name) && field(event, "incident.stacks").is_some()
    };
    daemon.wait_for(such, LONG)
}

/// A sentence without what differs from run to run: addresses, ports and the ids of threads.
fn plain(sentence: &str, ports: &[u16]) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in sentence.split(' ') {
        let mut word = word.to_owned();
        if let Some(at) = word.find("+0x") {
            let end = word[at + 3..]
                .find(|it: char| !it.is_ascii_hexdigit())
                .map_or(word.len(), |end| at + 3 + end);
            word.replace_range(at + 3..end, "…");
        }
        for port in ports {
            word = word.replace(&format!(":{port}"), ":PORT");
        }
        if words.last().is_some_and(|before| before == "thread")
            && word.starts_with(|it: char| it.is_ascii_digit())
        {
            let end = word.find(|it: char| !it.is_ascii_digit()).unwrap_or(word.len());
            word.replace_range(..end, "TID");
        }
        words.push(word);
    }
    words.join(" ")
}

/// The threads of a process that another process traces.
fn traced(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let tids = tasks.filter_map(|task| task.file_name().to_str()?.parse::<u32>().ok());
    let is_traced = |tid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    tids.filter(is_traced).collect()
}

#[test]
fn a_deadlock_is_named_by_its_lock_and_its_function_however_the_program_was_compiled() {
    for form in Form::ALL {
        let Some(hang) = Hang::new(form, "deadlock", 2, &[], "") else { return };
        let called = if form == Form::Stripped { "hangs+0x…" } else { "transfer()" };
        hang.says(&format!(
            "2 of 3 threads wait for a lock (futex) in pthread_mutex_lock, called by {called}"
        ));
        let snapshot = hang.snapshot();
        assert!(snapshot.contains("== stacks =="), "{snapshot}");
        if form != Form::Stripped {
            assert!(
                snapshot.contains("deadlock() (hangs+0x") && snapshot.contains("main() (hangs+0x"),
                "{snapshot}"
            );
        }
        if form == Form::Debug {
            assert!(snapshot.contains(" at hangs.c:"), "{snapshot}");
        }
        assert_eq!(traced(hang.pid), Vec::<u32>::new());
    }
}

#[test]
fn threads_that_wait_for_a_lock_of_a_slow_one_go_on_afterwards() {
    let Some(hang) = Hang::new(Form::FramePointers, "lock", 5, &[], "") else { return };
    hang.says("4 of 6 threads wait for a lock (futex) of thread TID in pthread_mutex_lock, called by update_balance()");
    hang.goes_on();
}

#[test]
fn the_page_for_people_and_the_snapshot_show_the_calls() {
    let Some(hang) = Hang::new(Form::Plain, "lock", 3, &[], "") else { return };
    let id = text(&hang.incident, "incident.id");
    let explain = Command::new(built("hostprobe"))
        .args(["explain", id, "--socket"])
        .arg(hang.daemon.socket())
        .output()
        .expect("the command runs");
    let page = String::from_utf8_lossy(&explain.stdout);
    assert!(page.contains("threads:    2 of 4 threads wait for a lock"), "{page}");
    assert!(page.contains("update_balance() (hangs+0x"), "{page}");
    hang.goes_on();
}

#[test]
fn a_connection_that_is_not_answered_names_the_service_that_is_asked() {
    if !network::Firewall::is_there() {
        return;
    }
    network::in_its_own(|| {
        // Its own probe waits longer than the test: a database that is known to be down would be the verdict.
        let further = "[[service]]\nname = \"orders-db\"\n[[service.probe]]\ntcp = \"192.0.2.9:5432\"\n\
                       interval = \"1h\"\ntimeout = \"50s\"\n";
        network::ip(&["address", "add", "192.0.2.9/32", "dev", "lo"]);
        let _silent = network::Firewall::before(5432);
        let arguments = ["192.0.2.9", "5432"];
        let Some(hang) = Hang::new(Form::Plain, "connect", 8, &arguments, further) else { return };
        hang.says("8 of 9 threads wait in connect() to 192.0.2.9:5432 (orders-db)");
        assert_eq!(traced(hang.pid), Vec::<u32>::new());
    });
}

#[test]
fn a_program_in_python_that_waits_for_its_database_names_it() {
    if !require_root() || !require("python3", "/usr/bin/python3") {
        return;
    }
    let database = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = database.local_addr().expect("an address").port();
    let service = Supervised::new();
    let script = service.folder().join("app.py");
    let program = format!(
        "import socket, http.server\n\
         class Handler(http.server.BaseHTTPRequestHandler):\n\
         \x20   def do_GET(self):\n\
         \x20       database = socket.create_connection(('127.0.0.1', {port}))\n\
         \x20       database.sendall(b'SELECT 1')\n\
         \x20       database.recv(10)\n\
         \x20       self.send_response(200)\n\
         \x20       self.end_headers()\n\
         http.server.HTTPServer(('127.0.0.1', {}), Handler).serve_forever()\n",
        service.port
    );
    fs::write(&script, program).expect("the folder can be written");
    let further =
        format!("[[service]]\nname = \"orders-db\"\n[[service.probe]]\ntcp = \"127.0.0.1:{port}\"\n");
    let command = ["/usr/bin/python3".to_owned(), script.display().to_string()];
    let config = config(&service, &command, &further, false);
    // It answers as long as it is asked to, and then takes connections and says nothing.
    let answers = service.folder().join("answers");
    fs::write(&answers, "").expect("the folder can be written");
    std::thread::spawn({
        let answers = answers.clone();
        move || {
            let mut open = Vec::new();
            for mut client in database.incoming().flatten() {
                if answers.exists() && client.read(&mut [0; 8]).is_ok_and(|read| read > 0) {
                    let _ = client.write_all(b"answer");
                } else {
                    open.push(client);
                }
            }
        }
    });
    let daemon = start(&service, &config);
    service.until_healthy(&daemon);
    let pid = service.pid(&daemon);
    fs::remove_file(&answers).expect("it is there");
    let incident = with_stacks(&daemon, &service);
    let said = plain(text(&incident, "incident.stacks.summary"), &[port]);
    assert_eq!(
        said, "1 of 1 thread waits in recvfrom() for data from 127.0.0.1:PORT (orders-db)",
        "{incident:#}"
    );
    assert!(PAGE.contains(&format!("`{said}`")), "docs/design/hangs.md lacks `{said}`");
    assert_eq!(traced(pid), Vec::<u32>::new());
}

#[test]
fn a_busy_loop_is_named_by_its_function() {
    let Some(hang) = Hang::new(Form::FramePointers, "busy", 1, &[], "") else { return };
    hang.says("1 of 2 threads runs in spin() (hangs+0x…)");
    hang.goes_on();
}

#[test]
fn a_thread_in_an_uninterruptible_wait_is_left_alone() {
    let Some(hang) = Hang::new(Form::Plain, "vfork", 1, &[], "") else { return };
    hang.says("1 of 3 threads waits for a child process in vfork()");
    hang.goes_on();
}

#[test]
fn a_file_system_that_does_not_answer_is_named() {
    let Some(mount) = HangingMount::new() else { return };
    let path = mount.path("file").display().to_string();
    let Some(hang) = Hang::new(Form::Plain, "disk", 1, &[&path], "") else { return };
    // It goes first, also if the test fails: nothing ends the program before.
    let _mount = mount;
    hang.says("1 of 2 threads waits for the disk (fuse_get_req, newfstatat())");
    assert_eq!(traced(hang.pid), Vec::<u32>::new());
}

#[test]
fn of_very_many_threads_some_are_looked_at_and_the_rest_is_counted() {
    let Some(hang) = Hang::new(Form::FramePointers, "lock", 199, &[], "") else { return };
    let said = plain(hang.summary(), &[]);
    let begin = "62 of 200 threads wait for a lock (futex) of thread TID in pthread_mutex_lock";
    assert!(said.starts_with(begin) && said.ends_with("136 were not looked at"), "{said}");
    hang.goes_on();
}

#[test]
fn waits_do_not_end_because_threads_were_looked_at() {
    let Some(hang) = Hang::new(Form::FramePointers, "sleep", 9, &[], "") else { return };
    assert!(!hang.service.output().contains("interrupted"), "{}", hang.service.output());
    hang.goes_on();
    assert!(!hang.service.output().contains("interrupted"), "{}", hang.service.output());
}

#[test]
fn the_configuration_turns_stacks_off() {
    let Some(program) = require_root().then(|| HangingProgram::new(Form::Plain)).flatten() else { return };
    let service = Supervised::new();
    let command = program.command(service.port, "lock", 2, &[]);
    let daemon = start(&service, &config(&service, &command, "stacks = false", false));
    service.until_healthy(&daemon);
    program.hang();
    let is_written = |event: &Value| field(event, "incident.snapshot").is_some();
    let update = daemon.wait_for(is_written, LONG);
    assert!(field(&update, "incident.stacks").is_none(), "{update}");
    let snapshot = fs::read_to_string(text(&update, "incident.snapshot")).expect("it is there");
    assert!(!snapshot.contains("== stacks =="), "{snapshot}");
}

#[test]
fn threads_go_on_if_the_daemon_dies_while_it_traces_them() {
    const THREADS: u32 = 60;
    if !require_root() || !require("util-linux", "/usr/bin/chrt") {
        return;
    }
    let Some(program) = HangingProgram::new(Form::FramePointers) else { return };
    let database = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = database.local_addr().expect("an address").port().to_string();
    let service = Supervised::new();
    // Its threads get a CPU last. One that is to stop takes long for it then, and the daemon has it seized meanwhile.
    let mut command: Vec<String> = ["/usr/bin/chrt", "--idle", "0"].map(str::to_owned).to_vec();
    command.extend(program.command(service.port, "call", THREADS, &["127.0.0.1", &port]));
    let mut daemon = start(&service, &config(&service, &command, "", false));
    service.until_healthy(&daemon);
    let pid = service.pid(&daemon);
    program.hang();
    let waiting: Vec<TcpStream> = (0..THREADS).map(|_| database.accept().expect("a thread asks").0).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            });
        }
        let began = Instant::now();
        while traced(pid).is_empty() && began.elapsed() < PATIENCE {}
        daemon.signal(Signal::KILL);
        daemon.wait(LONG);
        done.store(true, Ordering::Relaxed);
        let incidents = || daemon.events().into_iter().filter(|event| field(event, "incident").is_some());
        assert!(began.elapsed() < PATIENCE, "no thread was seized: {:#?}", incidents().collect::<Vec<_>>());
    });
    until("all are released", LONG, || traced(pid).is_empty().then_some(()));
    let is_stopped = |tid: &fs::DirEntry| {
        let status = fs::read_to_string(tid.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:\tt"))
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
    assert_eq!(tasks.filter(is_stopped).count(), 0);
    drop(waiting);
    let answers = || http::get(service.port, "/").is_ok_and(|(status, _)| status == 200);
    until("it serves again", LONG, || answers().then_some(()));
    kill(pid);
}

#[test]
fn a_restart_does_not_wait_longer_than_a_snapshot_may_take() {
    if !require_root() {
        return;
    }
    let mut figures = Vec::new();
    for stacks in [true, false] {
        let Some(program) = HangingProgram::new(Form::Debug) else { return };
        let service = Supervised::new();
        let command = program.command(service.port, "lock", 40, &[]);
        let daemon = start(&service, &config(&service, &command, &format!("stacks = {stacks}"), true));
        service.until_healthy(&daemon);
        program.hang();
        let is_requested = |event: &Value| is(event, "restart.request", &service.name);
        let requested = daemon.wait_for(is_requested, LONG);
        let resolved = |event: &Value| field(event, "incident.timing.acted_ms").is_some();
        let incident = daemon.wait_for(resolved, LONG);
        let millis = |step: &str| field(&incident, step).and_then(Value::as_f64).expect("a time");
        let decided = millis("incident.timing.acted_ms") - millis("incident.timing.decided_ms");
        println!(
            "stacks {stacks}: restarted {decided:.1} ms after the verdict ({})",
            text(&requested, "message")
        );
        figures.push(decided);
        program.go_on();
    }
    // The engine waits for 4 s at most.
    assert!(figures.iter().all(|figure| *figure < 5000.0), "{figures:?}");
}
