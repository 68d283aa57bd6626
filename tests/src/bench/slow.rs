//! Slow answers of services that are well: none of them may be taken for a hang.

use std::{
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::section::{Effort, Row, Section, Unit};
use crate::{
    daemon::{Daemon, event_action},
    http::{self, free_port},
    incident_events::{is, time_of, wait_until_healthy},
    slow_service::{Pace, Seen, Takes, WaitsFor, command, other_server},
};

/// After so many answers at once the time of a slow one is forgotten: the probe asks a second time as soon as ever.
const PACE: Pace = Pace { at_once: 14, late: (200, 950) };

const PATIENCE: Duration = Duration::from_millis(250);

/// Between two readings of the recording; also far more than a restart takes.
const PAUSE: Duration = Duration::from_secs(10);

const METHOD: &str = "Services that are well are slow now and then, and one daemon probes all of them every 100 ms with a timeout of \
1 s, all else as by default. After 14 answers at once a service is late for a time between 200 and 950 ms, each as likely: what it is asked \
meanwhile, also a second time, is answered when that is over. They take requests in three ways: each at once on a thread of its \
own; accepted at once and read when the only worker is free; accepted when the only thread is free. What keeps the answer, or the \
worker from taking the request, is one of six: a sleep, a lock with a time limit, a lock that another thread releases after its sleep, \
an event loop that waits for its timer, a child process, or another server that hostprobe does not watch. A seventh computes. The \
daemon's recording says how late the answers came and what it saw while two attempts waited. At last each kind of service really \
hangs, one after the other, as a control.";

pub fn measure(effort: Effort) -> Result<Section> {
    let wanted = effort.pick(10_000, 200);
    let folder = TempDir::new()?;
    let services = services(effort.pick(3, 1));
    let state = folder.path().join("state");
    let daemon = start(&services, folder.path(), &state);
    let mut seen = Seen::default();
    while seen.late.len() < wanted {
        thread::sleep(PAUSE);
        seen = Seen::read(&state, PATIENCE)?;
        eprintln!("{} slow answers", seen.late.len());
    }
    let asked = |event: &serde_json::Value| event_action(event) == "restart.request";
    let restarts = daemon.count(asked);
    let mut found = Vec::new();
    for takes in Takes::ALL {
        let service = services.iter().find(|it| it.takes == takes).context("there is one of each")?;
        let mark = daemon.mark();
        let began = SystemTime::now();
        http::get(service.port, "/hang")?;
        let request = daemon.wait_for_after(mark, |event| is(event, "restart.request", &service.name), PAUSE);
        found.push(time_of(&request).duration_since(began)?.as_nanos() as f64);
    }
    let false_proofs = seen.waiting.iter().filter(|(_, seen)| seen.is_stuck_before_timeout()).count();
    let late = seen.late.len();
    let rows = vec![
        Row::new("slow answers of services that are well: restarts", Unit::Count)
            .of("hostprobe", &[restarts as f64])
            .target("0", format!("{restarts} in {late} answers"), restarts == 0)
            .note(
                "Counted are right answers after more than 250 ms, when the probe has asked a second time.",
            ),
        Row::new("slow answers of services that are well: examinations that show a hang", Unit::Count)
            .of("hostprobe", &[false_proofs as f64])
            .target("0", format!("{false_proofs} in {} examinations", seen.waiting.len()), false_proofs == 0)
            .note("Each is begun while two attempts wait. An answer that takes less than 560 ms comes meanwhile."),
        Row::new("the same services hang → restart requested", Unit::Nanoseconds).of("hostprobe", &found),
    ];
    Ok(Section {
        name: "slow".to_owned(),
        title: "Slow answers of services that are well".to_owned(),
        method: METHOD.to_owned(),
        rows,
        further: String::new(),
        unmeasured: Vec::new(),
    })
}

struct Slow {
    name: String,
    port: u16,
    takes: Takes,
    waits_for: WaitsFor,
}

fn services(copies: usize) -> Vec<Slow> {
    let mut services = Vec::new();
    for takes in Takes::ALL {
        for waits_for in WaitsFor::ALL {
            // More of those that compute would press the host, and then no timeout counts.
            let copies = match waits_for {
                WaitsFor::Cpu => usize::from(takes == Takes::AtOnce),
                WaitsFor::Time
                | WaitsFor::LockInTime
                | WaitsFor::Lock
                | WaitsFor::Events
                | WaitsFor::Child
                | WaitsFor::Server => copies,
            };
            for copy in 0..copies {
                let name = format!("{}-{}-{copy}", takes.word(), waits_for.word());
                services.push(Slow { name, port: free_port(), takes, waits_for });
            }
        }
    }
    services
}

fn start(services: &[Slow], folder: &std::path::Path, state: &std::path::Path) -> Daemon {
    let server = other_server();
    let mut config =
        format!("[http]\nlisten = \"\"\n[state]\ndirectory = {state:?}\nrecording = \"512MiB\"\n");
    for Slow { name, port, takes, waits_for } in services {
        let command = command(*port, *takes, *waits_for, PACE, server);
        config += &crate::lab::probed::service(
            name,
            &command,
            &format!("http = \"http://127.0.0.1:{port}/health\""),
            "interval = \"100ms\"\ntimeout = \"1s\"",
            folder,
        );
    }
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    services.iter().for_each(|service| wait_until_healthy(&daemon, &service.name));
    daemon
}
