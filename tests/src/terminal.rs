//! A terminal that an operator works at.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
};

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

/// An operator's shell at a terminal of its own. It lives as long as this does.
pub struct Shell(Child);

impl Shell {
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn open() -> Self {
        let mut shell = Command::new(SCRIPT);
        shell.args(["-qec", "sh", "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::null());
        Self(shell.spawn().expect("the shell starts"))
    }

    /// Types a line. What it does shows later.
    ///
    /// # Panics
    /// If the shell has ended.
    #[track_caller]
    pub fn types(&mut self, line: &str) {
        let input = self.0.stdin.as_mut().expect("its input is a pipe");
        writeln!(input, "{line}").expect("the shell reads");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Without input it ends by itself.
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}
