//! How much slower the host's own work is with each of them on.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    bpf_stats::{Counting, Empty, Programs},
    peers::{bcc::Tool, netdata::Netdata},
    section::{Effort, Row, Section, Unit},
    stats::Summary,
};
use crate::{
    daemon::Daemon,
    http::{self, free_port},
    parts::Redis,
    process::{Running, until},
    storm::{Manner, Storm},
};

/// Longest wait for a server.
const START: Duration = Duration::from_secs(30);

/// How long a subject that was just started is left alone.
const SETTLE: Duration = Duration::from_secs(1);

/// Programs executed in one storm.
const PROGRAMS: u64 = 1000;

/// What is on while the host works.
const SUBJECTS: [&str; 5] = ["nothing", "nothing again", "hostprobe", "exitsnoop and tcpstates", "Netdata"];

const METHOD: &str = "The host does three things: an unprivileged process forks, executes `/bin/true` and waits, 1,000 times; wrk asks \
nginx over 16 connections that stay open; and wrk asks nginx with a connection for each request; wrk and nginx each have a CPU, which the subjects share with them. In each round it does so with \
nothing on, twice, and with each subject on, in an order that rotates. A sample is how much longer the work took, or how much \
less was answered, than in the mean of the two times with nothing on of the same round. The second time with nothing on, \
held against the first, shows the noise. hostprobe watches this nginx, a Redis, and the processes of the whole \
host; exitsnoop and tcpstates write to pipes; Netdata is as its package configures it, collects each second, and is \
stopped by SIGSTOP while others are measured. In further rounds the kernel counts what the eBPF programs take of the two CPUs' time.";

const CONNECTING: &str = "Both ends are on this host: each request is ten changes of a TCP state, at each of which a program is \
entered, and one entry in the map of who asked for a connection, made and taken out again. When an error comes, the owner of the connection can no \
longer be found, and an unwatched process may have become a service by then. So the map holds every connection.";

const COUNTED: &str = "By `run_time_ns`, which has about one reading of the clock for each run: what an empty program at each change of a \
TCP state is said to take is hardly more than that. The two CPUs have nothing else to do.";

pub fn measure(effort: Effort) -> Result<Section> {
    let nginx = Nginx::start()?;
    let redis = Redis::start(&[]).context("redis-server is missing")?;
    let netdata = Frozen(Netdata::start()?);
    netdata.all(Signal::STOP);
    let mut works: [Vec<[f64; 5]>; 3] = Default::default();
    // The first round only warms up, if there are others.
    for round in 0..effort.pick(9, 1) {
        let mut took = [[0.0; 5]; 3];
        for turn in 0..SUBJECTS.len() {
            let at = (turn * 2 + round) % SUBJECTS.len();
            let on = On::start(at, &nginx, redis.port, &netdata)?;
            std::thread::sleep(SETTLE);
            took[0][at] = Storm::of(Manner::Exec, PROGRAMS).pass().as_secs_f64();
            took[1][at] = nginx.seconds_per_request(true)?;
            took[2][at] = nginx.seconds_per_request(false)?;
            drop(on);
        }
        if round > 0 || effort == Effort::Quick {
            works.iter_mut().zip(took).for_each(|(work, took)| work.push(took));
        }
    }
    let figures = [
        ("slowdown of fork, exec and exit", ""),
        ("slowdown of HTTP over connections that stay open", ""),
        ("slowdown of HTTP with a connection for each request", CONNECTING),
    ];
    let rows = figures.iter().zip(&works).map(|((figure, note), work)| row(figure, work).note(note));
    let mut rows: Vec<Row> = rows.collect();
    rows.push(time_in_programs(&nginx, redis.port, effort)?);
    Ok(Section {
        name: "slowdown".to_owned(),
        title: "Slowdown of the host".to_owned(),
        method: METHOD.to_owned(),
        rows,
        further: String::new(),
        unmeasured: vec![
            "Netdata's eBPF plugin, which Debian's package does not have; there Netdata reads `/proc` alone."
                .to_owned(),
        ],
    })
}

/// A figure from the times of its rounds, by subject.
fn row(figure: &str, rounds: &[[f64; 5]]) -> Row {
    let noise: Vec<f64> = rounds.iter().map(|took| percent(took[1], took[0])).collect();
    let slower = |at: usize| -> Vec<f64> {
        rounds.iter().map(|took| percent(took[at], f64::midpoint(took[0], took[1]))).collect()
    };
    let mut row = Row::new(figure, Unit::Percent);
    for (at, subject) in SUBJECTS.into_iter().enumerate().skip(2) {
        row = row.of(subject, &slower(at));
    }
    row = row.of("nothing, against itself", &noise);
    let spread = Summary::of(&noise).map_or(0.0, |noise| noise.p25.abs().max(noise.p75.abs()));
    let own = row.summary("hostprobe").map_or(f64::INFINITY, |own| own.median);
    let show = |value| Unit::Percent.show(value);
    row.target(
        "≤ 1 %, or within the noise",
        format!("{} (noise ±{})", show(own), show(spread)),
        own <= spread.max(1.0),
    )
}

