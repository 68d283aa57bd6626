//! The proof, at every start, that a death comes back through the kernel's ring: a child with a known end.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    clock::Timestamp,
    kernel::{Kernel, Record},
};

/// The hidden subcommand that ends at once with [`EXIT_CODE`].
pub const SUBCOMMAND: &str = "self-test-child";

/// A code that nothing else is likely to exit with.
pub const EXIT_CODE: u8 = 86;

/// How long the record may take to come.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lets a child end and waits for its record. Records of other processes that come meanwhile are kept in
/// `records`.
///
/// Returns the time from the death to its record being read, or why there is no proof.
pub async fn run(kernel: &mut Kernel, records: &mut Vec<Record>) -> Result<Duration, String> {
    let me = std::process::id();
    kernel.watch_process(me).map_err(|error| error.to_string())?;
    let outcome = child_comes_back(kernel, records).await;
    kernel.unwatch_process(me).map_err(|error| error.to_string())?;
    outcome
}

async fn child_comes_back(kernel: &mut Kernel, records: &mut Vec<Record>) -> Result<Duration, String> {
    let mut child = Command::new("/proc/self/exe")
        .arg(SUBCOMMAND)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("the test child could not be started: {error}"))?;
    let pid = child.id();
    let looked = timeout(PATIENCE, async {
        loop {
            kernel.readable().await.map_err(|error| format!("the ring cannot be waited for: {error}"))?;
            let from = records.len();
            kernel.drain(records);
            let now = Timestamp::now();
            let ours = |record: &Record| matches!(record, Record::Exit(exit) if exit.pid == pid);
            if let Some(at) = records[from..].iter().position(ours)
                && let Record::Exit(exit) = records.remove(from + at)
            {
                return match exit.status.code() {
                    Some(EXIT_CODE) => Ok(now.since(Timestamp::from_nanos(exit.at_ns))),
                    _ => Err(format!("the test child's status came back as {:#x}", exit.status.0)),
                };
            }
        }
    })
    .await;
    // The child ends by itself; were it to hang, this would too, so it is killed first.
    let _ = child.kill();
    let _ = child.wait();
    looked
        .unwrap_or_else(|_| Err(format!("no record of the test child came within {} s", PATIENCE.as_secs())))
}
