//! The checks, in the order of the result table.

mod fallback;
mod hooks;
mod host;
mod identity;
mod listeners;
mod loss;
mod oom;
mod prog_run;
mod signals;
mod sockets;
mod statuses;
mod thread_id;
mod typeinfo;

use anyhow::{Context, Result, ensure};
use hostprobe::doctor;
use tokio::runtime::Builder;

use crate::{
    check::{FixtureCheck, TRIES},
    fixture::Fixture,
    report::{self, Outcome},
};

/// The checks that share the loaded programs.
const GROUPS: &[&[FixtureCheck]] =
    &[statuses::CHECKS, signals::CHECKS, identity::CHECKS, listeners::CHECKS, sockets::CHECKS, oom::CHECKS];

/// Runs all checks and prints their results. `exclusive` adds those that need the machine to themselves.
///
/// An error means that the checks could not run. A failed check is a result.
pub fn run(exclusive: bool) -> Result<()> {
    report::line(&serde_json::json!({ "kernel": report::kernel_release() }));
    // Before this process leaves the initial network namespace: the process connector serves no other.
    fallback::run();
    let doctor =
        Builder::new_current_thread().enable_all().build()?.block_on(doctor::examine(Vec::new(), None))?;
    report::line(&serde_json::json!({ "doctor": doctor.lines().join("\n") }));
    // A network namespace of its own keeps connections of other processes away.
    // SAFETY: takes one number; this process has one thread, and no other process is affected.
    let left = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    ensure!(left, "cannot make a network namespace (run as root): {}", std::io::Error::last_os_error());
    sockets::loopback_up().context("the loopback interface")?;

    report::check("type information", &typeinfo::check());
    let mut fixture = Fixture::new()?;
    hooks::run(&fixture.sensor);
    for (name, check) in GROUPS.iter().copied().flatten() {
        fixture.has_missed();
        let mut outcome = check(&mut fixture);
        for _ in 1..TRIES {
            // The kernel does not run a program on a CPU that is already running it. It counts that, and it is rare.
            if outcome.is_ok() || !fixture.has_missed() {
                break;
            }
            fixture.clear();
            outcome = check(&mut fixture);
        }
        report::check(name, &outcome);
        fixture.clear();
    }
    host::run(&mut fixture);
    let whole = if exclusive {
        oom::of_the_machine(&mut fixture)
    } else {
        Ok(Outcome::NotTried("it needs the machine to itself".to_owned()))
    };
    report::check("OOM kill of the whole machine", &whole);
    drop(fixture);
    report::check("OOM victim by thread id only", &thread_id::check());
    for (name, check) in loss::CHECKS {
        report::check(name, &check());
    }
    Ok(())
}
