//! Jobs report in, over HTTP and by the command, and their silence is an incident that outlives the daemon.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, Mark},
    http::free_port,
    incident_events::{is, text, wait_until_healthy},
    parts::built,
};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const TOKEN: &str = "correct-horse-battery";

fn job(name: &str, more: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\n[[service.probe]]\nheartbeat = \"{name}\"\ninterval = \"100ms\"\n{more}\n"
    )
}

/// The status of a POST with this further header.
fn post(port: u16, name: &str, header: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the daemon listens");
    let request = format!(
        "POST /beat/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n{header}\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the daemon reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the daemon answers");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

fn beat(daemon: &Daemon, name: &str) -> Option<i32> {
    let mut command = Command::new(built("hostprobe"));
    command.args(["beat", name, "--socket"]).arg(daemon.socket());
    command.output().expect("the command runs").status.code()
}

#[test]
fn a_job_that_falls_silent_is_an_incident_until_it_reports_in() {
    let port = free_port();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let token = folder.path().join("token");
    fs::write(&token, TOKEN).expect("a token");
    let closed = format!("every = \"366d\"\ntoken_file = {token:?}");
    let mut daemon = Daemon::start(
        &format!(
            "[http]\nlisten = \"127.0.0.1:{port}\"\n{}{}{}",
            job("hourly", "every = \"1s\""),
            job("by-hand", "every = \"1s\""),
            job("closed", &closed)
        ),
        &[],
    );
    daemon.ready();
    for (name, report) in [("hourly", true), ("by-hand", false)] {
        let failed = daemon.wait_for(|event| is(event, "probe.fail", name), LONG);
        assert_eq!((text(&failed, "probe.type"), text(&failed, "probe.error")), ("heartbeat", "silent"));
        assert!(text(&failed, "probe.detail").contains("never reported in"), "{failed:#}");
        let opened = daemon.wait_for(|event| is(event, "incident.open", name), LONG);
        assert_eq!(text(&opened, "incident.verdict"), "unhealthy");
        let mark = daemon.mark();
        if report {
            assert_eq!(post(port, name, ""), 200);
        } else {
            assert_eq!(beat(&daemon, name), Some(0));
        }
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", name), LONG);
    }
    assert!(daemon.count(|event| is(event, "restart.request", "hourly")) == 0);

    assert_eq!(post(port, "closed", ""), 401);
    assert_eq!(post(port, "closed", "Authorization: Bearer wrong-horse-battery\r\n"), 401);
    assert_eq!(post(port, "closed", &format!("Authorization: Bearer {TOKEN}\r\n")), 200);
    assert_eq!(post(port, "hourly", "Origin: http://evil.example\r\n"), 403);
    assert_eq!(post(port, "no-such-job", ""), 404);
    assert_eq!(beat(&daemon, "no-such-job"), Some(1));
    assert!(daemon.lines().iter().all(|line| !line.contains(TOKEN)) && !daemon.log().contains(TOKEN));
    daemon.stop();
}

#[test]
fn the_latest_report_outlives_the_daemon() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let config = format!(
        "[http]\nlisten = \"\"\n[state]\ndirectory = {:?}\n{}",
        state.path(),
        job("job", "every = \"2s\"")
    );
    let mut first = Daemon::start(&config, &[]);
    first.ready();
    assert_eq!(beat(&first, "job"), Some(0));
    first.stop();
    let mut second = Daemon::start(&config, &[]);
    second.ready();
    wait_until_healthy(&second, "job");
    let failed = second.wait_for_after(Mark::default(), |event| is(event, "probe.fail", "job"), LONG);
    let why = text(&failed, "probe.detail");
    assert!(why.starts_with("job has not reported in for ") && why.contains(", since 20"), "{why}");
    second.stop();
}
