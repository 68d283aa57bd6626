//! A terminal that an operator works at.

use std::process::Command;

use crate::parts::require;

/// Debian's program that runs a command at a terminal of its own.
const SCRIPT: &str = "/usr/bin/script";

/// Whether there can be a terminal. Without it the test is skipped.
pub fn is_there() -> bool {
    require("bsdutils", SCRIPT)
}

/// Runs a command that an operator would type.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn run(line: &str) {
    let done = Command::new(SCRIPT).args(["-qec", line, "/dev/null"]).status();
    assert!(done.is_ok_and(|done| done.success()), "{line} succeeds");
}
