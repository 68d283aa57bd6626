//! The checks, in the order of the table that is made of them.

mod hooks;
mod listeners;
mod loss;
mod number;
mod oom;
mod origin;
mod signals;
mod sockets;
mod stand_ins;
mod statuses;
mod typeinfo;

use anyhow::{Context, Result, ensure};
use hostprobe::doctor;
use tokio::runtime::Builder;

use crate::{
    bench::Bench,
    report::{self, Outcome},
};

/// A check: its name, and what is done.
type Check = (&'static str, fn(&mut Bench) -> Result<Outcome>);

/// How often a check is tried where something that it needs was lost, which was said.
const TRIES: u32 = 5;

/// Those that share the loaded programs.
const GROUPS: &[&[Check]] =
    &[statuses::CHECKS, signals::CHECKS, origin::CHECKS, listeners::CHECKS, sockets::CHECKS, oom::CHECKS];

/// Runs them all and tells of each; `alone` if nobody else is on this machine.
///
/// Fails only where there is nothing to say.
pub fn run(alone: bool) -> Result<()> {
    report::say(&serde_json::json!({ "kernel": release() }));
    // Before this process leaves the network namespace that all can be seen from.
    stand_ins::tell();
    let doctor = Builder::new_current_thread().enable_all().build()?.block_on(doctor::examine(Vec::new()))?;
    report::say(&serde_json::json!({ "doctor": doctor.to_string() }));
    // A namespace of its own: no connection of others is in the way, and none of these can leave.
    // SAFETY: takes one number; this process has one thread, and no other process is affected.
    let left = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    ensure!(left, "only root may do this: no network namespace: {}", std::io::Error::last_os_error());
    sockets::loopback_up().context("the loopback interface")?;

    report::tell("type information", &typeinfo::check());
    let mut bench = Bench::new()?;
    hooks::tell(&bench.kernel);
    for (name, check) in GROUPS.iter().copied().flatten() {
        bench.has_missed();
        let mut outcome = check(&mut bench);
        for _ in 1..TRIES {
            // A program is not run on a processor that runs it already; that is counted, and happens seldom.
            if outcome.is_ok() || !bench.has_missed() {
                break;
            }
            bench.clear();
            outcome = check(&mut bench);
        }
        report::tell(name, &outcome);
        bench.clear();
    }
    let whole = if alone {
        oom::of_the_machine(&mut bench)
    } else {
        Ok(Outcome::NotTried("it would take the memory of others as well".to_owned()))
    };
    report::tell("OOM kill of the whole machine", &whole);
    drop(bench);
    report::tell("OOM victim known by its number alone", &number::check());
    for (name, check) in loss::CHECKS {
        report::tell(name, &check());
    }
    Ok(())
}

/// The running kernel's release.
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
