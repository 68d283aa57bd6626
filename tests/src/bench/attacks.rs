//! Whether hostile surroundings cost the daemon memory and CPU, or a neighbour the detection of its death.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};
use tempfile::TempDir;

use super::{
    section::{Effort, Row, Section, Unit},
    stats::Summary,
    usage,
};
use crate::{
    daemon::Daemon,
    hostile_server::Answer,
    http::free_port,
    incident_events::IncidentEvents,
    parts::built,
    process::{Running, peak_resident},
    supervised::Supervised,
};

/// Connections that each of two processes holds: together more than the map of unwatched owners does.
const HELD: u32 = 9000;

const LONG: Duration = Duration::from_secs(60);

/// A neighbour's death may be detected this much later than in quiet surroundings.
const FACTOR: f64 = 2.0;

const METHOD: &str = "A service under the supervisor is killed again and again, first in quiet surroundings, then under each attack. The \
time is from the kernel's record of the death to its detection; memory is the greatest resident size of the daemon, CPU that \
of the whole run. Half-sent requests: 1,500 connections to the page, each with the half of a head. Paths: pidfiles and \
an output that are a FIFO, a link to `/dev/zero`, a sparse file of 3 GB, a folder. Servers: PostgreSQL that announces a message of 2 GB, \
HTTP with `100 Continue` without end, and with a body without end. Connections: 18,000 of unwatched processes stay open.";

/// One kind of hostile surroundings: the services that it adds, and what it does beside them.
struct Attack {
    name: &'static str,
    prepare: fn(&Path) -> Result<String>,
    begin: fn(u16) -> Result<Held>,
}

/// What an attack keeps open.
#[derive(Default)]
struct Held {
    _streams: Vec<TcpStream>,
    _processes: Vec<Running>,
}

const ATTACKS: [Attack; 5] = [
    Attack { name: "quiet", prepare: nothing, begin: idle },
    Attack { name: "half-sent requests", prepare: nothing, begin: half_sent },
    Attack { name: "paths", prepare: paths, begin: idle },
    Attack { name: "servers", prepare: servers, begin: idle },
    Attack { name: "connections", prepare: nothing, begin: connections },
];

/// What came of one.
struct Outcome {
    detected_ns: Vec<f64>,
    resident: f64,
    cpu_percent: f64,
}

pub fn measure(effort: Effort) -> Result<Section> {
    let kills = effort.pick(30, 3);
    let outcomes: Vec<Outcome> =
        ATTACKS.iter().map(|attack| run(attack, kills).context(attack.name)).collect::<Result<_>>()?;
    let median = |outcome: &Outcome| {
        Summary::of(&outcome.detected_ns).map(|summary| summary.median).context("no death was detected")
    };
    let quiet = median(&outcomes[0])?;
    let mut rows = Vec::new();
    for (attack, outcome) in ATTACKS.iter().zip(&outcomes) {
        let median = median(outcome)?;
        let row = Row::new(&format!("detection of a neighbour's death: {}", attack.name), Unit::Nanoseconds)
            .of("hostprobe", &outcome.detected_ns);
        rows.push(row.target(
            &format!("≤ {FACTOR} × quiet"),
            format!("{:.2} ×", median / quiet),
            median <= FACTOR * quiet,
        ));
    }
    for (attack, outcome) in ATTACKS.iter().zip(&outcomes) {
        rows.push(
            Row::new(&format!("resident memory: {}", attack.name), Unit::Bytes)
                .of("hostprobe", &[outcome.resident]),
        );
        let cpu = format!("CPU: {}", attack.name);
        rows.push(Row::new(&cpu, Unit::Percent).of("hostprobe", &[outcome.cpu_percent]));
    }
    Ok(Section {
        name: "attacks".to_owned(),
        title: "Hostile surroundings".to_owned(),
        method: METHOD.to_owned(),
        rows,
        further: String::new(),
        unmeasured: Vec::new(),
    })
}

