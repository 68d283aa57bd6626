//! A service that is well and answers late now and then (`src/bin/slow_service.rs`), in each of the ways that a hang has to be told
//! from.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    thread,
    time::Duration,
};

use hostprobe::{
    fact::{Examination, Observation, ProbeOutcome, ServiceId},
    store::recording::{
        line::{Entry, Line},
        portable, segment,
    },
};

use crate::parts::built;

/// When it takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// At once, each on a thread of its own.
    AtOnce,
    /// It accepts at once, and reads when its only worker is free.
    OneAfterTheOther,
    /// It accepts when it is free.
    AcceptsWhenFree,
}

impl Takes {
    pub const ALL: [Self; 3] = [Self::AtOnce, Self::OneAfterTheOther, Self::AcceptsWhenFree];

    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::AtOnce => "at-once",
            Self::OneAfterTheOther => "one-after-the-other",
            Self::AcceptsWhenFree => "accepts-when-free",
        }
    }
}

/// What its answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// A thread sleeps.
    Time,
    /// A thread waits for a lock, at most so long.
    LockInTime,
    /// A thread waits for a lock without a limit. Another one sleeps and then releases it.
    Lock,
    /// An event loop waits for its timer.
    Events,
    /// A child process.
    Child,
    /// Another server, which hostprobe does not watch.
    Server,
    /// It computes.
    Cpu,
}

impl WaitsFor {
    pub const ALL: [Self; 7] =
        [Self::Time, Self::LockInTime, Self::Lock, Self::Events, Self::Child, Self::Server, Self::Cpu];

    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::LockInTime => "lock-in-time",
            Self::Lock => "lock",
            Self::Events => "events",
            Self::Child => "child",
            Self::Server => "server",
            Self::Cpu => "cpu",
        }
    }
}

/// How often it is late, and by how much.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The answers at once before each time at which it is late.
    pub at_once: u32,
    /// The least and the longest of such a time, in milliseconds; each in between is as likely.
    pub late: (u64, u64),
}

/// The command that serves a port. `server` is the port of the other server.
pub fn command(port: u16, takes: Takes, waits_for: WaitsFor, pace: Pace, server: u16) -> Vec<String> {
    let (least, longest) = pace.late;
    let options = [
        ("--port", port.to_string()),
        ("--takes", takes.word().to_owned()),
        ("--waits-for", waits_for.word().to_owned()),
        ("--at-once", pace.at_once.to_string()),
        ("--least", least.to_string()),
        ("--longest", longest.to_string()),
        ("--server", server.to_string()),
    ];
    let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    [built("slow_service").display().to_string()].into_iter().chain(options).collect()
}

/// What a daemon saw of such services, by its recording.
#[derive(Debug, Default)]
pub struct Seen {
    /// The right answers that took longer than a probe waits before it asks a second time.
    pub late: Vec<Duration>,
    /// What it saw while two attempts waited, by the name of the service.
    pub waiting: Vec<(String, Examination)>,
}

impl Seen {
    /// Reads the recording in a state directory. `patience` is how long a probe waits before it asks a second time.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(state: &Path, patience: Duration) -> io::Result<Self> {
        let mut all = Self::default();
        for file in segment::files(state)? {
            // The daemon may be about to write the rest of the last line.
            let text = fs::read_to_string(file)?;
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                let line: Line = serde_json::from_str(line)?;
                let Entry::Observation(seen) = line.entry else { continue };
                let observation: Observation = serde_json::from_value(seen.seen)?;
                // A service is a place in the names beside it.
                let placed = portable::placed(observation, &seen.services, |_| Some(ServiceId(0)));
                if let Ok(Observation::Unanswered(_, examination)) = placed {
                    all.waiting.push((seen.services.concat(), examination));
                } else if let Ok(Observation::Probe(it)) = placed
                    && it.outcome == ProbeOutcome::Ok
                    && it.duration > patience
                {
                    all.late.push(it.duration);
                }
            }
        }
        Ok(all)
    }
}

/// Serves a loopback port until this process ends: a client says after how many milliseconds it wants its answer.
///
/// # Panics
/// If no port is free.
pub fn other_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("a listener has an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut line = String::new();
                let _ = BufReader::new(&stream).read_line(&mut line);
                thread::sleep(Duration::from_millis(line.trim().parse().unwrap_or(0)));
            });
        }
    });
    port
}
