//! A network namespace of a test's own: every port is free there, and nobody else listens.

use std::{process::Command, thread};

use crate::parts::{available, require};

/// Runs `test` on a thread in a fresh network namespace that has nothing but a loopback interface; what the test
/// starts is in it as well. Says what is skipped where there can be none.
///
/// # Panics
/// If the test does.
pub fn in_its_own(test: impl FnOnce() + Send + 'static) {
    if !require("iproute2", "/sbin/ip") {
        return;
    }
    let run = || {
        // SAFETY: takes one number; a thread may leave its network namespace at any time, and no other is affected.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
        if available(left, "a network namespace (root)") {
            let up = Command::new("/sbin/ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.is_ok_and(|status| status.success()), "the loopback interface comes up");
            test();
        }
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}
