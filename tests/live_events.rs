//! The event stream as it grows: `hostprobe events`, and server-sent events over HTTP.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    http::{self, free_port},
    incident_events::{number, text},
    operator::{Home, action, ask, said},
    parts::{built, require_root},
    process::{Running, until},
    supervised::Supervised,
};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that supervises a service and serves HTTP, and where it may be asked.
struct Watched {
    home: Home,
    service: Supervised,
    port: u16,
    config: String,
}

impl Watched {
    fn new() -> Self {
        let (home, service, port) = (Home::new(), Supervised::new(), free_port());
        let config =
            home.supervising(&service).replace("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\""));
        Self { home, service, port, config }
    }

    fn daemon(&self) -> Daemon {
        let daemon = Daemon::start(&self.config, &[]);
        self.service.until_healthy(&daemon);
        daemon
    }

    /// Has an event published with this reason.
    fn remark(&self, reason: &str) {
        self.home.done(&["pause", &self.service.name, "--for", "1h", "--reason", reason]);
    }

    fn follow(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(built("hostprobe"));
        command.args(["events", "--follow"]).args(arguments);
        Running::start(command.arg("--socket").arg(self.home.path("control.sock")), Signal::KILL)
    }
}

/// A client of `/events`.
struct Stream {
    lines: BufReader<TcpStream>,
}

/// What a client gets: the id of an event, its type if it has one, and its data.
#[derive(Debug, PartialEq)]
struct Sent {
    id: Option<String>,
    kind: Option<String>,
    data: Value,
}

impl Stream {
    /// Opens the stream, after the event with this id, and waits until it is open.
    fn open(port: u16, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        write!(stream, "GET /events HTTP/1.1\r\nHost: localhost\r\n{last}\r\n").expect("it reads");
        let mut stream = Self { lines: BufReader::new(stream) };
        let status = stream.line();
        assert!(status.contains("200"), "{status}");
        while !stream.line().is_empty() {}
        stream
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it goes on");
        line.trim_end().to_owned()
    }

    /// The next event. The frames of HTTP's chunks and comments are skipped.
    fn next(&mut self) -> Sent {
        let mut sent = Sent { id: None, kind: None, data: Value::Null };
        loop {
            let line = self.line();
            match line.split_once(": ") {
                Some(("id", id)) => sent.id = Some(id.to_owned()),
                Some(("event", kind)) => sent.kind = Some(kind.to_owned()),
                Some(("data", data)) => sent.data = serde_json::from_str(data).expect("JSON"),
                _ if line.is_empty() && !sent.data.is_null() => return sent,
                _ => {}
            }
        }
    }

    fn until(&mut self, reason: &str) -> Vec<Sent> {
        let mut all = Vec::new();
        loop {
            all.push(self.next());
            if all.last().is_some_and(|sent| text(&sent.data, "event.reason") == reason) {
                return all;
            }
        }
    }
}

#[test]
fn a_page_sees_each_event_and_misses_none_when_it_comes_back() {
    if !require_root() {
        return;
    }
    let watched = Watched::new();
    let daemon = watched.daemon();
    let mut stream = Stream::open(watched.port, None);
    watched.remark("first");
    let seen = stream.until("first");
    let last = seen.last().and_then(|sent| sent.id.clone()).expect("an id");
    assert_eq!(last, text(&seen.last().expect("an event").data, "event.id"));
    drop(stream);
    watched.remark("while it was away");
    watched.remark("second");
    let mut stream = Stream::open(watched.port, Some(&last));
    let missed = stream.until("second");
    let sequences: Vec<i64> =
        missed.iter().map(|sent| number(&sent.data, "event.sequence").expect("a number")).collect();
    let before = number(&seen.last().expect("an event").data, "event.sequence").expect("a number");
    assert_eq!(sequences, (before + 1..=before + sequences.len() as i64).collect::<Vec<_>>());
    assert!(missed.iter().any(|sent| text(&sent.data, "event.reason") == "while it was away"), "{missed:?}");

    // What it gets is what the daemon writes, in the same order.
    let latest = &missed.last().expect("an event").data;
    daemon.wait_for(|event| event == latest, PATIENCE);
    let events = daemon.events();
    for sent in seen.iter().chain(&missed) {
        assert!(events.contains(&sent.data), "{:#}", sent.data);
    }
}

