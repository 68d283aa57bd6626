//! How many events a second get from a fact to a line in a file.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hostprobe::{
    clock::Timestamp,
    emit::{Emitter, Name, Names, Origin, QueueLimits, Sink},
    fact::{
        Cgroup, ExitStatus, Fact, Membership, Process, ProcessExit, ProcessKey, Sender, ServiceId, Source,
    },
    rotated_file::{RotatedFile, Rotation},
};
use tempfile::TempDir;

use super::section::{Effort, Row, Section, Unit};

/// How long the writer may take with what is left at the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Facts that are published without a check of the writer's progress: well below what its queue holds.
const BATCH: usize = 4096;

pub fn measure(effort: Effort) -> Result<Section> {
    let (rounds, events) = effort.pick((9, 400_000), (2, 50_000));
    let (mut to_file, mut rendered, mut bytes) = (Vec::new(), Vec::new(), 0);
    // The first round is for the caches.
    for round in 0..=rounds {
        let file = round_to_file(events)?;
        let alone = round_without_sink(events);
        if round > 0 {
            to_file.push(file.lines_per_second);
            rendered.push(alone);
            bytes = file.bytes_per_line;
        }
    }
    let rows = vec![
        Row::new("event stream to a file, lines a second", Unit::PerSecond)
            .of("hostprobe", &to_file)
            .of("hostprobe, rendered and not written", &rendered)
            .at_least("", 500_000.0, |summary| summary.median)
            .note(
                "What limits it is one thread that builds an event from a fact and renders it as JSON. A kernel has \
                 exits in the ten thousands a second, of which it hands on those that are watched.",
            ),
        Row::new("bytes of a line", Unit::Count).of("hostprobe", &[bytes as f64]),
    ];
    Ok(Section {
        name: "stream".to_owned(),
        title: "Event stream".to_owned(),
        method: format!(
            "{events} deaths of a service's main process, with everything a `process.exit` can say, are published as fast as they \
             are taken, rendered by the daemon's own emitter and written by its writer to a file that rotates at 100 MiB. \
             The clock stops when the last line is written; a round in which a line was lost does not count as one."
        ),
        rows,
        further: String::new(),
        unmeasured: Vec::new(),
    })
}

struct Written {
    lines_per_second: f64,
    bytes_per_line: u64,
}

fn round_to_file(events: usize) -> Result<Written> {
    let folder = TempDir::new().context("no temporary folder can be made")?;
    let path = folder.path().join("events.ndjson");
    let sink =
        Sink::spawn(RotatedFile::open(&path, Rotation::by_size(100 << 20, 100))?, QueueLimits::default())?;
    let mut emitter = emitter(vec![sink]);
    let fact = death();
    let began = Instant::now();
    for published in (0..events).step_by(BATCH) {
        // The daemon never waits for its writer, and counts what is lost; to lose nothing is this side's business.
        while emitter.waiting() > QueueLimits::default().lines - BATCH {
            std::thread::yield_now();
        }
        for _ in published..events.min(published + BATCH) {
            emitter.publish(&fact, Timestamp::now());
        }
        // The daemon takes them for its history, at the end of a turn.
        drop(emitter.take_records());
    }
    let lost = emitter.shutdown(PATIENCE);
    let took = began.elapsed();
    ensure!(lost == 0, "{lost} of {events} lines were lost");
    let (mut bytes, mut lines) = (0, 0);
    for file in fs::read_dir(folder.path()).context("the folder cannot be read")? {
        let content = fs::read(file?.path()).context("the events cannot be read")?;
        bytes += content.len();
        lines += content.iter().filter(|&&byte| byte == b'\n').count();
    }
    ensure!(lines == events, "{lines} lines of {events} are in the file");
    Ok(Written {
        lines_per_second: events as f64 / took.as_secs_f64(),
        bytes_per_line: (bytes / lines) as u64,
    })
}

fn round_without_sink(events: usize) -> f64 {
    let (mut emitter, fact) = (emitter(Vec::new()), death());
    let began = Instant::now();
    for published in (0..events).step_by(BATCH) {
        for _ in published..events.min(published + BATCH) {
            emitter.publish(&fact, Timestamp::now());
        }
        drop(emitter.take_records());
    }
    events as f64 / began.elapsed().as_secs_f64()
}

fn emitter(sinks: Vec<Sink>) -> Emitter {
    let names = Names::new([Name { service: "api".to_owned(), unit: Some("api.service".to_owned()) }]);
    Emitter::new(Origin::read("/proc".as_ref()), names, sinks)
}

/// The death of a main process, with everything that can be known of one.
fn death() -> Fact {
    let process = Process {
        key: ProcessKey::new(4242, Timestamp::from_nanos(10_000_000_000)),
        parent_pid: 1,
        name: "python3".to_owned(),
        executable: Some("/usr/bin/python3".to_owned()),
        command_line: Some("/usr/bin/python3 /srv/api/main.py --port 8080 --workers 4".to_owned()),
        user_id: 1000,
        cgroup: Some(Cgroup { id: 77, path: "/system.slice/api.service".to_owned() }),
        container_id: None,
        namespace_pid: None,
    };
    let exit = ProcessExit {
        at: Timestamp::from_nanos(20_000_000_000),
        source: Source::Ebpf,
        process,
        status: ExitStatus::Signal { number: 9, core_dumped: false },
        sender: Some(Sender::Process {
            pid: 4000,
            name: "bash".to_owned(),
            user_id: 0,
            unit: None,
            terminal: false,
        }),
        sent_signal: Some(9),
        sender_service: None,
        oom: false,
        max_rss_bytes: 64 << 20,
        namespace_end: None,
        left_processes: false,
        crash: None,
        actor: None,
    };
    Fact::ProcessExit(exit, Some(Membership { service: ServiceId(0), main: true }))
}