fn run(attack: &Attack, kills: usize) -> Result<Outcome> {
    let folder = TempDir::new()?;
    let (service, page) = (Supervised::new(), free_port());
    let restart = "[service.restart]\nbudget = \"1000 per 1h\"\n";
    let config = service.config(restart).replace("listen = \"\"", &format!("listen = \"127.0.0.1:{page}\""));
    let daemon = Daemon::start(&format!("{config}{}", (attack.prepare)(folder.path())?), &[]);
    daemon.ready();
    service.until_healthy(&daemon);
    let _held = (attack.begin)(page)?;
    let mut detected_ns = Vec::new();
    let used = thread::scope(|scope| -> Result<_> {
        let pid = daemon.pid();
        let used = scope.spawn(move || usage::window(&[vec![pid]], Duration::from_secs(2)));
        for _ in 0..kills {
            let mark = daemon.mark();
            service.kill(&daemon);
            detected_ns.push(IncidentEvents::of(&daemon, mark, &service.name).millis("detected") * 1e6);
        }
        used.join().map_err(|_| anyhow::anyhow!("the measurement failed"))?
    })?;
    let resident = peak_resident(daemon.pid()) as f64;
    Ok(Outcome { detected_ns, resident, cpu_percent: used[0].percent() })
}

fn nothing(_: &Path) -> Result<String> {
    Ok(String::new())
}

fn idle(_: u16) -> Result<Held> {
    Ok(Held::default())
}

fn half_sent(page: u16) -> Result<Held> {
    let address = SocketAddr::from(([127, 0, 0, 1], page));
    let mut streams = Vec::new();
    for _ in 0..1500 {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { continue };
        // It may have been closed for the next one already.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
        streams.push(stream);
    }
    Ok(Held { _streams: streams, ..Held::default() })
}

fn connections(_: u16) -> Result<Held> {
    let held = HELD.to_string();
    let start = || {
        let process = Running::start(Command::new(built("connects")).args(["held", &held]), Signal::KILL);
        process.wait_until_it_says("ready", &process.stdout, LONG);
        process.signal(Signal::USR1);
        process.wait_until_it_says(&format!("made {held}"), &process.stdout, LONG);
        process
    };
    Ok(Held { _processes: vec![start(), start()], ..Held::default() })
}

fn paths(folder: &Path) -> Result<String> {
    let at = |name: &str| folder.join(name);
    for name in ["fifo", "output"] {
        mknodat(CWD, at(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    }
    symlink("/dev/zero", at("zero"))?;
    File::create(at("sparse"))?.set_len(3 << 30)?;
    fs::create_dir(at("folder"))?;
    let mut config = format!(
        "[[service]]\nname = \"mute\"\nexec = [\"/bin/sleep\", \"60\"]\noutput = {:?}\n",
        at("output").display().to_string()
    );
    for name in ["fifo", "zero", "sparse", "folder"] {
        let pidfile = at(name).display().to_string();
        config.push_str(&format!("[[service]]\nname = {name:?}\n[service.match]\npidfile = {pidfile:?}\n"));
    }
    Ok(config)
}

fn servers(_: &Path) -> Result<String> {
    let huge = Answer::HugeMessage.serve()?;
    let (endless_head, endless_body) = (Answer::EndlessHead.serve()?, Answer::EndlessBody.serve()?);
    let probe = |name: &str, address: String| {
        format!(
            "[[service]]\nname = {name:?}\n[[service.probe]]\n{address}\ninterval = \"200ms\"\ntimeout = \"1s\"\n"
        )
    };
    Ok([
        probe("huge", format!("postgres = \"postgres://probe@127.0.0.1:{huge}/x?sslmode=disable\"")),
        probe("endless-head", format!("http = \"http://127.0.0.1:{endless_head}/\"")),
        probe(
            "endless-body",
            format!("http = \"http://127.0.0.1:{endless_body}/\"\nexpect = {{ body_contains = \"never\" }}"),
        ),
    ]
    .concat())
}
