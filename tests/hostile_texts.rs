//! Names and answers that others choose: no output obeys them, and none repeats a secret of the configuration.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    http::{self, free_port},
    incident_events::{is, listening_pid, text, wait_until_healthy},
    parts::{built, require_root},
    process::Running,
    program::ProgramCopy,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

const LONG: Duration = Duration::from_secs(30);

/// Clears the screen, rings, begins a line, and writes from right to left. A process's name has 15 bytes.
const NAME: &str = "\u{1b}[2J\u{7}\r\n\u{202e}k";

/// The same and a C1 control, in a server's error.
const ERROR: &str = "ERR \u{1b}[2J\u{7}\u{9b}31m\u{202e}\r\u{b}hostile";

/// A server that answers every request with `answer` of it.
fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let request = read(&mut stream);
            // A client that went away misses it.
            let _ = stream.write_all(answer(&request).as_bytes());
        }
    });
    port
}

/// What the client sends at once.
fn read(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 64 << 10];
    let read = stream.read(&mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

/// A copy of a program under the hostile name.
fn hostile(folder: &Path, program: &Path) -> PathBuf {
    let copy = folder.join(NAME);
    // Another test's child could inherit a file that this process writes, and keep it from being executed.
    let copied = Command::new("/bin/cp").arg(program).arg(&copy).status();
    assert!(copied.is_ok_and(|status| status.success()), "the program is copied");
    copy
}

/// Insists that a terminal shows these bytes and obeys none of them.
#[track_caller]
fn harmless(what: &str, bytes: &[u8]) {
    let shown = String::from_utf8_lossy(bytes);
    let obeyed = |char: char| char != '\n' && char.is_control() || "\u{202e}\u{2066}\u{2028}".contains(char);
    assert!(!shown.contains(obeyed), "{what}: {shown:?}");
}

/// The commands that `--help` lists.
fn commands() -> BTreeSet<String> {
    let help = Command::new(built("hostprobe")).arg("--help").output().expect("it runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let (_, list) = help.split_once("Commands:\n").expect("a list");
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn no_command_has_a_terminal_obey_a_name_or_an_answer() {
    if !require_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = serve(|_| format!("-{ERROR}\r\n"));
    let port = free_port();
    let program = Victim::program();
    let daemon = Daemon::start(
        &format!(
            r#"
            [http]
            listen = "127.0.0.1:{page}"
            [[service]]
            name = "api"
            exec = ["{program}", "--port", "{port}"]
            output = "/dev/null"
            [[service.probe]]
            http = "http://127.0.0.1:{port}/health"
            interval = "200ms"
            [service.restart]
            grace = "1s"
            [[service]]
            name = "cache"
            [[service.probe]]
            redis = "redis://127.0.0.1:{server}"
            interval = "200ms"
            failures = 1
            "#,
            page = free_port(),
            program = program.display(),
        ),
        &[],
    );
    daemon.ready();
    wait_until_healthy(&daemon, "api");
    let main = listening_pid(&daemon, "api").to_string();
    let killer = tempfile::tempdir().expect("a temporary folder");
    let killer = hostile(killer.path(), Path::new("/bin/sh"));
    let killed = Command::new(&killer).args(["-c", &format!("kill -9 {main}")]).status();
    assert!(killed.is_ok_and(|status| status.success()), "it kills");
    let opened = daemon.wait_for(|event| is(event, "incident.open", "api"), LONG);
    let failed = daemon.wait_for(|event| is(event, "incident.open", "cache"), LONG);
    assert!(text(&opened, "incident.summary").contains(NAME), "the stream has it as it is: {opened:#}");

    // Something that discovery finds.
    let victim_folder = tempfile::tempdir().expect("a temporary folder");
    let mut listening = Command::new(hostile(victim_folder.path(), &program));
    let listening = Running::start(listening.args(["--port", &free_port().to_string()]), Signal::KILL);
    listening.wait_until_it_says("listening on", &listening.stdout, LONG);

    let bad = folder.path().join(std::ffi::OsStr::from_bytes(b"bad\x1b[2J\n.toml"));
    fs::write(&bad, "[[service]]\nname = \"\u{1b}\u{202e}\"\n\"\u{9b}k\" = \"\u{7}\"\n")
        .expect("it is written");
    let (socket, state) = (daemon.socket(), daemon.state());
    let socket = socket.to_str().expect("a path");
    let ids = [text(&opened, "incident.id"), text(&failed, "incident.id")];
    let paths = [bad.as_os_str().to_owned(), state.into_os_string()];
    let run = |arguments: &[&str], path: Option<usize>| -> Output {
        let mut command = Command::new(built("hostprobe"));
        command.args(arguments).args(path.map(|at| &paths[at])).output().expect("it runs")
    };
    // The configuration of a replay must be a good one.
    let copy = ProgramCopy::new();
    let good = copy.file("good.toml", b"[[service]]\nname = \"api\"\nexec = [\"/bin/true\"]\n");
    let good = good.to_str().expect("a path");
    let walk: Vec<(&str, Output, bool)> = vec![
        ("status", run(&["status", "--socket", socket], None), true),
        ("status", run(&["status", "--json", "--socket", socket], None), false),
        ("events", run(&["events", "--events"], Some(0)), true),
        ("incidents", run(&["incidents", "--socket", socket], None), true),
        ("incidents", run(&["incidents", "--json", "--socket", socket], None), false),
        ("explain", run(&["explain", ids[0], "--socket", socket], None), true),
        ("explain", run(&["explain", ids[1], "--socket", socket], None), true),
        ("explain", run(&["explain", NAME, "--socket", socket], None), false),
        ("stop", run(&["stop", NAME, "--socket", socket], None), true),
        ("start", run(&["start", NAME, "--socket", socket], None), true),
        ("restart", run(&["restart", NAME, "--socket", socket], None), true),
        ("pause", run(&["pause", NAME, "--socket", socket], None), true),
        ("resume", run(&["resume", NAME, "--socket", socket], None), true),
        ("ack", run(&["ack", NAME, "--socket", socket], None), true),
        ("alert", run(&["alert", "test", NAME, "--socket", socket], None), true),
        ("beat", run(&["beat", NAME, "--socket", socket], None), false),
        ("drill", run(&["drill", NAME, "--yes", "--socket", socket], None), true),
        ("report", run(&["report", "--socket", socket], None), false),
        ("report", run(&["report", "--json", "--socket", socket], None), false),
        ("check", run(&["check"], Some(0)), true),
        ("run", run(&["run", "--config"], Some(0)), true),
        ("reload", run(&["reload", "--config"], Some(0)), true),
        ("replay", run(&["replay", "--config", good], Some(1)), false),
        ("fleet", run(&["fleet", "status", "--config"], Some(0)), true),
        ("discover", run(&["discover"], None), true),
        ("doctor", run(&["doctor"], None), false),
        ("schema", run(&["schema", "events"], None), false),
        ("completions", run(&["completions", "zsh"], None), false),
        ("help", run(&["help"], None), false),
    ];
    for (command, output, names) in &walk {
        harmless(command, &output.stdout);
        harmless(command, &output.stderr);
        let shown = [&output.stdout[..], &output.stderr].concat();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        let escaped = shown.contains(r"\u{1b}") || shown.contains(r"\u001b");
        assert!(!names || escaped, "{command} does not show the name: {shown}");
    }
    let walked: BTreeSet<String> = walk.iter().map(|(command, ..)| (*command).to_owned()).collect();
    assert_eq!(walked, commands(), "every command is in the walk");
    harmless("the log", daemon.log().as_bytes());
    for line in daemon.lines() {
        harmless("the stream", line.as_bytes());
    }
}

/// Whether a text has a secret in one of the forms in which a server repeats it.
fn leaks(text: &str) -> Option<&'static str> {
    [PASSWORD, "Zx8%21pass", "Wng4IXBhc3N3b3Jk", "Zx8\\u0021", TOKEN, HOOK_PASSWORD, "aG9vay1wYXNz"]
        .into_iter()
        .find(|form| text.contains(form))
}

const PASSWORD: &str = "Zx8!password";
const TOKEN: &str = "T0KEN-77-path";
const HOOK_PASSWORD: &str = "hook-pass-phrase";

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.flat_map(|it| if it.path().is_dir() { files(&it.path()) } else { vec![it.path()] }).collect()
}

#[test]
fn a_secret_that_a_server_or_a_receiver_repeats_is_shown_nowhere() {
    if !require_root() {
        return;
    }
    let line = |request: &str| request.replace(['\r', '\n'], " ");
    // It repeats the command with the password, percent-encoded and in Base64 too.
    let server = serve(move |request| {
        format!("-ERR no {} Zx8%21password Zx8\\u0021password dTpaeDghcGFzc3dvcmQ=\r\n", line(request))
    });
    let receiver = serve(|request| {
        let answer = format!("you sent {request}");
        format!("HTTP/1.1 400 No\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}", answer.len())
    });
    let page = free_port();
    let mut daemon = Daemon::start_with(
        &format!(
            r#"
            [http]
            listen = "127.0.0.1:{page}"
            [[alert]]
            webhook = "http://hook:{HOOK_PASSWORD}@127.0.0.1:{receiver}/hooks/{TOKEN}"
            min_severity = "info"
            [[service]]
            name = "cache"
            [[service.probe]]
            redis = "redis://u:${{CACHE_PASSWORD}}@127.0.0.1:{server}"
            interval = "200ms"
            failures = 1
            "#
        ),
        &[],
        |command| command.env("CACHE_PASSWORD", PASSWORD),
    );
    daemon.ready();
    let opened = daemon.wait_for(|event| is(event, "incident.open", "cache"), LONG);
    let refused = daemon.wait_for(|event| event_action(event) == "alert.fail", LONG);
    assert!(opened.to_string().contains("***"), "the server's answer is shown: {opened:#}");
    assert!(refused.to_string().contains("***"), "the receiver's answer is shown: {refused:#}");
    let socket = daemon.socket();
    let ask = |arguments: &[&str]| {
        let output = Command::new(built("hostprobe")).args(arguments).arg("--socket").arg(&socket).output();
        String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
    };
    let mut texts = vec![
        ("status", ask(&["status"])),
        ("incidents", ask(&["incidents", "--json"])),
        ("explain", ask(&["explain", text(&opened, "incident.id"), "--json"])),
    ];
    for path in ["/health", "/api/v1/status", "/api/v1/incidents", "/metrics"] {
        texts.push((path, http::get(page, path).expect("an answer").1));
    }
    assert!(texts.iter().all(|(_, text)| !text.is_empty()));
    let state = daemon.state();
    daemon.stop();
    texts.push(("the log", daemon.log()));
    texts.push(("the stream", daemon.lines().join("\n")));
    for file in files(&state) {
        texts.push(("the state", String::from_utf8_lossy(&fs::read(file).expect("it is ours")).into_owned()));
    }
    assert!(texts.iter().any(|(what, _)| *what == "the state"), "there is a recording");
    for (what, text) in texts {
        assert_eq!(leaks(&text), None, "{what}: {text}");
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    if !hostprobe_tests::parts::require("prometheus", "/usr/bin/promtool") || !require_root() {
        return;
    }
    let page = free_port();
    let daemon = Daemon::start(&format!("[http]\nlisten = \"127.0.0.1:{page}\"\n"), &[]);
    daemon.ready();
    let (status, metrics) = http::get(page, "/metrics").expect("an answer");
    assert_eq!(status, 200);
    for name in ["process_cpu_seconds_total", "process_open_fds", "process_start_time_seconds"] {
        assert!(metrics.contains(&format!("\n{name} ")), "{name}: {metrics}");
    }
    let mut promtool = Command::new("/usr/bin/promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    promtool.stdin.take().expect("a pipe").write_all(metrics.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_reload_says_what_it_changed_what_needs_a_restart_and_what_is_refused() {
    if !require_root() {
        return;
    }
    let daemon = Daemon::start("[http]\nlisten = \"\"\n", &[]);
    daemon.ready();
    let reload = || {
        let output =
            Command::new(built("hostprobe")).args(["reload", "--socket"]).arg(daemon.socket()).output();
        let output = output.expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let event = |outcome: &str| {
        let found =
            |event: &Value| event_action(event) == "agent.reload" && text(event, "event.outcome") == outcome;
        daemon.wait_for(found, LONG)
    };
    assert_eq!(reload(), (Some(0), "the configuration has not changed\n".to_owned()));
    event("success");
    daemon.rewrite("[http]\nlisten = \"\"\n[snapshots]\nkeep = 3\n");
    assert_eq!(reload(), (Some(0), "changed: snapshots\n".to_owned()));
    daemon.rewrite("[http]\nlisten = \"\"\n[snapshots]\nkeep = 3\n[kernel]\nbulk_ring = \"2MiB\"\n");
    for _ in 0..2 {
        let needs_restart = "restart hostprobe to change: kernel.bulk_ring\n".to_owned();
        assert_eq!(reload(), (Some(0), needs_restart), "also when it is asked again");
    }
    let warns = |event: &Value| event_action(event) == "agent.reload" && text(event, "log.level") == "warn";
    daemon.wait_for(warns, LONG);
    daemon.rewrite("[http]\nlisten = \"\"\nport = 1\n");
    let (status, said) = reload();
    assert!(status == Some(2) && said.contains(":3:1: unknown key `port`"), "{said}");
    assert_eq!(text(&event("failure"), "log.level"), "error");
}
