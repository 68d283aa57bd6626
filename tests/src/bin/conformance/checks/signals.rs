//! Who sent the signal.

use anyhow::{Context, Result, ensure};
use hostprobe::sensor::ebpf::{Record, Signal as Told};
use rustix::process::Signal;

use super::Check;
use crate::{bench::Bench, process::Doer, report::Outcome};

pub const CHECKS: &[Check] = &[("sender of a deadly signal", deadly), ("SIGSTOP and its sender", stop)];

/// Somebody who is neither root nor anybody else on a host.
const UID: u32 = 44_203;

fn deadly(bench: &mut Bench) -> Result<Outcome> {
    let mut victim = Doer::start_as(UID, &["exit", "0"])?;
    let mut sender = Doer::start_as(UID, &["kill", &victim.pid().to_string(), "15"])?;
    sender.go();
    ensure!(sender.wait()? == 0, "the signal could not be sent");
    let exit = bench.wait_for_exit(victim.pid())?;
    ensure!(exit.status.0 == victim.wait()? && exit.uid == UID, "{exit:?}");
    let signal = exit.signal.context("no signal")?;
    ensure!(signal.number == 15 && signal.at_ns <= exit.at_ns, "{signal:?}");
    by(&signal, sender.pid(), UID, "kill")?;
    Ok(Outcome::Kept(format!(
        "signal {}, code {}, its pid, uid {UID}, comm kill",
        signal.number, signal.code
    )))
}

fn stop(bench: &mut Bench) -> Result<Outcome> {
    let mut victim = Doer::start(&["exit", "3"])?;
    bench.kernel.watch_process(victim.pid(), 1)?;
    let mut sender = Doer::start(&["kill", &victim.pid().to_string(), "19"])?;
    sender.go();
    ensure!(sender.wait()? == 0, "the signal could not be sent");
    let stop = bench.wait_for("stop", |record| {
        if let Record::Stop(it) = record {
            Some(it.clone()).filter(|it| it.pid == victim.pid())
        } else {
            None
        }
    })?;
    ensure!(stop.signal.number == 19, "{stop:?}");
    by(&stop.signal, sender.pid(), 0, "kill")?;
    victim.signal(Signal::CONT)?;
    victim.go();
    // The stop was not its end, nor what it ended of.
    let exit = bench.wait_for_exit(victim.pid())?;
    ensure!(
        exit.status.code() == Some(3) && exit.start_ns == stop.start_ns && exit.signal.is_none(),
        "{exit:?}"
    );
    Ok(Outcome::Kept(format!("signal {}, code {}, its pid, uid 0, comm kill", 19, stop.signal.code)))
}

fn by(signal: &Told, pid: u32, uid: u32, comm: &str) -> Result<()> {
    let sender = signal.sender.as_ref().context("no sender")?;
    let right = sender.pid == pid && sender.uid == uid && sender.comm == comm && sender.start_ns > 0;
    ensure!(right, "not pid {pid}, uid {uid}, {comm}: {sender:?}");
    Ok(())
}
