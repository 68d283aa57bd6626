//! Upgrades in place: a server starts its successor, which takes over the listener, and the operator ends the old one.

use std::{path::Path, thread, time::Duration};

use rustix::process::Signal;

use crate::process::{lives, pid_in, signal, until};

/// Far more than an upgrade takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Upgrades the nginx that writes this pidfile, and returns its new master. It has to be one that put itself into the
/// background: in the foreground nginx does not take the signal.
///
/// # Panics
/// If it does not succeed.
pub fn of_nginx(pidfile: &Path) -> u32 {
    let old = pid_in(pidfile).expect("nginx writes its pid");
    signal(old, Signal::USR2);
    until("the old master renames its pidfile", LONG, || pid_in(&pidfile.with_added_extension("oldbin")));
    let new = until("the new master writes its pid", LONG, || pid_in(pidfile).filter(|pid| *pid != old));
    end(old, Signal::QUIT);
    new
}

/// Upgrades the gunicorn that writes this pidfile, ends the old master by a signal, and returns the new one.
///
/// # Panics
/// If it does not succeed.
pub fn of_gunicorn(pidfile: &Path, by: Signal) -> u32 {
    let old = pid_in(pidfile).expect("gunicorn writes its pid");
    signal(old, Signal::USR2);
    let new = until("the new master writes its pid", LONG, || pid_in(&pidfile.with_added_extension("2")));
    // Its workers serve as well by then.
    thread::sleep(Duration::from_secs(1));
    end(old, by);
    new
}

fn end(old: u32, by: Signal) {
    signal(old, by);
    until("the old master ends", LONG, || (!lives(old)).then_some(()));
}