#[test]
fn a_page_that_comes_back_to_another_run_of_the_daemon_is_told() {
    if !require_root() {
        return;
    }
    let watched = Watched::new();
    let _daemon = watched.daemon();
    for id in ["00000000-1", "nonsense"] {
        let sent = Stream::open(watched.port, Some(id)).next();
        assert_eq!((sent.kind.as_deref(), &sent.data), (Some("missed"), &serde_json::json!({})), "{id}");
    }
}

#[test]
fn pages_that_watch_leave_room_for_questions() {
    if !require_root() {
        return;
    }
    let watched = Watched::new();
    let daemon = watched.daemon();
    let mut streams: Vec<Stream> = (0..16).map(|_| Stream::open(watched.port, None)).collect();
    let (status, why) = http::get(watched.port, "/events").expect("an answer");
    assert_eq!(status, 503, "{why}");
    assert_eq!(http::get(watched.port, "/livez").expect("an answer").0, 200);
    watched.remark("to all");
    for stream in &mut streams {
        stream.until("to all");
    }
    // One that goes away leaves its place.
    streams.pop();
    until("a free place", PATIENCE, || {
        http_status(watched.port, "/events").is_ok_and(|it| it == 200).then_some(())
    });
    drop(daemon);
}

/// The status of an answer that has no end.
fn http_status(port: u16, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default())
}

#[test]
fn a_person_follows_the_events_over_a_restart_of_the_daemon() {
    if !require_root() {
        return;
    }
    let watched = Watched::new();
    let mut daemon = watched.daemon();
    let all = watched.follow(&["--json"]);
    let commands = watched.follow(&["--action", "operator", "--service", &watched.service.name]);
    // They are there once they show something.
    until("both watch", PATIENCE, || {
        watched.remark("begun");
        (!all.stdout.all().is_empty() && !commands.stdout.all().is_empty()).then_some(())
    });
    assert!(daemon.stop().success());
    let ended = "the daemon ended; waiting for the next one";
    all.wait_until_it_says(ended, &all.stderr, PATIENCE);
    commands.wait_until_it_says(ended, &commands.stderr, PATIENCE);
    let daemon = watched.daemon();
    until("they watch again", PATIENCE, || {
        watched.remark("again");
        let again = |of: &Running| of.stdout.all().iter().any(|line| line.contains("again"));
        (again(&all) && again(&commands)).then_some(())
    });
    let shown = commands.stdout.all();
    assert!(shown.iter().all(|line| line.contains(" operator.command ")), "{shown:#?}");
    let events: Vec<Value> =
        all.stdout.all().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(events.iter().any(|event| event_action(event) == "agent.stop"), "{events:#?}");
    daemon.wait_for(action("operator.command"), PATIENCE);
}

#[test]
fn past_events_are_read_from_where_the_daemon_writes_them() {
    if !require_root() {
        return;
    }
    let watched = Watched::new();
    let output = watched.home.path("events.ndjson");
    let config = format!("[events]\noutput = {:?}\n{}", output.display().to_string(), watched.config);
    let file = watched.home.path("hostprobe.toml");
    std::fs::write(&file, &config).expect("it is written");
    let _daemon = Daemon::start_to_file(&config, &[]);
    until("it is well", PATIENCE, || {
        let status = ask(&file, &["status", "--json"]);
        String::from_utf8_lossy(&status.stdout).contains("\"healthy\"").then_some(())
    });
    let name = &watched.service.name;
    watched.remark("noted");
    let lines = |words: &[&str]| -> Vec<String> {
        said(&ask(&file, &[&["events"], words].concat())).lines().map(str::to_owned).collect()
    };
    until("it is written", PATIENCE, || {
        lines(&["--json"]).iter().any(|line| line.contains("\"noted\"")).then_some(())
    });
    let written = std::fs::read_to_string(&output).expect("the file");
    // The last line may be written at the moment.
    let (written, _) = written.rsplit_once('\n').expect("whole lines");
    let all = lines(&["--json"]);
    assert!(written.lines().zip(&all).all(|(written, shown)| written == shown));
    let states = lines(&["--action", "service.state", "--service", name]);
    assert!(
        !states.is_empty()
            && states.iter().all(|line| line.contains(name) && line.contains(" service.state "))
    );
    let refused = ask(&file, &["events", "--action", "dance"]);
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && complaint.contains("incident.open"), "{complaint}");
    let none = ask(&file, &["events", "--service", "nobody"]);
    assert!(none.status.success() && String::from_utf8_lossy(&none.stderr).contains("has no such events"));
}
