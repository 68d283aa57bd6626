//! The proof, at every start, that a death is seen, by the hook or by what stands in for it: a child with a known end.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::timeout;

use crate::sensor::Sensors;
use crate::{
    clock::Timestamp,
    fact::ExitStatus,
    host::ProcReader,
    sensor::{
        ebpf::{Hook, Kernel},
        fallback::{Sighting, StandIns},
        record::Record,
    },
};

/// The hidden subcommand that ends at once with [`EXIT_CODE`].
pub const SUBCOMMAND: &str = "self-test-child";

/// A code that nothing else is likely to exit with.
pub const EXIT_CODE: u8 = 86;

/// How long the death may take to be seen.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was seen of other processes meanwhile.
#[derive(Debug, Default)]
pub struct Seen {
    /// By the hooks.
    pub records: Vec<Record>,
    /// By what stands in for them.
    pub sightings: Vec<Sighting>,
}

/// Lets a child end and waits until that is seen. What is seen of other processes meanwhile is kept in `seen`.
///
/// Returns the time from the death to its being read, or why there is no proof.
pub async fn run(sensors: &mut Sensors, reader: &ProcReader, seen: &mut Seen) -> Result<Duration, String> {
    if let Some(kernel) = sensors.kernel.as_mut().filter(|kernel| kernel.has(Hook::Exit)) {
        let me = std::process::id();
        kernel.watch_process(me, 1).map_err(|error| error.to_string())?;
        let outcome = in_time(|child| by_hook(kernel, child.id(), &mut seen.records)).await;
        kernel.unwatch_process(me).map_err(|error| error.to_string())?;
        return outcome;
    }
    in_time(|child| by_stand_in(&mut sensors.stand_ins, reader, child.id(), &mut seen.sightings)).await
}

async fn in_time<W: Future<Output = Result<Duration, String>>>(
    wait: impl FnOnce(&Child) -> W,
) -> Result<Duration, String> {
    let mut child = Command::new("/proc/self/exe")
        .arg(SUBCOMMAND)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("the test child could not be started: {error}"))?;
    let outcome = timeout(PATIENCE, wait(&child)).await;
    // The child ends by itself; were it to hang, this would too, so it is killed first.
    let _ = child.kill();
    let _ = child.wait();
    outcome.unwrap_or_else(|_| Err(format!("the test child's end was not seen in {} s", PATIENCE.as_secs())))
}

async fn by_hook(kernel: &mut Kernel, pid: u32, records: &mut Vec<Record>) -> Result<Duration, String> {
    loop {
        kernel.readable().await.map_err(|error| format!("the ring cannot be waited for: {error}"))?;
        let from = records.len();
        kernel.drain(records);
        let now = Timestamp::now();
        let ours = |record: &Record| matches!(record, Record::Exit(exit) if exit.pid == pid);
        if let Some(at) = records[from..].iter().position(ours)
            && let Record::Exit(exit) = records.remove(from + at)
        {
            let status = exit.status.exit_status();
            return judged(status, Timestamp::from_nanos(exit.at_ns), now);
        }
    }
}

async fn by_stand_in(
    stand_ins: &mut StandIns,
    reader: &ProcReader,
    pid: u32,
    sightings: &mut Vec<Sighting>,
) -> Result<Duration, String> {
    let key = reader.key_of(pid).ok_or("the test child was not found in /proc")?;
    stand_ins.watch_process(key);
    loop {
        stand_ins
            .readable()
            .await
            .map_err(|error| format!("the ends of processes cannot be waited for: {error}"))?;
        let from = sightings.len();
        stand_ins.drain(sightings);
        let now = Timestamp::now();
        let ours = |seen: &Sighting| matches!(seen, Sighting::Death(death) if death.pid == pid);
        if let Some(at) = sightings[from..].iter().position(ours)
            && let Sighting::Death(death) = sightings.remove(from + at)
        {
            return judged(death.status, death.at, now);
        }
    }
}

fn judged(status: ExitStatus, at: Timestamp, now: Timestamp) -> Result<Duration, String> {
    match status {
        ExitStatus::Code(EXIT_CODE) => Ok(now.since(at)),
        // What does not know how a process ended knows that it has.
        ExitStatus::Unknown => Ok(now.since(at)),
        ExitStatus::Code(_) | ExitStatus::Signal { .. } => {
            Err(format!("the test child came back with {status}, not with exit code {EXIT_CODE}"))
        }
    }
}
