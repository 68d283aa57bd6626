//! How long a service is away, as seen by a client that asks it for `/health` again and again.
//!
//! The service is a victim under any supervisor. The fault, the questions and the clock are the same for all.

use std::{
    fs,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{
    http::{self, free_port},
    process::with_argument,
    victim::Victim,
};

/// Between two questions: the figures are this exact. No restart has to share the CPU with a busy loop.
const PAUSE: Duration = Duration::from_micros(100);

/// The longest a service may be away: the slowest peer takes thirty seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What is done to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to its process.
    Kill,
    /// SIGSTOP to its process.
    Stop,
    /// It accepts connections and never answers any more.
    Hang,
}

/// Deals a blow to the victim that serves a port; how long it is until another process answers there.
pub fn outage(port: u16, blow: Blow) -> Result<Duration> {
    // Its supervisor may have restarted it once more than it had to.
    until_well(port, None, PATIENCE)?;
    let old = process(serving(port)?)?;
    let begun = Instant::now();
    match blow {
        Blow::Kill => pidfd_send_signal(&old, Signal::KILL)?,
        Blow::Stop => pidfd_send_signal(&old, Signal::STOP)?,
        Blow::Hang => drop(http::get(port, "/hang")),
    }
    until_well_since(begun, port, Some(&old), PATIENCE)
}

/// How long a victim takes from its start to its first answer when nothing but the kernel starts it.
pub fn cold_start() -> Result<Duration> {
    let port = free_port();
    let begun = Instant::now();
    let mut victim = Command::new(Victim::program())
        .args(["--port", &port.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .context("the victim does not start")?;
    let took = until_well_since(begun, port, None, PATIENCE);
    let _ = victim.kill();
    victim.wait()?;
    took
}

/// Waits until a port answers well, and not by this process; how long that took.
pub fn until_well(port: u16, not_by: Option<&OwnedFd>, within: Duration) -> Result<Duration> {
    until_well_since(Instant::now(), port, not_by, within)
}

fn until_well_since(
    begun: Instant,
    port: u16,
    not_by: Option<&OwnedFd>,
    within: Duration,
) -> Result<Duration> {
    loop {
        // A question to a process that hangs is answered by its end: the kernel resets the connection.
        let well = matches!(http::get(port, "/health"), Ok((200, _)));
        let took = begun.elapsed();
        // The fault may take a moment to reach a process that is answering.
        if well && not_by.map_or(Ok(true), has_ended)? {
            return Ok(took);
        }
        ensure!(took < within, "port {port} does not answer well within {within:?}");
        thread::sleep(PAUSE);
    }
}

fn has_ended(process: &OwnedFd) -> Result<bool> {
    let mut ends = [PollFd::new(process, PollFlags::IN)];
    Ok(poll(&mut ends, Some(&Timespec::default()))? > 0)
}

/// The pid of the victim that serves a port, in any pid namespace.
pub fn serving(port: u16) -> Result<u32> {
    let victim = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "victim")
    };
    let found = with_argument(&port.to_string()).into_iter().find(victim);
    found.with_context(|| format!("no victim serves port {port}"))
}

fn process(pid: u32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid.cast_signed()).context("not a pid")?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// A part of a whole that is another one in every round and in no step with anything, so that what happens in cycles is
/// met at every point of its cycle alike.
pub fn phase(round: usize, whole: Duration) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_75;
    whole.mul_f64((round as f64 * GOLDEN).fract())
}

/// A duration as the rows want it.
pub fn nanoseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}
