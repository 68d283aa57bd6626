//! The control socket: who may give commands over it, whom a command names, and what hostile clients cost.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use hostprobe_tests::{
    daemon::{Daemon, Mark, event_action},
    incident_events::text,
    operator::{GROUP, Home, action, becomes, commanded},
    parts::{built, require_root},
    program::{NOBODY, ProgramCopy},
    supervised::Supervised,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_command_names_the_user_who_logged_in_besides_the_user_who_gave_it() {
    if !require_root() {
        return;
    }
    // What pam_loginuid writes at a login. `sudo` keeps it.
    const LOGIN: &str = "echo 65534 > /proc/self/loginuid && exec \"$0\" \"$@\"";
    let (home, service) = (Home::new(), Supervised::new());
    let daemon = Daemon::start(&home.supervising(&service), &[]);
    service.until_healthy(&daemon);
    let name = service.name.as_str();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", LOGIN]).arg(built("hostprobe")).args(["pause", name, "--reason", "mine", "--socket"]);
    let output = command.arg(home.path("control.sock")).output().expect("a shell");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let event = commanded(&daemon, Mark::default(), "pause", "mine");
    assert_eq!(
        (text(&event, "operator.login.id"), text(&event, "operator.login.name")),
        ("65534", "nobody"),
        "{event}"
    );
    assert_eq!(home.status(name)["orders"][0]["by"], "nobody (as root)");
    let shown = home.done(&["status"]);
    assert!(shown.contains("paused by nobody (as root) ") && shown.contains(": mine"), "{shown}");
}

/// Gives a command as nobody, with this group besides its own.
fn as_nobody(copy: &ProgramCopy, group: u32, socket: &Path, words: &[&str]) -> Output {
    let program = copy.program(words[0]);
    let mut command = Command::new("/usr/bin/setpriv");
    command
        .args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), format!("--groups={group}")])
        .arg("--")
        .arg(program.get_program())
        .args(words)
        .arg("--socket")
        .arg(socket);
    command.output().expect("setpriv can be run")
}

#[test]
fn members_of_the_group_may_give_commands_and_others_may_not() {
    if !require_root() {
        return;
    }
    let (home, service, copy) = (Home::new(), Supervised::new(), ProgramCopy::new());
    let config = home.supervising(&service);
    let daemon = Daemon::start(&config, &[]);
    service.until_healthy(&daemon);
    let socket = home.path("control.sock");
    let file = fs::metadata(&socket).expect("the socket");
    assert_eq!((file.mode() & 0o777, file.gid()), (0o660, GROUP.1));

    let name = service.name.as_str();
    let words = ["pause", name, "--for", "5m", "--reason", "mine"];
    let refused = as_nobody(&copy, NOBODY, &socket, &words);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("may only be used by"), "{refused:?}");
    assert_eq!(daemon.count(action("operator.command")), 0);

    let done = as_nobody(&copy, GROUP.1, &socket, &words);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let event = daemon.wait_for(action("operator.command"), PATIENCE);
    assert_eq!((text(&event, "user.id"), text(&event, "user.name")), (NOBODY.to_string().as_str(), "nobody"));
    let orders = home.status(name)["orders"].clone();
    assert_eq!((&orders[0]["by"], &orders[0]["reason"]), (&"nobody".into(), &"mine".into()));
    let output = as_nobody(&copy, GROUP.1, &socket, &["restart", name]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// The answer to a line on the socket. Empty if the daemon closes the connection first.
fn ask(socket: &Path, line: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("the socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // The daemon closes the connection in the middle of a line that is too long.
    let _ = stream.write_all(line);
    let mut answer = String::new();
    let _ = BufReader::new(stream).read_line(&mut answer);
    answer
}

#[test]
fn a_reload_names_its_operator_and_reason() {
    if !require_root() {
        return;
    }
    let home = Home::new();
    let daemon = Daemon::start(&home.config(""), &[]);
    daemon.ready();
    let mark = daemon.mark();
    home.done(&["reload", "--reason", "a new receiver"]);
    commanded(&daemon, mark, "reload", "a new receiver");
    daemon.wait_for_after(mark, action("agent.reload"), PATIENCE);
}

#[test]
fn hostile_requests_are_bounded() {
    if !require_root() {
        return;
    }
    let (home, service) = (Home::new(), Supervised::new());
    let daemon = Daemon::start(&home.supervising(&service), &[]);
    service.until_healthy(&daemon);
    let (socket, name) = (home.path("control.sock"), service.name.as_str());
    let pause = |more: &str| {
        format!(
            "{{\"command\":\"operate\",\"operation\":\"pause\",\"target\":{{\"service\":{name:?}}}{more}}}\n"
        )
    };

    // What is no request is refused, whatever it is made of, and changes nothing.
    let long = format!(",\"reason\":\"{}\"", "x".repeat(501));
    for line in [
        b"\n".to_vec(),
        vec![0; 4096],
        vec![b'['; 1 << 20],
        format!("{}\n", "[".repeat(4000)).into_bytes(),
        b"{\"command\":\"operate\"}\n".to_vec(),
        pause(",\"uid\":0").into_bytes(),
        pause(",\"seconds\":-1").into_bytes(),
        pause(",\"seconds\":1e99").into_bytes(),
        pause(&long).into_bytes(),
        b"{\"command\":\"operate\",\"operation\":\"stop\",\"target\":\"all\"}\n".to_vec(),
        b"{\"command\":\"operate\",\"operation\":\"ack\",\"target\":{\"service\":\"x\"}}\n".to_vec(),
    ] {
        let answer = ask(&socket, &line);
        let start = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        // A client that still writes when the daemon closes may miss its words.
        assert!(answer.contains("\"error\"") || answer.is_empty() && line.len() > 4096, "{start}: {answer}");
    }
    assert_eq!(daemon.count(action("operator.command")), 0);

    // A reason from outside obeys no terminal and breaks no event. The longest pause there is can be ended.
    let reason = ",\"reason\":\"\\u001b[2J\\n{}\",\"seconds\":18446744073709551615";
    let answer = ask(&socket, pause(reason).as_bytes());
    assert!(answer.contains("\"done\""), "{answer}");
    let shown = home.done(&["status"]);
    assert!(shown.contains("paused by root") && !shown.contains('\u{1b}'), "{shown}");
    home.done(&["resume", name]);
    assert_eq!(home.status(name)["orders"], Value::Null);

    // Clients that say nothing keep the others waiting for a bounded time.
    let idle: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&socket).expect("the queue")).collect();
    home.done(&["status"]);
    drop(idle);

    // Commands without end, from many clients: the rest of the daemon goes on, and the stream stays small.
    let mark = daemon.mark();
    let begun = Instant::now();
    let lasts = Duration::from_secs(3);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while begun.elapsed() < lasts {
                    ask(&socket, pause("").as_bytes());
                }
            });
        }
        service.kill(&daemon);
        daemon.wait_for_after(mark, action("incident.open"), lasts);
    });
    let took = begun.elapsed().as_secs_f64();
    let commands =
        daemon.since(mark).iter().filter(|event| event_action(event) == "operator.command").count();
    assert!(commands > 0 && (commands as f64) < 10.0 * took + 5.0, "{commands} in {took:.1} s");
    home.done(&["resume", name]);
    daemon.wait_for_after(mark, becomes(name, "healthy"), PATIENCE);
}
