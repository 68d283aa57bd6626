//! The self-test at every start: the sensors have to report the exit of a child, by the hook or by its fallback.

use std::{
    io,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    clock::Timestamp,
    fact::ExitStatus,
    host::ProcReader,
    sensor::{
        Sensors,
        record::{Exit, Record},
    },
};

/// The first argument with which the program runs [`child`]. It is no command for people.
pub const SUBCOMMAND: &str = "self-test-child";

/// A code that nothing else is likely to exit with.
const EXIT_CODE: u8 = 86;

/// Any lineage: the child has no descendants.
const LINEAGE: u32 = 1;

/// How long the sensors may take to report the exit.
const PATIENCE: Duration = Duration::from_secs(2);

/// The child: it exits when its stdin is closed, so that it is watched before it ends.
pub fn child() -> ExitCode {
    // An error ends the wait as well.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    ExitCode::from(EXIT_CODE)
}

/// Starts the child, which waits. It needs some milliseconds to begin, for which the start of the daemon need not wait.
pub fn start() -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg(SUBCOMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Lets the child exit and waits until the sensors report it. What they report of other processes meanwhile is kept in
/// `seen`.
///
/// Returns the time from the exit until it was read, or why there is no proof.
pub async fn run(
    child: io::Result<Child>,
    sensors: &mut Sensors,
    reader: &ProcReader,
    seen: &mut Vec<Record>,
) -> Result<Duration, String> {
    let mut child = child.map_err(|error| format!("the test child could not be started: {error}"))?;
    let outcome = timeout(PATIENCE, exit_of(&mut child, sensors, reader, seen)).await;
    let unwatched = sensors.unwatch_process(child.id());
    // A child that hangs would make the wait hang as well.
    let _ = child.kill();
    let _ = child.wait();
    unwatched.map_err(|error| error.to_string())?;
    outcome.unwrap_or_else(|_| Err(format!("the test child's exit was not seen in {} s", PATIENCE.as_secs())))
}

async fn exit_of(
    child: &mut Child,
    sensors: &mut Sensors,
    reader: &ProcReader,
    seen: &mut Vec<Record>,
) -> Result<Duration, String> {
    let key = reader.key_of(child.id()).ok_or("the test child was not found in /proc")?;
    sensors.watch_process(key, LINEAGE).map_err(|error| error.to_string())?;
    drop(child.stdin.take());
    loop {
        sensors.readable().await.map_err(|error| format!("the sensors cannot be waited for: {error}"))?;
        let from = seen.len();
        sensors.drain(seen);
        let now = Timestamp::now();
        let its = |record: &Record| matches!(record, Record::Exit(exit) if exit.pid == key.pid);
        if let Some(at) = seen[from..].iter().position(its)
            && let Record::Exit(exit) = seen.remove(from + at)
        {
            return judged(&exit, now);
        }
    }
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