/// What eBPF programs take of the time while HTTP has a connection for each request: a slowdown without noise.
fn time_in_programs(nginx: &Nginx, redis: u16, effort: Effort) -> Result<Row> {
    const STATE: &str = "inet_sock_set_state";
    let _counting = Counting::begin()?;
    let (mut own, mut tools, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.pick(8, 1) {
        {
            let daemon = Daemon::start(&config(nginx.port, redis), &[]);
            daemon.ready();
            own.push(nginx.percent_in_programs(&[daemon.pid()])?);
        }
        {
            let both = [Tool::exitsnoop()?, Tool::tcpstates()?];
            tools.push(nginx.percent_in_programs(&both.each_ref().map(|tool| tool.process.pid()))?);
        }
        let _empty = Empty::attach(STATE)?;
        empty.push(nginx.percent_in_programs(&[std::process::id()])?);
    }
    let row = Row::new("time in eBPF programs of HTTP with a connection for each request", Unit::Percent)
        .of("hostprobe", &own)
        .of("exitsnoop and tcpstates", &tools)
        .of("an empty program", &empty)
        .note(COUNTED);
    let own = row.summary("hostprobe").map_or(f64::INFINITY, |own| own.median);
    Ok(row.target("≤ 1 %", Unit::Percent.show(own), own <= 1.0))
}

fn percent(took: f64, usual: f64) -> f64 {
    (took / usual - 1.0) * 100.0
}

/// What is on; off again when it is dropped.
enum On<'a> {
    Nothing,
    Hostprobe { _daemon: Daemon },
    Bcc { _tools: [Tool; 2] },
    Netdata(&'a Frozen),
}

impl<'a> On<'a> {
    fn start(at: usize, nginx: &Nginx, redis: u16, netdata: &'a Frozen) -> Result<Self> {
        Ok(match SUBJECTS[at] {
            "hostprobe" => {
                let daemon = Daemon::start(&config(nginx.port, redis), &[]);
                daemon.ready();
                Self::Hostprobe { _daemon: daemon }
            }
            "exitsnoop and tcpstates" => Self::Bcc { _tools: [Tool::exitsnoop()?, Tool::tcpstates()?] },
            "Netdata" => {
                netdata.all(Signal::CONT);
                Self::Netdata(netdata)
            }
            _ => Self::Nothing,
        })
    }
}

impl Drop for On<'_> {
    fn drop(&mut self) {
        if let Self::Netdata(netdata) = self {
            netdata.all(Signal::STOP);
        }
    }
}

fn config(nginx: u16, redis: u16) -> String {
    let page = free_port();
    format!(
        r#"
        [http]
        listen = "127.0.0.1:{page}"
        [[service]]
        name = "web"
        match = {{ port = {nginx} }}
        [[service.probe]]
        http = "http://127.0.0.1:{nginx}/"
        [[service]]
        name = "cache"
        match = {{ port = {redis} }}
        [[service.probe]]
        redis = "redis://127.0.0.1:{redis}"
        "#
    )
}

/// A Netdata that is stopped and goes on with all its plugins.
struct Frozen(Netdata);

impl Frozen {
    /// Sends all its processes a signal.
    fn all(&self, signal: Signal) {
        let mut pids = vec![self.0.process.pid()];
        let mut next = 0;
        while let Some(pid) = pids.get(next) {
            let children = format!("/proc/{pid}/task/{pid}/children");
            let children = fs::read_to_string(children).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            next += 1;
        }
        for pid in pids.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            // One that has ended needs none.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.all(Signal::CONT);
    }
}

/// A command on a CPU of its own, if there are so many: where the scheduler puts the two makes more of a difference than all
/// that is measured here.
fn pinned(cpu: usize, program: &str) -> Command {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new("/usr/bin/taskset");
    command.args(["-c", &(cpu % cpus).to_string(), program]);
    command
}

/// nginx with one worker and one short answer.
struct Nginx {
    port: u16,
    _process: Running,
    _folder: TempDir,
}

impl Nginx {
    fn start() -> Result<Self> {
        let program = "/usr/sbin/nginx";
        ensure!(fs::exists(program)?, "{program} is missing; it is in the package nginx-light");
        let (folder, port) = (TempDir::new()?, free_port());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "daemon off;\nworker_processes 1;\nuser root;\npid {};\nevents {{}}\nhttp {{\naccess_log off;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}\n}}\n",
            path("pid")
        );
        fs::write(path("nginx.conf"), config).context("cannot write nginx's configuration")?;
        let mut command = pinned(0, program);
        command.args(["-c", &path("nginx.conf"), "-e", "stderr"]);
        let process = Running::start(&mut command, Signal::TERM);
        until("nginx answers", START, || http::get(port, "/").ok());
        Ok(Self { port, _process: process, _folder: folder })
    }

    /// The part of two CPUs' time that the eBPF programs of these processes take, while each request has a connection.
    fn percent_in_programs(&self, pids: &[u32]) -> Result<f64> {
        std::thread::sleep(SETTLE);
        let taken = || -> Result<u64> {
            let all = pids.iter().map(|pid| Ok(Programs::of(*pid)?.all().nanoseconds));
            all.sum()
        };
        let (before, begun) = (taken()?, Instant::now());
        self.seconds_per_request(false)?;
        let time = begun.elapsed();
        Ok((taken()? - before) as f64 / (2.0 * time.as_nanos() as f64) * 100.0)
    }

    /// How long it takes for an answer, in the mean, when it has all it can do.
    fn seconds_per_request(&self, keep: bool) -> Result<f64> {
        let mut command = pinned(1, "/usr/bin/wrk");
        command.args(["-t1", "-c16", "-d1s"]).stdin(Stdio::null());
        if !keep {
            command.args(["-H", "Connection: close"]);
        }
        let output = command.arg(format!("http://127.0.0.1:{}/", self.port)).output();
        let output = output.context("wrk does not start; it is in the package wrk")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let rate =
            said.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse::<f64>().ok());
        let rate =
            rate.with_context(|| format!("wrk does not say how many requests were answered: {said}"))?;
        ensure!(rate > 0.0, "nginx answered nothing: {said}");
        Ok(1.0 / rate)
    }
}
