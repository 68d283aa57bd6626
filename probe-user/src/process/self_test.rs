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
        fallback::FallbackSensor,
        record::{Exit, Record},
    },
};

/// The hidden subcommand that ends at once with [`EXIT_CODE`].
pub const SUBCOMMAND: &str = "self-test-child";

/// A code that nothing else is likely to exit with.
pub const EXIT_CODE: u8 = 86;

/// How long the death may take to be seen.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lets a child end and waits until that is seen. What is seen of other processes meanwhile is kept in `seen`.
///
/// Returns the time from the death to its being read, or why there is no proof.
pub async fn run(
    sensors: &mut Sensors,
    reader: &ProcReader,
    seen: &mut Vec<Record>,
) -> Result<Duration, String> {
    if let Some(kernel) = sensors.kernel.as_mut().filter(|kernel| kernel.has(Hook::Exit)) {
        let me = std::process::id();
        kernel.watch_process(me, 1).map_err(|error| error.to_string())?;
        let outcome = in_time(|child| by_hook(kernel, child.id(), seen)).await;
        kernel.unwatch_process(me).map_err(|error| error.to_string())?;
        return outcome;
    }
    in_time(|child| by_fallback(&mut sensors.fallback, reader, child.id(), seen)).await
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

async fn by_hook(kernel: &mut Kernel, pid: u32, seen: &mut Vec<Record>) -> Result<Duration, String> {
    loop {
        kernel.readable().await.map_err(|error| format!("the ring cannot be waited for: {error}"))?;
        let from = seen.len();
        kernel.drain(seen);
        if let Some(exit) = take_exit_of(pid, seen, from) {
            return judged(&exit, Timestamp::now());
        }
    }
}

async fn by_fallback(
    fallback: &mut FallbackSensor,
    reader: &ProcReader,
    pid: u32,
    seen: &mut Vec<Record>,
) -> Result<Duration, String> {
    let key = reader.key_of(pid).ok_or("the test child was not found in /proc")?;
    fallback.watch_process(key);
    loop {
        fallback
            .readable()
            .await
            .map_err(|error| format!("exits of processes cannot be waited for: {error}"))?;
        let from = seen.len();
        fallback.drain(seen);
        if let Some(exit) = take_exit_of(pid, seen, from) {
            return judged(&exit, Timestamp::now());
        }
    }
}

/// Takes the exit of a process out of the latest records.
fn take_exit_of(pid: u32, seen: &mut Vec<Record>, from: usize) -> Option<Exit> {
    let its = |record: &Record| matches!(record, Record::Exit(exit) if exit.pid == pid);
    let at = from + seen[from..].iter().position(its)?;
    if let Record::Exit(exit) = seen.remove(at) { Some(exit) } else { None }
}

fn judged(exit: &Exit, now: Timestamp) -> Result<Duration, String> {
    match exit.status.exit_status() {
        // A source that does not know how a process ended knows that it has.
        ExitStatus::Code(EXIT_CODE) | ExitStatus::Unknown => Ok(now.since(Timestamp::from_nanos(exit.at_ns))),
        status @ (ExitStatus::Code(_) | ExitStatus::Signal { .. }) => {
            Err(format!("the test child came back with {status}, not with exit code {EXIT_CODE}"))
        }
    }
}
