//! Changes of TCP sockets' states.

use std::{fs, process::Command, time::Duration};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    bench::{
        bpf_stats::{Empty, Programs},
        peers::bcc::Tool,
        section::{Effort, Row, Unit},
    },
    daemon::{Daemon, event_action},
    parts::built,
    process::{Running, until},
};

const STATE: &str = "inet_sock_set_state";
const REPORT: &str = "inet_sk_error_report";

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Refused connections that are reported one by one: as many as a second's budget has room for.
const REPORTED: u64 = 45;

/// The means of the rounds, nanoseconds.
#[derive(Debug, Default)]
struct Samples {
    served: Vec<f64>,
    repeated: Vec<f64>,
    refused: Vec<f64>,
}

pub fn measure(effort: Effort) -> Result<Vec<Row>> {
    let (rounds, connections) = (effort.pick(12, 2), effort.pick(3000, 1000));
    let (mut own, mut peer, mut empty) = (Samples::default(), Samples::default(), Vec::new());
    // The first round only warms up.
    for round in 0..=rounds {
        if round == 1 {
            (own, peer, empty) = Default::default();
        }
        hostprobe(connections, &mut own)?;
        tcpstates(connections, &mut peer)?;
        let _empty = Empty::attach(STATE)?;
        let this = std::process::id();
        empty.push(pass(this, &mut Crowd::new("served", connections)?, STATE)?);
    }
    let row = |figure: &str, of: fn(&Samples) -> &Vec<f64>| {
        Row::new(figure, Unit::Nanoseconds).of("hostprobe", of(&own)).of("tcpstates", of(&peer))
    };
    Ok(vec![
        row("kernel time per TCP state change without an error", |it| &it.served)
            .of("an empty program", &empty)
            .times_less("tcpstates", 50.0)
            .note(
                "Connections of an unwatched process to itself, opened and closed in order: both sides' changes. At \
                 some of them hostprobe notes whose the socket is, as it cannot be known later; at the others it does \
                 nothing.",
            ),
        row("kernel time per TCP state change with an error, reported", |it| &it.refused)
            .times_less("tcpstates", 2.0)
            .note(
                "Connections of a watched process, each refused by another address: two changes each. With what \
                 `inet_sk_error_report` takes, and the wake-up of the daemon for the first of them.",
            ),
        row("kernel time per TCP state change with an error, counted", |it| &it.repeated)
            .times_less("tcpstates", 2.0)
            .note("The same, but all refused by one address: after the first the others are counted in the kernel."),
    ])
}

/// A process that connects at SIGUSR1.
struct Crowd {
    process: Running,
    folder: TempDir,
}

impl Crowd {
    fn new(manner: &str, number: u64) -> Result<Self> {
        let mut command = Command::new(built("connects"));
        let process = Running::start(command.args([manner, &number.to_string()]), Signal::KILL);
        process.wait_until_it_says("ready", &process.stdout, LONG);
        let it = Self { process, folder: TempDir::new()? };
        fs::write(it.folder.path().join("pid"), it.process.pid().to_string())?;
        Ok(it)
    }

    fn service(&self, name: &str) -> String {
        format!(
            "[[service]]\nname = {name:?}\nmatch = {{ pidfile = {:?} }}\n",
            self.folder.path().join("pid")
        )
    }
}

fn hostprobe(connections: u64, samples: &mut Samples) -> Result<()> {
    let mut refused = Crowd::new("refused", REPORTED)?;
    let mut repeated = Crowd::new("repeated", connections)?;
    let config =
        format!("[http]\nlisten = \"\"\n{}{}", refused.service("refused"), repeated.service("repeated"));
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    let pid = daemon.pid();
    samples.served.push(pass(pid, &mut Crowd::new("served", connections)?, STATE)?);
    samples.refused.push(pass(pid, &mut refused, STATE)?);
    let reported = || daemon.count(|event| event_action(event) == "socket.error") as u64;
    until("every refused connection is reported", LONG, || (reported() >= REPORTED).then_some(()));
    samples.repeated.push(pass(pid, &mut repeated, STATE)?);
    ensure!(reported() < REPORTED + connections / 10, "{} errors were reported", reported());
    Ok(())
}

fn tcpstates(connections: u64, samples: &mut Samples) -> Result<()> {
    let tool = Tool::tcpstates()?;
    let pid = tool.process.pid();
    samples.served.push(pass(pid, &mut Crowd::new("served", connections)?, "")?);
    samples.refused.push(pass(pid, &mut Crowd::new("refused", REPORTED)?, "")?);
    samples.repeated.push(pass(pid, &mut Crowd::new("repeated", connections)?, "")?);
    Ok(())
}

/// What a process' programs take for each change of state while a crowd connects. Its only program if no tracepoint is
/// named.
fn pass(pid: u32, crowd: &mut Crowd, tracepoint: &str) -> Result<f64> {
    let before = Programs::of(pid)?;
    crowd.process.signal(Signal::USR1);
    let status = crowd.process.wait(LONG);
    ensure!(status.success(), "connects ended with {status}: {}", crowd.process.stderr.all().join("; "));
    let taken = Programs::of(pid)?.since(&before);
    if tracepoint.is_empty() {
        return Ok(taken.all().mean());
    }
    let mut both = taken.at(tracepoint);
    let changes = both.runs;
    both += taken.at(REPORT);
    Ok(both.per(changes))
}
