//! Clients and readers of the daemon that mean it no good: its page and its stream stay of use to others, and its services
//! are watched and restarted meanwhile.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use hostprobe_tests::{
    daemon::Daemon,
    http::{self, free_port},
    incident_events::{IncidentEvents, is, number},
    parts::require_root,
    process::{kill, until, with_argument},
    storm::{Manner, Storm},
    supervised::Supervised,
};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat, openat},
    process::Signal,
};
use serde_json::Value;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(60);

/// The limit that many systems give by default.
const DESCRIPTORS: &str = "--nofile=1024:1024";

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the daemon lives").count()
}

#[test]
fn half_sent_requests_prevent_neither_a_restart_nor_the_answers_to_others() {
    if !require_root() {
        return;
    }
    let (service, page) = (Supervised::new(), free_port());
    let config = service.config("").replace("listen = \"\"", &format!("listen = \"127.0.0.1:{page}\""));
    let mut daemon = Daemon::start_under(&["/usr/bin/prlimit", DESCRIPTORS], &config, &[]);
    daemon.ready();
    service.until_healthy(&daemon);
    let address = SocketAddr::from(([127, 0, 0, 1], page));
    let mut half_sent = Vec::new();
    for _ in 0..1500 {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { continue };
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Half: ");
        half_sent.push(stream);
    }
    assert!(half_sent.len() > 1000, "only {} connections were made", half_sent.len());
    assert!(descriptors(daemon.pid()) < 200, "{} descriptors are open", descriptors(daemon.pid()));
    let mark = daemon.mark();
    service.kill(&daemon);
    let events = IncidentEvents::of(&daemon, mark, &service.name);
    assert_eq!(number(events.one("restart.request"), "restart.attempt"), Some(1));
    let (status, _) = http::get(page, "/health").expect("others are answered");
    assert_eq!(status, 200);
    // It ends the service.
    daemon.signal(Signal::TERM);
    daemon.wait(LONG);
}

/// Deaths while the stream is not read. Each is a line of about a kilobyte; the queue has room for 8 MiB.
const DEATHS: u64 = 40_000;

#[test]
fn a_reader_that_blocks_loses_neither_an_incident_nor_a_restart() {
    if !require_root() {
        return;
    }
    let (service, page) = (Supervised::new(), free_port());
    let folder = TempDir::new().expect("a temporary folder");
    let stream = folder.path().join("stream");
    mknodat(CWD, &stream, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO can be made");
    let reader = openat(CWD, &stream, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).expect("its reader");
    let config = service.config(&format!(
        "[kernel]\nunwatched_exits_per_second = 1000000\n[events]\noutput = {:?}\n",
        stream.display().to_string()
    ));
    let config = config.replace("listen = \"\"", &format!("listen = \"127.0.0.1:{page}\""));
    let mut daemon = Daemon::start_to_file(&config, &[]);
    let healthy = || http::get(page, "/health").is_ok_and(|(status, _)| status == 200);
    until("the service is healthy", LONG, || healthy().then_some(()));

    let mut storm = Storm::of(Manner::Signals, DEATHS);
    storm.begin();
    storm.process.wait(LONG);
    let victim = service.port.to_string();
    let pid = || with_argument(&victim).into_iter().next();
    let before = until("the service runs", LONG, pid);
    kill(before);
    until("the service runs again", LONG, || pid().filter(|now| *now != before));
    until("the service is healthy again", LONG, || healthy().then_some(()));

    // Now the reader reads.
    fcntl_setfl(&reader, OFlags::empty()).expect("its flags");
    let reading = std::thread::spawn(move || std::io::read_to_string(File::from(reader)).expect("UTF-8"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(daemon.stop().code(), Some(0));
    let text = reading.join().expect("the reader ends");
    let events: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is an event")).collect();
    for action in ["incident.open", "restart.request", "restart.done", "incident.resolve"] {
        assert!(events.iter().any(|event| is(event, action, &service.name)), "{action} is lost");
    }
    let lost = |class: &str| -> u64 {
        let of_class = |event: &&Value| event["loss"]["class"] == class;
        events.iter().filter(of_class).filter_map(|event| event["loss"]["count"].as_u64()).sum()
    };
    assert!(lost("events") > 0, "the storm was too small");
    assert_eq!(lost("essential_events"), 0);
    let last = events.last().and_then(|event| event["event"]["sequence"].as_u64()).expect("a number");
    assert_eq!(events.len() as u64 + lost("events"), last, "what is lost is counted");
}
